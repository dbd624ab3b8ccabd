"""The log over HTTP, read as a stranger reads it: tiles, checkpoints, receipts, and what an erasure leaves of someone.

The reader here is written from C2SP tlog-tiles and RFC 6962 and shares no code with the service; what it concludes,
Go's `sumdb/tlog` is asked to confirm.
"""

import hmac
import http.client
import json
import shutil
import sqlite3
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cbor2
import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from command import countersign
from conftest import Checker
from ledger.consent.statement import encode_key
from ledger.errors import LedgerError
from ledger.keys import Keyring, list_key, tag_of, unseal
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy
from ledger.log.public import Epoch, parse_public
from ledger.log.receipt import detach, verify_receipt
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About, Draft
from ledger.store.sealing import open_record
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
    "/tile/0/%D9%A0%D9%A0%D9%A0",
    "/tile/0/%30%30%30",
    "/%74ile/0/000",
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


def beside(site: Site, *arguments: str | Path) -> str:
    """What a command says, run beside the service."""
    said = countersign(site.home, *arguments)
    assert said.status == 0, said.text
    return said.text


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        f"/{path.relative_to(directory)}": path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_an_export_is_what_is_served_byte_for_byte_and_is_only_added_to(
    live: Site, collins: Owner, reader: Reader, tmp_path: Path
) -> None:
    folder = tmp_path / "public"
    said = beside(live, "export", folder)
    size, root, _ = reader.head()
    first = files_in(folder)
    expected = {named(level, *tile) for level in (0, "entries") for tile in tiles(size)}
    expected |= {named(1, *tile) for tile in tiles(size // 256)} | {"/checkpoint"}
    assert first.keys() == expected
    assert f"{len(expected) - 1} new files; {size} entries" in said
    for path, content in first.items():
        assert reader.web.get(path).content == content

    dates = {path: (folder / path[1:]).stat().st_mtime_ns for path in first}
    assert beside(live, "export", folder).startswith("0 new files")
    assert files_in(folder) == first

    live.audit(collins.cameo_id)
    beside(live, "export", folder)
    second, grown = files_in(folder), reader.head()[0]
    assert grown == size + 2
    new = {named(level, grown // 256, grown % 256) for level in (0, "entries")}
    assert second.keys() - first.keys() == new
    assert {path: second[path] for path in first if path != "/checkpoint"} == {
        path: content for path, content in first.items() if path != "/checkpoint"
    }
    # A file that was there was not even written again.
    assert all(
        (folder / path[1:]).stat().st_mtime_ns == dates[path] for path in first if path != "/checkpoint"
    )
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
def test_what_is_not_in_the_log_has_no_receipt_and_no_proof(live: Site, reader: Reader, index: str) -> None:
    for kind in ("receipts", "proofs"):
        status, _, content = raw(live, f"/v1/log/{kind}/{index}")
        assert status == 404, content


def test_every_leaf_has_a_proof_that_leads_to_the_checkpoint(reader: Reader) -> None:
    size, root, note = reader.head()
    leaves = reader.leaves(size)
    for index in (*range(0, size, 53), 255, 256, size - 1):
        answer = reader.web.get(f"/v1/log/proofs/{index}")
        assert answer.headers["content-type"].startswith("text/plain")
        head, _, under = answer.text.partition("\n\n")
        assert under.encode() == note
        version, place, *path = head.split("\n")
        assert (version, place) == ("c2sp.org/tlog-proof@v1", f"index {index}")
        leaf_hash = sha256(b"\x00" + leaves[index]).digest()
        assert climb(leaf_hash, index, size, [b64decode(line) for line in path]) == root


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
        in_log(entry | entry["opening"], reader.vkey)
        statement, (receipt,) = detach(b64decode(entry["statement"]))
        assert statement == b64decode(entry["leaf"])
        verify_receipt(receipt, statement, receipt_keys(reader), ORIGIN)
        # The opening for Collins is the one in her own list: had the service left it out, this would show it.
        n, record = listed[entry["index"]]
        (hers,) = [entry["depicted"][collins.cameo_id]]
        assert (hers["n"], hers["secret"], hers["role"]) == (n, record["secret"], record["role"])
        assert set(entry["depicted"]) == {collins.cameo_id}


def test_a_key_rotated_beside_the_service_counts_at_once(live: Site, collins: Owner, reader: Reader) -> None:
    before = reader.web.get("/v1/log/keys").json()["keys"]
    (old_key,) = receipt_keys(reader)
    assert [row["role"] for row in before] == ["service", "log", "receipt"]
    for role in ("service", "receipt"):
        assert beside(live, "keys", "rotate", role).startswith(f"the new {role} key counts from entry ")
    rows = reader.web.get("/v1/log/keys").json()["keys"]
    assert rows[:3] == before
    assert [row["role"] for row in rows[3:]] == ["service", "receipt"]
    assert before[0]["since"] < rows[3]["since"] < rows[4]["since"] < reader.head()[0]
    # A receipt is by the new key from now on, for every leaf.
    statement, (receipt,) = detach(reader.web.get("/v1/log/receipts/5").content)
    verify_receipt(receipt, statement, receipt_keys(reader)[1:], ORIGIN)
    with pytest.raises(LedgerError):
        verify_receipt(receipt, statement, [old_key], ORIGIN)
    # So is a leaf, and whoever verifies a list that lies on both sides of the change finds it whole.
    assert live.audit(collins.cameo_id)[-1]["auditor"] == "press council"
    size, root, _ = reader.head()
    newest = reader.leaves(size)
    assert naive_root(newest) == root
    kid = sha256(b64decode(rows[3]["public"])).digest()[:8]
    assert [cbor2.loads(cbor2.loads(leaf).value[0])[4] for leaf in newest[-2:]] == [kid, kid]


def in_log(proven: dict[str, Any], vkey: str) -> int:
    """An outsider's check of one opened entry: opening → leaf → proof → checkpoint. Returns the size of the log.

    Whoever does it has the log's key, RFC 9052, RFC 6962 and the specification of the commitment.
    """
    # 1. The opening makes one of the commitments: in this role, as the n-th about this person, with this body.
    body = json.dumps(proven["body"], ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    role = proven["role"].encode()
    message = b64decode(proven["secret"]) + len(role).to_bytes(2, "big") + role
    message += proven["n"].to_bytes(8, "big") + sha256(body).digest()
    commitments = [b64decode(one) for one in proven["commitments"]]
    assert hmac.digest(b"countersign/commitment/v1", message, "sha256") in commitments
    # 2. The leaf is over exactly these commitments, and for this log.
    leaf = b64decode(proven["leaf"])
    protected, _, payload, _ = cbor2.loads(leaf).value
    assert payload == sha256(cbor2.dumps(sorted(commitments), canonical=True)).digest()
    assert cbor2.loads(protected)[15][1] == ORIGIN
    # 3. The proof leads from the leaf to the root the log signed.
    head, _, note = proven["proof"].partition("\n\n")
    version, index, *path = head.split("\n")
    assert (version, index) == ("c2sp.org/tlog-proof@v1", f"index {proven['index']}")
    size, root = signed_head(note.encode(), vkey)
    leaf_hash = sha256(b"\x00" + leaf).digest()
    assert climb(leaf_hash, proven["index"], size, [b64decode(line) for line in path]) == root
    return size


# Erasure ------------------------------------------------------------------------------------------------------


@dataclass
class Parting:
    """Grace Hopper has herself erased; Eileen Collins, who is in a clip with her, stays."""

    site: Site
    hopper: Owner
    collins: Owner
    alone: Clip
    both: Clip
    unfinished: str
    answer: dict[str, Any]
    earlier: dict[str, dict[str, Any]]
    """What was proven before, by whom it was asked for."""
    backup: Path
    """The database and every key file, as they were before; the wrapping keys of that time lie apart in `wrapping`."""
    vkey: str

    @property
    def trusted(self) -> Policy:
        return Policy.alone(VerifierKey.parse(self.vkey))


@pytest.fixture(scope="module")
def parting(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parting]:
    home = tmp_path_factory.mktemp("parting")
    site = Site(launcher, home / "home", apps=("film club",))
    site.start()
    collins = site.enrol(collins_picture())
    hopper = site.enrol(hopper_picture(), display_name=NAME, born_on=BORN)
    for owner in (collins, hopper):
        owner.grant()
    with site.client("film club") as app, site.client("press council") as auditor:
        alone, both = made(app, hopper), made(app, collins, hopper)
        earlier = {
            "collins": proof(collins),
            "press council": auditor.get("/v1/audit/uses", params={"cameo": collins.cameo_id}).json(),
        }
        back_up(site.home, home / "backup")
        slow = app.post("/v1/videos", json=wanted(hopper, prompt=f"{PROMPT}, {UNHURRIED}")).json()["id"]
        erased = hopper.web.post(f"/v1/cameos/{hopper.cameo_id}/erase", json={"confirm": hopper.cameo_id})
        assert erased.status_code == 200, erased.text
        ended(app, slow)
        vkey = app.get("/v1/log/keys").json()["vkey"]
    said = beside(site, "keys", "rotate", "wrapping")
    assert said.startswith("1 old wrapping keys destroyed")
    answer = erased.json()
    yield Parting(site, hopper, collins, alone, both, slow, answer, earlier, home / "backup", vkey)
    collins.web.close()
    hopper.web.close()
    site.stop()


NAME, BORN = "Grace Brewster Murray Hopper", "1906-12-09"


def made(app: httpx.Client, *people: Owner) -> Clip:
    video_id = app.post("/v1/videos", json=wanted(*people)).json()["id"]
    video = ended(app, video_id)
    assert video["status"] == "completed", video
    return Clip(video_id, app.get(f"/v1/videos/{video_id}/content").content)


def proof(owner: Owner, since: int = 0) -> dict[str, Any]:
    answer = owner.web.get(f"/v1/cameos/{owner.cameo_id}/uses?proof=true&since={since}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def back_up(home: Path, into: Path) -> None:
    shutil.copytree(home / "keys", into / "keys", ignore=shutil.ignore_patterns("wrapping"))
    shutil.copytree(home / "keys" / "wrapping", into / "wrapping")
    with (
        closing(sqlite3.connect(home / "ledger.db")) as live,
        closing(sqlite3.connect(into / "ledger.db")) as copy,
    ):
        live.backup(copy)


def test_nobody_is_erased_by_mistake_or_by_somebody_else(live: Site, collins: Owner) -> None:
    address = f"/v1/cameos/{collins.cameo_id}/erase"
    bodies: list[Any] = [
        {"confirm": ""},
        {"confirm": "yes"},
        {"confirm": collins.cameo_id.upper()},
        {"confirm": f" {collins.cameo_id}"},
        {"confirm": collins.person_id},
        {"confirm": unknown("cameo")},
        {"confirm": [collins.cameo_id]},
        {"confirm": collins.cameo_id, "silently": True},
        {"confirm": "x" * 10_000},
        {},
        [],
        None,
    ]
    other = live.enrol(hopper_picture())
    with collins.nothing_happens():
        for body in bodies:
            answer = collins.web.post(address, json=body)
            assert answer.status_code == 400, (body, answer.text)
        assert collins.web.post(address).status_code == 400
        confirmed = {"confirm": collins.cameo_id}
        assert other.web.post(address, json=confirmed).status_code == 404
        elsewhere = collins.web.post(address, json=confirmed, headers={"origin": "https://evil.example"})
        assert elsewhere.status_code == 403
        for stranger in (live.client(), live.client("film club"), live.client("press council")):
            with stranger:
                assert stranger.post(address, json=confirmed).status_code == 401
    other.web.close()


def test_the_erased_person_keeps_proof_that_the_log_says_so(parting: Parting, check: Checker) -> None:
    certificate, last = parting.answer["certificate"], parting.answer["last_list"]
    assert certificate["schema"] == "countersign/erasure/v1"
    assert certificate["body"]["kind"] == "erasure"
    assert certificate["body"]["cameo_id"] == parting.hopper.cameo_id
    size = in_log(certificate, parting.vkey)
    assert certificate["index"] < size
    # The last list they took away is whole, and the erasure is the one record after it.
    whole = completeness.verify(last, parting.trusted)
    assert certificate["n"] == whole.seen.count
    assert certificate["records_destroyed"] == whole.seen.count + 1
    assert [body["kind"] for _, body in whole.records].count("release") == 2
    # Go finds the leaf at its place as well.
    head, _, note = certificate["proof"].partition("\n\n")
    asked = {
        "vkey": parting.vkey,
        "note": note.encode(),
        "leaf": b64decode(certificate["leaf"]),
        "index": certificate["index"],
        "proof": [b64decode(line) for line in head.split("\n")[2:]],
    }
    assert check([asked, asked | {"index": certificate["index"] - 1}])[0] == {"origin": ORIGIN, "size": size}

    spoils: list[dict[str, Any]] = [
        {"body": certificate["body"] | {"cameo_id": parting.collins.cameo_id}},
        {"n": certificate["n"] + 1},
        {"role": "depicted"},
        {"index": certificate["index"] - 1},
        {"commitments": []},
        {"proof": certificate["proof"].replace(f"\n{size}\n", f"\n{size + 1}\n")},
    ]
    for spoil in spoils:
        with pytest.raises((AssertionError, InvalidSignature)):
            in_log(certificate | spoil, parting.vkey)


def test_the_erased_person_is_nobody_here_any_more(parting: Parting) -> None:
    hopper = parting.hopper
    assert hopper.web.get("/v1/grants").status_code == 401
    assert hopper.web.get(f"/v1/cameos/{hopper.cameo_id}/uses").status_code == 401
    with parting.site.client() as stranger:
        again = Owner(parting.site, hopper.person_id, hopper.cameo_id, hopper.device, stranger)
        assert again.sign_in().status_code == 401
    # The same words as for someone who never was.
    with parting.site.client("press council") as auditor:
        gone = auditor.get("/v1/audit/uses", params={"cameo": hopper.cameo_id})
        never = auditor.get("/v1/audit/uses", params={"cameo": unknown("cameo")})
    assert gone.status_code == never.status_code == 404
    assert gone.text.replace(hopper.cameo_id, "…") == never.text.replace(unknown("cameo"), "…")


def test_nothing_new_is_made_of_the_erased_and_nothing_old_goes_out(parting: Parting) -> None:
    with parting.site.client("film club") as app, parting.site.client() as web:
        for people in ([parting.hopper], [parting.collins, parting.hopper]):
            refused = app.post("/v1/videos", json=wanted(*people))
            assert refused.status_code == 403, refused.text
        for clip in (parting.alone, parting.both):
            content = app.get(f"/v1/videos/{clip.video_id}/content")
            assert content.status_code in {403, 404, 410}
            standing = web.get(f"/v1/clips/{clip.video_id}").json()
            assert (standing["released"], standing["consent_now"]) == (True, "erased")
            verdict = web.post("/v1/verify", content=clip.content).json()
            assert (verdict["released"], verdict["consent_now"]) == (True, "erased")
            assert NAME not in json.dumps(verdict)
        # What was being made at that moment was never released.
        video = app.get(f"/v1/videos/{parting.unfinished}").json()
        assert video["status"] == "failed"
        assert app.get(f"/v1/videos/{parting.unfinished}/content").status_code == 404
    assert [path for path in (parting.site.home / "objects" / "clips").rglob("*") if path.is_file()] == []


def test_everyone_elses_proofs_hold_before_and_after(parting: Parting) -> None:
    for name, bundle in parting.earlier.items():
        before = completeness.verify(bundle, parting.trusted)
        after = completeness.verify(proof(parting.collins, before.seen.size), parting.trusted, before.seen)
        assert after.extends == before.seen.size, name
        assert after.records[: before.seen.count] == before.records
    # The clip both are in is still on her list, released once.
    assert after.story.released == 1
    told = parting.site.audit(parting.collins.cameo_id)
    assert [body["kind"] for body in told].count("release") == 1
    assert parting.hopper.cameo_id not in json.dumps(told)
    with parting.site.client("film club") as app:
        entries = app.get(f"/v1/videos/{parting.both.video_id}/receipts").json()["entries"]
    assert [entry["kind"] for entry in entries] == ["decision", "release"]
    for entry in entries:
        in_log(entry | entry["opening"], parting.vkey)


def test_no_file_of_the_service_names_the_erased_person(parting: Parting) -> None:
    parting.site.stop()
    device = parting.hopper.device.public_key().public_bytes_raw()
    named = [NAME, BORN, encode_key(device), device.hex()]
    for path in parting.site.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [text for text in named if text.encode() in content] == [], path
    parting.site.start()


# What a thief of backups finds --------------------------------------------------------------------------------


def readable(database: Path, *folders: Path) -> dict[str, tuple[set[bytes], list[dict[str, Any]]]]:
    """(tags, bodies) of everyone whose key opens with any file in `folders`: trying costs a thief nothing."""
    keys = [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert keys
    found = {}
    with closing(sqlite3.connect(database)) as rows:
        records = dict(rows.execute("SELECT tag, sealed FROM record"))
        for subject, wrapped, count in rows.execute("SELECT subject_id, wrapped, next_n FROM subject_key"):
            for key in keys:
                try:
                    own = unseal(key, wrapped[8:], context=f"key/{subject}")
                except (LedgerError, TypeError, ValueError):
                    continue
                tags = [tag_of(list_key(own), n) for n in range(count)]
                found[subject] = (
                    set(tags),
                    [open_record(tag, records[tag], own)[1] for tag in tags],
                )
    return found


def test_a_backup_without_its_wrapping_keys_reads_nothing_and_finds_no_tag(parting: Parting) -> None:
    who, old = parting.hopper.person_id, parting.backup
    with parting.site.client() as web:
        reader = Reader(web, parting.vkey)
        leaves = reader.leaves(reader.head()[0])
    public = {
        tag
        for leaf in leaves
        if (parsed := parse_public(leaf, ORIGIN)) is not None and parsed[0].kind == "epoch"
        for tag, _ in Epoch.parse(parsed[0].payload).assignments
    }
    now = parting.site.home
    # With every key file but the wrapping keys of then: nobody. With all that the service holds today: nobody.
    assert readable(old / "ledger.db", old / "keys") == {}
    assert readable(old / "ledger.db", old / "keys", now / "keys") == {}
    # What it holds today opens what is there today: everyone but her.
    today = readable(now / "ledger.db", old / "keys", now / "keys")
    assert who not in today
    assert today[parting.collins.person_id][0] < public
    # And the keys of then would open it all: the file that was destroyed is what kept it.
    then = readable(old / "ledger.db", old / "wrapping")
    tags, bodies = then[who]
    assert tags < public
    assert {body["kind"] for body in bodies} >= {"enrolment", "grant", "decision", "release"}
    assert BORN in json.dumps(bodies)
    assert not (now / "keys" / "wrapping" / next((old / "wrapping").iterdir()).name).exists()


def test_a_record_that_is_gone_is_said_to_be_gone_and_not_left_out(
    launcher: Launcher, tmp_path: Path
) -> None:
    site = Site(launcher, tmp_path, env={})
    site.start()
    owner = site.enrol(collins_picture())
    owner.grant()
    with site.client("film club") as app:
        clip = made(app, owner)
        address = f"/v1/videos/{clip.video_id}/receipts"
        assert len(app.get(address).json()["entries"]) == 2
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
            database.execute("DELETE FROM record")
        answer = app.get(address)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "log.hidden"
    owner.web.close()
    site.stop()
