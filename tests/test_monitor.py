"""A stranger's check of a whole log: an honest one passes, and each way to cheat is found, by its rule.

The attacker here holds every key of the service and signs whatever helps.
"""

import json
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli import cli
from gateway.log import export
from gateway.monitor import source, told
from ledger.errors import LogError, NotFound, Unavailable, Violation
from ledger.ids import Digest, LeafIndex
from ledger.keys import Rotated, SigningKey
from ledger.log import monitor as monitoring
from ledger.log.leaf import make_leaf
from ledger.log.maproots import MapRoots, joined
from ledger.log.merkle import Tree, entry_bundle, leaf_hash, parse_entry_bundle, tile_path
from ledger.log.monitor import Monitor
from ledger.log.note import Checkpoint, SignatureType, SignerKey, add_cosignature, cosign, sign_note
from ledger.log.policy import Policy
from ledger.log.prefixmap import PrefixMap, value_of
from ledger.log.public import Assignment, Epoch, KeyChange, KeyTable, make_public
from ledger.log.replica import Replica
from world import START, World

ORIGIN = "test.example/log"
AT = START + timedelta(days=1)
NOW = int(AT.timestamp())
ROLES: tuple[Rotated, ...] = ("service", "log", "receipt")
Files = dict[str, bytes]


def seeded(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def tag(n: int) -> bytes:
    return sha256(b"tag %d" % n).digest()


@dataclass
class Service:
    """Writes a log by hand. What it is told to lie about it signs like the rest, and goes on from the truth."""

    leaves: list[bytes] = field(default_factory=list)
    keys: dict[Rotated, SigningKey] = field(default_factory=dict)
    table: KeyTable = field(default_factory=KeyTable)
    map: PrefixMap = field(default_factory=PrefixMap)
    pending: list[Assignment] = field(default_factory=list)
    number: int = 0
    first: int = 0
    time: int = NOW - 1000
    count: int = 0

    @classmethod
    def opened(cls) -> "Service":
        """Always the same one: P-256 signatures differ from one signing to the next."""
        return _opened().fork()

    @classmethod
    def fresh(cls) -> "Service":
        service = cls(keys={"service": seeded("service"), "log": seeded("log")})
        service.keys["receipt"] = ec.derive_private_key(7, ec.SECP256R1())
        for role in ROLES:
            service.announce(KeyChange.make(role, ORIGIN, service.keys[role]))
        service.epoch()
        return service

    def fork(self) -> "Service":
        return replace(self, leaves=list(self.leaves), keys=dict(self.keys), pending=list(self.pending))

    @property
    def size(self) -> int:
        return len(self.leaves)

    @property
    def service_key(self) -> Ed25519PrivateKey:
        key = self.keys["service"]
        assert isinstance(key, Ed25519PrivateKey)
        return key

    @property
    def signer(self) -> SignerKey:
        key = self.keys["log"]
        assert isinstance(key, Ed25519PrivateKey)
        return SignerKey.from_seed(ORIGIN, key.private_bytes_raw())

    def announce(self, change: KeyChange) -> None:
        self.leaves.append(make_public("keys", change.payload(), ORIGIN, self.service_key))
        self.table = self.table.changed(change, self.size - 1)

    def rotate(self, role: Rotated) -> None:
        new = (
            ec.derive_private_key(self.size, ec.SECP256R1())
            if role == "receipt"
            else seeded(f"{role} {self.size}")
        )
        self.announce(KeyChange.make(role, ORIGIN, new, self.keys[role]))
        self.keys[role] = new

    def entry(self, tags: int = 1, *, key: Ed25519PrivateKey | None = None) -> int:
        index = LeafIndex(self.size)
        self.leaves.append(make_leaf([sha256(b"%d" % index).digest()], ORIGIN, key or self.service_key))
        for _ in range(tags):
            self.pending.append(Assignment(tag(self.count), index))
            self.count += 1
        return index

    def epoch(self, **lies: Any) -> int:
        """`lies` replace fields of the epoch."""
        self.time += 1
        self.map = self.map.insert(
            (one, value_of(entry, leaf_hash(self.leaves[entry]))) for one, entry in self.pending
        )
        truth = Epoch(
            self.number,
            LeafIndex(self.first),
            self.map.root,
            self.table.digest(),
            self.time,
            tuple(sorted(self.pending)),
        )
        self.leaves.append(make_public("epoch", replace(truth, **lies).payload(), ORIGIN, self.service_key))
        self.number, self.first, self.pending = self.number + 1, self.size, []
        return self.size - 1

    def some(self, epochs: int = 2, entries: int = 3) -> "Service":
        for _ in range(epochs):
            for _ in range(entries):
                self.entry()
            self.epoch()
        return self

    def checkpoint(self, *signers: SignerKey) -> bytes:
        text = Checkpoint(ORIGIN, self.size, tree_of(self.leaves).root()).text()
        return sign_note(text, signers or [self.signer])

    def files(self, *signers: SignerKey) -> Files:
        """Everything a reader can ask for."""
        tree = tree_of(self.leaves)
        files = {"checkpoint": self.checkpoint(*signers)}
        count, level = self.size, 0
        while count:
            for first in range(0, count, 256):
                last = min(first + 256, count)
                nodes = [tree.node(8 * level, at) for at in range(first, last)]
                files[tile_path(level, first // 256, last - first)] = b"".join(nodes)
                if level == 0:
                    path = tile_path("entries", first // 256, last - first)
                    files[path] = entry_bundle(self.leaves[first:last])
            count, level = count // 256, level + 1
        return files


@cache
def _opened() -> Service:
    return Service.fresh()


def tree_of(leaves: list[bytes]) -> Tree:
    tree = Tree()
    tree.extend([leaf_hash(leaf) for leaf in leaves])
    return tree


class Server:
    """What a log gives out; `files` may change between two visits."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def __call__(self, path: str) -> bytes:
        if path not in self.files:
            raise NotFound("monitor.missing", f"there is no `{path}`")
        return self.files[path]


def alone() -> Policy:
    return Policy.alone(Service.opened().signer.verifier)


def found(files: Files, policy: Policy | None = None, memory: Files | None = None) -> Violation:
    monitor = Monitor(policy or alone(), Server(files), {} if memory is None else memory)
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    evidence = monitor.evidence(violation.value)
    assert evidence["rule"] == violation.value.reason.id
    assert evidence["checkpoint"].encode() == files["checkpoint"]
    json.dumps(evidence)
    return violation.value


# --- an honest log ------------------------------------------------------------------------------------------


def test_an_honest_log_passes_and_its_growth_is_followed() -> None:
    service = Service.opened().some()
    server, memory = Server(service.files()), dict[str, bytes]()
    monitor = Monitor(alone(), server, memory, signatures=False)
    first = monitor.visit(AT)
    assert (first.checkpoint.size, first.epochs, first.extends) == (service.size, 3, None)
    assert monitor.visit(AT).extends == service.size
    sizes = [service.size]
    for entries in (1, 250, 300, 700):
        server.files = service.some(1, entries).files()
        sizes.append(service.size)
        visit = monitor.visit(AT)
        assert (visit.checkpoint.size, visit.extends) == (sizes[-1], sizes[-2])
        assert memory == {ORIGIN: server.files["checkpoint"]}
    again = Monitor(alone(), server, memory)
    assert again.visit(AT).extends == service.size


def test_every_kind_of_honest_change_passes() -> None:
    service = Service.opened()
    service.entry(tags=3)
    service.leaves.append(make_public("policies", {1: bytes(32), 2: 7}, ORIGIN, service.service_key))
    service.epoch()
    for role in ROLES:
        service.rotate(role)
        service.epoch()
        service.some(1)
    policy = Policy.alone(service.signer.verifier)
    assert Monitor(policy, Server(service.files()), {}).visit(AT).epochs == service.number


def test_a_new_log_key_is_trusted_through_the_old_one_while_that_still_signs_too() -> None:
    service = Service.opened().some()
    old = service.signer
    service.rotate("log")
    service.epoch()
    # Until the change is durable, only the old key signs; then both do, and the old one alone counts for nothing.
    assert Monitor(alone(), Server(service.files(old)), {}).visit(AT).epochs == service.number
    service.some(1)
    assert Monitor(alone(), Server(service.files(service.signer, old)), {}).visit(AT)
    assert found(service.files(old)).reason.id == "log.checkpoint_key"


def test_without_a_policy_the_key_is_the_one_the_log_announces() -> None:
    service = Service.opened().some()
    visit = Monitor(None, Server(service.files()), {}).visit(AT)
    assert str(service.signer.verifier) in "\n".join(told(visit, None, signatures=False))
    stranger = SignerKey.from_seed(ORIGIN, bytes(32))
    monitor = Monitor(None, Server(service.files(stranger)), {})
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert violation.value.reason.id == "log.checkpoint_key"


def test_a_log_of_the_real_service_passes_with_signatures_and_after_rotations(world: World) -> None:
    app, someone = world.app(), world.enrol()
    world.grant(someone, app)
    assert world.release(world.allow(app, someone).permit) is None
    for role in ROLES:
        world.ledger.rotate(role, at=START)
    world.grant(someone, app)
    folder = world.home / "exported"
    export(world.ledger, folder)
    monitor = Monitor(
        Policy.alone(world.ledger.verifier), source(str(folder)), {}, signatures=True, workers=1
    )
    visit = monitor.visit(AT)
    monitor.close()
    assert visit.checkpoint.size == world.ledger.replica.size
    assert visit.keys == world.ledger.replica.keys


def test_worker_processes_find_what_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "ALONE", 0)
    service = Service.opened().some(80, 2)
    honest = Monitor(alone(), Server(service.files()), {}, workers=2)
    assert honest.visit(AT).epochs == 81
    honest.close()
    lie = service.fork()
    lie.entry()
    wrong = lie.epoch(map_root=Digest(bytes(32)))
    lie.some(3)
    lie.epoch(number=7)
    monitor = Monitor(alone(), Server(lie.files()), {}, workers=2)
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    monitor.close()
    assert (violation.value.reason.id, violation.value.index) == ("log.epoch_map", wrong)


# --- rules, broken under the log's own signature --------------------------------------------------------------

Attack = Callable[[Service], int]
"""Breaks a rule; returns the leaf at which it shows."""


def dropped_epoch(service: Service) -> int:
    service.entry()
    service.epoch()
    del service.leaves[-1]
    service.entry()
    service.first -= 1
    return service.epoch()


def epoch_not_numbered_on(service: Service) -> int:
    return service.epoch(number=service.number + 1)


def epoch_that_leaves_leaves_out(service: Service) -> int:
    service.entry()
    first = service.size
    service.entry()
    del service.pending[0]
    return service.epoch(first=LeafIndex(first))


def foreign_index(service: Service) -> int:
    entry = service.entry()
    return service.epoch(
        assignments=(Assignment(tag(0), LeafIndex(entry)), Assignment(tag(9), LeafIndex(999)))
    )


def entry_of_an_earlier_epoch(service: Service) -> int:
    earlier = service.entry()
    service.epoch()
    return service.epoch(first=LeafIndex(earlier), assignments=(Assignment(tag(77), LeafIndex(earlier)),))


def tag_for_a_non_entry(service: Service) -> int:
    service.leaves.append(make_public("policies", {1: bytes(32), 2: 7}, ORIGIN, service.service_key))
    service.pending.append(Assignment(tag(77), LeafIndex(service.size - 1)))
    return service.epoch()


def gap(service: Service) -> int:
    service.entry(tags=0)
    service.entry()
    return service.epoch()


def index_tagged_twice_with_one_tag(service: Service) -> int:
    entry = LeafIndex(service.entry())
    service.pending.clear()
    return service.epoch(assignments=(Assignment(tag(77), entry), Assignment(tag(77), entry)))


def tags_out_of_order(service: Service) -> int:
    pair = sorted(
        [Assignment(tag(77), LeafIndex(service.entry(0))), Assignment(tag(78), LeafIndex(service.entry(0)))]
    )
    return service.epoch(assignments=tuple(reversed(pair)))


def tag_of_an_earlier_epoch(service: Service) -> int:
    entry = LeafIndex(service.entry(tags=0))
    return service.epoch(assignments=(Assignment(tag(0), entry),))


def wrong_map_root(service: Service) -> int:
    service.entry()
    index = service.epoch(map_root=Digest(sha256(b"another").digest()))
    service.some()
    return index


def old_map_root(service: Service) -> int:
    root = service.map.root
    service.entry()
    index = service.epoch(map_root=root)
    service.some()
    return index


def map_without_a_tag(service: Service) -> int:
    service.entry()
    hidden = service.map
    truth = service.epoch()
    service.map = hidden
    del service.leaves[truth:]
    service.number, service.first = service.number - 1, truth - 1
    service.pending = [Assignment(tag(service.count - 1), LeafIndex(truth - 1))]
    return service.epoch(map_root=hidden.root)


def duplicate_entry(service: Service) -> int:
    """A leaf put in a second time; the epoch keeps silent about it."""
    entry = service.entry()
    service.leaves.append(service.leaves[entry])
    return service.epoch()


def time_backwards(service: Service) -> int:
    return service.epoch(time=service.time - 1)


def time_in_the_future(service: Service) -> int:
    index = service.epoch(time=NOW + 3600)
    service.time = NOW + 3601
    service.some()
    return index


def wrong_key_digest(service: Service) -> int:
    return service.epoch(keys_digest=Digest(bytes(32)))


def key_digest_of_before_a_rotation(service: Service) -> int:
    digest = service.table.digest()
    service.rotate("receipt")
    return service.epoch(keys_digest=digest)


def leaf_by_a_retired_key(service: Service) -> int:
    retired = service.service_key
    service.rotate("service")
    service.epoch()
    index = service.entry(key=retired)
    service.epoch()
    return index


def epoch_by_a_retired_key(service: Service) -> int:
    retired = service.keys["service"]
    service.rotate("service")
    service.keys["service"] = retired
    return service.epoch()


def key_change_without_the_old_key(service: Service) -> int:
    change = KeyChange.make("log", ORIGIN, seeded("mine"), seeded("also mine"))
    service.leaves.append(make_public("keys", change.payload(), ORIGIN, service.service_key))
    service.epoch()
    return service.size - 2


def key_change_as_if_it_were_the_first(service: Service) -> int:
    change = KeyChange.make("log", ORIGIN, seeded("mine"))
    service.leaves.append(make_public("keys", change.payload(), ORIGIN, service.service_key))
    service.epoch()
    return service.size - 2


def key_change_with_a_forged_signature_of_the_old_key(service: Service) -> int:
    payload = KeyChange.make("log", ORIGIN, seeded("mine"), service.keys["log"]).payload()
    payload[5] = bytes(64)
    service.leaves.append(make_public("keys", payload, ORIGIN, service.service_key))
    service.epoch()
    return service.size - 2


def epoch_in_another_encoding(service: Service) -> int:
    index = service.epoch()
    leaf = service.leaves[index]
    # Tag 18 in two bytes instead of one.
    service.leaves[index] = b"\xd8\x12" + leaf[1:]
    return index


def entry_with_trailing_bytes(service: Service) -> int:
    index = service.entry()
    service.leaves[index] += b"\x00"
    service.epoch()
    return index


def leaf_of_another_log(service: Service) -> int:
    service.leaves.append(make_leaf([bytes(32)], "other.example/log", service.service_key))
    service.epoch()
    return service.size - 2


def no_epoch_at_the_end(service: Service) -> int:
    return service.entry()


def reordered_leaves(service: Service) -> int:
    first = service.entry()
    second = service.entry()
    index = service.epoch()
    service.leaves[first], service.leaves[second] = service.leaves[second], service.leaves[first]
    return index


ATTACKS: dict[Attack, str] = {
    dropped_epoch: "log.epoch_order",
    epoch_not_numbered_on: "log.epoch_order",
    epoch_that_leaves_leaves_out: "log.epoch_order",
    entry_of_an_earlier_epoch: "log.epoch_order",
    foreign_index: "log.epoch_coverage",
    tag_for_a_non_entry: "log.epoch_coverage",
    gap: "log.epoch_coverage",
    duplicate_entry: "log.epoch_coverage",
    index_tagged_twice_with_one_tag: "log.epoch_order",
    tags_out_of_order: "log.epoch_order",
    tag_of_an_earlier_epoch: "log.duplicate_tag",
    wrong_map_root: "log.epoch_map",
    old_map_root: "log.epoch_map",
    map_without_a_tag: "log.epoch_map",
    reordered_leaves: "log.epoch_map",
    time_backwards: "log.epoch_time",
    time_in_the_future: "log.epoch_future",
    wrong_key_digest: "log.epoch_keys",
    key_digest_of_before_a_rotation: "log.epoch_keys",
    leaf_by_a_retired_key: "log.retired_key",
    epoch_by_a_retired_key: "log.leaf",
    key_change_without_the_old_key: "log.keys",
    key_change_as_if_it_were_the_first: "log.keys",
    key_change_with_a_forged_signature_of_the_old_key: "log.keys",
    epoch_in_another_encoding: "log.leaf",
    entry_with_trailing_bytes: "log.leaf",
    leaf_of_another_log: "log.leaf",
    no_epoch_at_the_end: "log.epoch_open",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("following", [False, True], ids=["at once", "later"])
def test_a_broken_rule_is_found_at_its_leaf(attack: Attack, following: bool) -> None:
    service = Service.opened().some()
    server = Server(service.files())
    monitor = Monitor(alone(), server, {})
    if following:
        monitor.visit(AT)
    index = attack(service)
    server.files = service.files()
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert (violation.value.reason.id, violation.value.index) == (ATTACKS[attack], index)
    leaf = b64decode(monitor.evidence(violation.value)["leaf"])
    assert leaf in (service.leaves[index], b"")
    assert leaf or attack is no_epoch_at_the_end


def test_the_first_of_two_broken_rules_is_reported() -> None:
    service = Service.opened().some()
    first = wrong_map_root(service)
    leaf_by_a_retired_key(service)
    assert found(service.files()).index == first


def test_a_clock_a_little_ahead_is_no_violation() -> None:
    service = Service.opened().some(1)
    service.time = NOW + 60
    service.some(1)
    assert Monitor(alone(), Server(service.files()), {}).visit(AT).time > NOW


def test_a_leaf_the_service_never_signed_is_found_when_signatures_are_asked_for() -> None:
    service = Service.opened()
    index = service.entry()
    service.leaves[index] = service.leaves[index][:-1] + bytes([service.leaves[index][-1] ^ 1])
    service.epoch()
    service.some()
    assert Monitor(alone(), Server(service.files()), {}).visit(AT)
    monitor = Monitor(alone(), Server(service.files()), {}, signatures=True, workers=1)
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    monitor.close()
    assert (violation.value.reason.id, violation.value.index) == ("log.leaf_signature", index)


# --- what is served -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big() -> Service:
    return Service.opened().some(3, 200)


def bundle_with(files: Files, path: str, change: Callable[[list[bytes]], list[bytes]]) -> Files:
    return files | {path: entry_bundle(change(parse_entry_bundle(files[path])))}


def test_a_rewritten_leaf_in_a_bundle_is_found_and_named(big: Service) -> None:
    other = make_leaf([bytes(32)], ORIGIN, big.service_key)
    files = bundle_with(big.files(), "tile/entries/001", lambda leaves: [*leaves[:7], other, *leaves[8:]])
    violation = found(files)
    assert (violation.reason.id, violation.index, violation.evidence) == ("log.root", 263, other)
    # Also when the tile above it was rewritten to match.
    tree = tree_of(parse_entry_bundle(files["tile/entries/001"]))
    files["tile/0/001"] = b"".join(tree.node(0, at) for at in range(256))
    assert found(files).reason.id == "log.root"


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/002.p/95", "tile/1/000.p/2"])
def test_a_rewritten_tile_is_found(big: Service, path: str) -> None:
    files = big.files()
    at = 3 if path != "tile/1/000.p/2" else 1
    files[path] = files[path][: 32 * at] + bytes(32) + files[path][32 * at + 32 :]
    assert found(files).reason.id == "log.tile"
    files[path] = files[path][:-1]
    assert found(files).reason.id == "log.tile"


@pytest.mark.parametrize(
    "path", ["tile/entries/001", "tile/0/001", "tile/1/000.p/2", "tile/entries/002.p/95"]
)
def test_what_is_withheld_is_found(big: Service, path: str) -> None:
    files = big.files()
    del files[path]
    assert found(files).reason.id == "log.withheld"


def test_a_bundle_that_is_cut_or_too_short_is_found(big: Service) -> None:
    files = big.files()
    whole = files["tile/entries/001"]
    for content in (whole[:-1], whole + b"\x00", b"", entry_bundle(parse_entry_bundle(whole)[:-1])):
        violation = found(files | {"tile/entries/001": content})
        assert (violation.reason.id, violation.index) == ("log.bundle", 256)


def test_a_rule_broken_only_in_transit_is_not_held_against_the_log(big: Service) -> None:
    stranger = make_leaf([bytes(32)], ORIGIN, seeded("stranger"))
    files = bundle_with(big.files(), "tile/entries/000", lambda leaves: [*leaves[:5], stranger, *leaves[6:]])
    assert found(files).reason.id == "log.root"


# --- between two visits ---------------------------------------------------------------------------------------


@pytest.fixture
def seen() -> tuple[Service, Server, Monitor, Files]:
    """A log that has been visited once."""
    service, memory = Service.opened().some(2, 200), dict[str, bytes]()
    server = Server(service.files())
    monitor = Monitor(alone(), server, memory)
    monitor.visit(AT)
    return service, server, monitor, memory


Visited = tuple[Service, Server, Monitor, Files]


def test_a_restored_backup_is_found(seen: Visited) -> None:
    _, server, monitor, memory = seen
    server.files = Service.opened().some(1, 200).files()
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert violation.value.reason.id == "log.shrunk"
    assert monitor.evidence(violation.value)["checkpoint_before"].encode() == memory[ORIGIN]
    assert found(server.files, memory=memory).reason.id == "log.shrunk"


def test_another_root_at_the_same_size_is_found(seen: Visited) -> None:
    _, server, monitor, memory = seen
    other = Service.opened()
    other.count = 1000
    server.files = other.some(2, 200).files()
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert violation.value.reason.id == "log.forked"
    before = monitor.evidence(violation.value)["checkpoint_before"].encode()
    assert before == memory[ORIGIN] != server.files["checkpoint"]
    assert found(server.files, memory=memory).reason.id == "log.forked"


@pytest.mark.parametrize("where", [4, 300])
def test_a_fork_that_has_grown_is_found(seen: Visited, where: int) -> None:
    """A split view: every rule holds in it, but an entry was replaced that this monitor has seen."""
    service, server, monitor, memory = seen
    other = Service.opened()
    for _ in range(3):
        for _ in range(200):
            index = other.entry()
            if index == where:
                other.leaves[index] = make_leaf([bytes(32)], ORIGIN, other.service_key)
        other.epoch()
    assert other.leaves[where] != service.leaves[where]
    server.files = other.files()
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert (violation.value.reason.id, violation.value.index) == ("log.rewritten", where)
    # A monitor that starts again has no leaves to compare, only the checkpoint it remembers.
    assert found(server.files, memory=memory).reason.id == "log.forked"


@pytest.mark.parametrize("start", [0, 1], ids=["first visit", "later visit"])
def test_what_was_found_before_the_line_broke_is_found_again(
    start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "BATCH", 2)
    service = Service.opened().some()
    server = Server(service.files())
    monitor = Monitor(alone(), server, {})
    if start:
        monitor.visit(AT)
    wrong = service.some(12, 250).files()
    wrong["tile/0/002"] = bytes(8192)
    server.files = wrong
    broken = {**wrong, "tile/entries/009": None}

    def fetch(path: str) -> bytes:
        content = broken[path]
        if content is None:
            raise Unavailable("test", "the line is broken")
        return content

    monkeypatch.setattr(monitor, "_fetch", fetch)
    with pytest.raises(Unavailable):
        monitor.visit(AT)
    monkeypatch.setattr(monitor, "_fetch", server)
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert (violation.value.reason.id, violation.value.index) == ("log.tile", 512)


def test_a_violation_is_not_remembered_as_verified(seen: Visited) -> None:
    service, server, monitor, memory = seen
    before = dict(memory)
    wrong_map_root(service)
    server.files = service.files()
    with pytest.raises(Violation):
        monitor.visit(AT)
    assert memory == before
    with pytest.raises(Violation):
        Monitor(alone(), server, memory).visit(AT)


def test_a_log_under_another_name_is_found(seen: Visited) -> None:
    service, server, monitor, _ = seen
    text = Checkpoint("other.example/log", service.size, tree_of(service.leaves).root()).text()
    key = SignerKey.from_seed("other.example/log", bytes(32))
    server.files["checkpoint"] = sign_note(text, [key])
    with pytest.raises(Violation) as violation:
        monitor.visit(AT)
    assert violation.value.reason.id == "log.note"
    stranger = Monitor(None, server, {})
    server.files = service.files()
    stranger.visit(AT)
    server.files["checkpoint"] = sign_note(text, [key])
    with pytest.raises(Violation) as violation:
        stranger.visit(AT)
    assert violation.value.reason.id == "log.origin"


# --- the checkpoint -------------------------------------------------------------------------------------------


def witness(n: int) -> SignerKey:
    return SignerKey.from_seed(f"witness.example/w{n}", bytes([n] * 32), SignatureType.COSIGNATURE)


def test_a_missing_quorum_is_found() -> None:
    service = Service.opened().some()
    lines = [f"log {service.signer.verifier}"]
    lines += [f"witness w{n} {witness(n).verifier}" for n in (1, 2, 3)]
    policy = Policy.parse("\n".join([*lines, "group all 2 w1 w2 w3", "quorum all", ""]).encode())
    files = service.files()
    for n in (1, 2):
        assert found(files, policy).reason.id == "log.quorum"
        line = cosign(files["checkpoint"].decode().partition("\n\n")[0] + "\n", witness(n), AT)
        files["checkpoint"] = add_cosignature(files["checkpoint"], line, witness(n).verifier)
    visit = Monitor(policy, Server(files), {}).visit(AT)
    assert len(visit.witnesses) == 2
    assert "witnessed by witness.example/w1, witness.example/w2" in "\n".join(
        told(visit, policy, signatures=False)
    )


def test_a_checkpoint_by_a_retired_log_key_is_found() -> None:
    service = Service.opened().some()
    retired = service.signer
    service.rotate("log")
    service.epoch()
    service.some()
    assert found(service.files(retired)).reason.id == "log.checkpoint_key"


@pytest.mark.parametrize("note", [b"", b"\xff", b"a\n1\n", b"test.example/log\n5\nAAAA\n\n"])
def test_a_checkpoint_that_is_none_is_found(note: bytes) -> None:
    files = Service.opened().files() | {"checkpoint": note}
    for policy in (alone(), None):
        with pytest.raises(Violation):
            Monitor(policy, Server(files), {}).visit(AT)


# --- the roots of the map ---------------------------------------------------------------------------------------


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 7, 8, 31]), st.binary(max_size=3)),
            max_size=30,
        ),
        max_size=8,
    ),
    st.sampled_from([1, 16, 4096]),
)
@settings(max_examples=60, deadline=None)
def test_roots_are_those_of_the_map(epochs: list[list[tuple[int, int, bytes]]], expected: int) -> None:
    """Under long common prefixes too, after every epoch, and put together from two halves."""
    reference, whole = PrefixMap(), MapRoots(expected=expected)
    halves = MapRoots(skip=1, expected=expected), MapRoots(skip=1, expected=1)
    taken: set[bytes] = set()
    for epoch in epochs:
        tags = {
            (bytes([64 * top]) * prefix + end).ljust(32, b"\x55")[:32] for top, prefix, end in epoch
        } - taken
        taken |= tags
        items = [(one, sha256(one).digest()) for one in sorted(tags)]
        reference = reference.insert(items)
        whole.add(b"".join(one for one, _ in items), b"".join(v for _, v in items))
        for bit, half in enumerate(halves):
            mine = [item for item in items if item[0][0] >> 7 == bit]
            half.add(b"".join(one for one, _ in mine), b"".join(v for _, v in mine))
        assert whole.root == reference.root
        assert joined(halves[0].top, halves[1].top).hash == reference.root


def test_many_tags_have_the_root_of_the_map() -> None:
    reference, whole = PrefixMap(), MapRoots(expected=1)
    for epoch in range(6):
        tags = sorted(tag(epoch * 1700 + n) for n in range(1700))
        whole.add(b"".join(tags), b"".join(tags))
        reference = reference.insert((one, one) for one in tags)
        assert whole.root == reference.root
    with pytest.raises(LogError, match="already"):
        whole.add(tag(5), tag(5))


def test_the_replica_of_the_service_and_the_monitor_agree(big: Service) -> None:
    replica = Replica(ORIGIN)
    replica.extend(big.leaves)
    assert replica.head.map.root == big.map.root


# --- the command ----------------------------------------------------------------------------------------------


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(*arguments: str, home: Path) -> tuple[int, str]:
    files = ["--memory", str(home / "seen.json"), "--evidence", str(home / "violation.json")]
    result = CliRunner().invoke(cli, ["audit", "monitor", *arguments, *files])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_reads_over_http_and_from_a_folder_and_remembers(tmp_path: Path) -> None:
    service = Service.opened().some()
    service.time = NOW - 500
    folder = write(tmp_path / "log", service.files())
    with served(folder) as url:
        status, output = run(url, "--log-key", str(service.signer.verifier), home=tmp_path)
        assert status == 0, output
        assert "this is your first" in output
    write(folder, service.some().files())
    status, output = run(f"file://{folder}", home=tmp_path)
    assert (status, "leaves of your last visit are all there" in output) == (0, True)
    # The same log, restored from the older copy: found by a command that only remembers.
    write(folder, Service.opened().some().files())
    status, output = run(str(folder), home=tmp_path)
    assert (status, "rule log.shrunk" in output) == (1, True)
    evidence = json.loads((tmp_path / "violation.json").read_text())
    assert evidence["rule"] == "log.shrunk"
    assert evidence["checkpoint_before"].startswith(ORIGIN)


def test_the_command_writes_the_leaf_that_breaks_a_rule(tmp_path: Path) -> None:
    service = Service.opened().some()
    index = wrong_map_root(service)
    status, output = run(str(write(tmp_path / "log", service.files())), home=tmp_path)
    assert (status, f"rule log.epoch_map, at leaf {index}" in output) == (1, True)
    evidence = json.loads((tmp_path / "violation.json").read_text())
    assert b64decode(evidence["leaf"]) == service.leaves[index]


def test_a_log_that_can_not_be_reached_is_no_violation(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        run("http://127.0.0.1:1", home=tmp_path)
    with pytest.raises(LogError):
        run(str(tmp_path / "nothing"), home=tmp_path)
    assert not (tmp_path / "violation.json").exists()


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    class Redirecting(_Quiet):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("location", "/elsewhere")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(Unavailable, match="302"):
            source(f"http://127.0.0.1:{server.server_port}")("checkpoint")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
