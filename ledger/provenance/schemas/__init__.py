"""JSON Schemas of what our manifests and verdicts say of a clip, for whoever reads them with tools of their own.

Served at `/schemas/NAME/VERSION`. A version is never changed once it was released: what says `v1` is valid under v1 for
ever.
"""

import json
from functools import cache
from importlib import resources
from typing import Any, Final

NAMES: Final = ("consent", "generation")
"""Of assertions: `org.countersign.NAME`."""
VERSIONS: Final = {"consent": "v1", "generation": "v1", "verdict": "v2"}


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of that name, as it is now. Raises KeyError for another name."""
    found: dict[str, Any] = json.loads(
        resources.files(__name__).joinpath(f"{name}-{VERSIONS[name]}.json").read_bytes()
    )
    return found
