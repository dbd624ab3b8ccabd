"""`countersign policy`: read, test, compare, activate, watch and replay policy sets. And `apps`, whom they let in.

A SET is a folder of policies, `active`, or the hash of a set that was ever in force or in shadow (its beginning is
enough where only one set has it).
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from gateway.orders import Done, Waiting, activate, operator_key, stand
from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.errors import NotFound, Unavailable
from ledger.ids import AppId, LeafIndex
from ledger.log.merkle import MAX_SIZE
from ledger.log.policy import shown
from ledger.log.public import WHOLE
from safety.errors import CheckUnavailable, Refused
from safety.policy import cases, cedar
from safety.policy.activation import archive
from safety.policy.check import Comparison, Report, check, compare
from safety.policy.engine import Engine
from safety.replay import Change, Lost, replay

POLICIES = Path(__file__).resolve().parent.parent / "policies"
KEY = click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Your operator's key file: see `countersign keys new`.",
)


@click.group()
def policy() -> None:
    """Read, test, compare, activate, watch and replay policy sets."""


@dataclass(frozen=True, slots=True)
class _Set:
    files: Mapping[str, bytes]
    table: bytes | None
    """`cases.json`, where the set is a folder that has one."""

    @property
    def policies(self) -> cedar.Policies:
        return cedar.Policies(self.files)


def _folder(path: Path) -> _Set:
    table = path / cases.FILE
    return _Set(cedar.read(path), table.read_bytes() if table.is_file() else None)


def _named(service: Service, name: str) -> _Set:
    """The set meant by `active`, by a folder, or by a hash or its beginning. Raises NotFound, and Unavailable."""
    # `active` first: a folder of that name must not pass for the set in force.
    if name != "active" and _is_folder(name):
        return _folder(Path(name))
    with service.ledger.reading() as tx:
        in_force = tx.policies()
        hashes = tx.policy_sets()
        if name == "active" and in_force is not None:
            hashes, name = [in_force.current], in_force.current
        found = [one for one in hashes if one.startswith(name)] if len(name) >= 6 else []
        files = tx.policy_set(found[0]) if len(found) == 1 else None
    if files is None:
        raise NotFound(
            "policy.unknown",
            f"`{name[:80]}` is no folder and no policy set on record",
            "give a folder, `active`, or a hash from `countersign policy status`",
        )
    if cedar.set_hash(files) != found[0]:
        # The archive is the database: an operator signs what they named, or nothing.
        raise Unavailable(
            "policy.damaged",
            f"the policy set `{found[0]}` is not in the archive as it was",
            "restore the database, or give the folder it came from",
        )
    return _Set(files, None)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # too long for a name, say
        return False


def _open() -> Any:
    """The service, with the first set in force."""
    return open_service(Settings())


@policy.command("check")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=POLICIES)
@click.option("--json", "as_json", is_flag=True, help="Print the whole report.")
def check_set(directory: Path, as_json: bool) -> None:
    """Validate a policy set, run its cases, prove its invariants, and see whether any mutant survives."""
    one = _folder(directory)
    report = _checked(one.files, one.table)
    _print(report, as_json=as_json)
    sys.exit(0 if report.passed else 1)


def _print(found: Report | Comparison, *, as_json: bool = False) -> None:
    for line in [json.dumps(found.as_json(), indent=2)] if as_json else found.lines():
        click.echo(line)


def _checked(files: Mapping[str, bytes], table: bytes | None) -> Report:
    watched = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if watched:
            click.echo(f"\rmutants  {done} of {total}", nl=done == total, err=True)

    return check(files, table, progress=progress)


@policy.command()
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True)
def diff(old: str, new: str, as_json: bool) -> None:
    """What NEW would allow or deny that OLD does not, with an example of each."""
    with _open() as service:
        before, after = _named(service, old), _named(service, new)
    found = compare(before.policies, after.policies)
    _print(found, as_json=as_json)
    sys.exit(1 if found.loosens else 0)


@policy.command("activate")
@click.argument("candidate")
@KEY
@click.option(
    "--share",
    type=click.IntRange(0, WHOLE),
    default=WHOLE,
    show_default=True,
    help="For how many of 1000 apps; 0 ends a roll-out.",
)
def activate_set(candidate: str, key_file: Path, share: int) -> None:
    """Put a policy set in force, once every check of it passes. Needs no restart.

    What would allow more than today needs a second operator: they run the same command with their own key.
    """
    key = operator_key(key_file)
    with _open() as service:
        new, active = _named(service, candidate), _named(service, "active")
        files, table = new.files, new.table
        if table is None and not _is_folder(candidate):
            # The archive keeps no tables: the one beside the first set has to do.
            table = _folder(service.settings.policies).table
        if cedar.set_hash(files) == cedar.set_hash(active.files):
            raise Refused("policy.in_force", "this policy set is in force already", "nothing to do")
        with service.ledger.reading() as tx:
            in_force = tx.policies()
        checked = True
        if share:
            report = _checked(files, table)
            _print(report)
            checked = report.passed
        order = partial(
            activate,
            compared_with=in_force,
            checked=checked,
            loosens=not checked or max(map(_loosens, _moves(service, new, share)), default=False),
            share=share,
        )
        _carry_out(lambda: order(service, files, key), f"policy set {cedar.set_hash(files)[:16]}…")


def _moves(service: Service, new: _Set, share: int) -> Iterator[tuple[cedar.Policies | None, cedar.Policies]]:
    """From which set to which other one some app would come: a roll-out that shrinks or ends moves apps back.

    None: from a set that is lost, under which they are denied everything.
    """
    active = _named(service, "active")
    with service.ledger.reading() as tx:
        in_force = tx.policies()
        # Not believed under its name: a weaker one in its place would make every move away from it look harmless.
        incoming = service.sets.of(tx, in_force.incoming) if in_force and in_force.incoming else None
    if share:
        yield active.policies, new.policies
    if in_force is None or incoming is None:
        return
    other = in_force.incoming != cedar.set_hash(new.files)
    if share < in_force.share or (other and share < WHOLE):
        yield incoming.policies, active.policies
    if share and other:
        yield incoming.policies, new.policies


def _loosens(move: tuple[cedar.Policies | None, cedar.Policies]) -> bool:
    """Says what a move would change. What can not be compared counts as loosening."""
    before, after = move
    if before is None:
        click.echo("the set on its way in is lost, so its apps are denied everything: any other allows more")
        return True
    try:
        found = compare(before, after)
    except CheckUnavailable as error:
        click.echo(f"{error.reason.sentence}: nobody can say that it allows no more")
        return True
    _print(found)
    return found.loosens


def _carry_out(order: Callable[[], Done | Waiting], what: str) -> None:
    """Give an order and say what came of it. Exits with 1 when it is refused, and 3 when it waits for a second."""
    try:
        given = order()
    except Refused as error:
        click.echo(f"refused: {error.reason.sentence}\n  {error.reason.remedy}", err=True)
        sys.exit(1)
    if isinstance(given, Waiting):
        click.echo(f"signed, and waiting: {given.reasons[0].sentence}\n  {given.reasons[0].remedy}")
        sys.exit(3)
    click.echo(
        f"done: {what}, from entry {given.index + 1} of the log on; signed by {', '.join(given.operators)}"
    )


@policy.command()
def status() -> None:
    """Which sets are in force, rolled out, or in shadow."""
    with _open() as service, service.ledger.reading() as tx:
        in_force, shadow = tx.policies(), tx.shadow()
        counts = tx.shadow_counts(shadow) if shadow else []
        named = [one for one in (in_force.current, in_force.incoming) if one] if in_force else []
        lost = [one for one in named if service.sets.of(tx, one).policies is None]
        unknown = {one: sorted(service.sets.of(tx, one).unknown) for one in named}
    if in_force is None:
        raise Unavailable("policy.none", "no policy set is in force", "mend the policies and start again")
    click.echo(f"in force  {in_force.current}")
    if in_force.incoming:
        click.echo(f"incoming  {in_force.incoming}, for {in_force.share} of {WHOLE} apps")
    if shadow:
        click.echo(f"shadow    {shadow}")
        for line in _counted(counts):
            click.echo(f"          {line}")
    for one in (one for one in named if unknown[one]):
        click.echo(f"OLDER     {one} does not know {', '.join(f'`{key}`' for key in unknown[one])}:")
        click.echo(
            "          what one of them stands against is denied until a set that knows it is in force"
        )
    for one in lost:
        click.echo(
            f"LOST      {one} is not in the archive as it was: whom it decides for is denied everything"
        )
    sys.exit(1 if lost else 0)


def _counted(counts: list[tuple[str, str, int]]) -> list[str]:
    """The whole of each outcome, then which policies it was by."""
    totals = [f"{count:>8}  {outcome}" for outcome, policy_id, count in counts if not policy_id]
    by = [f"{count:>8}  {outcome} by {shown(policy_id)}" for outcome, policy_id, count in counts if policy_id]
    return sorted(totals, reverse=True) + sorted(by, reverse=True)


@policy.command("shadow")
@click.argument("candidate", required=False)
@click.option("--off", is_flag=True, help="Stop watching.")
def shadow_set(candidate: str | None, off: bool) -> None:
    """Let CANDIDATE decide every request too, beside the active set, and count where it differs. It never acts."""
    if (candidate is None) == (not off):
        raise click.UsageError("give a set, or --off; `countersign policy status` shows what was counted")
    with _open() as service:
        at = service.clock()
        if candidate is None:
            service.ledger.transact(lambda tx: tx.set_shadow(None))
            return
        new = _named(service, candidate)
        engine = Engine.of(new.files)
        if engine.policies is None:
            fault = engine.fault
            raise Refused(
                *(fault.id, fault.sentence, fault.remedy) if fault else ("policy.unreadable", "", "")
            )

        service.ledger.transact(lambda tx: tx.set_shadow(archive(tx, new.files, at=at)))
        click.echo(f"in shadow: {engine.policy_set_hash}")


@policy.command("replay")
@click.argument("candidate")
@click.option(
    "--since", default="0", help="A date (2026-03-01), or an index of the log. Default: the beginning."
)
@click.option(
    "--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Every decision, a row each."
)
def replay_set(candidate: str, since: str, csv_file: Path | None) -> None:
    """What CANDIDATE would have made of the decisions on record."""
    with _open() as service:
        engine = Engine.of(_named(service, candidate).files)
        if engine.policies is None:
            raise Unavailable(
                "policy.unreadable", "the candidate set cannot be used", "run `policy check` on it"
            )
        start, not_before = _since(since)
        with (
            service.ledger.reading() as tx,
            _writing(csv_file) if csv_file else nullcontext() as out,
        ):
            made = replay(tx, service.sets, engine, start)
            found = [one for one in made if one.at is None or one.at >= not_before]
            if out is not None:
                _rows(out, found)
    changes = [one for one in found if isinstance(one, Change)]
    for what, count in Counter(one.what for one in changes).most_common():
        click.echo(f"{count:>8}  {what.replace('_', ' ')}")
        by = Counter(policy_id for one in changes if one.what == what for policy_id in one.policies)
        for policy_id, times in by.most_common() if what != "same" else ():
            click.echo(f"{times:>8}    {policy_id}")
    lost = [one for one in found if isinstance(one, Lost)]
    for why, count in Counter(one.why for one in lost).most_common():
        click.echo(f"{count:>8}  could not be decided again: {why}")
    click.echo(f"{len(changes)} decisions replayed")


def _writing(file: Path) -> TextIO:
    try:
        return file.open("w", newline="")
    except OSError as error:
        raise click.UsageError(f"`{file}` cannot be written ({error.strerror})") from error


def _since(text: str) -> tuple[LeafIndex, datetime]:
    first = datetime.min.replace(tzinfo=UTC)
    if text.isdecimal() and len(text) <= len(str(MAX_SIZE)):
        return LeafIndex(int(text)), first
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"`{text[:40]}` is neither a date nor an index") from error
    return LeafIndex(0), date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _rows(out: TextIO, found: list[Change | Lost]) -> None:
    writer = csv.writer(out)
    writer.writerow(["index", "at", "video", "app", "decided", "candidate", "policies"])
    for one in found:
        at = one.at.strftime("%Y-%m-%dT%H:%M:%SZ") if one.at is not None else ""
        if isinstance(one, Lost):
            writer.writerow([one.index, at, "", "", "", "lost", one.why])
            continue
        decided = "allowed" if one.allowed else "denied"
        writer.writerow([one.index, at, one.video_id, one.app_id, decided, one.what, " ".join(one.policies)])


@click.group()
def apps() -> None:
    """Who may ask: suspend an app, or let it back in."""


@apps.command("list")
def list_apps() -> None:
    """Every app, and how it stands."""
    with _open() as service, service.ledger.reading() as tx:
        for app in tx.apps():
            click.echo(f"{app.id}  {'suspended' if app.suspended else 'ok       '}  {shown(app.name)}")


@apps.command()
@click.argument("app")
@KEY
@click.option("--reason", required=True, help="What the app is told.")
def suspend(app: str, key_file: Path, reason: str) -> None:
    """Turn an app away from the next decision on, jobs in flight included."""
    _stand(app, key_file, reason, suspended=True)


@apps.command()
@click.argument("app")
@KEY
@click.option("--reason", required=True, help="Why.")
def reinstate(app: str, key_file: Path, reason: str) -> None:
    """Let a suspended app back in: takes two operators, who give the same order."""
    _stand(app, key_file, reason, suspended=False)


def _stand(app: str, key_file: Path, reason: str, *, suspended: bool) -> None:
    key = operator_key(key_file)
    with _open() as service:
        _carry_out(
            lambda: stand(service, AppId(app), key, suspended=suspended, reason=reason),
            f"{app} is {'suspended' if suspended else 'reinstated'}",
        )
