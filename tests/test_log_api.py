"""The log over HTTP, read as a stranger reads it: tiles, checkpoints, receipts, and what an erasure leaves of someone.

The reader here is written from C2SP tlog-tiles and RFC 6962 and shares no code with the service; what it concludes,
Go's `sumdb/tlog` is asked to confirm.
"""

import hashlib
import hmac
import http.client
import shutil
import sqlite3
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cbor2
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from conftest import Checker
from ledger.errors import LedgerError
from ledger.ids import PersonId
from ledger.keys import Keyring, list_key, tag_of, unseal
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy
from ledger.log.public import Epoch, parse_public
from ledger.log.receipt import detach, verify_receipt
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About, Draft
from live import (
    PROMPT,
    UNHURRIED,
    Clip,
    Launcher,
    Owner,
    Site,
    collins_picture,
    ended,
    hopper_picture,
    unknown,
    wanted,
)
from world import naive_root, signed_head

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

ORIGIN = "countersign.local/log"


# A reader of static tiles -------------------------------------------------------------------------------------


@dataclass
class Reader:
    """Has the log's key and its address, and remembers nothing."""

    web: httpx.Client
    vkey: str

    def head(self) -> tuple[int, bytes, bytes]:
        """(size, root, note) of the newest checkpoint, once the log is seen to have signed it."""
        note = self.web.get("/checkpoint").content
        return (*signed_head(note, self.vkey), note)

    def get(self, path: str) -> bytes:
        answer = self.web.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        return answer.content

    def leaves(self, size: int) -> list[bytes]:
        found = []
        for number, width in tiles(size):
            bundle = self.get(named("entries", number, width))
            count, at = 0, 0
            while at < len(bundle):
                length = int.from_bytes(bundle[at : at + 2], "big")
                found.append(bundle[at + 2 : at + 2 + length])
                count, at = count + 1, at + 2 + length
            assert (count, at) == (width, len(bundle))
        return found

    def hashes(self, size: int) -> list[list[bytes]]:
        """The hashes in the tiles of each level."""
        levels: list[list[bytes]] = []
        count = size
        while count:
            content = b"".join(self.get(named(len(levels), *tile)) for tile in tiles(count))
            assert len(content) == 32 * count
            levels.append([content[at : at + 32] for at in range(0, len(content), 32)])
            count //= 256
        return levels


def tiles(count: int) -> list[tuple[int, int]]:
    """(number, width) of every tile of a level with `count` hashes."""
    return [(at // 256, min(256, count - at)) for at in range(0, count, 256)]


def named(level: int | str, number: int, width: int) -> str:
    assert number < 1000
    return f"/tile/{level}/{number:03}" + (f".p/{width}" if width < 256 else "")


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    if index < left:
        return [*naive_path(index, leaves[:left]), naive_root(leaves[left:])]
    return [*naive_path(index - left, leaves[left:]), naive_root(leaves[:left])]


def climb(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root a path leads to, from the sides the index says (RFC 9162 §2.1.3.2)."""
    at, last, computed = index, size - 1, leaf_hash
    for sibling in path:
        if at & 1 or at == last:
            computed = sha256(b"\x01" + sibling + computed).digest()
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            computed = sha256(b"\x01" + computed + sibling).digest()
        at, last = at >> 1, last >> 1
    assert last == 0
    return computed


@pytest.fixture(scope="module")
def web(live: Site) -> Iterator[httpx.Client]:
    with live.client() as client:
        yield client


@pytest.fixture(scope="module")
def published(live: Site, collins: Owner, web: httpx.Client) -> dict[int, bytes]:
    """A log of more than two full tiles; the checkpoint at each size it had on the way."""
    vkey = web.get("/v1/log/keys").json()["vkey"]
    seen: dict[int, bytes] = {}

    def look() -> None:
        note = web.get("/checkpoint").content
        seen[signed_head(note, vkey)[0]] = note

    look()
    fill(live, collins, 200)
    for _ in range(4):
        live.audit(collins.cameo_id)
        look()
    fill(live, collins, 350)
    look()
    live.audit(collins.cameo_id)
    look()
    return seen


@pytest.fixture(scope="module")
def reader(web: httpx.Client, published: dict[int, bytes]) -> Reader:
    return Reader(web, web.get("/v1/log/keys").json()["vkey"])


def fill(site: Site, owner: Owner, count: int) -> None:
    """Append `count` entries in one commit, as another process beside the running service."""
    database = Database(f"sqlite:///{site.home / 'ledger.db'}")
    ledger = Ledger(database, Keyring.open(site.home / "keys"), ORIGIN, site.home / "log")
    about = [About(owner.person_id, "depicted", {"auditor": "a crowd", "asked": "uses"})]
    at = datetime.now(UTC)
    start = signed_head(ledger.checkpoint(), str(ledger.verifier))[0]
    drafts = [Draft("audit", f"fill/{start}/{n}", about, at) for n in range(count)]
    ledger.transact(lambda tx: tx.append_all(drafts))
    ledger.close()


# Tiles --------------------------------------------------------------------------------------------------------


def test_a_client_rebuilds_the_whole_log_from_tiles_alone(reader: Reader, check: Checker) -> None:
    size, root, note = reader.head()
    assert size > 512
    leaves = reader.leaves(size)
    assert naive_root(leaves) == root
    # The hashes in the tiles are those of the leaves in the bundles, level by level.
    below, *above = reader.hashes(size)
    assert below == [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    assert above == [[naive_root(leaves[at : at + 256]) for at in range(0, size - 255, 256)]]
    # Somebody else's implementation comes to the same.
    places = [*range(0, size, 61), 255, 256, 511, 512, size - 1]
    answers = check(
        [
            {
                "vkey": reader.vkey,
                "note": note,
                "leaf": leaves[index],
                "index": index,
                "proof": naive_path(index, leaves),
            }
            for index in places
        ]
    )
    assert answers == [{"origin": ORIGIN, "size": size}] * len(places)


def test_tiles_of_every_size_ever_published_stay_and_never_change(
    reader: Reader, published: dict[int, bytes]
) -> None:
    size, _, _ = reader.head()
    leaves, levels = reader.leaves(size), reader.hashes(size)
    bundles = [len(leaf).to_bytes(2, "big") + leaf for leaf in leaves]
    sizes = sorted({*published, 1, 2, 255, 256, 257, size - 1})
    assert any(one % 256 for one in published)
    for old in sizes:
        for number, width in tiles(old):
            first, end = number * 256, number * 256 + width
            assert reader.get(named(0, number, width)) == b"".join(levels[0][first:end])
            assert reader.get(named("entries", number, width)) == b"".join(bundles[first:end])
        for number, width in tiles(old // 256):
            assert reader.get(named(1, number, width)) == b"".join(levels[1][number * 256 :][:width])


def test_every_earlier_checkpoint_is_a_prefix_of_the_newest(
    reader: Reader, published: dict[int, bytes]
) -> None:
    leaves = reader.leaves(reader.head()[0])
    for size, note in published.items():
        assert signed_head(note, reader.vkey) == (size, naive_root(leaves[:size]))


def test_go_names_every_tile_as_the_service_does(reader: Reader, check: Checker) -> None:
    size = reader.head()[0]
    wanted = [(0, *tile) for tile in tiles(size)] + [(1, *tile) for tile in tiles(size // 256)]
    answers = check([{"tile": {"level": level, "index": n, "width": w}} for level, n, w in wanted])
    for (level, number, width), answer in zip(wanted, answers, strict=True):
        assert f"/{answer['tile']}" == named(level, number, width)
        reader.get(f"/{answer['tile']}")


def raw(site: Site, target: str) -> tuple[int, str, bytes]:
    """Ask for exactly this target: a client library would tidy it first."""
    connection = http.client.HTTPConnection(str(urlsplit(site.url).hostname), site.port, timeout=30)
    connection.request("GET", target)
    answer = connection.getresponse()
    found = answer.status, answer.headers.get("cache-control", ""), answer.read()
    connection.close()
    return found


NOT_CANONICAL = [
    "/tile/0/x000/000",
    "/tile/0/x000/x000/000",
    "/tile/00/000",
    "/tile/0/0",
    "/tile/0/0000",
    "/tile/0/000.p/0",
    "/tile/0/000.p/00",
    "/tile/0/000.p/01",
    "/tile/0/000.p/256",
    "/tile/0/000.p/257",
    "/tile/0/000.p/-1",
    "/tile/0/000.p/1.5",
    "/tile/0/000.p/",
    "/tile/0/000.p",
    "/tile/0/000.p/1/2",
    "/tile/0/000/",
    "/tile//0/000",
    "/tile/0//000",
    "/tile/0/-01",
    "/tile/0/+00",
    "/tile/0/0x0",
    "/tile/0/X000/000",
    "/tile/64/000",
    "/tile/-1/000",
    "/tile/data/000",
    "/tile/Entries/000",
    "/tile/entries/x000/000",
    "/tile/entries/000.p/256",
    "/tile/0/٠٠٠".encode().decode("latin-1"),
    "/tile/0/000%00",
    "/tile/0/000%0a",
    "/tile/",
    "/tile",
    "/tile/0",
]
NOT_PUBLISHED = [
    "/tile/0/003",
    "/tile/0/999",
    "/tile/0/x999/999",
    "/tile/0/" + "x999/" * 6 + "999",
    "/tile/0/" + "x999/" * 7 + "999",
    "/tile/1/000",
    "/tile/1/000.p/3",
    "/tile/1/001.p/1",
    "/tile/2/000",
    "/tile/2/000.p/1",
    "/tile/7/000.p/1",
    "/tile/63/000.p/1",
    "/tile/entries/003",
    "/tile/entries/x999/999.p/1",
]
TRAVERSING = [
    "/tile/../checkpoint",
    "/tile/../../etc/passwd",
    "/tile/%2e%2e/%2e%2e/etc/passwd",
    "/tile/..%2f..%2fetc%2fpasswd",
    "/tile/0/..%2f..%2f..%2fkeys/log.key",
    "/tile/0/000/../../../checkpoint",
    "/tile/entries/....//....//000",
    "/tile/0\\..\\000",
]


@pytest.mark.parametrize("target", [*NOT_CANONICAL, *NOT_PUBLISHED, *TRAVERSING])
def test_what_is_no_published_tile_in_its_one_spelling_is_404_and_not_cached(
    live: Site, reader: Reader, target: str
) -> None:
    status, cached, content = raw(live, target)
    assert status == 404, content
    assert "immutable" not in cached
    assert b"root:" not in content
    assert b"Traceback" not in content


def test_one_leaf_beyond_the_checkpoint_is_404(reader: Reader) -> None:
    size, _, _ = reader.head()
    number, width = size // 256, size % 256
    assert 0 < width < 255, "choose another number of entries"
    for level in ("0", "entries"):
        assert reader.web.get(named(level, number, width)).status_code == 200
        assert reader.web.get(named(level, number, width + 1)).status_code == 404
        assert reader.web.get(named(level, number, 256)).status_code == 404


def test_what_another_process_wrote_is_served_at_once(live: Site, collins: Owner, reader: Reader) -> None:
    before, _, _ = reader.head()
    fill(live, collins, 1)
    size, root, _ = reader.head()
    assert size == before + 2
    assert naive_root(reader.leaves(size)) == root
    fill(live, collins, 1)
    assert reader.web.get(f"/v1/log/receipts/{size + 1}").status_code == 200
    fill(live, collins, 1)
    bundle = collins.web.get(f"/v1/cameos/{collins.cameo_id}/uses?proof=true").json()
    whole = completeness.verify(bundle, Policy.alone(VerifierKey.parse(reader.vkey)))
    assert whole.checkpoint.size == size + 4


# The same as a folder -------------------------------------------------------------------------------------------


def exported(site: Site, directory: Path) -> str:
    """What `countersign export` says, beside the running service."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "export", str(directory)],
        env={"COUNTERSIGN_HOME": str(site.home), "PATH": "", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_in(directory: Path) -> dict[str, bytes]:
    return {f"/{path.relative_to(directory)}": path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_export_is_what_is_served_byte_for_byte_and_is_only_added_to(
    live: Site, collins: Owner, reader: Reader, tmp_path: Path
) -> None:
    folder = tmp_path / "public"
    said = exported(live, folder)
    size, root, _ = reader.head()
    first = files_in(folder)
    expected = {named(level, *tile) for level in (0, "entries") for tile in tiles(size)}
    expected |= {named(1, *tile) for tile in tiles(size // 256)} | {"/checkpoint"}
    assert first.keys() == expected
    assert f"{len(expected) - 1} new files; {size} entries" in said
    for path, content in first.items():
        assert reader.web.get(path).content == content

    dates = {path: (folder / path[1:]).stat().st_mtime_ns for path in first}
    assert exported(live, folder).startswith("0 new files")
    assert files_in(folder) == first

    live.audit(collins.cameo_id)
    exported(live, folder)
    second, grown = files_in(folder), reader.head()[0]
    assert grown == size + 2
    new = {named(level, grown // 256, grown % 256) for level in (0, "entries")}
    assert second.keys() - first.keys() == new
    assert {path: second[path] for path in first if path != "/checkpoint"} == {
        path: content for path, content in first.items() if path != "/checkpoint"
    }
    # A file that was there was not even written again.
    assert all((folder / path[1:]).stat().st_mtime_ns == dates[path] for path in first if path != "/checkpoint")
    # Read from the folder, the log is the same: size and root come from its own checkpoint.
    leaves: list[bytes] = []
    for tile in tiles(grown):
        bundle = second[named("entries", *tile)]
        while bundle:
            end = 2 + int.from_bytes(bundle[:2], "big")
            leaves.append(bundle[2:end])
            bundle = bundle[end:]
    assert (grown, naive_root(leaves)) == signed_head(second["/checkpoint"], reader.vkey)
    assert naive_root(leaves[:size]) == root


# Receipts -----------------------------------------------------------------------------------------------------


def receipt_keys(reader: Reader) -> list[ec.EllipticCurvePublicKey]:
    rows = reader.web.get("/v1/log/keys").json()["keys"]
    points = [b64decode(row["public"]) for row in rows if row["role"] == "receipt"]
    return [ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point) for point in points]


def test_every_leaf_has_a_receipt_over_the_root_of_the_checkpoint(reader: Reader) -> None:
    size, root, _ = reader.head()
    leaves, keys = reader.leaves(size), receipt_keys(reader)
    for index in (*range(0, size, 47), 255, 256, size - 1):
        answer = reader.web.get(f"/v1/log/receipts/{index}")
        assert answer.headers["content-type"] == "application/scitt-statement+cose"
        statement, (receipt,) = detach(answer.content)
        assert statement == leaves[index]
        assert verify_receipt(receipt, statement, keys, ORIGIN).root == root
        with pytest.raises(LedgerError):
            verify_receipt(receipt, leaves[index - 1], keys, ORIGIN)


@pytest.mark.parametrize("index", ["-1", "99999999", str(2**63), str(10**40), "x", "0x1", "1.0", ""])
def test_what_is_not_in_the_log_has_no_receipt(live: Site, reader: Reader, index: str) -> None:
    status, _, content = raw(live, f"/v1/log/receipts/{index}")
    assert status == 404, content


def test_an_app_keeps_evidence_that_its_use_stands_in_the_list_of_whoever_is_shown(
    live: Site, collins: Owner, clip: Clip, reader: Reader
) -> None:
    address = f"/v1/videos/{clip.video_id}/receipts"
    assert reader.web.get(address).status_code == 401
    with live.client("other app") as other:
        assert other.get(address).status_code == 404
    with live.client("film club") as app:
        assert app.get(f"/v1/videos/{unknown('video')}/receipts").status_code == 404
        answer = app.get(address)
        assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [entry["kind"] for entry in told["entries"]] == ["decision", "release"]
    bundle = collins.web.get(f"/v1/cameos/{collins.cameo_id}/uses?proof=true").json()
    listed = {record["index"]: (n, record) for n, record in enumerate(bundle["records"])}
    for entry in told["entries"]:
        in_log(entry | {"body": entry["body"]} | entry["opening"], reader.vkey, check_body=True)
        statement, (receipt,) = detach(b64decode(entry["statement"]))
        assert statement == b64decode(entry["leaf"])
        verify_receipt(receipt, statement, receipt_keys(reader), ORIGIN)
        # The opening for Collins is the one in her own list: had the service left it out, this would show it.
        n, record = listed[entry["index"]]
        (hers,) = [entry["depicted"][collins.cameo_id]]
        assert (hers["n"], hers["secret"], hers["role"]) == (n, record["secret"], record["role"])
        assert set(entry["depicted"]) == {collins.cameo_id}


def in_log(proven: dict[str, Any], vkey: str, *, check_body: bool) -> tuple[int, bytes]:
    """An outsider's check of one opened entry: opening → leaf → proof → checkpoint. Returns (size, leaf).

    Whoever does it has the log's key, RFC 9052, RFC 6962 and the specification of the commitment.
    """
    # 1. The opening makes one of the commitments: this role, this number, this body.
    body = canonical_json(proven["body"])
    value = sha256(body).digest() if check_body else b64decode(proven["value"])
    role = proven["role"].encode()
    message = b64decode(proven["secret"]) + len(role).to_bytes(2, "big") + role
    message += proven["n"].to_bytes(8, "big") + value
    commitment = hmac.new(b"countersign/commitment/v1", message, hashlib.sha256).digest()
    commitments = [b64decode(one) for one in proven["commitments"]]
    assert commitment in commitments
    # 2. The leaf is signed over exactly these commitments.
    leaf = b64decode(proven["leaf"])
    protected, _, payload, signature = cbor2.loads(leaf).value
    assert payload == sha256(cbor2.dumps(sorted(commitments), canonical=True)).digest()
    # 3. The proof leads from the leaf to the root the log signed.
    head, _, note = proven["proof"].partition("\n\n")
    version, *lines = head.split("\n")
    assert version == "c2sp.org/tlog-proof@v1"
    assert lines.pop(0) == f"index {proven['index']}"
    size, root = signed_head(note.encode(), vkey)
    hashed = sha256(b"\x00" + leaf).digest()
    assert climb(hashed, proven["index"], size, [b64decode(line) for line in lines]) == root
    # 4. By whom: the key id in the header is that of the key the caller compares with.
    assert cbor2.loads(protected)[15][1] == ORIGIN
    assert len(signature) == 64
    return size, leaf


def canonical_json(body: dict[str, Any]) -> bytes:
    """RFC 8785 for what is in a body here: ASCII keys, whole numbers."""
    import json  # noqa: PLC0415

    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
