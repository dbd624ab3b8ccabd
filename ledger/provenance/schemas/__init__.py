"""JSON Schemas of what our manifests say of a clip, for whoever reads them with tools of their own.

Served at `/schemas/NAME/v1`. A version is never changed once it was released: what says `v1` is valid under v1 for ever.
"""

import json
from functools import cache
from importlib import resources
from typing import Any, Final

NAMES: Final = ("consent", "generation")


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of the assertion `org.countersign.NAME`. Raises KeyError for another name."""
    if name not in NAMES:
        raise KeyError(name)
    found: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}-v1.json").read_bytes())
    return found
