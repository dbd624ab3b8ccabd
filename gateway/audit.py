"""Who used whose face: the auditor's question, an answer that nothing is missing from, and how a reader checks it.

An auditor's question about a person is itself an entry in that person's log.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litestar import Request, get

from gateway.access import holder
from gateway.problems import refused
from gateway.service import Service
from ledger.consent.certificate import Certified
from ledger.errors import LogError, NotFound
from ledger.ids import CameoId, LeafIndex, PersonId
from ledger.log import completeness
from ledger.log.completeness import Seen, Verified
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy, shown
from ledger.log.publisher import replace
from ledger.store.journal import About
from ledger.store.transaction import Transaction
from safety import clearing
from safety.policy.facts import ListFacts, ReaderFacts
from safety.replay import Lost, Redecided, found, redecide

MAX_BUNDLE_BYTES = 1 << 30
USES = (
    "decision",
    "draft",
    "approval",
    "returned",
    "release",
    "revocation",
    "takedown",
    "sighting",
    "review",
)


@get("/v1/audit/uses", sync_to_thread=True)
def audit_uses(
    request: Request[Any, Any, Any], service: Service, cameo: str, since: int = 0
) -> dict[str, Any]:
    """Everything recorded about a likeness, with the proof that nothing is missing. The owner is told you asked.

    `since`: the size of the log at your last visit; the answer then proves that it only grew.
    """
    auditor = holder(request, service, "auditor")
    return uses_of(service, CameoId(cameo), auditor, at=service.clock(), since=since)


def uses_of(
    service: Service, cameo_id: CameoId, auditor: str, *, at: datetime, since: int = 0
) -> dict[str, Any]:
    """The auditor's answer: recorded first, then given, the question itself included."""

    def record(tx: Transaction) -> tuple[PersonId, LeafIndex]:
        owner = tx.owner(cameo_id)
        if owner is None:
            raise NotFound("cameo.unknown", f"there is no likeness `{cameo_id[:40]}`", "check the id")
        ref = f"{cameo_id}/{tx.size()}"
        body = {"auditor": auditor, "asked": "uses"}
        return owner, tx.append("audit", ref, [About(owner, "depicted", body)], at=at)

    owner, index = service.ledger.transact(record)
    reader, about = ReaderFacts(auditor, "auditor"), ListFacts(cameo_id, own=False, recorded=True)
    with service.ledger.reading() as tx:
        denied = service.gate.may_read(tx, reader, about)
    if denied is not None:
        raise refused(denied)
    return proof_of(service, owner, cameo_id, index, since=since)


def redecided(service: Service, entry: str, auditor: str, *, at: datetime) -> Redecided | Lost:
    """A decision made again for an auditor. Everyone it is about is told that somebody looked, first."""

    def record(tx: Transaction) -> None:
        index, opened = found(tx, entry)
        for cameo_id in opened.others if opened is not None else ():
            owner = tx.owner(CameoId(cameo_id))
            if owner is not None:
                body = {"auditor": auditor, "asked": f"redecide {index}"}
                about = [About(owner, "depicted", body)]
                tx.append("audit", f"{cameo_id}/{tx.size()}", about, at=at)

    service.ledger.transact(record)
    with service.ledger.reading() as tx:
        return redecide(tx, service.sets, entry, facts_key=service.keyring.facts_key)


def proof_of(
    service: Service, owner: PersonId, cameo_id: CameoId, index: LeafIndex | None = None, *, since: int = 0
) -> dict[str, Any]:
    """One person's whole list, as of a published checkpoint, one that covers the entry at `index`."""
    note = service.ledger.checkpoint() if index is None else service.ledger.published(index)
    with service.ledger.reading() as tx:
        return completeness.prove(tx, service.ledger.replica, owner, cameo_id, note, since=since)


# --- what a reader does with it -----------------------------------------------------------------------------


def read_bundle(path: Path) -> dict[str, Any]:
    """Raises LogError for a file that holds no JSON object."""
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise LogError("list.form", "the file is larger than any list", "ask for the proof again")
        bundle = json.loads(path.read_text(), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise LogError("list.form", "the file can not be read as JSON", "ask for the proof again") from error
    if not isinstance(bundle, dict):
        raise LogError("list.form", "the file does not hold a list and its proof", "ask for the proof again")
    return bundle


def trust(
    bundle: Mapping[str, Any], policy: Path | None, log_key: str | None, memory: "Memory"
) -> tuple[Policy, str]:
    """Whom to believe about the log, and in words what that rests on.

    A policy file, a key given by hand, the key of the last visit, or on a first visit the key the file itself names.
    """
    origin = str(bundle.get("origin"))
    if policy is not None:
        return Policy.parse(policy.read_bytes()), "that the keys in your policy file are the right ones"
    if log_key is not None:
        return Policy.alone(VerifierKey.parse(log_key)), "that the log's key you gave is the right one"
    known = memory.log(origin)
    if known is not None:
        return Policy.alone(
            VerifierKey.parse(known)
        ), "that the log's key at your first visit was the right one"
    key = log_key_of(bundle)
    return Policy.alone(
        key
    ), f"that the log's key is the right one: compare it with one from elsewhere: {key}"


def log_key_of(bundle: Mapping[str, Any]) -> VerifierKey:
    """The log's newest key, as the file names it: the one in force, once the file was verified."""
    try:
        rows = [row for row in bundle["keys"] if row["role"] == "log"]
        return VerifierKey(str(bundle["origin"]), b64decode(rows[-1]["public"], validate=True))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise LogError(
            "list.form", "the file does not name the log's key", "give it with --log-key"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands there twice would be read as one thing here, and as another elsewhere."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands there twice")
    return value


class Memory:
    """What earlier visits established, in one file: the key of each log, and the state of each list."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._held = json.loads(path.read_text()) if path.exists() else {}
            self._lists = {key: Seen(**value) for key, value in self._held.get("lists", {}).items()}
            self._logs: dict[str, str] = dict(self._held.get("logs", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise LogError(
                "memory.damaged",
                f"the memory of earlier visits, `{path}`, can not be read",
                "restore it; or remove it, and what you saw before will not be compared",
            ) from error

    def log(self, origin: str) -> str | None:
        """The verifier key this log had at the last visit."""
        return self._logs.get(origin)

    def seen(self, origin: str, cameo_id: str) -> Seen | None:
        return self._lists.get(f"{origin} {cameo_id}")

    def keep(self, verified: Verified, vkey: str) -> None:
        seen = verified.seen
        self._lists[f"{seen.origin} {seen.cameo_id}"] = seen
        self._logs[seen.origin] = vkey
        held = {"logs": self._logs, "lists": {key: value.as_json() for key, value in self._lists.items()}}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace(self._path, json.dumps(held, indent=1).encode())


def told(verified: Verified, *, rests_on: str, first_visit: bool) -> list[str]:
    """What was proven and what was not, in plain words. `rests_on`: see :func:`trust`."""
    story, seen = verified.story, verified.seen
    at = datetime.fromtimestamp(seen.time, UTC).strftime("%d %B %Y, %H:%M UTC")
    names = ", ".join(sorted({signature.key.name for signature in verified.witnesses}))
    proven = [
        f"this is everything the log {seen.origin} holds about this likeness: {seen.count} records, as of {at}",
        "each record is in the signed log at its place, and says exactly what is printed here",
        f"uses allowed: {story.allowed}, each under a grant its owner signed and that was in force",
        f"clips released: {story.released}, none after consent to it had been taken back",
        f"requests refused: {story.refused}",
    ]
    if verified.extends is not None:
        proven.append("nothing you saw at your last visit was removed or rewritten; the log only grew")
    if names:
        proven.append(f"the log was witnessed by {names}")
    unproven = [
        "that a service records everything it makes: an app's receipt that is not in this list would show"
    ]
    if not names:
        unproven.append("that everyone is shown the same log: no witness you named has cosigned it")
    if first_visit:
        unproven.append("anything about earlier visits: this is your first")
    unproven.append(rests_on)
    return [*(f"proven      {line}" for line in proven), *(f"not proven  {line}" for line in unproven)]


def certified(found: Certified, rests_on: str) -> list[str]:
    """What a certificate proves and what it does not, in plain words."""
    body = found.body
    what = (
        "everything about this person was erased"
        if body["kind"] == "erasure"
        else f"destroyed: {body['count']} of `{body['what']}`, by the rule `{body['rule']}`"
    )
    names = ", ".join(sorted({signature.key.name for signature in found.checkpoint.witnesses}))
    lines = [
        f"proven      the log {found.checkpoint.checkpoint.origin} holds at {found.index} that {body['at']}: {what}"
    ]
    lines += [f"proven      by its SHA-256: {digest}" for digest in body.get("sha256s", ())]
    if names:
        lines.append(f"proven      the log was witnessed by {names}")
    lines.append("not proven  that no copy was kept: whoever kept one has signed that they did not")
    return [shown(line) for line in (*lines, f"not proven  {rests_on}")]


def lines_of(
    records: Iterable[tuple[int, Mapping[str, Any]]], kinds: Iterable[str] | None = None
) -> list[str]:
    wanted = None if kinds is None else set(kinds)
    # Prompts are strangers' words: a line break in one could write a line of this list, an escape hide one.
    return [
        shown(f"{index:>6}  {body['at']}  {describe(body)}")
        for index, body in records
        if wanted is None or body["kind"] in wanted
    ]


def describe(body: Mapping[str, Any]) -> str:  # noqa: C901, PLR0911, PLR0912 — one arm for each kind
    match body["kind"]:
        case "enrolment":
            return f"enrolled  {body['cameo_id']}"
        case "grant":
            return f"granted   {body['grant']['grant_id']}"
        case "audit":
            return f"asked     by {body['auditor']}"
        case "decision" if body["allowed"]:
            return f"allowed   {body['video_id']} for {body['app_id']}: “{body['prompt']}”"
        case "decision":
            why = "; ".join(reason["reason"] for reason in body["reasons"])
            return f"refused   {body['video_id']} for {body['app_id']}: “{body['prompt']}”: {why}"
        case "release":
            return f"released  {body['video_id']}, {clearing.told(body['checks'])}"
        case "returned":
            return (
                f"not made  {body['video_id']}: {'; '.join(reason['reason'] for reason in body['reasons'])}"
            )
        case "draft":
            return f"waits     {body['video_id']} until {body['until']}"
        case "approval":
            said = "approved" if body["approved"] else "declined"
            return f"{said}  {body['video_id']} by the {body.get('role', 'owner')}"
        case "review":
            by = f" by {body['operator']}" if "operator" in body else ""
            return f"review    {body['video_id']}: {body['action']}{by}"
        case "takedown":
            return f"notice    {body['video_id']}: {body['action']}"
        case "revocation":
            return f"revoked   {body['grant_id']} ({body['effect']})"
        case "sighting":
            return f"seen      {body['video_id']} for {body['app_id']}: in the {body['where']}, {body['outcome']}"
        case other:
            return str(other)
