"""Kinds of entries are append-only: whoever kept a leaf ten years ago must still be able to read it.

`golden/kinds.json` holds one leaf of every kind there has ever been; `golden/make_kinds.py` wrote it. A new kind is
a new item at its end. No test here may be made to pass by changing an item that is there.
"""

import hmac
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.kinds import KINDS, check_body
from ledger.log.leaf import Opening, open_leaf, verify_opening
from ledger.log.public import Epoch, KeyChange, Kind, open_public
from ledger.log.signing import SigningTable
from world import statement, verify_ed25519

FOLDER = Path(__file__).parent / "golden"
GOLDEN: dict[str, Any] = json.loads((FOLDER / "kinds.json").read_text())
ENTRIES: list[dict[str, Any]] = GOLDEN["entries"]
ORIGIN: str = GOLDEN["origin"]
SERVICE = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32).public_key()
PUBLIC = SERVICE.public_bytes_raw()
FIRST = 10
"""Kinds there were in the first version."""
FIRST_STATEMENTS = 3
FIRST_DIGEST = "114949bf5366d6ec4056b684e9288393bdf97e7e3d1cf193c3c325013360e180"


def named(item: dict[str, Any]) -> str:
    return str(item["name"])


# ── what never changes ────────────────────────────────────────────────────────────────────────────────────


def test_kinds_are_only_ever_added() -> None:
    """The names, in their order, and what each must hold: an old entry must not become invalid."""
    assert [kind.name for kind in KINDS] == [named(item) for item in ENTRIES]
    for kind, item in zip(KINDS, ENTRIES, strict=True):
        assert kind.fields == set(item["fields"])
        assert kind.roles >= set(item["roles"])
    assert list(get_args(Kind)) == [named(item) for item in GOLDEN["statements"]]
    names = [named(item) for item in [*ENTRIES, *GOLDEN["statements"]]]
    assert len(set(names)) == len(names), "a kind of entry and a statement share a name"
    assert all(len(name) <= 32 for name in names), "longer than the column it is stored in"


def test_the_golden_leaves_are_written_today_as_they_were() -> None:
    script = FOLDER / "make_kinds.py"
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=FOLDER.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == (FOLDER / "kinds.json").read_text()


def test_the_golden_file_is_the_one_that_was_committed_to() -> None:
    """Over the kinds of the first version; a kind that is added leaves it as it is."""
    spelt = json.dumps([ENTRIES[:FIRST], GOLDEN["statements"][:FIRST_STATEMENTS]], sort_keys=True).encode()
    assert sha256(spelt).hexdigest() == FIRST_DIGEST


# ── read without our code ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("item", ENTRIES, ids=named)
def test_a_kept_entry_opens_with_hashes_and_one_signature(item: dict[str, Any]) -> None:
    leaf = bytes.fromhex(item["leaf"])
    kind, key_id, payload, signed, signature = statement(leaf, ORIGIN)
    assert (kind, key_id) == ("entry", sha256(PUBLIC).digest()[:8])
    verify_ed25519(PUBLIC, signature, signed)
    joined = bytes.fromhex(item["commitments"])
    commitments = [joined[at : at + 32] for at in range(0, len(joined), 32)]
    assert commitments == sorted(commitments)
    assert sha256(cbor2.dumps(commitments)).digest() == payload
    body = {"kind": named(item), "at": "2026-03-01T12:00:00Z", **item["body"]}
    spelt = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    openings: dict[str, list[Any]] = {}
    for n, (role, record) in enumerate(zip(item["roles"], item["records"], strict=True), 1):
        person = bytes([0xA0 + n - 1]) * 32
        list_key = hmac.digest(person, b"countersign/list-key/v1", "sha256")
        tag = hmac.digest(list_key, b"countersign/tag/v1\x00" + n.to_bytes(8, "big"), "sha256")
        assert record["tag"] == tag.hex()
        secret, place, told_n, told_role, told, others = cbor2.loads(bytes.fromhex(record["plain"]))
        assert (place, told_n, told_role, told) == (ENTRIES.index(item) + 4, n, role, spelt)
        label = role.encode()
        message = (
            secret + len(label).to_bytes(2, "big") + label + n.to_bytes(8, "big") + sha256(spelt).digest()
        )
        assert hmac.digest(b"countersign/commitment/v1", message, "sha256") in commitments
        openings[role] = [item["body"].get("cameo_id", ""), secret, role, n, sha256(spelt).digest()]
        # Only who asked for a use can show it to those depicted.
        shown = [openings["depicted"]] if role == "requester" and "depicted" in openings else []
        assert [list(other) for other in others] == shown


@pytest.mark.parametrize("item", ENTRIES, ids=named)
def test_a_kept_entry_opens_with_our_code(item: dict[str, Any]) -> None:
    leaf = open_leaf(bytes.fromhex(item["leaf"]), ORIGIN, [SERVICE])
    joined = bytes.fromhex(item["commitments"])
    commitments = [joined[at : at + 32] for at in range(0, len(joined), 32)]
    for record in item["records"]:
        secret, _, n, role, told, _ = cbor2.loads(bytes.fromhex(record["plain"]))
        digest = Digest(sha256(told).digest())
        verify_opening(leaf, commitments, Opening(secret, role, n, digest), digest)
        check_body(named(item), role, json.loads(told))


@pytest.mark.parametrize("item", GOLDEN["statements"], ids=named)
def test_a_kept_statement_opens_with_our_code_and_without(item: dict[str, Any]) -> None:
    leaf, payload = bytes.fromhex(item["leaf"]), bytes.fromhex(item["payload"])
    opened = open_public(leaf, ORIGIN, [PUBLIC])
    kind, _, said, signed, signature = statement(leaf, ORIGIN)
    assert (kind, said) == (opened.kind, opened.payload) == (named(item), cbor2.loads(payload))
    verify_ed25519(PUBLIC, signature, signed)
    match kind:
        case "epoch":
            epoch = Epoch.parse(said)
            assert (epoch.number, epoch.first, epoch.time) == (7, 40, GOLDEN["time"])
            assert epoch.assignments == ((b"\x01" * 32, 42), (b"\x02" * 32, 41))
            assert epoch.payload() == said
        case "keys":
            change = KeyChange.parse(said, ORIGIN)
            assert (change.role, change.old, change.payload()) == ("service", PUBLIC, said)
        case "policies":
            assert said == {1: "ab" * 32, 2: GOLDEN["time"]}
        case _:
            (row,) = SigningTable().after(said).rows
            assert (row.der, row.used_from, row.since) == (b"a certificate in DER", GOLDEN["time"], None)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("item", ENTRIES, ids=named)
def test_a_body_that_lacks_a_field_or_is_about_another_role_is_refused(item: dict[str, Any]) -> None:
    check_body(named(item), None, item["body"])
    check_body(named(item), item["roles"][0], item["body"] | {"a field of the year 2040": 1})
    roles = {"owner", "grantor", "depicted", "requester", "notifier", "guardian", "executor", "service", ""}
    for role in roles - set(item["roles"]):
        with pytest.raises(LogError) as error:
            check_body(named(item), role, item["body"])
        assert error.value.reason.id == "log.kind"
    for field in item["fields"]:
        with pytest.raises(LogError, match=f"lacks `{field}`"):
            check_body(named(item), None, {name: v for name, v in item["body"].items() if name != field})


@settings(deadline=None)
@given(st.text(max_size=12) | st.sampled_from([*get_args(Kind), "Grant", "grant ", "entry"]))
def test_a_kind_nobody_defined_is_refused(name: str) -> None:
    if name not in {kind.name for kind in KINDS}:
        with pytest.raises(LogError, match="there is no kind of entry"):
            check_body(name, None, {})
