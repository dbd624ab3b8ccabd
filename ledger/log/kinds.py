"""Every kind of entry the log has ever had. Append only: a kind never changes its meaning, and none goes away.

An entry's body is canonical JSON with at least `kind`, `at` and the fields named here; `roles` are whom an entry
of the kind may be about. Statements of the service about itself are :mod:`ledger.log.public`.

| kind         | says                                                               |
|--------------|--------------------------------------------------------------------|
| `enrolment`  | a likeness exists, whose it is, and the key that numbers their list |
| `grant`      | permission, signed by its owner                                    |
| `revocation` | the end of a grant                                                 |
| `decision`   | a request was allowed or refused, before any model was called      |
| `returned`   | an allowed request made nothing; its use is given back             |
| `release`    | a clip was published                                               |
| `audit`      | somebody asked who used this likeness                              |
| `approval`   | the owner's word on one draft                                      |
| `takedown`   | a notice about a clip, and what was done about it                  |
| `erasure`    | everything else about this person has been destroyed               |
| `standing`   | operators suspended an app, or let it back in                      |
| `account`    | an account was opened, and the first key it signs with             |
| `device`     | a key that signs for this person was added or taken away           |
| `age`        | an issuer whom we believe said how old this person is              |
| `guardian`   | somebody became, or is no longer, this person's guardian           |
| `estate`     | somebody acts for this person, who has died                        |
| `handover`   | a person who had a guardian is of age, and keeps their likeness    |
| `group`      | somebody was let into the people this person approves of, or out   |
| `block`      | an app or person may never use this likeness, or may again         |
| `draft`      | a clip is made, and waits for the word of those it shows           |
| `deletion`   | something kept about this person was destroyed when its time was over |
| `announcement` | something kept about this person will be destroyed, unless they act before |
| `register`   | a face was put on the do-not-generate register, or taken off it    |
| `sighting`   | somebody was found where they had not agreed to be, and what came of it |
| `hash_list`  | operators put a list of known prohibited pictures in force, or took one away |
| `review`     | a clip was held for people to look at, or what they said of it     |
| `manifest`   | a released clip's manifest was put where anyone finds it by its mark |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import LogError


@dataclass(frozen=True, slots=True)
class EntryKind:
    name: str
    roles: frozenset[str]
    fields: frozenset[str]
    """What a body must hold beside `kind` and `at`; it may hold more."""


def _kind(name: str, roles: str, fields: str) -> EntryKind:
    return EntryKind(name, frozenset(roles.split()), frozenset(fields.split()))


KINDS: tuple[EntryKind, ...] = (
    _kind("enrolment", "owner", "cameo_id enrolment list_key"),
    _kind("grant", "grantor", "grant evidence"),
    _kind("revocation", "grantor", "grant_id cameo_id effect"),
    _kind("decision", "depicted requester", "video_id app_id grant_ids allowed"),
    _kind("returned", "depicted requester", "video_id grant_ids stage reasons"),
    _kind("release", "depicted requester", "video_id grant_ids checks manifest_id payload"),
    _kind("audit", "depicted", "auditor asked"),
    _kind("approval", "depicted requester", "video_id approved"),
    _kind("takedown", "depicted requester notifier", "video_id notice action"),
    _kind("erasure", "owner", "cameo_id"),
    _kind("standing", "requester", "app_id suspended operators reason"),
    _kind("account", "owner", "key list_key"),
    _kind("device", "owner", "change key how"),
    _kind("age", "owner", "issuer born_on over_18"),
    _kind("guardian", "owner guardian", "guardianship evidence vouched standing"),
    _kind("estate", "owner executor", "executor evidence_sha256 vouched standing"),
    _kind("handover", "owner", "cameo_id statement evidence"),
    _kind("group", "owner", "person_id member"),
    _kind("block", "owner", "target blocked"),
    _kind("draft", "depicted requester", "video_id grant_ids sha256 until"),
    _kind("deletion", "owner", "rule what count sha256s"),
    _kind("announcement", "owner", "rule what until"),
    _kind("register", "notifier", "notice action"),
    _kind("sighting", "depicted", "cameo_id video_id app_id where outcome"),
    _kind("hash_list", "keeper", "list version action category source count sha256 operator"),
    _kind("review", "depicted requester", "video_id grant_ids action sha256"),
    _kind("manifest", "published", "video_id manifest_id sha256"),
)
_BY_NAME = {kind.name: kind for kind in KINDS}


def check_body(name: str, role: str | None, body: Mapping[str, Any]) -> None:
    """Raises LogError for a kind nobody defined, a role it does not have, or a body that lacks a field.

    `role`: None where it is not known, or does not matter.
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        raise LogError("log.kind", f"there is no kind of entry `{name}`")
    missing = sorted(kind.fields - body.keys())
    if missing or (role is not None and role not in kind.roles):
        lacks = f"lacks `{', '.join(missing)}`" if missing else f"cannot be about a `{role}`"
        raise LogError("log.kind", f"an entry of kind `{name}` {lacks}")
