"""Witnesses and who asks them: the protocol rule by rule, races, broken disks and state, liars, and real sockets."""

import errno
import logging
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from conftest import Checker
from gateway.witness import create_witness_app, open_witness
from ledger.errors import Inconsistent, LedgerError, LogError, Unavailable
from ledger.log import publisher as module
from ledger.log.merkle import Tree, consistency_proof, leaf_hash, verify_consistency
from ledger.log.note import (
    Checkpoint,
    SignatureType,
    SignerKey,
    VerifierKey,
    add_cosignature,
    cosign,
    open_checkpoint,
    open_note,
    sign_note,
)
from ledger.log.policy import Group, ListedLog, ListedWitness, Policy
from ledger.log.publisher import ATTEMPTS, MAX_RESPONSE_BYTES, collect, post
from ledger.log.witness import MAX_REQUEST_BYTES, SIZE_TYPE, Cosigned, Refused, Witness

pytestmark = pytest.mark.slow

ORIGIN, OTHER = "ledger.example/likeness", "other.example/log"
AT = datetime.fromtimestamp(1_700_000_000, UTC)
KEY = SignerKey.from_seed(ORIGIN, b"\x11" * 32)
NEW_KEY = SignerKey.from_seed(ORIGIN, b"\x12" * 32)
OTHER_KEY = SignerKey.from_seed(OTHER, b"\x13" * 32)
STRANGER = SignerKey.from_seed("stranger.example", b"\x44" * 32)
SELF = SignerKey.from_seed("witness.example/w1", b"\x22" * 32, SignatureType.COSIGNATURE)
ANOTHER = SignerKey.from_seed("witness.example/w2", b"\x33" * 32, SignatureType.COSIGNATURE)
LOGS = [KEY.verifier, OTHER_KEY.verifier]
SHARED = 5
"""Leaves that all branches of a log have in common."""


class Log:
    """A log with a checkpoint at every size. Two branches are two histories that begin with the same leaves."""

    def __init__(self, branch: str = "", key: SignerKey = KEY, size: int = 40) -> None:
        self.key = key
        self.tree = Tree()
        leaves = [b"leaf %d%s" % (i, branch.encode() if i >= SHARED else b"") for i in range(size)]
        self.tree.extend(map(leaf_hash, leaves))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.key.verifier.name, size, self.tree.root(size))

    def note(self, size: int, *signers: SignerKey) -> bytes:
        return sign_note(self.checkpoint(size).text(), signers or (self.key,))

    def prove(self, old: int, new: int) -> Sequence[bytes]:
        return consistency_proof(old, new, self.tree.node)

    def request(self, old: int, new: int) -> bytes:
        return request(old, self.prove(old, new) if old <= new else (), self.note(new))


LOG, FORK = Log(), Log("fork")


def request(old: object, proof: Sequence[bytes], note: bytes) -> bytes:
    lines = [f"old {old}", *(b64encode(h).decode() for h in proof), "", ""]
    return "\n".join(lines).encode() + note


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.fixture
def witness(home: Path) -> Witness:
    return Witness(home, SELF, LOGS)


def again(home: Path, *logs: VerifierKey) -> Witness:
    """The same witness after a restart."""
    return Witness(home, SELF, logs or LOGS)


def cosigned(answer: Cosigned | Refused, note: bytes) -> datetime:
    """The answer is a cosignature of `note`. Returns its time."""
    assert isinstance(answer, Cosigned), answer
    [signature] = open_note(add_cosignature(note, answer.line, SELF.verifier), [SELF.verifier]).signatures
    assert signature.at is not None
    return signature.at


def refused(answer: Cosigned | Refused, status: int) -> bytes:
    assert isinstance(answer, Refused), answer
    assert answer.status == status, answer
    # Only the answer that names a size looks like one.
    assert (answer.media_type == SIZE_TYPE) == answer.body.strip().isdigit()
    return answer.body


def seen(witness: Witness, size: int, log: Log = LOG) -> Witness:
    """A witness that cosigned the log at `size`."""
    cosigned(witness.add_checkpoint(log.request(0, size), AT), log.note(size))
    return witness


# --- the protocol -------------------------------------------------------------------------------------------

VECTOR = """\
ledger.example/likeness
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

— ledger.example/likeness xYW4BcAmD354g0GU9xEgKc3HcM4DX6l7JofTtYCjyvKC47LTw1X5fc4B6erS8RddUxumo7vER8fyl2TRZAqwxAEY8gI=
""".encode()
VECTOR_LINE = (
    "— witness.example/w1 4M0oZAAAAABlU/EA8TT4VW4a8NLXHyA8kcuSVhqRuc7fl5fejt3ZluMud4i4BFtf"
    "gYSNrcS3RcJVfucfYNAulVpFjYEdC8Ub2zEaCA==\n"
).encode()


def test_the_answer_to_the_published_checkpoint_is_the_published_cosignature(witness: Witness) -> None:
    assert witness.add_checkpoint(b"old 0\n\n" + VECTOR, AT) == Cosigned(VECTOR_LINE)


def test_the_state_on_disk_is_the_checkpoint_with_both_signatures_for_nobody_else_to_write(
    witness: Witness, home: Path
) -> None:
    witness.add_checkpoint(b"old 0\n\n" + VECTOR, AT)
    [state] = home.glob("*.checkpoint")
    opened = open_checkpoint(state.read_bytes(), KEY.verifier, [SELF.verifier], quorum=1)
    assert opened.checkpoint.text().encode() == VECTOR.partition(b"\n\n")[0] + b"\n"
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not list(home.glob("*.new"))


def test_a_log_is_followed_as_it_grows(witness: Witness, home: Path) -> None:
    old = 0
    for new in (0, 1, 2, 3, 8, 9, 9, 31, 40, 40):
        cosigned(witness.add_checkpoint(LOG.request(old, new), AT), LOG.note(new))
        assert witness.latest(ORIGIN) == again(home).latest(ORIGIN) == LOG.checkpoint(new)
        old = new


@pytest.mark.parametrize("latest", [0, 1, 7, 8])
@pytest.mark.parametrize("old", [0, 1, 6, 7, 8, 9])
def test_an_old_size_that_is_not_the_recorded_one_is_answered_with_it(
    witness: Witness, latest: int, old: int
) -> None:
    """ "If it doesn't match, the witness MUST respond with a 409 … the tree size … followed by a newline"."""
    if latest:
        seen(witness, latest)
    answer = witness.add_checkpoint(LOG.request(old, 12), AT)
    if old == latest:
        cosigned(answer, LOG.note(12))
    else:
        assert answer == Refused(409, b"%d\n" % latest, "text/x.tlog.size")
        assert witness.latest(ORIGIN) == (LOG.checkpoint(latest) if latest else None)


def test_an_older_checkpoint_is_not_cosigned_again(witness: Witness) -> None:
    """A rollback: the log signed 5 leaves once, and now wants that to be the newest."""
    seen(witness, 9)
    for old in (0, 5):
        assert refused(witness.add_checkpoint(LOG.request(old, 5), AT), 409) == b"9\n"
    refused(witness.add_checkpoint(request(9, (), LOG.note(5)), AT), 400)
    refused(witness.add_checkpoint(request(9, LOG.prove(5, 9), LOG.note(5)), AT), 400)
    assert witness.latest(ORIGIN) == LOG.checkpoint(9)


def test_an_old_size_above_the_new_one_is_400_whatever_is_recorded(witness: Witness) -> None:
    refused(witness.add_checkpoint(LOG.request(9, 8), AT), 400)
    seen(witness, 20)
    refused(witness.add_checkpoint(LOG.request(9, 8), AT), 400)


def test_a_second_root_of_the_recorded_size_is_409_without_a_size(witness: Witness) -> None:
    seen(witness, 9)
    assert b"another root" in refused(witness.add_checkpoint(FORK.request(9, 9), AT), 409)
    # The root decides before the proof does.
    refused(witness.add_checkpoint(request(9, [bytes(32)], FORK.note(9)), AT), 409)


def test_of_two_histories_that_look_consistent_only_the_first_is_cosigned(
    witness: Witness, home: Path
) -> None:
    seen(witness, SHARED)
    cosigned(witness.add_checkpoint(LOG.request(SHARED, 9), AT), LOG.note(9))
    for one in (witness, again(home)):
        assert refused(one.add_checkpoint(FORK.request(SHARED, 9), AT), 409) == b"9\n"
        refused(one.add_checkpoint(FORK.request(9, 9), AT), 409)
        refused(one.add_checkpoint(FORK.request(9, 20), AT), 422)
        # Not even with the honest branch's own proof.
        refused(one.add_checkpoint(request(9, LOG.prove(9, 20), FORK.note(20)), AT), 422)
        assert one.latest(ORIGIN) == LOG.checkpoint(9)


@pytest.mark.parametrize(
    ("old", "proof"),
    [
        (0, [bytes(32)]),  # "The proof MUST be empty if the old size is zero."
        (9, []),
        (9, [bytes(32)]),
        (9, LOG.prove(9, 20)[:-1]),
        (9, LOG.prove(9, 20)[1:]),
        (9, [*LOG.prove(9, 20), bytes(32)]),
        (9, [*LOG.prove(9, 20)][::-1]),
        (9, LOG.prove(9, 21)),
        (20, [bytes(32)]),
    ],
)
def test_a_proof_that_does_not_verify_is_422_and_changes_nothing(
    witness: Witness, old: int, proof: Sequence[bytes]
) -> None:
    if old:
        seen(witness, old)
    refused(witness.add_checkpoint(request(old, proof, LOG.note(20)), AT), 422)
    assert witness.latest(ORIGIN) == (LOG.checkpoint(old) if old else None)


def test_a_log_nobody_told_us_of_is_404_even_when_it_signed_well(witness: Witness) -> None:
    unknown = Log(key=STRANGER)
    refused(witness.add_checkpoint(unknown.request(0, 3), AT), 404)
    assert not list(witness._directory.glob("*.checkpoint"))


@pytest.mark.parametrize(
    "signer",
    [
        STRANGER,
        SignerKey.from_seed(ORIGIN, b"\x55" * 32),  # the right name, an unknown key
        OTHER_KEY,  # a log we watch, but not this one
        SignerKey(KEY.verifier, STRANGER.sign),  # the right name and id, a false signature
    ],
)
def test_a_checkpoint_the_log_did_not_sign_is_403(witness: Witness, signer: SignerKey) -> None:
    refused(witness.add_checkpoint(request(0, (), LOG.note(3, signer)), AT), 403)
    assert witness.latest(ORIGIN) is None


def test_a_cosignature_is_no_signature_of_the_log(witness: Witness) -> None:
    text = LOG.checkpoint(3).text()
    refused(witness.add_checkpoint(request(0, (), f"{text}\n".encode() + cosign(text, SELF, AT)), AT), 403)


def test_signatures_of_strangers_are_ignored_and_not_kept(witness: Witness, home: Path) -> None:
    """A log's submission may carry any number of them; kept, they could make a state too long to be opened."""
    text, line = LOG.checkpoint(3).text(), LOG.note(3).rpartition(b"\n\n")[2]
    lines = [
        sign_note(text, [SignerKey.from_seed(f"s{i}", bytes([i]) * 32)]).rpartition(b"\n\n")[2]
        for i in range(62)
    ]
    note = f"{text}\n".encode() + b"".join(lines) + cosign(text, SELF, AT + timedelta(days=9)) + line
    cosigned(witness.add_checkpoint(request(0, (), note), AT), LOG.note(3))
    [state] = home.glob("*.checkpoint")
    assert state.read_bytes().rpartition(b"\n\n")[2].count(b"\n") == 2
    cosigned(again(home).add_checkpoint(LOG.request(3, 4), AT), LOG.note(4))


def test_while_a_log_changes_its_key_either_one_counts(home: Path) -> None:
    both = again(home, KEY.verifier, NEW_KEY.verifier)
    for old, new, signers in ((0, 3, [KEY]), (3, 4, [KEY, NEW_KEY]), (4, 5, [NEW_KEY])):
        note = LOG.note(new, *signers)
        cosigned(both.add_checkpoint(request(old, LOG.prove(old, new), note), AT), note)
    # The old key can be dropped once the new one has signed the newest state, and not before.
    assert again(home, NEW_KEY.verifier).latest(ORIGIN) == LOG.checkpoint(5)
    with pytest.raises(Inconsistent, match="cannot be trusted"):
        again(home, KEY.verifier).latest(ORIGIN)


def test_logs_do_not_get_in_each_others_way(witness: Witness) -> None:
    other = Log("other", OTHER_KEY)
    seen(seen(witness, 7), 20, other)
    assert witness.latest(ORIGIN) == LOG.checkpoint(7)
    assert witness.latest(OTHER) == other.checkpoint(20)
    assert witness.origins == (ORIGIN, OTHER)


def test_extension_lines_are_cosigned_as_they_are(witness: Witness) -> None:
    head = LOG.checkpoint(3)
    note = sign_note(Checkpoint(head.origin, head.size, head.root, ("one", "two")).text(), [KEY])
    cosigned(witness.add_checkpoint(request(0, (), note), AT), note)


HEAD = b"old 0\n\n"
HASH = b64encode(bytes(range(32)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        HEAD,
        LOG.note(3),
        b"old 0\n" + LOG.note(3),  # no blank line
        b"\n" + HEAD + LOG.note(3),
        b"old 00\n\n" + LOG.note(3),
        b"old +0\n\n" + LOG.note(3),
        b"old -1\n\n" + LOG.note(3),
        b"old  0\n\n" + LOG.note(3),
        b"old 0 \n\n" + LOG.note(3),
        b"old\t0\n\n" + LOG.note(3),
        b"OLD 0\n\n" + LOG.note(3),
        b"old\n\n" + LOG.note(3),
        b"old 0x0\n\n" + LOG.note(3),
        "old ٠\n\n".encode() + LOG.note(3),
        b"old 9223372036854775808\n\n" + LOG.note(3),
        b"old " + b"9" * 5000 + b"\n\n" + LOG.note(3),
        b"old 0\r\n\r\n" + LOG.note(3),
        b"old 1\n" + b"!" * 44 + b"\n\n" + LOG.note(3),
        b"old 1\n" + HASH[:-1] + b"\n\n" + LOG.note(3),
        b"old 1\n" + HASH + b" \n\n" + LOG.note(3),
        b"old 1\n" + HASH.replace(b"8=", b"9=") + b"\n\n" + LOG.note(3),  # a second spelling
        b"old 1\n" + b64encode(bytes(31)) + b"\n\n" + LOG.note(3),
        b"old 1\n" + b64encode(bytes(33)) + b"\n\n" + LOG.note(3),
        b"old 1\n" + (HASH + b"\n") * 64 + b"\n" + LOG.note(3),  # "MUST NOT send more than 63"
        HEAD + LOG.checkpoint(3).text().encode(),  # no signatures
        HEAD + LOG.note(3).replace(b"\n3\n", b"\n03\n"),
        HEAD + LOG.note(3).replace(b"\n3\n", b"\n\xff\n"),
        HEAD + b"\n" + LOG.note(3),
        HEAD + sign_note(f"{ORIGIN}\n3\n", [KEY]),
        HEAD + sign_note(f"{ORIGIN}\n3\nAAAA\n", [KEY]),
        HEAD + sign_note(f"{ORIGIN}\n0\n{b64encode(bytes(32)).decode()}\n", [KEY]),
    ],
)
def test_a_malformed_request_is_400(witness: Witness, body: bytes) -> None:
    refused(witness.add_checkpoint(body, AT), 400)


def test_a_proof_of_63_lines_is_read_and_a_request_beyond_all_bounds_is_not(witness: Witness) -> None:
    refused(witness.add_checkpoint(request(0, [bytes(32)] * 63, LOG.note(3)), AT), 422)
    refused(witness.add_checkpoint(HEAD + LOG.note(3) + b"x" * MAX_REQUEST_BYTES, AT), 413)


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(deadline=None)
def test_no_request_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    one = Witness(tmp_path_factory.mktemp("w"), SELF, LOGS)
    valid = LOG.request(0, 3)
    for body in (junk, HEAD + junk, valid[:at] + junk, valid[:at] + junk + valid[at:]):
        answer = one.add_checkpoint(body, AT)
        if isinstance(answer, Cosigned):
            # The only things that can be added to a request are lines of strangers' signatures.
            cosigned(answer, LOG.note(3))
        else:
            assert answer.status in {400, 403, 404, 409, 422}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 12)), max_size=25))
@settings(deadline=None, max_examples=40)
def test_what_was_cosigned_is_one_growing_tree_whatever_is_asked(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[bool, int, int]]
) -> None:
    """Against the rule in a line: the named size is the recorded one, and the tree extends the recorded one."""
    home = tmp_path_factory.mktemp("w")
    latest, branch = 0, LOG
    for fork, old, new in asked:
        log = FORK if fork else LOG
        answer = again(home).add_checkpoint(log.request(old, new), AT)
        one_tree = latest <= SHARED or log is branch
        if old == latest <= new and one_tree:
            cosigned(answer, log.note(new))
            latest, branch = new, log if new > SHARED else branch
        else:
            assert isinstance(answer, Refused)
            assert answer.status == (400 if old > new else 409 if old != latest or old == new else 422)
    if latest:
        assert again(home).latest(ORIGIN) == branch.checkpoint(latest)


def test_a_witness_needs_a_witness_key_and_its_logs_log_keys(home: Path) -> None:
    with pytest.raises(LogError, match="not a witness key"):
        Witness(home, KEY, LOGS)
    with pytest.raises(LogError, match="note keys"):
        Witness(home, SELF, [SELF.verifier])


def test_go_opens_what_a_witness_cosigned(witness: Witness, check: Checker) -> None:
    """The log's signature still verifies with a cosignature below it, and the growth that was cosigned is real."""
    note = LOG.note(9)
    seen(witness, 4)
    answer = witness.add_checkpoint(LOG.request(4, 9), AT)
    assert isinstance(answer, Cosigned)
    proven = {"oldSize": 4, "oldRoot": LOG.tree.root(4), "consistency": LOG.prove(4, 9)}
    for whole in (add_cosignature(note, answer.line, SELF.verifier), witness._path(ORIGIN).read_bytes()):
        [answered] = check([{"vkey": str(KEY.verifier), "note": whole, **proven}])
        assert answered == {"origin": ORIGIN, "size": 9}


# --- the clock ----------------------------------------------------------------------------------------------


def test_the_same_checkpoint_is_cosigned_again_with_the_time_it_is_then(witness: Witness) -> None:
    seen(witness, 3)
    later = AT + timedelta(days=1)
    assert cosigned(witness.add_checkpoint(LOG.request(3, 3), later), LOG.note(3)) == later


def test_the_times_of_cosignatures_never_go_back(witness: Witness, home: Path) -> None:
    seen(witness, 3)
    # A clock that was nudged, and requests that overtake each other, repeat the last time.
    for back in (1, 60):
        one = again(home)
        assert (
            cosigned(one.add_checkpoint(LOG.request(3, 3), AT - timedelta(seconds=back)), LOG.note(3)) == AT
        )
    # A clock that is further off does not know the time.
    with pytest.raises(Unavailable, match="clock") as stopped:
        again(home).add_checkpoint(LOG.request(3, 4), AT - timedelta(seconds=61))
    assert "set the clock" in stopped.value.reason.remedy
    assert again(home).latest(ORIGIN) == LOG.checkpoint(3)
    cosigned(again(home).add_checkpoint(LOG.request(3, 4), AT), LOG.note(4))


def test_another_log_is_not_held_up_by_one_that_was_cosigned_in_the_future(witness: Witness) -> None:
    seen(witness, 3)
    other = Log("other", OTHER_KEY)
    earlier = AT - timedelta(days=1)
    assert cosigned(witness.add_checkpoint(other.request(0, 3), earlier), other.note(3)) == earlier


# --- races --------------------------------------------------------------------------------------------------


def test_of_two_histories_sent_at_once_one_is_cosigned(tmp_path: Path) -> None:
    """Threads on one witness, and threads on two that share a directory."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(25):
            home = tmp_path / str(number)
            seen(again(home), SHARED)
            ones, barrier = [again(home), again(home)], threading.Barrier(8)

            def submit(
                i: int, ones: list[Witness] = ones, barrier: threading.Barrier = barrier
            ) -> int | None:
                log = FORK if i % 2 else LOG
                barrier.wait()
                answer = ones[i // 4].add_checkpoint(log.request(SHARED, SHARED + 1 + i), AT)
                return i if isinstance(answer, Cosigned) else None

            [winner] = [i for i in pool.map(submit, range(8)) if i is not None]
            branch = FORK if winner % 2 else LOG
            assert again(home).latest(ORIGIN) == branch.checkpoint(SHARED + 1 + winner)


# Imports once, then forks one writer for each word of the lines it reads: a branch, or "" for the honest one.
# A writer catches up with the state and extends it with its own branch by one or two leaves, for ever.
NURSERY = """
import os, sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

from ledger.log.merkle import Tree, consistency_proof, leaf_hash
from ledger.log.note import Checkpoint, SignatureType, SignerKey, sign_note
from ledger.log.witness import Cosigned, Witness

home, shared, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
origin = sys.argv[4]
log = SignerKey.from_seed(origin, b"\\x11" * 32)
own = SignerKey.from_seed("witness.example/w1", b"\\x22" * 32, SignatureType.COSIGNATURE)
at = datetime.fromtimestamp(1_700_000_000, UTC)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def live(branch, number):
    tree = Tree()
    tree.extend(leaf_hash(b"leaf %d%s" % (i, branch.encode() if i >= shared else b"")) for i in range(most))
    witness = Witness(home, own, [log.verifier])
    old = refusals = 0
    say("born", os.getpid())
    while old < most and refusals < 40:
        new = min(most, old + 1 + number % 2)
        note = sign_note(Checkpoint(origin, new, tree.root(new)).text(), [log])
        proof = [b64encode(h) + b"\\n" for h in consistency_proof(old, new, tree.node)]
        answer = witness.add_checkpoint(b"old %d\\n" % old + b"".join(proof) + b"\\n" + note, at)
        if isinstance(answer, Cosigned):
            say("done", number, new)
            old = new
        else:
            refusals += 1
            old = min(int(answer.body), most) if answer.body.strip().isdigit() else old


say("ready")
for line in sys.stdin:
    born = {}
    for number, word in enumerate(line.split()):
        pid = os.fork()
        if pid == 0:
            live(word.strip("-"), number)
            os._exit(0)
        born[pid] = number
    while born:
        pid, status = os.wait()
        say("dead", born.pop(pid), os.waitstatus_to_exitcode(status))
    say("over")
"""


class Nursery:
    def __init__(self, home: Path, most: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(home), str(SHARED), str(most), ORIGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self.done: list[tuple[int, int]] = []
        """Writer and size of everything that was answered with a cosignature, in the order it was told."""
        self.hear("ready")

    def start(self, branches: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(branches + "\n")
        self._process.stdin.flush()

    def hear(self, word: str) -> list[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            first, *rest = line.split()
            if first == "done":
                self.done.append((int(rest[0]), int(rest[1])))
            if first == word:
                return rest
        raise AssertionError("the writers' parent ended")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()


@contextmanager
def nursery(home: Path, most: int) -> Iterator[Nursery]:
    with closing(Nursery(home, most)) as process:
        yield process


def test_two_processes_on_one_directory_cosign_one_history(home: Path) -> None:
    most = SHARED + 60
    branches = [Log("a", size=most), Log("b", size=most)]
    with nursery(home, most) as process:
        process.start("a b")
        process.hear("over")
    # Both went on from the same leaves; beyond them the first one there has it.
    beyond = {writer for writer, size in process.done if size > SHARED}
    assert len(beyond) == 1
    [winner] = beyond
    assert again(home).latest(ORIGIN) == branches[winner].checkpoint(most)
    assert max(size for _, size in process.done) == most


def test_two_processes_that_follow_one_log_never_set_each_other_back(home: Path) -> None:
    with nursery(home, 60) as process:
        process.start("- -")
        process.hear("over")
    for writer in (0, 1):
        told = [size for number, size in process.done if number == writer]
        assert told == sorted(set(told))
    # Each growth was cosigned for one of them only.
    assert len({size for _, size in process.done}) == len(process.done)
    assert again(home).latest(ORIGIN) == Log(size=60).checkpoint(60)


def test_kill_9_forgets_nothing_that_was_answered(home: Path) -> None:
    chance, honest = random.Random(20260302), Log(size=4000)
    with nursery(home, 4000) as process:
        for _ in range(25):
            process.start("-")
            [pid] = process.hear("born")
            for _ in range(chance.randrange(0, 6)):
                process.hear("done")
            time.sleep(chance.random() * 0.01)
            os.kill(int(pid), signal.SIGKILL)
            assert process.hear("dead") == ["0", "-9"]
            told = max((size for _, size in process.done), default=0)
            latest = again(home).latest(ORIGIN)
            assert (latest.size if latest else 0) >= told
            assert latest is None or latest == honest.checkpoint(latest.size)
            process.hear("over")
        if told > SHARED:
            no_longer_forkable(again(home), told)
    assert told > SHARED, "the writers were killed before they did anything"


# --- a broken disk ------------------------------------------------------------------------------------------


def no_longer_forkable(witness: Witness, told: int) -> None:
    """No request makes the witness cosign what contradicts its cosignature of `told` leaves of the honest log."""
    honest, fork = Log(size=told + 12), Log("fork", size=told + 12)
    for old in (0, 1, SHARED, told - 1, told, told + 3):
        for new in (told - 1, told, told + 1, told + 3, told + 11):
            assert isinstance(witness.add_checkpoint(fork.request(old, new), AT), Refused)
        for older in (0, 1, SHARED, told - 1):
            assert isinstance(witness.add_checkpoint(honest.request(old, older), AT), Refused)


class Fault:
    """One step of the next write fails: and what it should have done is either kept, or gone after a power cut."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path, step: str, code: int, *, kept: bool) -> None:
        self.struck = False
        self._code, self._kept, self._folder = code, kept, home
        [self._state] = home.glob("*.checkpoint")
        self._before = self._state.read_bytes()
        self._patch = patch
        getattr(self, step)()

    def _strike(self) -> Any:
        self.struck = True
        raise OSError(self._code, os.strerror(self._code))

    def _break(self, name: str, instead: Callable[..., Any], when: Callable[..., bool]) -> None:
        real = getattr(os, name)

        def broken(*args: Any, **more: Any) -> Any:
            if self.struck or not when(*args):
                return real(*args, **more)
            instead(real, *args, **more)
            return self._strike()

        self._patch.setattr(os, name, broken)

    def lock(self) -> None:
        self._break("open", lambda *_: None, lambda path, *_: Path(path).name == "lock")

    def create(self) -> None:
        def create(real: Any, *args: Any) -> None:
            if self._kept:
                os.close(real(*args))

        self._break("open", create, lambda path, *_: Path(path).suffix == ".new")

    def write(self) -> None:
        def write(real: Any, descriptor: int, content: bytes) -> None:
            real(descriptor, content if self._kept else content[:7])

        self._break("write", write, lambda *_: True)

    def fsync(self) -> None:
        def fsync(real: Any, descriptor: int) -> None:
            if not self._kept:
                os.ftruncate(descriptor, 5)  # what had been written is gone
            real(descriptor)

        self._break("fsync", fsync, lambda descriptor: not stat.S_ISDIR(os.fstat(descriptor).st_mode))

    def rename(self) -> None:
        def replace(real: Any, *paths: Path) -> None:
            if self._kept:
                real(*paths)

        self._break("replace", replace, lambda *_: True)

    def open_folder(self) -> None:
        self._break("open", lambda *_: self._forget(), lambda path, *_: Path(path) == self._folder)

    def fsync_folder(self) -> None:
        self._break(
            "fsync", lambda *_: self._forget(), lambda descriptor: stat.S_ISDIR(os.fstat(descriptor).st_mode)
        )

    def _forget(self) -> None:
        if not self._kept:
            self._state.write_bytes(self._before)  # the rename is undone


STEPS = ["lock", "create", "write", "fsync", "rename", "open_folder", "fsync_folder"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failing_disk_lets_no_cosignature_out_and_no_fork_in(
    witness: Witness, home: Path, monkeypatch: pytest.MonkeyPatch, step: str, kept: bool, code: int
) -> None:
    told = 9
    seen(witness, told)
    with monkeypatch.context() as patch:
        fault = Fault(patch, home, step, code, kept=kept)
        with pytest.raises(Unavailable, match="cannot be read or written") as stopped:
            witness.add_checkpoint(LOG.request(told, 12), AT)
        assert fault.struck
    assert "disk" in stopped.value.reason.remedy
    visible = kept and step in {"rename", "open_folder", "fsync_folder"}
    for one in (witness, again(home)):
        assert one.latest(ORIGIN) == LOG.checkpoint(12 if visible else told)
        no_longer_forkable(one, told)
    # The log asks again, as the answer tells it to, and goes on.
    answer = witness.add_checkpoint(LOG.request(told, 12), AT)
    if visible:
        assert refused(answer, 409) == b"12\n"
        answer = witness.add_checkpoint(LOG.request(12, 12), AT)
    cosigned(answer, LOG.note(12))
    cosigned(again(home).add_checkpoint(LOG.request(12, 13), AT), LOG.note(13))


def test_the_first_cosignature_is_as_durable_as_the_others(
    witness: Witness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to fall back on: a failed first write must not leave a state that cannot be read."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(Unavailable):
            witness.add_checkpoint(LOG.request(0, 3), AT)
    assert again(home).latest(ORIGIN) is None
    seen(again(home), 3)


def test_every_cosignature_is_durable_before_it_leaves(
    witness: Witness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one of a checkpoint that is recorded already: its earlier write may never have become durable."""
    steps: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            steps.append(name)
            real(*arguments)

        return step

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    for old, new in ((0, 3), (3, 3), (3, 8)):
        steps.clear()
        cosigned(witness.add_checkpoint(LOG.request(old, new), AT), LOG.note(new))
        assert steps == ["fsync", "replace", "fsync"]
    steps.clear()
    refused(witness.add_checkpoint(LOG.request(3, 8), AT), 409)
    assert steps == []


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all_of_them(
    witness: Witness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:10]))
    seen(witness, 9)
    assert again(home).latest(ORIGIN) == LOG.checkpoint(9)


def test_a_state_that_cannot_be_read_is_not_taken_for_none(
    witness: Witness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(witness, 9)

    def unreadable(_: Path) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", unreadable)
        with pytest.raises(Unavailable):
            witness.add_checkpoint(FORK.request(0, 9), AT)
    no_longer_forkable(again(home), 9)


# --- a state that cannot be trusted -------------------------------------------------------------------------


def distrusted(home: Path) -> None:
    """The witness says nothing more about this log, to anyone, and says why; other logs go on."""
    for asked in (LOG.request(0, 9), LOG.request(9, 12), FORK.request(0, 12), FORK.request(9, 12)):
        with pytest.raises(Inconsistent, match="cannot be trusted") as stopped:
            again(home).add_checkpoint(asked, AT)
    assert "Never delete the file" in stopped.value.reason.remedy
    other = Log("other", OTHER_KEY)
    cosigned(again(home).add_checkpoint(other.request(0, 3), AT), other.note(3))


@pytest.fixture
def state(witness: Witness) -> Path:
    """The file of a log that was cosigned at 9 leaves."""
    seen(witness, 9)
    return witness._path(ORIGIN)


@pytest.mark.parametrize("content", [b"", b"\n", b"old junk", bytes(400), b"9\n"])
def test_a_state_that_was_overwritten_is_not_started_over(home: Path, state: Path, content: bytes) -> None:
    state.write_bytes(content)
    distrusted(home)


def test_a_truncated_state_is_noticed_wherever_it_ends(home: Path, state: Path) -> None:
    whole = state.read_bytes()
    for length in range(len(whole)):
        state.write_bytes(whole[:length])
        with pytest.raises(Inconsistent):
            again(home).add_checkpoint(LOG.request(9, 12), AT)


def test_an_altered_bit_of_the_state_is_noticed_wherever_it_is(home: Path, state: Path) -> None:
    whole = state.read_bytes()
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        state.write_bytes(altered)
        with pytest.raises(Inconsistent):
            again(home).latest(ORIGIN)


def test_another_logs_state_under_this_logs_name_is_noticed(home: Path, state: Path) -> None:
    other = Log("other", OTHER_KEY)
    one = seen(again(home), 3, other)
    theirs, ours = one._path(OTHER).read_bytes(), state.read_bytes()
    state.write_bytes(theirs)
    with pytest.raises(Inconsistent):
        one.add_checkpoint(LOG.request(3, 9), AT)
    one._path(OTHER).write_bytes(ours)
    with pytest.raises(Inconsistent):
        one.add_checkpoint(other.request(9, 20), AT)


@pytest.mark.parametrize(
    "signers", ["the log alone", "this witness alone", "another witness", "the other log", "of another log"]
)
def test_a_state_this_witness_did_not_write_is_noticed(home: Path, state: Path, signers: str) -> None:
    text = LOG.checkpoint(3).text()
    own, unsigned = cosign(text, SELF, AT), f"{text}\n".encode()
    theirs = text.replace(ORIGIN, OTHER)
    foreign = {
        "the log alone": LOG.note(3),
        "this witness alone": unsigned + own,
        "another witness": LOG.note(3) + cosign(text, ANOTHER, AT),
        "the other log": LOG.note(3, OTHER_KEY) + own,
        "of another log": sign_note(theirs, [KEY]) + cosign(theirs, SELF, AT),
    }
    state.write_bytes(foreign[signers])
    distrusted(home)


def test_a_new_key_does_not_inherit_what_another_key_cosigned(home: Path, state: Path) -> None:
    with pytest.raises(Inconsistent):
        Witness(home, ANOTHER, LOGS).add_checkpoint(LOG.request(9, 12), AT)


def test_what_a_crash_left_half_written_is_neither_read_nor_in_the_way(home: Path, state: Path) -> None:
    state.with_suffix(".new").write_bytes(b"half a checkp" * 100)
    assert again(home).latest(ORIGIN) == LOG.checkpoint(9)
    cosigned(again(home).add_checkpoint(LOG.request(9, 12), AT), LOG.note(12))
    assert again(home).latest(ORIGIN) == LOG.checkpoint(12)


# --- asking -------------------------------------------------------------------------------------------------

Answer = tuple[int, str, bytes]
KEYS = [SELF, ANOTHER, SignerKey.from_seed("witness.example/w3", b"\x66" * 32, SignatureType.COSIGNATURE)]


class Town:
    """Witnesses behind made-up addresses, and what they were asked."""

    def __init__(self, home: Path) -> None:
        self.witnesses = {
            f"https://w{i}.example/prefix": Witness(home / str(i), key, LOGS) for i, key in enumerate(KEYS)
        }
        self.asked: list[tuple[str, int]] = []
        self.answers: dict[str, Callable[[bytes], Answer]] = {}
        """In place of the witness's own."""

    def policy(self, quorum: int = 2) -> Policy:
        listed = [
            ListedWitness(f"w{i}", w.verifier, url) for i, (url, w) in enumerate(self.witnesses.items())
        ]
        group = Group("all", quorum, tuple(w.name for w in listed))
        return Policy((ListedLog(KEY.verifier),), tuple(listed), (group,), "all")

    def post(self, url: str, body: bytes) -> Answer:
        prefix, _, call = url.rpartition("/")
        assert call == "add-checkpoint"
        self.asked.append((prefix, int(body.split()[1])))
        if prefix in self.answers:
            return self.answers[prefix](body)
        answer = self.witnesses[prefix].add_checkpoint(body, AT)
        if isinstance(answer, Cosigned):
            return 200, "text/plain", answer.line
        return answer.status, answer.media_type, answer.body

    def lie(self, number: int, answer: Answer | Callable[[bytes], Answer]) -> str:
        url = list(self.witnesses)[number]
        self.answers[url] = answer if callable(answer) else lambda _: answer
        return url


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def names(note: bytes) -> list[str]:
    """Who cosigned, verified."""
    keys = [key.verifier for key in KEYS]
    return [s.key.name[-2:] for s in open_checkpoint(note, KEY.verifier, keys).witnesses]


def test_everyone_is_asked_and_the_quorum_holds(town: Town) -> None:
    known: dict[str, int] = {}
    note = collect(LOG.note(9), town.policy(3), LOG.prove, known, town.post)
    assert town.policy(3).open(note).checkpoint == LOG.checkpoint(9)
    assert known == {"w0": 9, "w1": 9, "w2": 9}
    # The next time each is asked once, from there.
    town.asked.clear()
    later = collect(LOG.note(20), town.policy(3), LOG.prove, known, town.post)
    assert names(later) == ["w1", "w2", "w3"]
    assert sorted(old for _, old in town.asked) == [9, 9, 9]
    # And the same checkpoint again, to have newer times on it.
    again_ = collect(later, town.policy(3), LOG.prove, known, town.post)
    assert names(again_) == ["w1", "w2", "w3"]
    assert len(again_) == len(later)


@pytest.mark.parametrize("known", [{}, {"w0": 3, "w1": 20}, {"w0": 999, "w2": 1}])
def test_wrong_memories_cost_one_more_request_and_nothing_else(town: Town, known: dict[str, int]) -> None:
    for size, one in zip((4, 9, 20), town.witnesses.values(), strict=True):
        answer = one.add_checkpoint(LOG.request(0, size), AT)
        assert isinstance(answer, Cosigned)
    note = collect(LOG.note(20), town.policy(), LOG.prove, known, town.post)
    assert names(note) == ["w1", "w2", "w3"]
    assert known == {"w0": 20, "w1": 20, "w2": 20}
    assert len(town.asked) <= 6


def test_only_witnesses_with_an_address_are_asked(town: Town) -> None:
    policy = town.policy()
    mute = Policy(
        policy.logs, tuple(ListedWitness(w.name, w.key) for w in policy.witnesses), policy.groups, "all"
    )
    assert collect(LOG.note(9), mute, LOG.prove, {}, town.post) == LOG.note(9)
    assert collect(LOG.note(9), Policy.alone(KEY.verifier), LOG.prove, {}, town.post) == LOG.note(9)
    assert town.asked == []


def test_only_a_checkpoint_the_log_signed_is_sent_out(town: Town) -> None:
    with pytest.raises(LogError):
        collect(LOG.note(9, STRANGER), town.policy(), LOG.prove, {}, town.post)
    assert town.asked == []


def test_the_witnesses_are_asked_at_the_same_time(town: Town) -> None:
    together = threading.Barrier(3, timeout=10)

    def wait(url: str, body: bytes) -> Answer:
        together.wait()
        return town.post(url, body)

    assert names(collect(LOG.note(9), town.policy(), LOG.prove, {}, wait)) == ["w1", "w2", "w3"]


def test_a_witness_that_has_seen_more_stops_a_log_that_was_set_back(town: Town) -> None:
    collect(LOG.note(20), town.policy(), LOG.prove, {}, town.post)
    for known in ({}, {"w0": 9, "w1": 20, "w2": 15}):
        with pytest.raises(Inconsistent, match="has seen `20` leaves, this log holds `9`") as stopped:
            collect(LOG.note(9), town.policy(), LOG.prove, dict(known), town.post)
        assert stopped.value.reason.id == "log.rolled_back"
        assert "new origin" in stopped.value.reason.remedy


def test_a_witness_that_has_seen_another_tree_stops_a_log_that_forked(town: Town) -> None:
    collect(FORK.note(9), town.policy(), FORK.prove, {}, town.post)
    for known in ({}, {"w0": 9, "w1": 9, "w2": 9}):
        with pytest.raises(Inconsistent, match="another tree of `9` leaves") as stopped:
            collect(LOG.note(9), town.policy(), LOG.prove, dict(known), town.post)
        assert stopped.value.reason.id == "log.forked"


def test_a_log_that_was_set_back_and_grew_past_its_witnesses_is_stopped(town: Town) -> None:
    collect(FORK.note(9), town.policy(), FORK.prove, {}, town.post)
    with pytest.raises(Inconsistent, match="has seen `9` leaves that this log does not extend") as stopped:
        collect(LOG.note(20), town.policy(), LOG.prove, {}, town.post)
    assert stopped.value.reason.id == "log.forked"


@pytest.mark.parametrize("lie", [(409, SIZE_TYPE, b"9999\n"), (409, "text/plain", b""), (422, "", b"")])
def test_one_lying_witness_cannot_stop_a_log_that_the_others_vouch_for(town: Town, lie: Answer) -> None:
    town.lie(2, lie)
    note = collect(LOG.note(9), town.policy(), LOG.prove, {}, town.post)
    assert town.policy().open(note).checkpoint.size == 9


def test_a_conflict_without_a_size_means_nothing_before_the_sizes_are_equal(town: Town) -> None:
    town.lie(0, (409, "text/plain", b"busy\n"))
    assert names(collect(LOG.note(9), town.policy(), LOG.prove, {}, town.post)) == ["w2", "w3"]


STRANGERS = cosign(LOG.checkpoint(9).text(), ANOTHER, AT)
LIES: dict[str, tuple[Answer, str]] = {
    "nothing": ((200, "text/plain", b""), "not complete"),
    "junk": ((200, "text/plain", b"\xff\x00\n"), "UTF-8"),
    "somebody else's cosignature": ((200, "text/plain", STRANGERS), "no cosignature by it"),
    "a cosignature of another tree": (
        (200, "text/plain", cosign(FORK.checkpoint(9).text(), SELF, AT)), "does not verify",
    ),
    "a cosignature cut short": ((200, "text/plain", cosign(LOG.checkpoint(9).text(), SELF, AT)[:-9]), ""),
    "a whole checkpoint": ((200, "text/plain", LOG.note(9)), ""),
    "a log's signature": ((200, "text/plain", LOG.note(9).rpartition(b"\n\n")[2]), "no cosignature by it"),
    "a redirect": ((302, "text/plain", b""), "status `302`"),
    "created": ((201, "text/plain", cosign(LOG.checkpoint(9).text(), SELF, AT)), "status `201`"),
    "an error": ((500, "text/html", b"\x1b[2J<h1>"), "status `500`"),
    "not found": ((404, "text/plain", b"what log?\n"), "status `404`"),
    "forbidden": ((403, "text/plain", b"who?\n"), "status `403`"),
    "an unproven refusal": ((422, "text/plain", b"no\n"), "does not extend"),
    "no size": ((409, SIZE_TYPE, b"\n"), "not a size"),
    "a size without its newline": ((409, SIZE_TYPE, b"4"), "not a size"),
    "a padded size": ((409, SIZE_TYPE, b"04\n"), "not a size"),
    "a negative size": ((409, SIZE_TYPE, b"-4\n"), "not a size"),
    "a size of another script": ((409, SIZE_TYPE, "٤\n".encode()), "not a size"),
    "a size no log has": ((409, SIZE_TYPE, b"9999999999999999999\n"), "not a size"),
    "a size and more": ((409, SIZE_TYPE, b"4\n4\n"), "not a size"),
    "always the same size": ((409, SIZE_TYPE, b"4\n"), "another size"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_costs_the_log_its_own_cosignature_and_no_more(
    town: Town, caplog: pytest.LogCaptureFixture, lie: str
) -> None:
    answer, reason = LIES[lie]
    url = town.lie(0, answer)
    known: dict[str, int] = {}
    note = collect(LOG.note(9), town.policy(), LOG.prove, known, town.post)
    assert names(note) == ["w2", "w3"]
    assert town.policy().open(note).checkpoint.size == 9
    assert "w0" not in known
    assert sum(prefix == url for prefix, _ in town.asked) <= ATTEMPTS
    assert "the witness `w0` did not cosign" in caplog.text
    assert reason in caplog.text
    assert "\x1b" not in caplog.text


def test_lines_of_strangers_in_an_answer_are_not_passed_on(town: Town) -> None:
    own = cosign(LOG.checkpoint(9).text(), SELF, AT)
    town.lie(0, (200, "text/plain", cosign(LOG.checkpoint(9).text(), KEYS[2], AT) * 40 + own))
    town.lie(1, (500, "", b""))
    town.lie(2, (500, "", b""))
    note = collect(LOG.note(9), town.policy(), LOG.prove, {}, town.post)
    assert note == LOG.note(9) + own


def test_a_witness_that_does_not_answer_is_a_refusal_but_our_own_fault_is_not(town: Town) -> None:
    def silent(_: bytes) -> Answer:
        raise Unavailable("witness.unanswered", "the address cannot be reached")

    def broken(_: bytes) -> Answer:
        raise ZeroDivisionError

    town.lie(0, silent)
    assert names(collect(LOG.note(9), town.policy(), LOG.prove, {}, town.post)) == ["w2", "w3"]
    town.lie(0, broken)
    with pytest.raises(ZeroDivisionError):
        collect(LOG.note(9), town.policy(), LOG.prove, {}, town.post)


def test_a_log_and_its_witnesses_never_contradict_each_other(town: Town) -> None:
    """Everything collected while sizes jump about is one history: the outsider's check."""
    chance, heads = random.Random(7), list[Checkpoint]()
    known: dict[str, int] = {}
    size = 1
    while size <= 40:
        town.answers = {url: lambda _: (500, "", b"") for url in town.witnesses if chance.random() < 0.4}
        note = collect(LOG.note(size), town.policy(), LOG.prove, known, town.post)
        with suppress(LogError):
            heads.append(town.policy().open(note).checkpoint)
        size += chance.randrange(1, 5)
    assert len(heads) > 3
    for old, new in pairwise(heads):
        verify_consistency(old.size, new.size, LOG.prove(old.size, new.size), old.root, new.root)


# --- over HTTP ----------------------------------------------------------------------------------------------


@pytest.fixture
def web(witness: Witness) -> Iterator[TestClient[Any]]:
    with TestClient(create_witness_app(witness, lambda: AT), raise_server_exceptions=False) as client:
        yield client


def test_the_app_speaks_the_protocol_to_the_letter(web: TestClient[Any]) -> None:
    answer = web.post("/add-checkpoint", content=b"old 0\n\n" + VECTOR)
    assert (answer.status_code, answer.content) == (200, VECTOR_LINE)
    answer = web.post("/add-checkpoint", content=b"old 0\n\n" + VECTOR)
    assert (answer.status_code, answer.content) == (409, b"8\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"
    for body, status in (
        (b"", 400),
        (LOG.request(9, 8), 400),
        (request(0, (), LOG.note(3, STRANGER)), 403),
        (Log(key=STRANGER).request(0, 3), 404),
        (LOG.request(8, 8), 409),
        (LOG.request(8, 9), 422),
        (HEAD + b"x" * MAX_REQUEST_BYTES, 413),
    ):
        answer = web.post("/add-checkpoint", content=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_app_stops_reading_before_the_witness_is_asked(
    web: TestClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Witness, "add_checkpoint")
    answer = web.post("/add-checkpoint", content=b"x" * (MAX_REQUEST_BYTES + 1))
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "application/json", "x"])
def test_the_body_is_taken_raw_whatever_it_is_called(web: TestClient[Any], kind: str) -> None:
    answer = web.post("/add-checkpoint", content=b"old 0\n\n" + VECTOR, headers={"content-type": kind})
    assert answer.content == VECTOR_LINE


def test_the_app_has_one_door(web: TestClient[Any]) -> None:
    assert web.get("/add-checkpoint").status_code == 405
    for path in ("/", "/schema", "/docs", "/../witness.key", "/add-checkpoint/x"):
        assert web.get(path).status_code == 404


def test_trouble_inside_is_503_with_its_reason_and_nothing_else(
    web: TestClient[Any], witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    seen(witness, 9)
    witness._path(ORIGIN).write_bytes(b"damaged")
    with caplog.at_level(logging.CRITICAL):
        answer = web.post("/add-checkpoint", content=LOG.request(9, 12))
    assert answer.status_code == 503
    assert b"cannot be trusted" in answer.content
    assert b"Traceback" not in answer.content


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    logs = [str(KEY.verifier)]
    first = open_witness(tmp_path / "w", "witness.example/w1", logs)
    assert open_witness(tmp_path / "w", "witness.example/w1", logs).verifier == first.verifier
    assert stat.S_IMODE((tmp_path / "w" / "witness.key").stat().st_mode) == 0o600
    assert open_witness(tmp_path / "v", "witness.example/w1", logs).verifier != first.verifier
    with pytest.raises(LedgerError):
        open_witness(tmp_path / "w", "witness.example/w1", ["not a key"])
    with pytest.raises(LedgerError):
        open_witness(tmp_path / "w", "a name with spaces", logs)


def test_a_key_whose_memory_is_lost_does_not_start_again(tmp_path: Path) -> None:
    home, logs = tmp_path / "w", [str(KEY.verifier)]
    one = open_witness(home, "witness.example/w1", logs)
    assert isinstance(one.add_checkpoint(LOG.request(0, 9), AT), Cosigned)
    (home / "witness").rename(home / "elsewhere")
    with pytest.raises(Inconsistent, match="is not") as stopped:
        open_witness(home, "witness.example/w1", logs)
    assert "retire" in stopped.value.reason.remedy
    # A name under which nothing was cosigned does not take over what another one cosigned.
    (home / "elsewhere").rename(home / "witness")
    with pytest.raises(Inconsistent):
        open_witness(home, "witness.example/other", logs).latest(ORIGIN)


# -- over real sockets ---------------------------------------------------------------------------------------

SERVE = """
import sys
from pathlib import Path
from gateway.witness import run_witness

home, port, *logs = sys.argv[1:]
run_witness(Path(home), "witness.example/served", logs, "127.0.0.1", int(port), stop_after_s=60)
"""


@contextmanager
def served(home: Path) -> Iterator[tuple[VerifierKey, str, subprocess.Popen[str]]]:
    """A witness in a process of its own: its key, its address and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(home), str(port), str(KEY.verifier)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        key = VerifierKey.parse(process.stdout.readline().strip())
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield key, f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
        process.stderr.close()


def test_a_served_witness_cosigns_and_remembers_across_restarts(tmp_path: Path) -> None:
    known: dict[str, int] = {}
    with served(tmp_path) as (key, url, process):
        policy = Policy.parse(
            f"log {KEY.verifier}\nwitness here {key} {url}/\nwitness gone {ANOTHER.verifier} {url}/gone\nquorum here\n".encode()
        )
        opened = policy.open(collect(LOG.note(9), policy, LOG.prove, known))
        [signature] = opened.witnesses
        assert signature.key == key
        assert signature.at is not None
        assert abs(signature.at - datetime.now(UTC)) < timedelta(minutes=1)
        assert known == {"here": 9}
        # A request that is too large, with and without saying so beforehand.
        huge = HEAD + b"x" * (2 * MAX_REQUEST_BYTES)
        chunks = [huge[i : i + 65536] for i in range(0, len(huge), 65536)]
        for content in (huge, iter(chunks)):
            with suppress(httpx.TransportError):  # closed before we had sent everything
                answer = httpx.post(f"{url}/add-checkpoint", content=content, trust_env=False)
                assert answer.status_code == 413
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with served(tmp_path) as (again_key, url, _):
        assert again_key == key
        policy = Policy.parse(f"log {KEY.verifier}\nwitness here {key} {url}\nquorum here\n".encode())
        assert policy.open(collect(LOG.note(20), policy, LOG.prove, {})).checkpoint.size == 20
        with pytest.raises(Inconsistent):
            collect(LOG.note(9), policy, LOG.prove, {})
        with pytest.raises(Inconsistent):
            collect(FORK.note(20), policy, FORK.prove, {})


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and then does as it likes. Its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def one(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(65536)
                    behave(connection)
                    # A server that closes with unread bytes resets the connection, and its answer with it.
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass

        def run() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=one, args=[connection]))
                threads[-1].start()

        threads = [threading.Thread(target=run)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in tuple(threads):
                thread.join(10)


def says(head: str, body: bytes = b"", length: int | None = None) -> Callable[[socket.socket], None]:
    sized = f"content-length: {len(body) if length is None else length}"
    return lambda c: c.sendall(f"HTTP/1.1 {head}\r\n{sized}\r\n\r\n".encode() + body)


def test_post_brings_back_status_type_and_body() -> None:
    with server(says("409 Conflict\r\ncontent-type: Text/X.Tlog.Size ; x=y", b"8\n")) as url:
        assert post(f"{url}/add-checkpoint", b"old 0\n") == (409, "Text/X.Tlog.Size ; x=y", b"8\n")


def test_post_does_not_follow_redirects() -> None:
    """A witness must not choose what else on our network is asked."""
    reached: list[bytes] = []
    with (
        server(lambda _: reached.append(b"x")) as inside,
        server(says(f"307 Go\r\nlocation: {inside}/")) as url,
    ):
        assert post(url, b"old 0\n")[0] == 307
    assert reached == []


@pytest.mark.parametrize(
    "behave",
    [
        says("200 OK", b"x" * (MAX_RESPONSE_BYTES + 1)),
        says("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b" + b"x" * MAX_RESPONSE_BYTES),
        lambda c: [c.sendall(s) for s in [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 400]],
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000),
    ],
    ids=["declared", "packed", "endless", "in its head"],
)
def test_post_reads_no_more_than_it_must(behave: Callable[[socket.socket], None]) -> None:
    with server(behave) as url, pytest.raises(Unavailable):
        post(url, b"old 0\n")


def test_post_does_not_unpack_what_it_did_not_ask_for() -> None:
    with server(says("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b")) as url:
        assert post(url, b"old 0\n")[2] == b"\x1f\x8b"


def _hang(connection: socket.socket) -> None:
    connection.recv(1)


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)


def _drip_head(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"H" if not _ else b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "behave",
    [_hang, _drip, _drip_head, says("200 OK", b"x", length=9)],
    ids=["hangs", "drips", "drips its head", "stops"],
)
def test_post_ends_in_time(behave: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.4)
    with server(behave) as url:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            post(url, b"old 0\n")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nowhere",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://127.0.0.1:1/",
        "http://[::1",
        "http://\udcff/",
        "http://a b/",
    ],
)
def test_post_to_an_address_that_is_none_is_a_refusal(url: str) -> None:
    with pytest.raises(Unavailable):
        post(url, b"old 0\n")


def test_post_does_not_go_where_the_environment_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with server(says("200 OK", b"here")) as url:
        assert post(url, b"")[2] == b"here"


def test_liars_on_the_network_delay_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One honest witness among five that hang, redirect, swell, break off and are not there."""
    monkeypatch.setattr(module, "TIMEOUT_S", 0.4)
    honest = Witness(tmp_path, SELF, LOGS)

    def answer(connection: socket.socket) -> None:
        # Proof and checkpoint fit into one packet with their head, or come as the next.
        got = says("200 OK", honest_line)
        got(connection)

    cosigned_ = honest.add_checkpoint(LOG.request(0, 9), AT)
    assert isinstance(cosigned_, Cosigned)
    honest_line = cosigned_.line
    with (
        server(answer) as good,
        server(_hang) as hangs,
        server(says("302 Found\r\nlocation: /")) as redirects,
        server(says("200 OK", b"x" * 200_000)) as swells,
        server(lambda c: c.sendall(b"HTTP/1.1 2")) as breaks,
    ):
        urls = [good, hangs, redirects, swells, breaks, "http://127.0.0.1:1"]
        keys = [
            SELF,
            *(SignerKey.from_seed(f"w{i}", bytes([i]) * 32, SignatureType.COSIGNATURE) for i in range(5)),
        ]
        listed = [
            ListedWitness(f"w{i}", k.verifier, u) for i, (k, u) in enumerate(zip(keys, urls, strict=True))
        ]
        policy = Policy((ListedLog(KEY.verifier),), tuple(listed), (), "w0")
        began = time.monotonic()
        assert names(collect(LOG.note(9), policy, LOG.prove, {})) == ["w1"]
        assert time.monotonic() - began < 3
