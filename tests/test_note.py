"""Notes, checkpoints, cosignatures and proof files: byte-exact vectors, round trips, and what is refused."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.merkle import EMPTY_ROOT, Tree, inclusion_proof, leaf_hash
from ledger.log.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    SignatureType,
    SignerKey,
    TlogProof,
    VerifierKey,
    add_cosignature,
    cosign,
    open_checkpoint,
    open_note,
    sign_note,
)

ORIGIN = "ledger.example/likeness"
ROOT = Digest(bytes.fromhex("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"))
AT = datetime.fromtimestamp(1_700_000_000, UTC)
LOG = SignerKey.from_seed(ORIGIN, b"\x11" * 32)
WITNESS = SignerKey.from_seed("witness.example/w1", b"\x22" * 32, SignatureType.COSIGNATURE)
SECOND = SignerKey.from_seed("witness.example/w2", b"\x33" * 32, SignatureType.COSIGNATURE)
VECTOR = """\
ledger.example/likeness
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

— ledger.example/likeness xYW4BcAmD354g0GU9xEgKc3HcM4DX6l7JofTtYCjyvKC47LTw1X5fc4B6erS8RddUxumo7vER8fyl2TRZAqwxAEY8gI=
— witness.example/w1 4M0oZAAAAABlU/EA8TT4VW4a8NLXHyA8kcuSVhqRuc7fl5fejt3ZluMud4i4BFtfgYSNrcS3RcJVfucfYNAulVpFjYEdC8Ub2zEaCA==
""".encode()
TEXT = Checkpoint(ORIGIN, 8, ROOT).text()
SIGNED = sign_note(TEXT, [LOG])
# The example in the documentation of Go's `sumdb/note`: made by others, with another implementation.
FOREIGN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
FOREIGN = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
""".encode()

names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], blacklist_characters="+"), min_size=1
)
lines = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40)


# --- vectors ------------------------------------------------------------------------------------------------


def test_checkpoint_and_cosignature_are_the_published_bytes() -> None:
    assert add_cosignature(SIGNED, cosign(TEXT, WITNESS, AT), WITNESS.verifier) == VECTOR


def test_the_published_checkpoint_opens() -> None:
    opened = open_checkpoint(VECTOR, LOG.verifier, [WITNESS.verifier], quorum=1)
    assert opened.checkpoint == Checkpoint(ORIGIN, 8, ROOT)
    assert [(s.key, s.at) for s in opened.witnesses] == [(WITNESS.verifier, AT)]


def test_the_vkey_of_the_log_is_stable() -> None:
    vkey = "ledger.example/likeness+c585b805+AdBKsjJ0K7SrOhNovUYV5ObQIkq3GgFrr4UgozLJd4c3"
    assert str(LOG.verifier) == vkey
    assert VerifierKey.parse(vkey) == LOG.verifier


def test_a_note_another_implementation_signed_opens() -> None:
    key = VerifierKey.parse(FOREIGN_KEY)
    assert open_note(FOREIGN, [key]).text.startswith("If you think")
    with pytest.raises(LogError, match="does not verify"):
        open_note(FOREIGN.replace(b"answer", b"solution"), [key])


def test_a_private_key_never_shows_in_a_repr() -> None:
    assert "sign" not in repr(LOG)
    assert b64encode(b"\x11" * 32).decode() not in repr(LOG)


# --- verifier keys ------------------------------------------------------------------------------------------


@given(names, st.binary(min_size=32, max_size=32), st.sampled_from(SignatureType))
def test_vkeys_round_trip(name: str, public: bytes, kind: SignatureType) -> None:
    key = VerifierKey(name, public, kind)
    assert VerifierKey.parse(str(key)) == key


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v.replace("c585b805", "c585b806"),  # another id
        lambda v: v.replace("c585b805", "C585B805"),  # a second spelling
        lambda v: v.replace("ledger.", "other."),  # the id covers the name
        lambda v: v[:-4] + "AAAA",  # the id covers the key
        lambda v: v + "\n",
        lambda v: v + "=",
        lambda v: v.replace("+Ad", "+Bd"),  # an unknown signature type
        lambda v: v.replace("+", " "),
        lambda v: v[: v.rindex("+")],
        lambda v: "",
    ],
)
def test_parse_refuses_a_vkey_that_was_altered(damage: Callable[[str], str]) -> None:
    vkey = str(LOG.verifier)
    assert damage(vkey) != vkey
    with pytest.raises(LogError):
        VerifierKey.parse(damage(vkey))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\nb", "a\tb", "a\x00b"])
def test_key_names_hold_no_spaces_pluses_or_controls(name: str) -> None:
    with pytest.raises(LogError):
        VerifierKey(name, bytes(32))


# --- notes --------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(lines, st.just("")), min_size=1, max_size=6), st.integers(1, 3))
def test_notes_round_trip(text_lines: list[str], signers: int) -> None:
    text = "\n".join(text_lines) + "\n"
    keys = [SignerKey.from_seed(f"key{i}.example", bytes([i]) * 32) for i in range(signers)]
    note = open_note(sign_note(text, keys), [k.verifier for k in keys])
    assert note.text == text
    assert [s.key for s in note.signatures] == [k.verifier for k in keys]


def test_a_note_with_any_altered_bit_is_refused() -> None:
    for bit in range(len(SIGNED) * 8):
        altered = bytearray(SIGNED)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogError):
            open_note(bytes(altered), [LOG.verifier])


def test_signatures_by_strangers_are_ignored() -> None:
    assert [s.key for s in open_note(VECTOR, [LOG.verifier]).signatures] == [LOG.verifier]
    other = SignerKey.from_seed(ORIGIN, b"\x44" * 32)  # the same name, another id
    both = sign_note(TEXT, [other, LOG])
    assert [s.key for s in open_note(both, [LOG.verifier]).signatures] == [LOG.verifier]


def test_a_note_only_strangers_signed_is_refused() -> None:
    with pytest.raises(LogError, match="none of the known keys"):
        open_note(SIGNED, [WITNESS.verifier])
    with pytest.raises(LogError, match="none of the known keys"):
        open_note(SIGNED, [])


def test_one_wrong_signature_by_a_known_key_refuses_the_whole_note() -> None:
    foreign = cosign(TEXT.replace("8", "9", 1), WITNESS, AT)
    with pytest.raises(LogError, match="does not verify"):
        open_note(SIGNED + foreign, [LOG.verifier, WITNESS.verifier])


def test_a_second_wrong_line_by_the_same_key_is_not_hidden_by_a_good_one() -> None:
    wrong = sign_note("other\n", [LOG]).split(b"\n\n")[1]
    with pytest.raises(LogError, match="does not verify"):
        open_note(SIGNED + wrong, [LOG.verifier])


def test_a_repeated_signature_counts_once() -> None:
    line = SIGNED.split(b"\n\n")[1]
    assert len(open_note(SIGNED + line, [LOG.verifier]).signatures) == 1


def test_a_note_signature_is_no_cosignature_and_the_other_way_round() -> None:
    as_witness = VerifierKey(ORIGIN, LOG.verifier.public, SignatureType.COSIGNATURE)
    assert as_witness.id != LOG.verifier.id
    with pytest.raises(LogError):
        open_note(SIGNED, [as_witness])


def test_a_log_cannot_be_made_to_sign_a_cosignature() -> None:
    with pytest.raises(LogError, match="begin like"):
        sign_note("cosignature/v1\ntime 1700000000\n" + TEXT, [LOG])
    with pytest.raises(LogError):
        sign_note(TEXT, [WITNESS])
    with pytest.raises(LogError):
        sign_note(TEXT, [])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        TEXT.encode() + b"\n",
        SIGNED[:-1],  # no final newline
        SIGNED + b"\n",  # an empty block of signatures
        SIGNED.replace(b"\n\n", b"\n"),
        SIGNED.replace("— ".encode(), b"- "),
        SIGNED.replace("— ".encode(), "—\u00a0".encode()),
        SIGNED.replace(b"likeness xY", b"likeness  xY"),
        SIGNED.replace(b"8gI=", b"8gI"),
        SIGNED.replace(b"8gI=", b"8gJ="),  # the same bytes in a second spelling
        SIGNED.replace(b"8gI=", b"8g\tI="),
        SIGNED + "— a.example AAAA\n".encode(),  # nothing after the key id
        SIGNED + "— a+b AAAAAAAA\n".encode(),
        SIGNED + "—  AAAAAAAA\n".encode(),
        SIGNED + b"comment\n",
        SIGNED.replace(b"\n8\n", b"\r\n8\r\n"),
        SIGNED.replace(b"\n8\n", b"\n8\x00\n"),
        SIGNED.replace(b"\n8\n", b"\n\xff\n"),
        SIGNED.replace(b"\n8\n", b"\n\xed\xa0\x80\n"),  # a lone surrogate
    ],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    with pytest.raises(LogError):
        open_note(note, [LOG.verifier])


@pytest.mark.parametrize("control", ["\t", "\r", "\x00", "\x1b[2J"])
def test_control_characters_are_neither_signed_nor_opened(control: str) -> None:
    """Signed or not, a terminal escape must not reach whoever prints a note."""
    text = f"a{control}b\n"
    with pytest.raises(LogError, match="control characters"):
        sign_note(text, [LOG])
    line = f"— {ORIGIN} {b64encode(LOG.verifier.id + LOG.sign(text.encode())).decode()}\n"
    with pytest.raises(LogError, match="control characters"):
        open_note(f"{text}\n{line}".encode(), [LOG.verifier])


def test_notes_are_bounded_but_take_the_sixteen_signatures_the_spec_asks_for() -> None:
    post_quantum = b64encode(bytes(4 + 4900)).decode()
    strangers = [f"— witness{i}.example {post_quantum}\n".encode() for i in range(16)]
    assert open_note(SIGNED + b"".join(strangers), [LOG.verifier]).text == TEXT
    small = "— stranger.example AAAAAAA=\n".encode()
    open_note(SIGNED + small * (MAX_SIGNATURES - 1), [LOG.verifier])
    with pytest.raises(LogError, match="at most"):
        open_note(SIGNED + small * MAX_SIGNATURES, [LOG.verifier])
    with pytest.raises(LogError, match="at most"):
        open_note(b"x" * MAX_NOTE_BYTES + b"\n" + SIGNED, [LOG.verifier])


def test_the_text_ends_at_the_last_blank_line() -> None:
    text = "a\n\n\nb\n"
    assert open_note(sign_note(text, [LOG]), [LOG.verifier]).text == text


def test_line_separators_of_unicode_are_not_newlines() -> None:
    text = "one\u2028still one\x85\n"
    assert open_note(sign_note(text, [LOG]), [LOG.verifier]).text == text


# --- checkpoints --------------------------------------------------------------------------------------------


@given(
    lines,
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3),
)
def test_checkpoints_round_trip(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, Digest(root), tuple(extensions))
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


def test_an_empty_log_has_a_checkpoint() -> None:
    text = Checkpoint(ORIGIN, 0, EMPTY_ROOT).text()
    assert text == f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert Checkpoint.parse(text).root == EMPTY_ROOT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT.replace("\n8\n", "\n08\n"),
        TEXT.replace("\n8\n", "\n+8\n"),
        TEXT.replace("\n8\n", "\n8 \n"),
        TEXT.replace("\n8\n", "\n8_0\n"),
        TEXT.replace("\n8\n", "\n٨\n"),
        TEXT.replace("\n8\n", "\n-8\n"),
        TEXT.replace("\n8\n", "\n0\n"),  # no leaves, yet not the empty root
        TEXT.replace("\n8\n", f"\n{2**63}\n"),
        TEXT.replace("\n8\n", "\n" + "9" * 5000 + "\n"),
        TEXT.replace("Qyg=", "Qyh="),  # the same root in a second spelling
        TEXT.replace("Qyg=", "Qyg"),
        TEXT.replace("Qyg=", "Qw=="),
        TEXT.replace("+", "-"),  # the URL-safe alphabet
        TEXT.replace(ORIGIN, ""),
        f"{ORIGIN}\n8\n",
        TEXT + "extension\n\nextension\n",
        TEXT.replace("\n", "\r\n"),
    ],
)
def test_parse_refuses_every_other_spelling_of_a_checkpoint(text: str) -> None:
    with pytest.raises(LogError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        (ORIGIN, -1, ROOT, ()),
        (ORIGIN, 2**63, ROOT, ()),
        (ORIGIN, 1, ROOT[:31], ()),
        (ORIGIN, 1, ROOT, ("",)),
        (ORIGIN, 1, ROOT, ("a\n\n— forged",)),  # an extension must not reach into the signatures
    ],
)
def test_no_checkpoint_is_made_that_could_not_be_parsed(
    origin: str, size: int, root: Digest, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(LogError):
        Checkpoint(origin, size, root, extensions)


def test_a_checkpoint_that_only_witnesses_signed_is_refused() -> None:
    unsigned = TEXT.encode() + b"\n" + cosign(TEXT, WITNESS, AT)
    with pytest.raises(LogError, match="did not sign"):
        open_checkpoint(unsigned, LOG.verifier, [WITNESS.verifier], quorum=1)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = sign_note(Checkpoint("other.example", 8, ROOT).text(), [LOG])
    with pytest.raises(LogError, match="not of the log"):
        open_checkpoint(other, LOG.verifier)


def test_a_quorum_counts_keys_not_lines_nor_names() -> None:
    alias = SignerKey.from_seed("witness.example/alias", b"\x22" * 32, SignatureType.COSIGNATURE)
    note = (
        SIGNED
        + cosign(TEXT, WITNESS, AT)
        + cosign(TEXT, WITNESS, AT + timedelta(1))
        + cosign(TEXT, alias, AT)
    )
    keys = [WITNESS.verifier, alias.verifier, SECOND.verifier]
    with pytest.raises(LogError, match="`1` witnesses cosigned the checkpoint, `2` are required"):
        open_checkpoint(note, LOG.verifier, keys, quorum=2)
    enough = note + cosign(TEXT, SECOND, AT)
    assert len(open_checkpoint(enough, LOG.verifier, keys, quorum=2).witnesses) == 3


def test_the_logs_own_signature_is_no_witness() -> None:
    with pytest.raises(LogError, match="are required"):
        open_checkpoint(SIGNED, LOG.verifier, [LOG.verifier], quorum=1)


# --- cosignatures -------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 — Hypothesis adds the zone
def test_cosignatures_carry_their_time_in_whole_seconds(at: datetime) -> None:
    note = SIGNED + cosign(TEXT, WITNESS, at)
    [seen] = open_checkpoint(note, LOG.verifier, [WITNESS.verifier], quorum=1).witnesses
    assert seen.at == at.replace(microsecond=0)


def test_the_zone_of_a_cosignatures_time_does_not_matter() -> None:
    assert cosign(TEXT, WITNESS, AT.astimezone(timezone(timedelta(hours=9)))) == cosign(TEXT, WITNESS, AT)


def test_an_altered_cosignature_time_is_refused() -> None:
    prefix, _, encoded = cosign(TEXT, WITNESS, AT).rpartition(b" ")
    raw = bytearray(b64decode(encoded))
    raw[4 + 7] ^= 1  # the last byte of the time, after the key id
    with pytest.raises(LogError, match="does not verify"):
        open_note(SIGNED + prefix + b" " + b64encode(raw) + b"\n", [LOG.verifier, WITNESS.verifier])


def test_a_cosignature_beyond_the_calendar_is_refused_not_a_crash() -> None:
    key = WITNESS.verifier
    line = f"— {key.name} {b64encode(key.id + bytes([255] * 8) + bytes(64)).decode()}\n".encode()
    with pytest.raises(LogError, match="calendar"):
        open_note(SIGNED + line, [LOG.verifier, key])


def test_witnesses_cosign_checkpoints_only_and_with_their_own_kind_of_key() -> None:
    with pytest.raises(LogError):
        cosign("any other text\n", WITNESS, AT)
    with pytest.raises(LogError, match="not a witness key"):
        cosign(TEXT, LOG, AT)
    with pytest.raises(LogError, match="1970"):
        cosign(TEXT, WITNESS, datetime(1969, 12, 31, tzinfo=UTC))
    with pytest.raises(TypeError):
        cosign(TEXT, WITNESS, datetime(2024, 1, 1))  # noqa: DTZ001 — the naive time is what is refused


def test_a_newer_cosignature_replaces_the_witnesss_older_one() -> None:
    later = AT + timedelta(hours=1)
    note = add_cosignature(VECTOR, cosign(TEXT, WITNESS, later), WITNESS.verifier)
    opened = open_checkpoint(note, LOG.verifier, [WITNESS.verifier], quorum=1)
    assert [s.at for s in opened.witnesses] == [later]
    assert len(note) == len(VECTOR)


def test_a_witness_cannot_add_lines_of_others() -> None:
    response = cosign(TEXT, SECOND, AT) + cosign(TEXT, WITNESS, AT)
    assert add_cosignature(SIGNED, response, WITNESS.verifier) == VECTOR


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\n",
        cosign(TEXT, SECOND, AT),  # by somebody else
        cosign(TEXT.replace("8", "9", 1), WITNESS, AT),  # of another tree
        cosign(TEXT, WITNESS, AT)[:-1],
        b"x\n\n" + cosign(TEXT, WITNESS, AT),
        b"\xff\n",
    ],
)
def test_a_witness_response_without_its_own_valid_cosignature_is_refused(response: bytes) -> None:
    with pytest.raises(LogError):
        add_cosignature(SIGNED, response, WITNESS.verifier)


def test_two_verifier_keys_that_collide_are_refused_as_configuration() -> None:
    class Colliding(VerifierKey):
        @property
        def id(self) -> bytes:
            return LOG.verifier.id

    with pytest.raises(LogError, match="share a name"):
        open_note(SIGNED, [LOG.verifier, Colliding(ORIGIN, bytes(32))])


# --- proof files --------------------------------------------------------------------------------------------


def _logged(count: int, index: int) -> tuple[bytes, TlogProof]:
    tree = Tree()
    tree.extend(leaf_hash(b"%d" % i) for i in range(count))
    note = sign_note(Checkpoint(ORIGIN, count, tree.root()).text(), [LOG])
    path = inclusion_proof(index, count, tree.node)
    return leaf_hash(b"%d" % index), TlogProof(index, tuple(path), note)


LEAF, PROOF = _logged(5, 2)


@given(st.integers(1, 20), st.data(), st.binary(max_size=40))
def test_proof_files_round_trip_and_verify(count: int, data: st.DataObject, extra: bytes) -> None:
    leaf, made = _logged(count, data.draw(st.integers(0, count - 1)))
    proof = TlogProof.parse(TlogProof(made.index, made.path, made.checkpoint, extra).encode())
    assert (proof.index, proof.path, proof.extra) == (made.index, made.path, extra)
    assert proof.verify(leaf, LOG.verifier).checkpoint.size == count


def test_a_proof_file_looks_as_the_spec_shows_it() -> None:
    head, _, checkpoint = TlogProof(2, PROOF.path[:1], PROOF.checkpoint, b"\x01").encode().partition(b"\n\n")
    assert head.decode().split("\n") == [
        "c2sp.org/tlog-proof@v1",
        "extra AQ==",
        "index 2",
        b64encode(PROOF.path[0]).decode(),
    ]
    assert checkpoint == PROOF.checkpoint


def test_a_proof_of_another_leaf_index_or_log_is_refused() -> None:
    with pytest.raises(LogError):
        PROOF.verify(leaf_hash(b"3"), LOG.verifier)
    with pytest.raises(LogError):
        TlogProof(3, PROOF.path, PROOF.checkpoint).verify(LEAF, LOG.verifier)
    with pytest.raises(LogError):
        PROOF.verify(LEAF, SECOND.verifier)
    with pytest.raises(LogError, match="are required"):
        PROOF.verify(LEAF, LOG.verifier, [WITNESS.verifier], quorum=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 2", b"index 02"),
        (b"index 2", b"index -2"),
        (b"index 2\n", b""),
        (b"index 2", b"extra \nindex 2"),
        (b"index 2", b"extra AQ\nindex 2"),
        (b"index 2", b"index 2\nextra AQ=="),
        (b"index 2", b"index 2\nAQ=="),
        (b"index 2", b"index 2" + b"\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" * 64),
        (b"index 2", "index ２".encode()),  # a full-width digit
        (b"index 2", b"index 2\r"),
        (b"\n\n", b"\n"),
    ],
)
def test_malformed_proof_files_are_refused(old: bytes, new: bytes) -> None:
    data = PROOF.encode()
    assert old in data
    with pytest.raises(LogError):
        TlogProof.parse(data.replace(old, new)).verify(LEAF, LOG.verifier)
