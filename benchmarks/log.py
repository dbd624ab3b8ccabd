"""The log: appending, proving, auditing; its tree beside pymerkle's in the same run.

    python benchmarks/log.py --quick       under 50 s: one log of 20,000 entries
    python benchmarks/log.py               10⁴, 10⁵ and 10⁶ entries in one log that grows; some minutes

The last line on stdout is one JSON object; the growth curve is drawn to `--png`. A real ledger on SQLite, with
`synchronous=FULL`; every figure is of durable, signed work. *Verified* takes grants with their owners' signatures, in
one process, so it is a figure for one core; *pre-verified* takes entries as the service itself writes them, on all
cores. *Single* is 64 callers who each wait for their own entry. An audit rebuilds tree, map and keys from the leaves
alone and checks every rule; `audit_1m_extrapolated` says when its time for a million was scaled up from fewer.
"""

import argparse
import json
import multiprocessing
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymerkle  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parent.parent))

from ledger.consent.grant import SCHEMA, parse_grant
from ledger.consent.registry import SignedGrant, record_grants
from ledger.consent.statement import GRANT_TAG, encode_key, sign
from ledger.ids import AppId, CameoId, PersonId, new_id
from ledger.keys import Keyring
from ledger.log import completeness
from ledger.log.merkle import (
    TILE_WIDTH,
    Tree,
    entry_bundle,
    inclusion_proof,
    leaf_hash,
    tile_path,
    tiles_of,
    verify_inclusion,
)
from ledger.log.monitor import Monitor
from ledger.log.policy import Policy
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About, Draft
from ledger.store.records import App, Cameo, Credential, Person
from ledger.store.transaction import Transaction

ORIGIN = "benchmark.example/log"
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
PEOPLE = 50
USES = 100
BATCH = 800
CALLERS = 64
PEER_LEAVES = 100_000


@dataclass(frozen=True)
class Someone:
    id: PersonId
    cameo: CameoId
    device: Ed25519PrivateKey


@contextmanager
def ledger_in(home: Path, workers: int) -> Iterator[Ledger]:
    """A ledger of its own; `workers` = 0 does all work in this process."""
    database = Database(f"sqlite:///{home / 'ledger.db'}")
    database.migrate()
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) if workers else None
    ledger = Ledger(database, Keyring.open(home / "keys"), ORIGIN, home / "log", workers=pool)
    try:
        yield ledger
    finally:
        ledger.close()
        if pool is not None:
            pool.shutdown()


def enrol(tx: Transaction) -> Someone:
    someone = Someone(PersonId(new_id("person")), CameoId(new_id("cameo")), Ed25519PrivateKey.generate())
    key = encode_key(someone.device.public_key())
    tx.add_person(
        Person(someone.id, "Someone", created_at=0), Credential(key, someone.id, "device", key, created_at=0)
    )
    tx.add_cameo(Cameo(someone.cameo, someone.id, likeness=b"", portrait=b""))
    body = {
        "cameo_id": someone.cameo,
        "enrolment": {"born_on": "1980-01-01", "device_key": key},
        "list_key": tx.held(someone.id).list_key_digest,
    }
    tx.append("enrolment", someone.cameo, [About(someone.id, "owner", body)], at=AT)
    return someone


def grant_of(someone: Someone, app: AppId) -> SignedGrant:
    value = {
        "schema": SCHEMA,
        "grant_id": new_id("grant"),
        "cameo_id": someone.cameo,
        "grantor": someone.id,
        "grantee": {"type": "app", "id": app},
        "modalities": ["face"],
        "purposes": ["dpv:NonCommercialPurpose"],
        "allowed_contexts": [],
        "forbidden_contexts": [],
        "actions": ["generate"],
        "audience": "requester",
        "max_uses": USES,
        "issued": zulu(AT),
        "starts": zulu(AT),
        "expires": zulu(AT + timedelta(days=30)),
        "jurisdictions": ["*"],
        "approval": "none",
        "revocation_effect": "stop_new",
        "preferences": [],
        "delegate_key": None,
        "parent": None,
        "notice": {"sha256": "0" * 64, "version": "1"},
        "language": "en",
    }
    return SignedGrant(someone.id, value, sign(GRANT_TAG, parse_grant(value).signed_bytes(), someone.device))


def zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def questions(people: list[Someone], count: int) -> list[Draft]:
    """Entries about others: an auditor's questions, the shortest there are."""
    body = {"auditor": "benchmark", "asked": "uses"}
    about = [[About(one.id, "depicted", body)] for one in people]
    return [Draft("audit", secrets.token_hex(12), about[n % len(about)], AT) for n in range(count)]


def use(someone: Someone, grant: str, app: AppId) -> Draft:
    video = new_id("video")
    body = {
        "video_id": video,
        "app_id": app,
        "grant_ids": [grant],
        "allowed": True,
        "action": "generate",
        "purpose": "dpv:NonCommercialPurpose",
        "cameo_id": someone.cameo,
    }
    return Draft("decision", video, [About(someone.id, "depicted", body)], AT)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# Figures ------------------------------------------------------------------------------------------------------------


def verified_per_core(count: int) -> float:
    """Grants with signatures, everything in one process."""
    with tempfile.TemporaryDirectory() as home, ledger_in(Path(home), workers=0) as ledger:
        app = AppId(new_id("app"))
        ledger.transact(lambda tx: tx.add_app(App(app, "App", created_at=0)))
        people = ledger.transact(lambda tx: [enrol(tx) for _ in range(PEOPLE)])
        signed = [grant_of(people[n % PEOPLE], app) for n in range(count)]
        spent = seconds(lambda: record_grants(ledger, signed, at=AT))
        assert ledger.replica.size > count
    return count / spent


def single(ledger: Ledger, people: list[Someone], count: int) -> tuple[float, float]:
    """(entries a second, 99th percentile in ms) with many callers who each wait for their own."""
    drafts = questions(people, count)
    with ThreadPoolExecutor(CALLERS) as callers:
        begun = time.perf_counter()
        waits = sorted(callers.map(lambda draft: seconds(lambda: ledger.append(draft)), drafts))
        return count / (time.perf_counter() - begun), 1000 * waits[int(0.99 * count)]


def audit(ledger: Ledger, leaves: list[bytes]) -> float:
    """A whole visit of a monitor, but for the download."""
    log = {"checkpoint": ledger.checkpoint()}
    for tile in tiles_of(len(leaves)):
        first, level = tile.index * TILE_WIDTH, tile.level
        places = range(first, first + tile.width)
        log[tile_path(level, tile.index, tile.width)] = (
            entry_bundle([leaves[place] for place in places])
            if level == "entries"
            else b"".join(ledger.replica.tree.node(8 * level, place) for place in places)
        )
    cores = multiprocessing.cpu_count()
    monitor = Monitor(Policy.alone(ledger.verifier), log.__getitem__, {}, workers=cores)
    try:
        return seconds(lambda: monitor.visit(AT))
    finally:
        monitor.close()


def proof(ledger: Ledger, someone: Someone) -> tuple[float, float]:
    """(build, check) in ms, medians of five, of a list of one hundred uses."""
    policy, builds, checks = Policy.alone(ledger.verifier), [], []
    for _ in range(5):
        begun = time.perf_counter()
        with ledger.reading() as tx:
            bundle = completeness.prove(tx, ledger.replica, someone.id, someone.cameo, ledger.checkpoint())
        builds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        verified = completeness.verify(bundle, policy)
        checks.append(time.perf_counter() - begun)
        assert verified.story.allowed == USES
    return 1000 * statistics.median(builds), 1000 * statistics.median(checks)


def beside_pymerkle(leaves: list[bytes]) -> float:
    """How many times as long pymerkle takes to build a tree in memory, prove 300 leaves, and check them."""
    size, asked = len(leaves), range(0, len(leaves), max(1, len(leaves) // 300))

    def ours() -> None:
        tree = Tree()
        tree.extend([leaf_hash(leaf) for leaf in leaves])
        root = tree.root()
        for index in asked:
            path = inclusion_proof(index, size, tree.node)
            verify_inclusion(leaf_hash(leaves[index]), index, size, path, root)

    def theirs() -> None:
        tree: Any = pymerkle.InmemoryTree(algorithm="sha256")
        for leaf in leaves:
            tree.append_entry(leaf)
        root = tree.get_root()
        for index in asked:
            pymerkle.verify_inclusion(tree.get_leaf(index + 1), root, tree.prove_inclusion(index + 1))

    return seconds(theirs) / seconds(ours)


def grow(ledger: Ledger, size: int, app: AppId, others: list[Someone]) -> tuple[float, Someone]:
    """Append until the log holds `size` leaves: (entries a second, someone used a hundred times on the way)."""
    shown = ledger.transact(enrol)
    granted = grant_of(shown, app)
    record_grants(ledger, [granted], at=AT)
    batches = max(1, (size - ledger.replica.size) // (BATCH + 1))
    each, used, added, spent = -(-USES // batches), 0, 0, 0.0
    while ledger.replica.size < size or used < USES:
        uses = [use(shown, granted.value["grant_id"], app) for _ in range(min(each, USES - used))]
        drafts = [*uses, *questions(others, BATCH - len(uses))]
        begun = time.perf_counter()
        ledger.transact(lambda tx, drafts=drafts: tx.append_all(drafts))  # type: ignore[misc]
        spent, added, used = spent + time.perf_counter() - begun, added + BATCH, used + len(uses)
    return added / spent, shown


def measure(ledger: Ledger, shown: Someone) -> dict[str, float]:
    build, check = proof(ledger, shown)
    with ledger.reading() as tx:
        leaves = [leaf for _, leaf in tx.leaves()]
    return {
        "entries": len(leaves),
        "proof_build_ms": round(build, 1),
        "proof_check_ms": round(check, 1),
        "audit_s": round(audit(ledger, leaves), 2),
        "pymerkle_ratio": round(beside_pymerkle(leaves[:PEER_LEAVES]), 2),
    }


def run(sizes: list[int], *, quick: bool) -> tuple[dict[str, Any], list[dict[str, float]]]:
    answer: dict[str, Any] = {
        "bulk_verified_per_core_per_s": round(verified_per_core(1500 if quick else 5000))
    }
    curve: list[dict[str, float]] = []
    cores = multiprocessing.cpu_count()
    with tempfile.TemporaryDirectory() as home, ledger_in(Path(home), workers=cores) as ledger:
        app = AppId(new_id("app"))
        ledger.transact(lambda tx: tx.add_app(App(app, "App", created_at=0)))
        others = ledger.transact(lambda tx: [enrol(tx) for _ in range(PEOPLE)])
        warm = questions(others, 2 * BATCH)
        ledger.transact(lambda tx: tx.append_all(warm))
        for size in sizes:
            rate, shown = grow(ledger, size, app, others)
            curve.append({"bulk_preverified_per_s": round(rate), **measure(ledger, shown)})
            print(json.dumps(curve[-1]), flush=True)
        per_s, p99_ms = single(ledger, others, 4000 if quick else 20_000)
    last = curve[-1]
    return {
        **answer,
        "bulk_preverified_per_s": last["bulk_preverified_per_s"],
        "single_post_per_s": round(per_s),
        "single_p99_ms": round(p99_ms, 1),
        "audit_1m_s": round(last["audit_s"] * 1e6 / last["entries"], 1),
        "audit_1m_extrapolated": last["entries"] < 1_000_000,
        "proof_build_ms": last["proof_build_ms"],
        "proof_check_ms": last["proof_check_ms"],
        "pymerkle_ratio": last["pymerkle_ratio"],
        "entries": last["entries"],
        "cores": cores,
    }, curve


def draw(curve: list[dict[str, float]], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 — every worker process imports this module, and draws nothing

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    entries = [point["entries"] for point in curve]
    for axis, names in zip(
        axes,
        (["bulk_preverified_per_s"], ["proof_build_ms", "proof_check_ms"], ["audit_s"]),
        strict=True,
    ):
        for name in names:
            axis.plot(entries, [point[name] for point in curve], marker="o", label=name)
        axis.set(xscale="log", xlabel="entries", ylim=(0, None))
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--png", type=Path, default=Path("var/benchmarks/log.png"), help="the growth curve")
    asked = parser.parse_args()
    sizes = [5_000, 10_000, 20_000] if asked.quick else [10_000, 100_000, 1_000_000]
    answer, curve = run(sizes, quick=asked.quick)
    draw(curve, asked.png)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
