"""How long things are kept, published, and the job that keeps to it.

What is destroyed about a person leaves a `deletion` entry on their own list, in the very transaction in which the rows
go: there is no destruction without its entry, and no entry without the destruction. Files go after their rows. A crash
in between leaves a file that no row names; the sweep, part of every run and of every start, finds and destroys it.
Running it twice, or at the same time, changes nothing more.

The schedule has one rule that is told before it acts: the likeness of a child who came of age and does not take it
over is destroyed only after an `announcement` stood on their list for :data:`TOLD_BEFORE`.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from litestar import get

from gateway.background import in_background
from gateway.courier import KEPT_DAYS
from ledger.canonical import sha256
from ledger.consent.fold import ADULT_YEARS, Standing, birthday
from ledger.consent.grant import zulu
from ledger.consent.notices import forget_closed
from ledger.errors import LedgerError
from ledger.ids import CameoId, PersonId
from ledger.store import keeping
from ledger.store.journal import About
from ledger.store.keeping import Doomed
from ledger.store.objects import CLIPS, THUMBNAILS, clip_of
from ledger.store.transaction import Transaction

if TYPE_CHECKING:
    from gateway.service import Service

_log = logging.getLogger(__name__)
EVERY_S = 3600.0
CAPTURES_KEPT = timedelta(days=30)
NOTICES_KEPT = timedelta(days=365)
PROMPTS_KEPT = timedelta(days=90)
CAME_OF_AGE = timedelta(days=90)
TOLD_BEFORE = timedelta(days=30)
GRACE = timedelta(hours=1)
"""How old a file without a row is at least when it goes: a row may be about to name it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the schedule. `days`: 0 for at once, None for as long as `how_long` says."""

    id: str
    what: Mapping[str, str]
    why: Mapping[str, str]
    how_long: Mapping[str, str]
    days: int | None
    law: str
    recorded: bool
    """Whether each destruction leaves a `deletion` entry on the person's list."""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "what": dict(self.what),
            "why": dict(self.why),
            "how_long": dict(self.how_long),
            "days": self.days,
            "law": self.law,
            "recorded": self.recorded,
        }


def _said(en: str, de: str) -> Mapping[str, str]:
    return {"en": en, "de": de}


_LIMIT, _CONSENT = "GDPR Art. 5(1)(e)", "GDPR Art. 7(3), 17(1)(b)"
SCHEDULE = (
    Rule(
        "challenges",
        _said(
            "challenges and half-signed orders", "Aufgaben beim Anmelden und halb unterschriebene Anweisungen"
        ),
        _said("to answer one sign-in", "um auf eine Anmeldung zu antworten"),
        _said("until they run out, minutes later", "bis sie ablaufen, nach Minuten"),
        0,
        _LIMIT,
        recorded=False,
    ),
    Rule(
        "sessions",
        _said("sessions, invitations, tokens", "Sitzungen, Einladungen, Zugangsmarken"),
        _said("to know who is signed in", "um zu wissen, wer angemeldet ist"),
        _said("until they run out", "bis sie ablaufen"),
        0,
        _LIMIT,
        recorded=False,
    ),
    Rule(
        "captures",
        _said("what was filmed to enrol", "was zur Aufnahme gefilmt wurde"),
        _said("for a person to look at it", "damit ein Mensch es ansieht"),
        _said(
            "the film until somebody has looked at it, 30 days at most; that it was refused, 30 days",
            "der Film, bis ihn jemand angesehen hat, höchstens 30 Tage; dass er abgelehnt wurde, 30 Tage",
        ),
        CAPTURES_KEPT.days,
        f"{_LIMIT}, 9(2)(a)",
        recorded=True,
    ),
    Rule(
        "drafts",
        _said(
            "drafts that were refused or not answered",
            "Entwürfe, die abgelehnt oder nicht beantwortet wurden",
        ),
        _said("they are not needed any more", "sie werden nicht mehr gebraucht"),
        _said(
            "not at all: they go at once; what our reviewers refused, 14 days, in which the app may ask for another look",
            "gar nicht: sie gehen sofort; was unsere Prüfenden ablehnten, 14 Tage, in denen die App einen zweiten Blick verlangen kann",
        ),
        0,
        _CONSENT,
        recorded=True,
    ),
    Rule(
        "deliveries",
        _said("what apps were told of", "was Apps mitgeteilt wurde"),
        _said("so that an app can see what it was sent", "damit eine App sieht, was ihr geschickt wurde"),
        _said("30 days, unless it still waits", "30 Tage, wenn es nicht noch wartet"),
        KEPT_DAYS,
        _LIMIT,
        recorded=False,
    ),
    Rule(
        "prompts",
        _said("the words of requests that made nothing", "die Worte von Anfragen, aus denen nichts wurde"),
        _said("so that an app can see what went wrong", "damit eine App sieht, was schiefging"),
        _said(
            "90 days in the table of jobs; in the sealed records of app and person as long as those are kept",
            "90 Tage in der Tabelle der Aufträge; in den versiegelten Einträgen von App und Mensch so lange wie diese",
        ),
        PROMPTS_KEPT.days,
        _LIMIT,
        recorded=True,
    ),
    Rule(
        "notices",
        _said(
            "who gave notice of a clip, and what they wrote",
            "wer ein Video gemeldet hat, und was dabei stand",
        ),
        _said("to answer them, and to hear an appeal", "um zu antworten, und um einen Einspruch zu hören"),
        _said(
            "365 days after the last decision; a face on the do-not-generate register until it is taken off",
            "365 Tage nach der letzten Entscheidung; ein Gesicht auf der Sperrliste, bis es zurückgezogen wird",
        ),
        NOTICES_KEPT.days,
        "GDPR Art. 5(1)(e), 17(3)(e)",
        recorded=False,
    ),
    Rule(
        "likeness_of_age",
        _said(
            "the likeness of a child who is of age now and did not take it over",
            "das Abbild eines Kindes, das nun volljährig ist und es nicht übernommen hat",
        ),
        _said(
            "what guardians allowed ends with childhood",
            "was Erwachsene erlaubt haben, endet mit der Kindheit",
        ),
        _said(
            "90 days from the 18th birthday, and 30 days from when they were told",
            "90 Tage nach dem 18. Geburtstag, und 30 Tage nachdem es gesagt wurde",
        ),
        CAME_OF_AGE.days,
        f"{_CONSENT}, 17(1)(f)",
        recorded=True,
    ),
    Rule(
        "likeness",
        _said("a likeness, its permissions and its list", "ein Abbild, seine Erlaubnisse und sein Verlauf"),
        _said(
            "to recognise a person, and to show what was done",
            "um einen Menschen zu erkennen und zu zeigen, was geschah",
        ),
        _said("until the person has it erased", "bis der Mensch es löschen lässt"),
        None,
        "GDPR Art. 9(2)(a), 7(1)",
        recorded=False,
    ),
    Rule(
        "manifests",
        _said("the manifests of released clips", "die Manifeste veröffentlichter Videos"),
        _said(
            "so that copies are recognised after the clip was taken down",
            "damit Kopien erkannt werden, auch wenn das Video zurückgezogen ist",
        ),
        _said(
            "as long as the log: they name nobody, and grants by their ids only",
            "so lange wie das Protokoll: sie nennen niemanden, und Erlaubnisse nur mit deren Kennungen",
        ),
        None,
        "GDPR Art. 11, 17(3)(e)",
        recorded=False,
    ),
    Rule(
        "fingerprints",
        _said(
            "what a released clip's pictures look like: 256 signs of light and dark for each, no face that could be recognised",
            "wie die Bilder eines erschienenen Videos aussehen: je 256 Zeichen für hell und dunkel, kein erkennbares Gesicht",
        ),
        _said(
            "to know the clip again where its marks are gone, and to let no copy of a withdrawn one out",
            "um das Video ohne seine Zeichen wiederzuerkennen und keine Kopie eines zurückgezogenen herauszulassen",
        ),
        _said(
            "for as long as the clip's entry stands in the log, after a withdrawal and an erasure too: it stands under the clip's random id",
            "solange der Eintrag des Videos im Protokoll steht, auch nach Rückzug und Löschung: unter der zufälligen Kennung des Videos",
        ),
        None,
        "GDPR Art. 17(3)(e), 11",
        recorded=False,
    ),
    Rule(
        "log",
        _said("the public log", "das öffentliche Protokoll"),
        _said("so that nobody can rewrite what happened", "damit niemand umschreiben kann, was geschah"),
        _said(
            "for ever: it names nobody, and after an erasure nothing leads from it to a person",
            "für immer: es nennt niemanden, und nach einer Löschung führt nichts von ihm zu einem Menschen",
        ),
        None,
        "GDPR Art. 11",
        recorded=False,
    ),
)


@get("/v1/retention", sync_to_thread=False)
def retention_schedule() -> dict[str, Any]:
    """How long we keep what, why, and by which law."""
    return {"schema": "countersign/retention/v1", "rules": [rule.as_json() for rule in SCHEDULE]}


# --- the job ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """How much one run destroyed, by rule; `announced`: how many people were told of what is to come."""

    destroyed: dict[str, int] = field(default_factory=dict)
    announced: int = 0

    def count(self, rule: str, more: int) -> None:
        self.destroyed[rule] = self.destroyed.get(rule, 0) + more

    @property
    def total(self) -> int:
        return sum(self.destroyed.values())


Query = Callable[[Transaction], Sequence[Doomed]]


def run(service: "Service") -> Report:
    """Destroy everything whose time is over now. Raises nothing that a later run would not mend."""
    at, report = service.clock(), Report()
    expired = service.ledger.transact(lambda tx: keeping.forget_expired(tx, at=at))
    report.count("challenges", expired["login_nonce"] + expired["order_signature"] + expired["tally"])
    report.count("sessions", expired["session"] + expired["token"])
    _destroy(
        service,
        report,
        "captures",
        "film",
        lambda tx: keeping.captures_over(tx, before=at - CAPTURES_KEPT, at=at),
        keeping.forget_captures,
    )
    over = partial(keeping.drafts_over, at=at)
    _destroy(service, report, "drafts", "draft", over, keeping.forget_drafts)
    before = at - PROMPTS_KEPT
    _destroy(
        service,
        report,
        "prompts",
        "prompt",
        lambda tx: keeping.failed_prompts(tx, before=before),
        lambda tx, _refs: keeping.forget_prompts(tx, before=before),
    )
    report.count("notices", service.ledger.transact(lambda tx: forget_closed(tx, before=at - NOTICES_KEPT)))
    for person_id, cameo_id in _people(service):
        _come_of_age(service, report, person_id, cameo_id, at)
    report.count("files", sweep(service))
    return report


def _destroy(
    service: "Service",
    report: Report,
    rule: str,
    what: str,
    over: Query,
    forget: Callable[[Transaction, Iterable[str]], object],
) -> None:
    """One rule: the rows and the entries that say so in one transaction, then the files."""
    at = service.clock()

    def operation(tx: Transaction) -> Sequence[Doomed]:
        doomed = over(tx)
        forget(tx, [one.ref for one in doomed])
        keeping.record_deletions(tx, rule, what, doomed, at=at)
        return doomed

    gone = service.ledger.transact(operation)
    for key in {one.object_key for one in gone if one.object_key is not None}:
        service.objects.delete(key)
    report.count(rule, len({one.ref for one in gone}))


def _people(service: "Service") -> Iterator[tuple[PersonId, CameoId]]:
    """Everyone with a likeness, a piece at a time: nobody waits for a transaction over all of them."""
    after = ""
    while True:
        with service.ledger.reading() as tx:
            found = keeping.people_with_likeness(tx, after)
        if not found:
            return
        yield from found
        after = found[-1][0]


def _come_of_age(
    service: "Service", report: Report, person_id: PersonId, cameo_id: CameoId, at: datetime
) -> None:
    with service.ledger.reading() as tx:
        if not _left_behind(tx.standing(person_id), at):
            return

    def operation(tx: Transaction) -> list[str] | None:
        standing = tx.standing(person_id)
        cameo = tx.cameo(cameo_id)
        if cameo is None or not cameo.likeness or not _left_behind(standing, at):
            return None
        told = tx.find("announcement", f"{cameo_id}/of_age")
        if told is None:
            body = {"rule": "likeness_of_age", "what": "likeness", "until": zulu(_until(standing, at))}
            tx.append("announcement", f"{cameo_id}/of_age", [About(person_id, "owner", body)], at=at)
            return []
        entry = tx.recorded(person_id, told.index)
        if entry is None or zulu(at) < str(entry.body["until"]):
            return None
        kept = sha256(cameo.likeness + cameo.portrait).hex()
        keys = keeping.forget_likeness(tx, person_id)
        gone = [Doomed(person_id, cameo_id, kept)]
        gone += [Doomed(person_id, key, keeping.digest_of(key)) for key in keys]
        keeping.record_deletions(tx, "likeness_of_age", "likeness", gone, at=at)
        return ["", *keys]

    outcome = service.ledger.transact(operation)
    if outcome == []:
        report.announced += 1
    elif outcome is not None:
        report.count("likeness_of_age", 1)
        for key in outcome[1:]:
            service.objects.delete(key)


def _left_behind(standing: Standing, at: datetime) -> bool:
    """Whether guardians brought this likeness in, and whoever it shows is of age and did not take it over."""
    return standing.active and standing.had_guardian and not standing.handed_over and not standing.minor(at)


def _until(standing: Standing, at: datetime) -> datetime:
    """When it goes: so long after the 18th birthday, and never sooner than announced."""
    born = standing.born_on
    of_age = datetime.combine(birthday(born, ADULT_YEARS), time(), UTC) if born is not None else at
    return max(of_age + CAME_OF_AGE, at + TOLD_BEFORE)


def sweep(service: "Service") -> int:
    """Destroy files that no row names: what a crash left between a row's end and its file's. Returns how many.

    A file younger than :data:`GRACE`, or than the oldest job that still runs, may be about to be named.
    """
    with service.ledger.reading() as tx:
        oldest = keeping.oldest_job(tx)
    limit = service.clock() - GRACE
    if oldest is not None:
        limit = min(limit, datetime.fromtimestamp(oldest, UTC))
    gone = _sweep(service, CLIPS, lambda key: key, limit)
    return gone + _sweep(service, THUMBNAILS, clip_of, limit)


def _sweep(service: "Service", prefix: str, named_by: Callable[[str], str], limit: datetime) -> int:
    old = {key: named_by(key) for key, written in service.objects.listed(prefix) if written < limit}
    with service.ledger.reading() as tx:
        named = keeping.named_objects(tx, old.values())
    orphans = [key for key, name in old.items() if name not in named]
    for key in orphans:
        service.objects.delete(key)
    return len(orphans)


@contextmanager
def running(service: "Service") -> Iterator[None]:
    """Keep to the schedule in a thread of its own: at the start, and every hour."""
    with in_background("retention", partial(_keep, service)):
        yield


def _keep(service: "Service", stop: threading.Event) -> None:
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            run(service)
        except LedgerError as error:
            _log.warning("what is over could not be destroyed yet: %s", error.reason.sentence)
        except Exception:  # noqa: BLE001 — a disk that fails once must not end all destruction until the next start
            _log.exception("what is over could not be destroyed yet")
        wait_s = EVERY_S


ROUTES = [retention_schedule]
