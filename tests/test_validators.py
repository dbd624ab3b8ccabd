"""What three validators we did not write say of our files, held against our own finding.

They agree but where the table says why not. The reasons are these:

- `bound` of None: encypher says nothing of the media once a statement is altered.
- `ts` knows no anchors: to it a stranger's signature is as good as ours.
- Media in a box that the manifest left out of its hash: c2pa's library (`wasm` too) and encypher follow the manifest's
  exclusions, and trust the clip after its pictures were exchanged. We look where the samples lie.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.provenance import media, pki
from ledger.provenance.manifest import ManifestFinding
from test_manifest import CLAIM, NOW, Bench, by_default_settings, dated, flipped, inside, parent_of
from validators import Opinion, opinions

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Judged:
    ours: ManifestFinding
    theirs: dict[str, Opinion]


def middle(path: Path, kind: bytes) -> int:
    at = inside(path, kind)
    return (at.start + at.stop) // 2


def released(bench: Bench, path: Path) -> None:
    path.write_bytes(bench.signed.read_bytes())


def remix(bench: Bench, path: Path) -> None:
    bench.signer.sign(
        bench.plain, path, replace(CLAIM, action="remix", parent=parent_of(bench, bench.signed))
    )


def by_a_trained_model(bench: Bench, path: Path) -> None:
    bench.signer.sign(bench.plain, path, replace(CLAIM, is_reference=False, cameo_consents=()))


def other_brand(bench: Bench, path: Path) -> None:
    path.write_bytes(bench.signed.read_bytes().replace(b"mp41", b"mp42", 1))


def other_picture(bench: Bench, path: Path) -> None:
    path.write_bytes(flipped(bench.signed.read_bytes(), middle(bench.signed, b"mdat")))


def other_index(bench: Bench, path: Path) -> None:
    path.write_bytes(flipped(bench.signed.read_bytes(), middle(bench.signed, b"moov")))


def other_words(bench: Bench, path: Path) -> None:
    path.write_bytes(bench.signed.read_bytes().replace(b"decision_1", b"decision_2"))


def added_box(bench: Bench, path: Path) -> None:
    path.write_bytes(bench.signed.read_bytes() + b"\x00\x00\x00\x08free")


def stripped(bench: Bench, path: Path) -> None:
    media.remux(bench.signed, path)


def media_in_an_unhashed_box(bench: Bench, path: Path) -> None:
    parked = path.with_suffix(".src")
    parked.write_bytes(bench.plain.read_bytes().replace(b"mdat", b"free", 1))
    by_default_settings(bench, parked, path)
    box = media.boxes(path)[-1]
    path.write_bytes(flipped(path.read_bytes(), (box.start + box.end) // 2))


FILES: tuple[Callable[[Bench, Path], None], ...] = (
    released,
    remix,
    by_a_trained_model,
    other_brand,
    other_picture,
    other_index,
    other_words,
    added_box,
    stripped,
    media_in_an_unhashed_box,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from dated(tmp_path_factory.mktemp("bench"), NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from dated(tmp_path_factory.mktemp("stranger"), NOW)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Signed and time-stamped with certificates that end seconds later."""
    made = dated(tmp_path_factory.mktemp("brief"), datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "_LEAF_LIFE", timedelta(seconds=3))
        patch.setattr(pki, "_RENEW_BEFORE", timedelta(0))
        bench = next(made)
    yield bench
    yield from made


@pytest.fixture(scope="module")
def judged(
    brief: Bench, bench: Bench, stranger: Bench, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Judged]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(tmp_path_factory.mktemp("encypher")))
        patch.setenv("ENCYPHER_C2PA_TELEMETRY", "off")
        patch.setenv("ENCYPHER_C2PA_ONLINE", "off")
        folder = tmp_path_factory.mktemp("judged")
        paths = {make.__name__: folder / f"{make.__name__}.mp4" for make in FILES}
        for make in FILES:
            make(bench, paths[make.__name__])
        paths["signed_by_a_stranger"] = stranger.signed
        theirs = opinions(list(paths.values()), bench.authority.root_pem)
        found = {
            name: Judged(bench.read(path), said)
            for (name, path), said in zip(paths.items(), theirs, strict=True)
        }
        ends = brief.authority.claims.certificate.not_valid_after_utc
        time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds() + 1))
        (late,) = opinions([brief.signed], brief.authority.root_pem)
        found["after_its_certificates_ended"] = Judged(brief.read(brief.signed), late)
    return found


@pytest.mark.parametrize(
    "name", ["released", "remix", "by_a_trained_model", "other_brand", "after_its_certificates_ended"]
)
def test_everybody_trusts_what_we_trust(judged: dict[str, Judged], name: str) -> None:
    one = judged[name]
    assert (one.ours.manifest_trusted, one.ours.asset_bound, one.ours.failures) == (True, True, ())
    assert one.theirs == {
        "encypher": Opinion("Trusted", bound=True),
        "wasm": Opinion("Trusted", bound=True),
        "ts": Opinion("Valid", bound=True),
    }


@pytest.mark.parametrize("name", ["other_picture", "other_index", "other_words", "added_box"])
def test_nobody_accepts_what_was_altered(judged: dict[str, Judged], name: str) -> None:
    one = judged[name]
    # A manifest over other bytes is still whose it was.
    assert (one.ours.state, one.ours.manifest_trusted) == ("invalid", name != "other_words")
    assert not one.ours.asset_bound or name == "other_words"
    for validator, said in one.theirs.items():
        assert said.state == "Invalid", validator
        assert said.failures == one.ours.failures, validator
        # `ts` looks at the media only where the statements hold.
        if said.bound is not None and (validator, name) != ("ts", "other_words"):
            assert said.bound == one.ours.asset_bound, validator


def test_everybody_sees_that_a_stranger_signed(judged: dict[str, Judged]) -> None:
    one = judged["signed_by_a_stranger"]
    assert (one.ours.state, one.ours.manifest_trusted, one.ours.asset_bound) == ("valid", False, True)
    untrusted = Opinion("Valid", bound=True, failures=("signingCredential.untrusted",))
    assert one.theirs == {"encypher": untrusted, "wasm": untrusted, "ts": Opinion("Valid", bound=True)}


def test_everybody_finds_nothing_in_a_stripped_file(judged: dict[str, Judged]) -> None:
    one = judged["stripped"]
    assert one.ours == ManifestFinding("none")
    assert {said.state.lower() for said in one.theirs.values()} == {"none"}
    assert not any(said.sound for said in one.theirs.values())


def test_where_we_are_stricter_than_two_of_them(judged: dict[str, Judged]) -> None:
    one = judged["media_in_an_unhashed_box"]
    assert (one.ours.manifest_trusted, one.ours.asset_bound) == (True, False)
    assert one.theirs["encypher"] == one.theirs["wasm"] == Opinion("Trusted", bound=True)
    assert not one.theirs["ts"].sound
