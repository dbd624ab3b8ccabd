"""Whose signature a grant needs: its owner's, a guardian's beside it, or that of whoever may pass it on. Pure.

The owner's keys sign; once an executor stands, theirs alone. What passes on a grant (`parent`) is signed with the key that grant names,
and only narrows it. For a minor a guardian signs the same bytes, and no signature allows more than this: the face
alone, every draft approved before it goes out; to an app or a person by name and for their eyes only; in nothing
sexual, violent or romantic; for a year at most, and never beyond the day they come of age; within the limits that
every guardian accepted. `policies/minors.cedar` says the same at every use.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from ledger.consent.fold import ADULT_YEARS, Standing, birthday
from ledger.consent.grant import Grant, Strict, beyond
from ledger.consent.statement import GRANT_TAG, Evidence, Signed, Signer, device, verify
from ledger.errors import InvalidStatement
from ledger.ids import PersonId

LONGEST = timedelta(days=366)
YOUNGEST_YEARS = 13
_UNSAFE = {"sexual", "violent", "romantic"}


class Cosignature(Strict):
    """A guardian's signature over the very bytes that the owner signed."""

    guardian: Annotated[str, Field(max_length=64)]
    evidence: Evidence


def check_signatures(
    standing: Standing,
    grant: Grant,
    evidence: Evidence,
    cosignatures: Sequence[Cosignature] = (),
    *,
    at: datetime,
    last_count: Callable[[str], int] = lambda _: 0,
) -> list[Signed]:
    """Who signed the grant, if they may, as their keys stood then. Raises InvalidStatement.

    `last_count`: what a passkey's counter last said, by the key's id; offline nobody knows.
    """
    signed, guardians = grant.signed_bytes(), [one.guardian for one in cosignatures]
    found = [
        verify(
            GRANT_TAG,
            signed,
            evidence,
            signers=signers_of(standing, grant),
            sign_count=last_count(evidence.key_id),
        )
    ]
    check_minor(standing, grant, guardians, at=at)
    for one in cosignatures:
        keys = standing.guardians[PersonId(one.guardian)].signers
        count = last_count(one.evidence.key_id)
        found.append(verify(GRANT_TAG, signed, one.evidence, signers=keys, sign_count=count))
    return found


def signers_of(standing: Standing, grant: Grant) -> tuple[Signer, ...]:
    """The keys that may sign this grant. Raises InvalidStatement for one that passes on what it may not."""
    if grant.parent is None:
        # Who has died signs nothing more, whoever holds their phone now.
        return standing.signers("owner" if standing.executor is None else "executor")
    above = standing.delegable(grant.parent)
    if above is None or above.grant.delegate_key is None:
        raise InvalidStatement(
            "grant.not_delegable",
            f"the grant `{grant.parent}` does not stand, or may not be passed on",
            "ask the person for a grant that may be passed on",
        )
    if wider := beyond(grant, above.grant):
        raise InvalidStatement(
            "grant.wider",
            f"what is passed on allows more than the grant it comes from, in `{', '.join(wider)}`",
            "narrow it",
        )
    return (device(above.grant.delegate_key),)


def check_minor(standing: Standing, grant: Grant, cosigned: Collection[str], *, at: datetime) -> None:
    """Raises InvalidStatement for a grant that a minor can not give. `cosigned`: guardians who signed it too."""
    strangers = [one for one in cosigned if PersonId(one) not in standing.guardians]
    if strangers:
        raise InvalidStatement(
            "grant.not_guardian", "someone signed as a guardian who is none", "ask the guardian on record"
        )
    if not standing.minor(at):
        if cosigned:
            raise InvalidStatement("grant.of_age", "you are of age: nobody signs for you", "sign it alone")
        return
    if not cosigned:
        raise InvalidStatement(
            "grant.minor",
            "a likeness of someone under 18, or of unknown age, needs a guardian's co-signature",
            "have the age verified, or ask a guardian",
        )
    unmet = next(
        (
            why
            for broken, why in (
                (grant.modalities != ("face",), "only the face of a minor may be used"),
                (grant.approval != "before_release", "every clip of a minor is approved before it goes out"),
                (
                    grant.grantee.type in {"everyone", "group"},
                    "a minor's likeness is not offered to strangers",
                ),
                (grant.audience != "requester", "a clip of a minor is for the eyes of whoever asks for it"),
                (
                    bool(_UNSAFE & set(grant.allowed_contexts)),
                    "a minor is not shown in anything sexual, violent or romantic",
                ),
                (
                    grant.delegate_key is not None or grant.parent is not None,
                    "a grant over a minor's likeness is not passed on",
                ),
                (
                    grant.expires - min(grant.issued, grant.starts) > LONGEST,
                    "a minor's grant ends within a year",
                ),
                (_outlives_childhood(standing, grant), "a minor's grant ends when they come of age"),
                (
                    any(grant.max_uses > one.guardianship.max_uses for one in standing.guardians.values()),
                    "a guardian's limit is fewer uses",
                ),
            )
            if broken
        ),
        None,
    )
    if unmet is not None:
        raise InvalidStatement("grant.minor_limits", unmet, "choose less, or wait until they are 18")


def _outlives_childhood(standing: Standing, grant: Grant) -> bool:
    if standing.born_on is None:
        return False
    of_age = birthday(standing.born_on, ADULT_YEARS)
    return grant.expires > datetime(of_age.year, of_age.month, of_age.day, tzinfo=UTC)
