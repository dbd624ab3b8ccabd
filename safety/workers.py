"""The worker processes of the checks: :mod:`ledger.workers`, whose refusals are this package's own.

    workers.shared().call(faces.find_faces, picture)

What a function raises of :mod:`safety.errors` and :mod:`ledger.errors` is raised again; where there is no answer,
:class:`~safety.errors.CheckUnavailable`, which denies.
"""

import atexit
from functools import lru_cache
from typing import ClassVar

from ledger import workers
from ledger.errors import LedgerError
from safety.errors import CheckUnavailable, SafetyError


class Workers(workers.Workers):
    unavailable: ClassVar[workers.Refusal] = CheckUnavailable
    trees: ClassVar[tuple[type[Exception], ...]] = (SafetyError, LedgerError)


@lru_cache(maxsize=1)
def shared() -> Workers:
    """Those of this process, which keep their weights."""
    found = Workers()
    atexit.register(found.close)
    return found
