"""Lists of known prohibited pictures, and what the log says of them.

The lists are one subject of the log (:data:`SUBJECT`), as a person is: every change of one is an entry on its list, in
order and with none left out, and the key that seals the hashes is its own.
"""

from dataclasses import asdict
from typing import Final, NamedTuple

from sqlalchemy import delete, insert, select
from sqlmodel import SQLModel

from ledger.keys import seal, unseal
from ledger.store.journal import Held, Journal
from ledger.store.records import HashList

SUBJECT: Final = "hash_lists"
_LISTS = SQLModel.metadata.tables["hash_list"]


class ListsState(NamedTuple):
    """Differs whenever a list does. recorded: how many changes the log has seen."""

    recorded: int
    lists: tuple[tuple[str, int, str], ...]
    """(name, place in the log, SHA-256) of each."""


class HashLists(Journal):
    """The part of a transaction that is about lists of known prohibited pictures."""

    def hash_lists(self) -> list[HashList]:
        """Every list that is in the rows, by name."""
        columns = [_LISTS.c[name] for name in HashList.__dataclass_fields__]
        return [HashList(*row) for row in self._rows().execute(select(*columns).order_by(_LISTS.c.name))]

    def hash_list_keeper(self) -> Held:
        """Whose the entries are, and the key; there from the first list on."""
        row = self._key_row(SUBJECT)
        return self.new_subject(SUBJECT) if row is None else self._held(SUBJECT, row)

    def hash_lists_state(self) -> ListsState:
        row = self._key_row(SUBJECT)
        query = select(_LISTS.c.name, _LISTS.c.place, _LISTS.c.sha256).order_by(_LISTS.c.name)
        found = tuple((name, place, sha256) for name, place, sha256 in self._rows().execute(query))
        return ListsState(row.next_n if row is not None else 0, found)

    def put_hash_list(self, one: HashList, content: bytes) -> None:
        """Keep a list in place of the one of its name, whose hashes are destroyed."""
        self.drop_hash_list(one.name)
        sealed = seal(self.hash_list_keeper().key, content, context=_context(one))
        self.session.execute(insert(_LISTS), {**asdict(one), "sealed": sealed})

    def drop_hash_list(self, name: str) -> None:
        self.session.execute(delete(_LISTS).where(_LISTS.c.name == name))

    def hash_list_content(self, one: HashList) -> bytes:
        """What :meth:`put_hash_list` kept. Raises Unavailable for what does not open with the lists' key."""
        query = select(_LISTS.c.sealed).where(_LISTS.c.name == one.name)
        sealed: bytes = self._rows().execute(query).scalar_one()
        return unseal(self.held(SUBJECT).key, sealed, context=_context(one))


def _context(one: HashList) -> str:
    return f"hash_list/{one.name}/{one.version}"
