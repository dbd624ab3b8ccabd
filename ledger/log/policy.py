"""Which logs one believes, and how many of which witnesses must have seen what a log says.

Implements C2SP tlog-policy; keys are vkeys of Ed25519, type 01 for a log and 04 for a witness.

    # the log, and two of three strangers who watch it
    log ledger.example/likeness+c585b805+AdBKsjJ0K7SrOhNovUYV5ObQIkq3GgFrr4UgozLJd4c3 https://ledger.example
    witness one   witness.example/w1+e0cd2864+BKCapfR6Z1mAL/lV+NwtKhSlyZ0jvpf4ZBJ/+Tg0VaTw https://w1.example
    witness two   witness.example/w2+… https://w2.example
    witness three witness.example/w3+…
    group strangers 2 one two three
    quorum strangers

:meth:`Policy.open` guarantees that one of the logs signed a checkpoint of its own, that no signature by a key of
the policy is false, and that the quorum holds. A log that changes its key is listed twice under one name. Names
are octets without meaning outside the file; two names that look alike are two names. A URL is carried, never
judged: whoever posts to it decides.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger.errors import LogError
from ledger.log.note import (
    Checkpoint,
    SignatureType,
    SignedCheckpoint,
    VerifierKey,
    open_checkpoint,
    open_note,
)

MAX_LISTED = 32
"""Logs, witnesses and groups, each: 32 logs and 32 witnesses are all the signatures a note can hold."""
MAX_POLICY_BYTES = 256 * 1024
NONE = "none"
"""The quorum that asks for no witness."""

_LINE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}", flags=re.ASCII)
_REMEDY = "correct the policy file"


@dataclass(frozen=True, slots=True)
class ListedLog:
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class ListedWitness:
    name: str
    """The policy's own name for it, not the one in its key. Octets that are not UTF-8 are lone surrogates."""
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses what at least `threshold` of `members` witness, each a witness or an earlier group."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Made by :meth:`parse` or :meth:`alone`; in `groups`, members stand before the groups they belong to."""

    logs: tuple[ListedLog, ...]
    witnesses: tuple[ListedWitness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE

    @classmethod
    def parse(cls, text: bytes) -> "Policy":
        """Raises LogError that names the line."""
        return _parse(text)

    @classmethod
    def alone(cls, log: VerifierKey) -> "Policy":
        """That log and no witness."""
        return cls((ListedLog(log),))

    def witnessed(self, cosigned: Iterable[VerifierKey]) -> bool:
        """Whether the quorum holds when the witnesses with these keys, and no others, have cosigned."""
        keys = set(cosigned)
        held = {NONE, *(witness.name for witness in self.witnesses if witness.key in keys)}
        for group in self.groups:
            if sum(member in held for member in group.members) >= group.threshold:
                held.add(group.name)
        return self.quorum in held

    def missing(self, cosigned: Iterable[VerifierKey]) -> tuple[str, ...]:
        """The witnesses that count towards the quorum and have not cosigned, by name."""
        keys, counting = set(cosigned), {self.quorum}
        for group in reversed(self.groups):
            if group.name in counting:
                counting.update(group.members)
        return tuple(w.name for w in self.witnesses if w.name in counting and w.key not in keys)

    def signed(self, note: bytes) -> SignedCheckpoint:
        """A checkpoint that one of the logs signed, whether or not the quorum holds. Raises LogError."""
        logs, witnesses = [log.key for log in self.logs], [witness.key for witness in self.witnesses]
        opened = open_note(note, [*logs, *witnesses])
        origin = Checkpoint.parse(opened.text).origin
        # A log speaks for itself only: its signature below another log's tree is no statement of that log's.
        signers = [s.key for s in opened.signatures if s.key in logs and s.key.name == origin]
        if not signers:
            raise LogError("log.unknown", f"no log of the policy signed the checkpoint of `{origin}`")
        return open_checkpoint(note, signers[0], witnesses)

    def open(self, note: bytes) -> SignedCheckpoint:
        """A checkpoint that one of the logs signed and the quorum witnessed. Raises LogError."""
        found = self.signed(note)
        cosigned = [signature.key for signature in found.witnesses]
        if not self.witnessed(cosigned):
            names = ", ".join(f"`{shown(name)}`" for name in self.missing(cosigned))
            sentence = f"the quorum `{shown(self.quorum)}` does not hold: no cosignature by {names}"
            raise LogError(
                "log.quorum", sentence, "ask the log for a checkpoint that more witnesses cosigned"
            )
        return found


def shown(name: str) -> str:
    """A name as text that anything can print: octets that are no characters, and what steers a terminal, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


# --- reading a file -----------------------------------------------------------------------------------------


@dataclass
class _Draft:
    """What the lines so far define."""

    logs: list[ListedLog] = field(default_factory=list)
    witnesses: list[ListedWitness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quorum: str | None = None
    defined: set[str] = field(default_factory=lambda: {NONE})
    grouped: set[str] = field(default_factory=set)

    def read(self, line: bytes) -> None:
        """Raises LogError; the caller adds which line it was."""
        if _LINE.fullmatch(line) is None:
            raise _wrong("holds a control character")
        # Only spaces and tabs are left to split at; str.split() would also split at spaces of Unicode, and
        # a name would then mean something else to whoever reads octets.
        match [word.decode("utf-8", "surrogateescape") for word in line.split()]:
            case []:
                pass
            case [first, *_] if first.startswith("#"):
                pass
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(vkey, *url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, *url)
            case ["group", name, threshold, *members]:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._quorum(name)
            case ["log" | "witness" | "group" | "quorum" as word, *_]:
                raise _wrong(f"has too few or too many words after `{word}`")
            case [word, *_]:
                raise _wrong(f"begins with `{word}`, which is no part of a policy")

    def _log(self, vkey: str, url: str = "") -> None:
        key = _key(vkey, SignatureType.NOTE, "log")
        if any(log.key.public == key.public for log in self.logs):
            raise _wrong(f"lists the key of the log `{key.name}` a second time")
        self.logs.append(ListedLog(key, url))
        _limit(self.logs, "logs")

    def _witness(self, name: str, vkey: str, url: str = "") -> None:
        key = _key(vkey, SignatureType.COSIGNATURE, "witness")
        # One key under two names would be one witness that counts twice.
        if any(witness.key.public == key.public for witness in self.witnesses):
            raise _wrong(f"lists the key of the witness `{name}` a second time")
        self._define(name)
        self.witnesses.append(ListedWitness(name, key, url))
        _limit(self.witnesses, "witnesses")

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        if not members:
            raise _wrong(f"defines the group `{name}` without members")
        for member in members:
            self._member(member)
        self._define(name)
        self.groups.append(Group(name, _threshold(threshold, len(members)), tuple(members)))
        _limit(self.groups, "groups")

    def _member(self, name: str) -> None:
        if name == NONE:
            raise _wrong("lists `none` as a member of a group")
        if name not in self.defined:
            raise _wrong(f"uses the name `{name}`, which no line before it defines")
        # INVARIANT: the groups are a forest, so each witness counts in one way only.
        if name in self.grouped:
            raise _wrong(f"lists `{name}`, which is a member of a group already")
        self.grouped.add(name)

    def _quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise _wrong("is a second quorum")
        if name not in self.defined:
            raise _wrong(f"uses the name `{name}`, which no line before it defines")
        self.quorum = name

    def _define(self, name: str) -> None:
        if name in self.defined:
            raise _wrong(f"defines the name `{name}`, which is defined already")
        self.defined.add(name)


def _parse(text: bytes) -> Policy:
    if len(text) > MAX_POLICY_BYTES:
        raise LogError("log.policy", f"a policy has at most `{MAX_POLICY_BYTES}` bytes", _REMEDY)
    *lines, rest = text.split(b"\n")
    draft = _Draft()
    for number, line in enumerate([*lines, rest], 1):
        try:
            draft.read(line)
            if number > len(lines) and line:
                # The rest of a file that was cut short: `quorum all-of-them` could have become `quorum all`.
                raise _wrong("does not end in a newline")
        except LogError as error:
            sentence = f"line `{number}` of the policy {error.reason.sentence}"
            raise LogError("log.policy", shown(sentence), _REMEDY) from error
    if draft.quorum is None:
        sentence = f"none of the `{len(lines)}` lines of the policy is its quorum"
        raise LogError("log.policy", sentence, "add a line `quorum none`, or the one that is meant")
    return Policy(tuple(draft.logs), tuple(draft.witnesses), tuple(draft.groups), draft.quorum)


def _key(vkey: str, kind: SignatureType, of: str) -> VerifierKey:
    try:
        vkey.encode()
        key = VerifierKey.parse(vkey)
    except UnicodeEncodeError as error:
        raise _wrong(f"gives the {of} a key whose name is not UTF-8") from error
    except LogError as error:
        raise _wrong(f"gives the {of} a key that cannot be read: {error.reason.sentence}") from error
    if key.type is not kind:
        raise _wrong(f"gives the {of} `{key.name}` a key of type `{key.type:02}`, not `{kind:02}`")
    return key


def _threshold(word: str, members: int) -> int:
    named = {"any": 1, "all": members}
    if word in named:
        return named[word]
    if _THRESHOLD.fullmatch(word) is None or int(word) > members:
        raise _wrong(f"asks for `{word}` of `{members}` members")
    return int(word)


def _limit(listed: list[ListedLog] | list[ListedWitness] | list[Group], what: str) -> None:
    if len(listed) > MAX_LISTED:
        raise _wrong(f"is one more than the `{MAX_LISTED}` {what} a policy may have")


def _wrong(predicate: str) -> LogError:
    return LogError("log.policy", predicate, _REMEDY)
