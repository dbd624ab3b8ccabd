"""The gate: deciding while the ledger grows; Cedar alone beside the plain-Python oracle and CEL in the same run.

    python benchmarks/gate.py --quick      under 50 s: 10³ and 10⁶; 12,000 grants are of people whom requests name, the rest is filler
    python benchmarks/gate.py              10³ to 10⁶ grants, every one signed, sealed and in the log; many minutes

The last line on stdout is one JSON object; the curve is drawn to `--png`. A *decision* is what a precheck does in its
reading transaction: the app, everyone named, how their consent stands and the policy set in force are looked up, what
is new about a person is folded, the policies are asked, and on a denial the reasons are written out for the requester
and for each owner. Left out are the screening of the prompt, which comes before, and the write:
`durable_decide_p99_ms` is with both, committed and under a signed checkpoint. The ledger is a real one, on SQLite.

One person, the *star*, holds half of all grants and 10⁴ at most, to 400 apps; few of them are live, the others expired,
taken back or used up. Everyone else holds ten. One request in twenty names the star, one in five a second person; two
in three are allowed. Half of the requests come just after something was recorded about whoever they name, so that there
is something to fold. Otherwise their consent is in memory, as it is from the first request that names them on:
`cold_ms` and `cold_10k_ms` are that first request. Percentiles are over all decisions at a size, by the clock; medians
and decisions a second, which are in CPU time, are those of the best round. `put_to_cedar` is how many questions of a
decision Cedar itself was asked, and no earlier answer settled; `asking_cedar_per_core_per_s` is of decisions that asked.

*Filler* is rows in the three tables in which a grant and its owner are stored, as many and as long as real ones, under
random tags, and as many tags in the map in memory. A decision finds rows and tags by their keys, so their number is all
that could matter to it.
"""

import argparse
import json
import multiprocessing
import os
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cedarpy

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from engines import POLICIES, compare
from log import AT, enrol, ledger_in, seconds

from ledger.consent.grant import parse_grant
from ledger.consent.statement import GRANT_TAG, sign
from ledger.ids import AppId, CameoId, new_id
from ledger.log.sequencer import Ledger
from ledger.store.journal import About, Draft
from ledger.store.transaction import Transaction
from safety.chain import Sealer
from safety.decision import decide
from safety.gate import Gate, GenerationRequest, _asked, _Gathered, _people
from safety.policy import cedar
from safety.policy.activation import Activated, seed
from safety.prompt import screen
from safety.sent import Sent
from world import Someone, World, zulu

SIZES = (1_000, 10_000, 100_000, 1_000_000)
STAR = 10_000
"""Grants the star holds at most."""
EACH = 10
"""Grants everyone else holds."""
NAMED = 200
"""People, beside the star, whom requests name."""
APPS = 400
FATES = ("live", *("expired", "revoked", "expired", "spent") * 3)
"""What becomes of somebody's grants, in turn."""
PURPOSES = ("dpv:NonCommercialPurpose", "dpv:CommercialPurpose")
OFTEN = {
    "a portrait in golden light": 40,
    "riding a bicycle through the rain": 20,
    "a dance on the beach, in slow motion": 20,
    "a knight fights a dragon": 6,
    "a kiss under the mistletoe": 5,
    "a mother and her baby in a garden": 3,
    "swimming in a bikini": 2,
    "a speech at an election rally": 2,
    "a nude portrait": 1,
    "a boxing match, blood on the floor": 1,
}
"""What is asked for, and how often of a hundred times."""
SCREENED = {prompt: _Gathered(screen(prompt), sent=Sent()) for prompt in OFTEN}
BATCH = 800
BLOCK = 50
"""Decisions between two times when something is recorded."""
DURABLE = 100
"""Clips that this one app may have in the making."""


# Who there is -------------------------------------------------------------------------------------------------------


class Population:
    """A ledger that fills with people and their grants, and the one app that asks."""

    def __init__(self, ledger: Ledger, home: Path) -> None:
        self.world = World(ledger, ledger.keyring, home, AT)
        self.ledger, self.rng = ledger, Random(7)
        self.apps = [self.world.app() for _ in range(APPS)]
        self.star, self.people = ledger.transact(enrolled), list[Someone]()
        self.usable: dict[CameoId, str] = {}
        """Of everyone, a grant that the asking app holds."""
        self.grants = self.filler = 0

    def grow(self, size: int, people: int) -> None:
        """For real: all of the star's grants, and those of so many people at most, until `size` are stored."""
        held = self.grants - EACH * len(self.people)
        numbers = range(held, min(STAR, size // 2))
        self.record(self._given(self.star, [(self.apps[n % APPS], FATES[n // APPS % 13]) for n in numbers]))
        while self.grants < size and len(self.people) < people:
            count = min(BATCH, (size - self.grants) // EACH, people - len(self.people))
            new = self.ledger.transact(lambda tx, count=count: [enrolled(tx) for _ in range(count)])  # type: ignore[misc]
            self.record([draft for one in new for draft in self._given(one, self._terms())])
            self.people += new
        # What is to expire has.
        self.world.wait(days=2)

    def _terms(self) -> list[tuple[AppId, str]]:
        """To whom somebody's grants are, and what becomes of them: the asking app mostly holds one that is live."""
        others = self.rng.sample(self.apps[1:], EACH)
        asking = self.apps[0] if self.rng.random() < 0.97 else others.pop()
        (fate,) = self.rng.choices(("live", "expired", "revoked", "spent"), (91, 3, 3, 3))
        return [(asking, fate), *zip(others, FATES[1:EACH], strict=False)]

    def _given(self, owner: Someone, terms: Iterable[tuple[AppId, str]]) -> list[Draft]:
        given, ended = list[Draft](), list[Draft]()
        for app, fate in terms:
            given.append(self.grant(owner, app, fate))
            if app == self.apps[0]:
                self.usable.setdefault(owner.cameo_id, given[-1].ref)
            if fate == "spent":
                ended.append(self.use(owner, given[-1].ref, app))
            elif fate == "revoked":
                body = {"grant_id": given[-1].ref, "cameo_id": owner.cameo_id, "effect": "stop_new"}
                ended.append(self._draft("revocation", given[-1].ref, owner, "grantor", body))
        self.grants += len(given)
        return given + ended

    def grant(self, owner: Someone, app: AppId, fate: str) -> Draft:
        terms: dict[str, Any] = {
            "modalities": self.rng.choice((["face"], ["face"], ["face", "voice"])),
            "purposes": list(PURPOSES[: self.rng.choice((1, 1, 1, 2))]),
            "allowed_contexts": self.rng.choice(([], [], ["romantic"], ["romantic", "violent"])),
            "audience": self.rng.choice(("requester", "requester", "everyone")),
            "max_uses": 1 if fate == "spent" else self.rng.choice((100, 500, 1000)),
            "expires": zulu(self.world.at + timedelta(days=1 if fate == "expired" else 300)),
        }
        value = self.world.draft(owner, app, **terms)
        evidence = sign(GRANT_TAG, parse_grant(value).signed_bytes(), owner.device)
        body = {"grant": value, "evidence": evidence.model_dump(mode="json")}
        return self._draft("grant", value["grant_id"], owner, "grantor", body)

    def use(self, owner: Someone, grant: str, app: AppId) -> Draft:
        video = new_id("video")
        body = {"video_id": video, "app_id": app, "grant_ids": [grant], "allowed": True}
        return self._draft("decision", video, owner, "depicted", {**body, "cameo_id": owner.cameo_id})

    def _draft(self, kind: str, ref: str, owner: Someone, role: str, body: dict[str, Any]) -> Draft:
        return Draft(kind, ref, [About(owner.person_id, role, body)], self.world.at)

    def record(self, drafts: Sequence[Draft]) -> None:
        for start in range(0, len(drafts), BATCH):
            part = drafts[start : start + BATCH]
            self.ledger.transact(lambda tx, part=part: tx.append_all(part))  # type: ignore[misc]

    def fill(self, size: int) -> None:
        """With filler, until `size` grants are stored."""
        more = size - self.grants - self.filler
        if not more:
            return
        noise = secrets.token_bytes(64 * more)
        tags = ((noise[at : at + 32], noise[at + 32 : at + 64]) for at in range(0, len(noise), 64))
        with ThreadPoolExecutor(1) as writer:
            written = writer.submit(self._fill_rows, more)
            # The map that decisions look tags up in. No entry has these, and nobody asks for a proof under its root.
            covered = self.ledger.replica._covered  # noqa: SLF001 — no log takes tags without entries
            covered[-1] = replace(covered[-1], map=covered[-1].map.insert(tags))
            written.result()
        self.filler += more
        os.sync()

    def _fill_rows(self, more: int) -> None:
        # Without a journal everything is written once; for that nobody else may hold the file.
        self.ledger.database.engine.dispose()
        with closing(sqlite3.connect(self.world.home / "ledger.db", isolation_level=None)) as rows:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000"):
                rows.execute(f"PRAGMA {pragma}")
            rows.execute("BEGIN")
            for into in FILLER:
                rows.execute(f"{COUNTED} {into}", {"more": more, "before": self.filler, "each": EACH})
            rows.execute("COMMIT")
            rows.execute("PRAGMA journal_mode = WAL")

    def request(self) -> GenerationRequest:
        first = self.star if self.rng.random() < 0.05 else self.rng.choice(self.people[:NAMED])
        others = self.rng.sample(self.people[:NAMED], self.rng.random() < 0.2)
        (prompt,) = self.rng.choices(list(OFTEN), list(OFTEN.values()))
        (purpose,) = self.rng.choices(PURPOSES, (97, 3))
        named = (first, *(one for one in others if one != first))
        return self.world.request(self.apps[0], *named, prompt=prompt, purpose=purpose)

    def news(self, requests: Sequence[GenerationRequest]) -> list[Draft]:
        """Something new about everyone these name: a use of a grant, or a grant to yet another app."""
        known = {one.cameo_id: one for one in (self.star, *self.people[:NAMED])}
        owners = [known[cameo_id] for request in requests for cameo_id in request.cameo_ids]
        return [
            self.use(one, self.usable.get(one.cameo_id, ""), self.apps[0])
            if n % 3
            else self.grant(one, self.rng.choice(self.apps[1:]), "live")
            for n, one in enumerate(owners)
        ]


COUNTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :more)"
FILLER = (
    # In order, as a B-tree is filled fastest, and the same sealed bytes each time.
    """, one(sealed) AS MATERIALIZED (SELECT randomblob(avg(length(sealed))) FROM record)
    INSERT INTO record SELECT tag, sealed FROM (SELECT randomblob(32) AS tag FROM n ORDER BY tag), one""",
    # At places where no reader of the log comes by.
    """INSERT INTO log_entry SELECT i + :before - (1 << 40), 'grant', printf('grant_%026x', i + :before), 0,
    randomblob(195), randomblob(32) FROM n""",
    """INSERT INTO subject_key SELECT printf('person_%026x', i + :before), randomblob(68), :each FROM n
    WHERE i % :each = 0""",
)


def enrolled(tx: Transaction) -> Someone:
    one = enrol(tx)
    return Someone(one.id, one.cameo, one.device)


# Deciding -----------------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    wall_ms: float
    cpu_ms: float
    allowed: bool
    alone: bool
    """One person is named, and it is not the star."""
    star: bool
    put: int
    """Questions that Cedar was asked."""


@contextmanager
def counting() -> Iterator[list[object]]:
    """Grows by one with every question that Cedar is asked."""
    asked, really = list[object](), cedarpy.is_authorized

    def is_authorized(*args: Any, **options: Any) -> Any:
        asked.append(None)
        return really(*args, **options)

    cedarpy.is_authorized = is_authorized
    try:
        yield asked
    finally:
        cedarpy.is_authorized = really


class Deciding:
    """What a precheck does, without its transactions and without the screening."""

    def __init__(self, population: Population, sets: Activated, asked: list[object]) -> None:
        self.population, self.sets, self.asked = population, sets, asked
        self.ledger = population.ledger

    def one(self, request: GenerationRequest) -> Sample:
        gathered, at, facts_key = (
            SCREENED[request.prompt],
            self.population.world.at,
            self.ledger.keyring.facts_key,
        )
        put, spent, begun = len(self.asked), time.process_time_ns(), time.perf_counter_ns()
        with self.ledger.reading() as tx:
            at = tx.dated(at).replace(microsecond=0)
            asked = _asked(tx, request, gathered)
            people = _people(tx, asked.named)
            decision = decide(self.sets.engine(tx, request.app_id), asked, people, at=at)
        if not decision.allowed:
            # What the requester is told, and what each owner reads about it.
            decision.reasons()
            decision.parts(facts_key)
        took, cpu = time.perf_counter_ns() - begun, time.process_time_ns() - spent
        star = self.population.star.cameo_id in request.cameo_ids
        alone = len(request.cameo_ids) == 1 and not star
        return Sample(took / 1e6, cpu / 1e6, decision.allowed, alone, star, len(self.asked) - put)

    def round(self, count: int) -> list[Sample]:
        samples = list[Sample]()
        for _ in range(count // BLOCK):
            requests = [self.population.request() for _ in range(BLOCK)]
            self.population.record(self.population.news(requests[::2]))
            samples += map(self.one, requests)
        return samples

    def measure(self, rounds: int, count: int) -> dict[str, float]:
        population = self.population
        for one in (population.star, *population.people[:NAMED]):
            # From the first request that names them on, their consent is in memory.
            self.one(population.world.request(population.apps[0], one))
        taken = [self.round(count) for _ in range(rounds)]
        together = [sample for samples in taken for sample in samples]

        def best_ms(among: str = "") -> float:
            chosen = [[s.wall_ms for s in samples if not among or getattr(s, among)] for samples in taken]
            return round(min(map(statistics.median, chosen)), 3)

        def per_s(among: str = "") -> int:
            chosen = [[s.cpu_ms for s in samples if not among or getattr(s, among)] for samples in taken]
            return round(max(1000 * len(spent) / sum(spent) for spent in chosen))

        return {
            "grants": population.grants,
            "filler": population.filler,
            "map_tags": len(self.ledger.replica.map),
            "decisions": len(together),
            "allowed_share": round(statistics.mean(s.allowed for s in together), 3),
            "put_to_cedar": round(statistics.mean(s.put for s in together), 3),
            "median_ms": best_ms(),
            "p99_ms": p99([s.wall_ms for s in together]),
            "p99_cpu_ms": p99([s.cpu_ms for s in together]),
            "people_10k_ms": best_ms("star"),
            "people_10k_p99_ms": p99([s.wall_ms for s in together if s.star]),
            "decisions_per_core_per_s": per_s(),
            "naming_one_per_core_per_s": per_s("alone"),
            "asking_cedar_per_core_per_s": per_s("put"),
        }

    def cold(self) -> dict[str, float]:
        """The first request that names somebody, as after a start."""
        population, first = self.population, self.population.people[:100]
        self.ledger.keys.standings.clear()
        took = [self.one(population.world.request(population.apps[0], one)).wall_ms for one in first]
        star = self.one(population.world.request(population.apps[0], population.star))
        return {"cold_ms": round(statistics.median(took), 2), "cold_10k_ms": round(star.wall_ms)}

    def durable(self) -> dict[str, float]:
        """The gate as it is called: screening, deciding, writing down; one after the other."""
        population, waits, prechecks = self.population, list[float](), list[float]()
        gate = Gate(self.ledger, self.sets, Sealer(self.ledger.keyring.permit))
        for n in range(DURABLE):
            population.world.wait(seconds=3)
            request, at = population.request(), population.world.at
            if n % 3 == 0:
                prechecks.append(1000 * seconds(lambda r=request, at=at: gate.precheck(r, at=at)))  # type: ignore[misc]
            waits.append(1000 * seconds(lambda r=request, at=at: gate.decide(r, at=at)))  # type: ignore[misc]
        return {
            "durable_decide_ms": round(statistics.median(waits), 2),
            "durable_decide_p99_ms": p99(waits),
            "precheck_ms": round(statistics.median(prechecks), 2),
        }


def p99(values: Sequence[float]) -> float:
    return round(sorted(values)[int(0.99 * len(values))], 3)


# The whole ----------------------------------------------------------------------------------------------------------


def run(*, quick: bool) -> tuple[dict[str, Any], list[dict[str, float]]]:
    files = cedar.read(POLICIES)
    alone, curve = compare(cedar.Policies(files)), list[dict[str, float]]()
    cores = multiprocessing.cpu_count()
    with (
        tempfile.TemporaryDirectory() as home,
        ledger_in(Path(home), workers=0 if quick else cores) as ledger,
        counting() as asked,
    ):
        sets = Activated()
        ledger.transact(lambda tx: seed(tx, files, at=AT))
        deciding = Deciding(Population(ledger, Path(home)), sets, asked)
        for size in (SIZES[0], SIZES[-1]) if quick else SIZES:
            deciding.population.grow(size, NAMED if quick else size)
            deciding.population.fill(size)
            curve.append(deciding.measure(3 if quick else 5, 200 if quick else 2000))
            print(json.dumps(curve[-1]), flush=True)
        once = {**deciding.cold(), **deciding.durable()}
    first, last = curve[0], curve[-1]
    return {
        "p99_ms_at_1m_grants": last["p99_ms"],
        "growth_1k_to_1m": round(last["median_ms"] / first["median_ms"], 3),
        **{name: value for name, value in last.items() if name not in {"p99_ms", "filler", "decisions"}},
        **alone,
        **once,
        "filler": bool(last["filler"]),
        "cores": cores,
    }, curve


def draw(curve: list[dict[str, float]], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 — every worker process imports this module, and draws nothing

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    stored = [point["grants"] + point["filler"] for point in curve]
    for axis, names in zip(
        axes,
        (["median_ms", "p99_ms", "people_10k_ms"], ["decisions_per_core_per_s", "naming_one_per_core_per_s"]),
        strict=True,
    ):
        for name in names:
            axis.plot(stored, [point[name] for point in curve], marker="o", label=name)
        axis.set(xscale="log", xlabel="grants stored", ylim=(0, None))
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--png", type=Path, default=Path("var/benchmarks/gate.png"), help="the growth curve")
    asked = parser.parse_args()
    answer, curve = run(quick=asked.quick)
    draw(curve, asked.png)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
