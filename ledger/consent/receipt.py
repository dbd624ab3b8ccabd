"""Consent receipts: what a person keeps of having said yes, and of having taken it back. Pure.

The fields of ISO/IEC TS 27560:2023, written as JSON-LD in the terms of the W3C Data Privacy Vocabulary (DPV 2) by the
mapping of its community group (profile `dpv-27560`):

| TS 27560              | here                                                                            |
|-----------------------|---------------------------------------------------------------------------------|
| schema_version        | `dct:conformsTo`                                                                |
| record_id             | `dct:identifier` of the record; a receipt of its own for each event             |
| pii_principal_id      | `dpv:hasDataSubject`                                                            |
| privacy_notice, language | `dpv:hasNotice`: version, SHA-256 of the exact text, language                |
| purposes, lawful_basis | `dpv:hasPurpose`; `dpv:hasLegalBasis` (the consent is explicit, GDPR Art. 9(2)(a)) |
| pii_information, special_pii_category | `dpv:hasPersonalData`: what is kept of a face, of a voice; biometric |
| pii_controllers, recipients | `dpv:hasDataController`, `dpv:hasRecipient`                               |
| storage, retention_period | `dpv:hasStorageCondition`                                                   |
| jurisdiction, geographic_restrictions | `dpv:hasJurisdiction`                                           |
| withdrawal_method, pii_principal_rights | `dpv:hasConsentControl`, `dpv:hasRight`                       |
| event_time, event_type, event_state, entity_id | `dpv:hasConsentStatus`: one for each event, in the log's order |

An event names its place in the log, and the SHA-256 of the record there (RFC 8785 JSON, which holds the grant and its
whole evidence): so a receipt can be held against the proof of the person's list, and claims nothing that it does not
show. DPV has no term for a
voice that is not a call: it stands as biometric data, described in words. Terms of our own are under `cs:`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ledger.canonical import canonical, sha256
from ledger.consent.fold import GrantStanding
from ledger.consent.grant import Grant, zulu
from ledger.consent.words import sentence
from ledger.ids import LeafIndex

CONTEXT: dict[str, Any] = {
    "dpv": "https://w3id.org/dpv#",
    "pd": "https://w3id.org/dpv/pd#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "loc": "https://w3id.org/dpv/loc#",
    "dct": "http://purl.org/dc/terms/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "cs": "urn:countersign:terms:v1:",
    "dct:created": {"@type": "xsd:dateTime"},
    "dct:date": {"@type": "xsd:dateTime"},
    "dct:valid": {"@type": "xsd:dateTime"},
}
"""Inline: whoever reads a receipt in twenty years needs no server for it."""
PROFILE = "https://w3id.org/dpv/schema/dpv-27560#"
State = Literal["given", "withdrawn", "expired"]
_STATUS: dict[State, str] = {
    "given": "dpv:ConsentGiven",
    "withdrawn": "dpv:ConsentWithdrawn",
    "expired": "dpv:ConsentExpired",
}
_DATA = {
    "face": [
        {"@type": ["pd:FacialPrint", "dpv:SpecialCategoryPersonalData"], "dct:description": "face templates"},
        {"@type": ["pd:Picture", "dpv:PersonalData"], "dct:description": "the enrolled picture"},
    ],
    "voice": [{"@type": ["pd:Biometric", "dpv:SpecialCategoryPersonalData"], "dct:description": "voice"}],
}


@dataclass(frozen=True, slots=True)
class Published:
    """What a receipt says beside the grant. `url`: of this service; `retention`: where its schedule is published."""

    url: str
    origin: str
    grantee_name: str

    @property
    def retention(self) -> str:
        return f"{self.url}/v1/retention"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the consent: when, where in the log, and the SHA-256 of the record there (hex)."""

    state: State
    at: str
    index: LeafIndex | None
    evidence_sha256: str | None


def receipt(
    grant: Grant, events: Sequence[Event], published: Published, *, language: str, at: datetime
) -> dict[str, Any]:
    """The receipt for the last of `events`, with all of them in it. `language`: of the notice as it was shown."""
    last = events[-1]
    record = _record(grant, events, published, language)
    return {
        "@context": CONTEXT,
        "@id": f"{published.url}/v1/grants/{grant.grant_id}/receipt",
        "@type": "dpv:ConsentReceipt",
        "dct:identifier": f"{grant.grant_id}/{last.state}",
        "dct:conformsTo": f"{PROFILE}receipt",
        "dct:created": zulu(at),
        "dct:publisher": {"@id": published.url},
        "dpv:hasRecordOfActivity": record,
    }


def events_of(
    held: GrantStanding, given: Mapping[str, Any], withdrawal: Mapping[str, Any] | None, *, at: datetime
) -> list[Event]:
    """What became of a grant, in the log's order. `given`, `withdrawal`: the records as they stand there.

    A grant that ran out was not taken back, and says so; that is in no record of its own.
    """
    events = [Event("given", str(given["at"]), held.index, _digest(given))]
    if held.revoked_index is not None and withdrawal is not None:
        events.append(Event("withdrawn", str(withdrawal["at"]), held.revoked_index, _digest(withdrawal)))
    elif held.grant.expires <= at:
        events.append(Event("expired", zulu(held.grant.expires), None, None))
    return events


def _digest(record: Mapping[str, Any]) -> str:
    return sha256(canonical(record)).hex()


def _record(grant: Grant, events: Sequence[Event], published: Published, language: str) -> dict[str, Any]:
    controller = {
        "@id": published.url,
        "@type": "dpv:DataController",
        "dct:title": published.origin,
        "dpv:hasContact": f"{published.url}/",
    }
    return {
        "@id": f"urn:countersign:{grant.grant_id}",
        "@type": "dpv:ConsentRecord",
        "dct:identifier": grant.grant_id,
        "dct:conformsTo": [f"{PROFILE}record", f"{PROFILE}record-eu-gdpr"],
        "dct:description": {"@value": sentence(grant, published.grantee_name), "@language": grant.language},
        "dct:language": grant.language,
        "dct:valid": zulu(grant.expires),
        "dpv:hasDataSubject": {"@type": "dpv:DataSubject", "dct:identifier": grant.grantor},
        "dpv:hasDataController": controller,
        "dpv:hasNotice": {
            "@id": f"{published.url}/v1/notices/{grant.notice.sha256}",
            "@type": "dpv:ConsentNotice",
            "dct:hasVersion": grant.notice.version,
            "dct:language": language,
            "cs:sha256": grant.notice.sha256,
        },
        "dpv:hasProcess": _process(grant, published),
        "dpv:hasLegalBasis": ["dpv:ExplicitlyExpressedConsent", "eu-gdpr:A9-2-a"],
        "dpv:hasJurisdiction": [
            "cs:anywhere" if code == "*" else f"loc:{code}" for code in grant.jurisdictions
        ],
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dpv:isExercisedAt": f"{published.url}/v1/grants/{grant.grant_id}/revoke",
        },
        "dpv:hasRight": {
            "@id": "eu-gdpr:A7-3",
            "@type": "dpv:ActiveRight",
            "dpv:isExercisedAt": f"{published.url}/v1/grants/{grant.grant_id}/revoke",
        },
        "dpv:hasConsentStatus": [_status(grant, event, published) for event in events],
    }


def _process(grant: Grant, published: Published) -> dict[str, Any]:
    recipient: dict[str, Any] = {"@type": "dpv:Recipient", "cs:type": grant.grantee.type}
    if grant.grantee.type in {"app", "person"}:
        recipient |= {"dct:identifier": grant.grantee.id, "dct:title": published.grantee_name}
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": list(grant.purposes),
        "dpv:hasPersonalData": [one for modality in grant.modalities for one in _DATA[modality]],
        "dpv:hasProcessing": ["dpv:Generate", *(f"cs:{action}" for action in grant.actions)],
        "dpv:hasRecipient": recipient,
        "dpv:hasStorageCondition": [
            {
                "@type": "dpv:StorageDuration",
                "dpv:hasDuration": {
                    "@type": "dpv:UntilEventDuration",
                    "dct:description": "the likeness: until its owner has it erased",
                },
            },
            {"@type": "dpv:StorageDeletion", "dct:source": {"@id": published.retention}},
        ],
        "dpv:hasHumanInvolvement": "dpv:HumanInvolvementForDecision"
        if grant.approval == "before_release"
        else "dpv:HumanNotInvolved",
        "cs:maxUses": grant.max_uses,
        "cs:audience": grant.audience,
        "cs:allowedContexts": list(grant.allowed_contexts),
        "cs:forbiddenContexts": list(grant.forbidden_contexts),
        "cs:preferences": list(grant.preferences),
        "cs:revocationEffect": grant.revocation_effect,
        "cs:parent": grant.parent,
    }


def _status(grant: Grant, event: Event, published: Published) -> dict[str, Any]:
    told: dict[str, Any] = {
        "@type": _STATUS[event.state],
        "dct:date": event.at,
        "cs:event": event.state,
        "cs:log": published.origin,
        "cs:index": event.index,
        "cs:evidenceSha256": event.evidence_sha256,
    }
    if event.state == "given":
        told["dpv:isIndicatedBy"] = {"dct:identifier": grant.grantor}
    return told
