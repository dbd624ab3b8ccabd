"""The vocabulary of the policies as a tree: which types there are, what they hold, and what can be asked.

    entity Grant = {
      @doc("the number of uses made of the grant")
      uses: Long
    };

    action "use_likeness" in [Action::"making", Action::"depicting"] appliesTo {
      principal: [App],
      resource: [Cameo],
      context: {
        request: Request
      }
    };

Read from the one form that Cedar itself writes (:attr:`~safety.policy.cedar.Policies.schema`), so a schema is known
to be valid before it gets here. Nothing in it is lost: `str()` of the tree is the same schema again. What the tree
has no place for is refused (Unavailable, `policy.unreadable`), because a proof about half a vocabulary proves nothing:

1. attributes are `Bool`, `Long`, `String`, `Set<String>`, a named record or an entity type;
2. records have names; only a context is one without;
3. no entity is in another, has tags or is an enumeration; there are no namespaces;
4. no annotation but an attribute's `@doc`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ledger.errors import Unavailable

PLAIN = ("Bool", "Long", "String", "Set<String>")


@dataclass(frozen=True, slots=True)
class Attribute:
    type: str
    """One of :data:`PLAIN`, or the name of a record or entity type."""
    optional: bool = False
    doc: str = ""
    """A clause for a Bool, what holds when it is true; a noun for anything else."""


Record = Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Action:
    """What can be asked: who may ask, about what, with which context."""

    parents: tuple[str, ...]
    """The groups it is declared in."""
    groups: frozenset[str]
    """Those, and the groups that they are in."""
    principals: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str]
    """The type of each attribute."""


@dataclass(frozen=True)
class Schema:
    records: Mapping[str, Record]
    entities: Mapping[str, Record]
    actions: Mapping[str, Action]
    groups: Mapping[str, tuple[str, ...]]
    """Actions that only others are in: nobody can ask for them. With the groups they are declared in."""

    @classmethod
    def parse(cls, text: str) -> "Schema":
        """The tree of a schema as Cedar writes it. Raises Unavailable for one that is outside the fragment."""
        return _Reader(text).schema()

    @cached_property
    def types(self) -> Mapping[str, Mapping[str, str]]:
        """For each record and entity type, the type of each attribute."""
        every = {**self.records, **self.entities}
        return {name: {attr: a.type for attr, a in record.items()} for name, record in every.items()}

    def record(self, kind: str) -> Record:
        """What a record or entity type holds; nothing, for a type that is neither."""
        return self.records.get(kind) or self.entities.get(kind) or {}

    def attribute(self, kind: str, name: str) -> Attribute | None:
        return self.record(kind).get(name)

    def doc(self, kind: str, name: str) -> str:
        """What an attribute states, in English; its bare name where the schema does not say."""
        attribute = self.attribute(kind, name)
        return (attribute.doc if attribute is not None else "") or f"`{name}`"

    def __str__(self) -> str:
        """As Cedar reads it."""
        parts = [f"type {name} = {_braced(record)};" for name, record in self.records.items()]
        parts += [f"entity {name} = {_braced(record)};" for name, record in self.entities.items()]
        parts += [f"action {_quoted(name)}{_within(parents)};" for name, parents in self.groups.items()]
        parts += [
            f"action {_quoted(name)}{_within(a.parents)} appliesTo {{ principal: [{', '.join(a.principals)}],"
            f" resource: [{', '.join(a.resources)}],"
            f" context: {_braced({n: Attribute(kind) for n, kind in a.context.items()})} }};"
            for name, a in self.actions.items()
        ]
        return "\n".join(parts)


def _braced(record: Record) -> str:
    written = (
        (f"@doc({_quoted(a.doc)}) " if a.doc else "") + f"{name}{'?' if a.optional else ''}: {a.type}"
        for name, a in record.items()
    )
    return f"{{ {', '.join(written)} }}"


def _within(parents: tuple[str, ...]) -> str:
    return f" in [{', '.join(f'Action::{_quoted(name)}' for name in parents)}]" if parents else ""


def _quoted(text: str) -> str:
    return (
        '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{{{ord(c):x}}}" for c in text) + '"'
    )


# Reading -----------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|::|[A-Za-z_][A-Za-z0-9_]*|[^\s])')
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Reader:
    """One pass over the tokens. INVARIANT: every token is taken for exactly one thing, or the text is refused."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self._records: dict[str, Record] = {}
        self._entities: dict[str, Record] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._asked: dict[str, tuple[tuple[str, ...], tuple[str, ...], Record]] = {}

    def schema(self) -> Schema:
        while self._at < len(self._tokens):
            match self._take():
                case "type":
                    name = self._name()
                    self._expect("=")
                    self._records[name] = self._record()
                case "entity":
                    name = self._name()
                    self._entities[name] = self._record() if self._taken("=") else {}
                case "action":
                    self._action()
                case other:
                    raise _refused(other)
            self._expect(";")
        self._check_types()
        return Schema(self._records, self._entities, self._actions(), self._groups())

    def _action(self) -> None:
        name = self._text()
        self._parents[name] = tuple(self._listed(self._parent)) if self._taken("in") else ()
        if self._taken("appliesTo"):
            self._expect("{", "principal", ":")
            principals = tuple(self._listed(self._name))
            self._expect(",", "resource", ":")
            resources = tuple(self._listed(self._name))
            self._expect(",", "context", ":")
            context = self._record()
            self._expect("}")
            self._asked[name] = principals, resources, context

    def _parent(self) -> str:
        self._expect("Action", "::")
        return self._text()

    def _record(self) -> Record:
        self._expect("{")
        record: dict[str, Attribute] = {}
        while not self._taken("}"):
            if record:
                self._expect(",")
            doc = ""
            if self._taken("@"):
                self._expect("doc", "(")
                if not (doc := self._text()):
                    raise _refused('@doc("")')
                self._expect(")")
            name = self._name()
            optional = self._taken("?")
            self._expect(":")
            record[name] = Attribute(self._type(), optional, doc)
        return record

    def _type(self) -> str:
        name = self._name()
        if name == "Set":
            self._expect("<", "String", ">")
            return "Set<String>"
        return name

    def _check_types(self) -> None:
        named = {*self._records, *self._entities}
        if shadowing := named & {*PLAIN, "Set"}:
            raise _refused(min(shadowing))
        contexts = [context for _, _, context in self._asked.values()]
        for record in (*self._records.values(), *self._entities.values(), *contexts):
            for attribute in record.values():
                if attribute.type not in named and attribute.type not in PLAIN:
                    raise _refused(attribute.type)
        for context in contexts:
            for name, attribute in context.items():
                if attribute != Attribute(attribute.type):
                    raise _refused(f"{name}?" if attribute.optional else "@doc")

    def _actions(self) -> dict[str, Action]:
        return {
            name: Action(
                self._parents[name],
                self._above(name),
                principals,
                resources,
                {attr: a.type for attr, a in context.items()},
            )
            for name, (principals, resources, context) in self._asked.items()
        }

    def _groups(self) -> dict[str, tuple[str, ...]]:
        return {name: parents for name, parents in self._parents.items() if name not in self._asked}

    def _above(self, name: str) -> frozenset[str]:
        # Cedar has refused a group that is in itself.
        parents = self._parents[name]
        return frozenset(parents).union(*map(self._above, parents))

    # Tokens --------------------------------------------------------------------------------------------

    def _take(self) -> str:
        if self._at == len(self._tokens):
            raise _refused("the end of the text")
        self._at += 1
        return str(self._tokens[self._at - 1])

    def _taken(self, token: str) -> bool:
        there = self._tokens[self._at : self._at + 1] == [token]
        self._at += there
        return there

    def _expect(self, *tokens: str) -> None:
        for token in tokens:
            if (found := self._take()) != token:
                raise _refused(found)

    def _name(self) -> str:
        if not _NAME.fullmatch(name := self._take()):
            raise _refused(name)
        return name

    def _text(self) -> str:
        if not (token := self._take()).startswith('"'):
            raise _refused(token)
        return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), token[1:-1])

    def _listed(self, one: Callable[[], str]) -> Iterator[str]:
        self._expect("[")
        while not self._taken("]"):
            yield one()
            self._taken(",")


def _refused(token: str) -> Unavailable:
    return Unavailable(
        "policy.unreadable",
        f"the policy set cannot be used: the schema uses `{token}` where this service knows no meaning for it",
        "write the schema with named records, entity types and the types `Bool`, `Long`, `String`, `Set<String>`",
    )
