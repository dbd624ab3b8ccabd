"""Trust policies: what the file may say, what its quorum means, and which checkpoints it lets through."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LogError
from ledger.ids import Digest
from ledger.log.merkle import EMPTY_ROOT
from ledger.log.note import Checkpoint, SignatureType, SignerKey, VerifierKey, cosign, sign_note
from ledger.log.policy import MAX_LISTED, MAX_POLICY_BYTES, Group, ListedLog, ListedWitness, Policy, shown

ORIGIN = "ledger.example/likeness"
AT = datetime.fromtimestamp(1_700_000_000, UTC)
LOG = SignerKey.from_seed(ORIGIN, b"\x11" * 32)
NEW_LOG = SignerKey.from_seed(ORIGIN, b"\x12" * 32)
OTHER_LOG = SignerKey.from_seed("other.example", b"\x13" * 32)
WITNESSES = [
    SignerKey.from_seed(f"witness.example/w{i}", bytes([0x20 + i]) * 32, SignatureType.COSIGNATURE)
    for i in range(6)
]
W = [str(witness.verifier) for witness in WITNESSES]
TEXT = Checkpoint(ORIGIN, 8, Digest(b"\x08" * 32)).text()
SIGNED = sign_note(TEXT, [LOG])

# The example of the specification, with keys.
EXAMPLE = f"""\
# the log
log {LOG.verifier}

witness X1 {W[0]}
witness X2 {W[1]} https://x2.example/prefix
\twitness  X3\t{W[2]}\t
group X-witnesses 2 X1 X2 X3

witness Y1 {W[3]}
witness Y2 {W[4]}
witness Y3 {W[5]}
group Y-witnesses any Y1 Y2 Y3

  # all of them
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
""".encode()


def cosigned(*witnesses: SignerKey, text: str = TEXT, signers: tuple[SignerKey, ...] = (LOG,)) -> bytes:
    return sign_note(text, signers) + b"".join(cosign(text, witness, AT) for witness in witnesses)


def policy(*lines: str) -> Policy:
    return Policy.parse("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


# --- the file -----------------------------------------------------------------------------------------------


def test_the_example_of_the_specification_means_what_it_says() -> None:
    parsed = Policy.parse(EXAMPLE)
    assert parsed.logs == (ListedLog(LOG.verifier),)
    assert [(w.name, w.key, w.url) for w in parsed.witnesses][:3] == [
        ("X1", WITNESSES[0].verifier, ""),
        ("X2", WITNESSES[1].verifier, "https://x2.example/prefix"),
        ("X3", WITNESSES[2].verifier, ""),
    ]
    assert parsed.groups == (
        Group("X-witnesses", 2, ("X1", "X2", "X3")),
        Group("Y-witnesses", 1, ("Y1", "Y2", "Y3")),
        Group("X-and-Y", 2, ("X-witnesses", "Y-witnesses")),
    )
    assert parsed.quorum == "X-and-Y"
    keys = [witness.verifier for witness in WITNESSES]
    for count in range(7):
        for some in combinations(range(6), count):
            expected = sum(i < 3 for i in some) >= 2 and any(i >= 3 for i in some)
            assert parsed.witnessed([keys[i] for i in some]) is expected


def test_a_policy_without_logs_or_witnesses_is_a_policy_but_lets_nothing_through() -> None:
    empty = policy("quorum none")
    assert empty == Policy((), (), (), "none")
    assert empty.witnessed([])
    with pytest.raises(LogError):
        empty.open(SIGNED)


REFUSED = {
    "an unknown word": ["log {log}", "Quorum none"],
    "a byte order mark": ["\ufeffquorum none"],
    "log without a key": ["log", "quorum none"],
    "log with three words": ["log {log} https://a.example x", "quorum none"],
    "log with a comment behind": ["log {log} https://a.example # ours", "quorum none"],
    "witness without a key": ["witness a", "quorum none"],
    "witness with four words": ["witness a {w0} https://a.example x", "quorum none"],
    "a damaged vkey": ["log {log}A", "quorum none"],
    "a key name that is not UTF-8": ["log x\udcff+00000000+AAAA", "quorum none"],
    "a space of Unicode in a key name": ["log x\u00a0y+00000000+AAAA", "quorum none"],
    "a witness key for a log": ["log {w0}", "quorum none"],
    "a log key for a witness": ["witness a {log}", "quorum none"],
    "a post-quantum key": ["witness a {pq}", "quorum none"],
    "the same log twice": ["log {log}", "log {log}", "quorum none"],
    "the same log key under another name": ["log {log}", "log {log_alias}", "quorum none"],
    "the same witness twice": ["witness a {w0}", "witness b {w0}", "quorum a"],
    "the same witness key under another key name": ["witness a {w0}", "witness b {w0_alias}", "quorum a"],
    "a name defined twice": ["witness a {w0}", "witness a {w1}", "quorum a"],
    "a group named as a witness": ["witness a {w0}", "group a any a", "quorum a"],
    "a group defined twice": ["witness a {w0}", "witness b {w1}", "group g any a", "group g any b", "quorum g"],
    "a witness named none": ["witness none {w0}", "quorum none"],
    "a group named none": ["witness a {w0}", "group none any a", "quorum none"],
    "none as a member": ["witness a {w0}", "group g any a none", "quorum g"],
    "a group without members": ["witness a {w0}", "group g any", "quorum a"],
    "a group without a threshold": ["witness a {w0}", "group g a", "quorum a"],
    "an undefined member": ["witness a {w0}", "group g any a b", "quorum g"],
    "a member defined later": ["witness a {w0}", "group g any a b", "witness b {w1}", "quorum g"],
    "a group that is its own member": ["witness a {w0}", "group g any a g", "quorum g"],
    "a member twice in one group": ["witness a {w0}", "group g 2 a a", "quorum g"],
    "a member of two groups": [
        "witness a {w0}", "witness b {w1}", "group g any a b", "group h any a", "quorum g",
    ],
    "a group in two groups": [
        "witness a {w0}", "witness b {w1}", "group g any a", "group h any g b", "group i any g", "quorum h",
    ],
    "a threshold of 0": ["witness a {w0}", "group g 0 a", "quorum g"],
    "a threshold above the members": ["witness a {w0}", "group g 2 a", "quorum g"],
    "a negative threshold": ["witness a {w0}", "group g -1 a", "quorum g"],
    "a signed threshold": ["witness a {w0}", "group g +1 a", "quorum g"],
    "a padded threshold": ["witness a {w0}", "group g 01 a", "quorum g"],
    "a threshold in hex": ["witness a {w0}", "group g 0x1 a", "quorum g"],
    "a threshold in digits of another script": ["witness a {w0}", "group g ١ a", "quorum g"],
    "a threshold no machine can hold": ["witness a {w0}", "group g " + "1" * 5000 + " a", "quorum g"],
    "a threshold in another case": ["witness a {w0}", "group g ALL a", "quorum g"],
    "an undefined quorum": ["witness a {w0}", "quorum b"],
    "a quorum defined later": ["quorum a", "witness a {w0}"],
    "a quorum of nothing": ["quorum"],
    "a quorum of two": ["witness a {w0}", "witness b {w1}", "quorum a b"],
    "two quorums": ["witness a {w0}", "quorum a", "quorum a"],
    "a second quorum that lowers the first": ["witness a {w0}", "quorum a", "quorum none"],
    "a quorum that only looks like a name": ["witness K {w0}", "quorum \u212a"],
    "a carriage return": ["quorum none\r"],
    "a form feed": ["quorum\fnone"],
    "a vertical tab": ["quorum\vnone"],
    "a zero byte": ["quorum none", "# \0"],
    "an escape in a comment": ["quorum none", "# \x1b[2J"],
    "a delete": ["quorum none", "# \x7f"],
}  # fmt: skip
BAD_LINE = {
    "a group named as a witness": 2,
    "a group defined twice": 4,
    "a member of two groups": 4,
    "a group in two groups": 5,
    "a member defined later": 2,
    "a name defined twice": 2,
    "two quorums": 3,
    "a second quorum that lowers the first": 3,
    "a quorum defined later": 1,
    "an escape in a comment": 2,
}


@pytest.mark.parametrize("what", REFUSED)
def test_parse_refuses(what: str) -> None:
    keys = {
        "log": str(LOG.verifier),
        "log_alias": str(VerifierKey("alias.example", LOG.verifier.public)),
        "w0": W[0],
        "w1": W[1],
        "w0_alias": str(
            VerifierKey("alias.example", WITNESSES[0].verifier.public, SignatureType.COSIGNATURE)
        ),
        "pq": W[0].partition("+B")[0] + "+BgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }
    lines = [line.format(**keys) for line in REFUSED[what]]
    with pytest.raises(LogError, match="line `") as refusal:
        policy(*lines)
    if what in BAD_LINE:
        assert f"line `{BAD_LINE[what]}` " in refusal.value.reason.sentence
    # The sentence can be printed anywhere, whatever the file held.
    assert refusal.value.reason.sentence.encode().decode().isprintable()


def test_parse_refuses_a_file_without_a_quorum() -> None:
    for text in (b"", b"\n", b"# quorum none\n", f"log {LOG.verifier}\n".encode()):
        with pytest.raises(LogError, match="quorum"):
            Policy.parse(text)


def test_parse_refuses_a_file_that_was_cut_short_in_its_last_name() -> None:
    whole = f"witness w {W[0]}\nwitness w2 {W[1]}\nquorum w2\n".encode()
    for length in range(len(whole)):
        with pytest.raises(LogError):
            Policy.parse(whole[:length])


def test_parse_refuses_what_is_too_long() -> None:
    with pytest.raises(LogError, match="bytes"):
        Policy.parse(b"quorum none\n" + b"#" * MAX_POLICY_BYTES + b"\n")


@pytest.mark.parametrize("more", ["log", "witness", "group"])
def test_thirty_two_of_each_are_taken_and_not_one_more(more: str) -> None:
    def listed(kind: str, count: int) -> list[str]:
        seeds = [bytes([i, len(kind)]) * 16 for i in range(count)]
        if kind == "log":
            return [f"log {SignerKey.from_seed(f'log{i}', s).verifier}" for i, s in enumerate(seeds)]
        if kind == "witness":
            keys = [SignerKey.from_seed(f"w{i}", s, SignatureType.COSIGNATURE) for i, s in enumerate(seeds)]
            return [f"witness w{i} {key.verifier}" for i, key in enumerate(keys)]
        # One inside the other, as deep as there are groups; members after the first are witnesses.
        return [
            f"group g{i} any {f'g{i - 1}' if i else 'w0'} {f'w{i + 1}' if i < 31 else ''}"
            for i in range(count)
        ]

    counts = {"log": 32, "witness": 32, "group": 32}
    full = policy(*(line for kind, count in counts.items() for line in listed(kind, count)), "quorum g31")
    assert len(full.logs) == len(full.witnesses) == len(full.groups) == MAX_LISTED
    assert full.witnessed([full.witnesses[0].key])
    # Every one of them fits into one note.
    text = Checkpoint("log0", 0, EMPTY_ROOT).text()
    signers = [SignerKey.from_seed(f"log{i}", bytes([i, 3]) * 16) for i in range(32)]
    witnesses = [
        SignerKey.from_seed(f"w{i}", bytes([i, 7]) * 16, SignatureType.COSIGNATURE) for i in range(32)
    ]
    assert len(full.open(cosigned(*witnesses, text=text, signers=tuple(signers))).witnesses) == 32
    counts[more] += 1
    lines = [line for kind, count in counts.items() for line in listed(kind, count)]
    with pytest.raises(LogError, match="one more than"):
        policy(*lines, "quorum none")


# --- laws ---------------------------------------------------------------------------------------------------

# Whatever octets a file may hold, except the two that separate words; `#` only starts a comment at a line's start.
octets = st.integers(0x21, 0xFF).filter(lambda o: o != 0x7F)
words = st.lists(octets, min_size=1, max_size=6).map(lambda o: bytes(o).decode("utf-8", "surrogateescape"))
blanks = st.text(" \t", min_size=1, max_size=3)


@dataclass
class Shape:
    """A policy under construction, in the order of its lines."""

    policy: Policy
    lines: list[list[str]]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    names = draw(st.lists(words.filter(lambda w: w != "none"), min_size=1, max_size=9, unique=True))
    count = draw(st.integers(1, min(6, len(names))))
    listed, groups, lines = [], [], []
    for name, key in zip(names[:count], W, strict=False):
        url = draw(st.one_of(st.just(""), words))
        listed.append(ListedWitness(name, VerifierKey.parse(key), url))
        lines.append(["witness", name, key, *([url] if url else [])])
    free = names[:count]
    for name in names[count:]:
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True)) if free else []
        if not members:
            break
        k = draw(st.integers(1, len(members)))
        word = draw(
            st.sampled_from([str(k), *(["any"] if k == 1 else []), *(["all"] if k == len(members) else [])])
        )
        groups.append(Group(name, k, tuple(members)))
        lines.append(["group", name, word, *members])
        free = [*(n for n in free if n not in members), name]
    quorum = draw(st.sampled_from(["none", *(w.name for w in listed), *(g.name for g in groups)]))
    lines += [["quorum", quorum], ["log", str(LOG.verifier)]]
    return Shape(Policy((ListedLog(LOG.verifier),), tuple(listed), tuple(groups), quorum), lines)


@given(shapes(), st.data())
def test_blanks_and_comments_mean_nothing_and_names_are_octets(shape: Shape, data: st.DataObject) -> None:
    text = ""
    for line in shape.lines:
        text += data.draw(st.sampled_from(["", "\n", " \t\n", "# quorum none\n", "\t #\u00a0\n"]))
        lead, trail = data.draw(st.one_of(st.just(""), blanks)), data.draw(st.one_of(st.just(""), blanks))
        text += lead + "".join(word + data.draw(blanks) for word in line[:-1]) + line[-1] + trail + "\n"
    assert Policy.parse(text.encode("utf-8", "surrogateescape")) == shape.policy


def oracle(shape: Policy, name: str, cosigned: set[str]) -> bool:
    """The quorum as the specification words it: by recursion from the name."""
    if name == "none":
        return True
    for group in shape.groups:
        if group.name == name:
            return sum(oracle(shape, member, cosigned) for member in group.members) >= group.threshold
    return name in cosigned


@given(shapes(), st.sets(st.integers(0, 5)), st.integers(0, 5))
def test_the_quorum_is_the_recursive_rule_and_more_cosignatures_never_hurt(
    shape: Shape, some: set[int], one: int
) -> None:
    policy, keys = shape.policy, [VerifierKey.parse(vkey) for vkey in W]
    names = {w.name for w in policy.witnesses if w.key in [keys[i] for i in some]}
    held = policy.witnessed(keys[i] for i in some)
    assert held is oracle(policy, policy.quorum, names)
    assert policy.witnessed(keys[i] for i in some | {one}) >= held
    # Whoever is missing would be enough; and where nobody is missing, the quorum holds.
    missing = policy.missing(keys[i] for i in some)
    everyone = {w.key for w in policy.witnesses if w.name in missing} | {keys[i] for i in some}
    assert policy.witnessed(everyone)


@given(shapes())
def test_everything_a_policy_shows_can_be_printed(shape: Shape) -> None:
    for witness in shape.policy.witnesses:
        shown(witness.name).encode()


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(text: bytes) -> None:
    for whole in (text, EXAMPLE + text, text + EXAMPLE):
        try:
            Policy.parse(whole)
        except LogError as refusal:
            refusal.reason.sentence.encode()


@given(st.integers(0, len(EXAMPLE) * 8 - 1))
def test_a_flipped_bit_never_weakens_the_quorum_of_the_same_names(bit: int) -> None:
    """Only a threshold's own digit or word can; everything else is another policy, or none."""
    altered = bytearray(EXAMPLE)
    altered[bit // 8] ^= 1 << bit % 8
    try:
        parsed = Policy.parse(bytes(altered))
    except LogError:
        return
    # A key that was altered is refused: its id covers name and key.
    assert [w.key for w in parsed.witnesses] == [witness.verifier for witness in WITNESSES][
        : len(parsed.witnesses)
    ]
    assert not parsed.witnessed([])


# --- opening checkpoints ------------------------------------------------------------------------------------


def test_open_returns_the_checkpoint_and_who_witnessed_it() -> None:
    note = cosigned(*WITNESSES[1:4])
    opened = Policy.parse(EXAMPLE).open(note)
    assert opened.checkpoint == Checkpoint.parse(TEXT)
    assert [s.key for s in opened.witnesses] == [w.verifier for w in WITNESSES[1:4]]


def test_open_names_exactly_the_witnesses_that_are_missing() -> None:
    with pytest.raises(LogError, match=r"no cosignature by `X2`, `X3`, `Y1`, `Y2`, `Y3`") as refusal:
        Policy.parse(EXAMPLE).open(cosigned(WITNESSES[0]))
    assert refusal.value.reason.id == "log.quorum"
    only = policy(f"log {LOG.verifier}", f"witness a {W[0]}", f"witness b {W[1]}", "quorum b")
    with pytest.raises(LogError, match=r"no cosignature by `b`$"):
        only.open(cosigned(WITNESSES[0]))


def test_a_witness_outside_the_quorum_is_reported_and_does_not_count() -> None:
    only = policy(f"log {LOG.verifier}", f"witness a {W[0]}", f"witness b {W[1]}", "quorum b")
    assert len(only.open(cosigned(WITNESSES[1], WITNESSES[0])).witnesses) == 2


def test_one_cosignature_twice_counts_once() -> None:
    two = policy(
        f"log {LOG.verifier}", f"witness a {W[0]}", f"witness b {W[1]}", "group g all a b", "quorum g"
    )
    with pytest.raises(LogError, match="no cosignature by `b`"):
        two.open(cosigned(WITNESSES[0], WITNESSES[0]))


def test_cosignatures_by_strangers_are_ignored() -> None:
    with pytest.raises(LogError, match="no cosignature by `a`"):
        policy(f"log {LOG.verifier}", f"witness a {W[0]}", "quorum a").open(cosigned(*WITNESSES[1:]))


def test_a_false_cosignature_by_a_listed_witness_refuses_the_note() -> None:
    foreign = cosign(TEXT.replace("8", "9", 1), WITNESSES[0], AT)
    with pytest.raises(LogError, match="does not verify"):
        policy(f"log {LOG.verifier}", f"witness a {W[0]}", "quorum none").open(SIGNED + foreign)


def test_witnesses_alone_are_no_log() -> None:
    unsigned = TEXT.encode() + b"\n" + b"".join(cosign(TEXT, witness, AT) for witness in WITNESSES)
    with pytest.raises(LogError, match="no log of the policy"):
        Policy.parse(EXAMPLE).open(unsigned)


def test_during_a_rotation_either_key_of_the_log_will_do() -> None:
    both = policy(f"log {LOG.verifier}", f"log {NEW_LOG.verifier}", "quorum none")
    for signers in ((LOG,), (NEW_LOG,), (NEW_LOG, LOG)):
        assert both.open(sign_note(TEXT, signers)).checkpoint.size == 8
    with pytest.raises(LogError):
        Policy.alone(NEW_LOG.verifier).open(SIGNED)
    # A false signature by one of them is not made good by the other.
    wrong = sign_note(TEXT.replace("8", "9", 1), [NEW_LOG]).split(b"\n\n")[1]
    with pytest.raises(LogError, match="does not verify"):
        both.open(SIGNED + wrong)


def test_a_log_speaks_for_itself_only() -> None:
    both = policy(f"log {LOG.verifier}", f"log {OTHER_LOG.verifier}", "quorum none")
    theirs = Checkpoint("other.example", 3, Digest(b"\x03" * 32)).text()
    assert both.open(sign_note(theirs, [OTHER_LOG])).checkpoint.origin == "other.example"
    assert both.open(sign_note(theirs, [LOG, OTHER_LOG])).checkpoint.origin == "other.example"
    with pytest.raises(LogError, match=r"no log of the policy signed the checkpoint of `other.example`"):
        both.open(sign_note(theirs, [LOG]))


def test_a_text_that_is_no_checkpoint_is_refused_whoever_signed_it() -> None:
    with pytest.raises(LogError):
        Policy.alone(LOG.verifier).open(sign_note("the log says hello\n", [LOG]))


def test_alone_is_the_log_and_no_quorum() -> None:
    assert Policy.alone(LOG.verifier) == policy(f"log {LOG.verifier}", "quorum none")
    assert Policy.alone(LOG.verifier).open(SIGNED).witnesses == ()


def test_signed_wants_the_log_but_not_the_quorum() -> None:
    assert Policy.parse(EXAMPLE).signed(cosigned(WITNESSES[0])).witnesses[0].key == WITNESSES[0].verifier
    with pytest.raises(LogError):
        Policy.parse(EXAMPLE).signed(sign_note(TEXT, [NEW_LOG]))


def test_a_quorum_nobody_defined_fails_closed() -> None:
    assert not Policy((ListedLog(LOG.verifier),), quorum="X").witnessed([w.verifier for w in WITNESSES])
