"""What the pages say, in English and German: one catalogue each, with the same keys and the same placeholders.

A key that is missing is a fault of ours and raises: a page never shows a key, nor another language by accident.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
CATALOGUES = Path(__file__).parent.parent / "pages"
COUNTRIES = (
    *("AT", "AU", "BE", "BR", "CA", "CH", "CZ", "DE", "DK", "ES", "FI", "FR", "GB", "GR"),
    *("IE", "IN", "IT", "JP", "NL", "NO", "NZ", "PL", "PT", "SE", "US", "ZA"),
)
"""What the permission form offers; a permission made elsewhere may name any other."""
Translate = Callable[..., str]


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    found: dict[str, str] = json.loads((CATALOGUES / f"{language}.json").read_text("utf-8"))
    return found


def translator(language: Language) -> Translate:
    """`t(key, **values)`: a text with its values filled in. `count` picks `key.one` where it is 1 and there is one."""
    texts = catalogue(language)

    def t(key: str, **values: object) -> str:
        if values.get("count") == 1 and f"{key}.one" in texts:
            key = f"{key}.one"
        text = texts[key]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    return t


def negotiated(accept: str) -> Language:
    """The best of our languages for an `Accept-Language` (RFC 9110 §12.5.4); English where none fits."""
    best: tuple[float, Language] = (0.0, "en")
    for part in accept[:400].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        for language in LANGUAGES:
            if tag.lower().split("-")[0] == language and quality > best[0]:
                best = quality, language
    return best[1]


def region(accept: str) -> str:
    """The country in an `Accept-Language`, if it is one that the form offers; else nothing."""
    for part in accept[:400].split(","):
        country = part.partition(";")[0].strip().partition("-")[2].upper()
        if country in COUNTRIES:
            return country
    return ""


def day(iso: str, language: Language) -> str:
    """`1 March 2026`, `1. März 2026`."""
    moment = datetime.fromisoformat(iso).astimezone(UTC)
    return translator(language)(
        "date", day=moment.day, month=catalogue(language)[f"month.{moment.month}"], year=moment.year
    )


def moment(iso: str, language: Language) -> str:
    """`1 March 2026, 14:05 UTC`; the browser writes it again in its own time zone."""
    at = datetime.fromisoformat(iso).astimezone(UTC)
    return f"{day(iso, language)}, {at:%H:%M} UTC"


def country(code: str, language: Language) -> str:
    """A country's name; its code, where we have no name for it."""
    return catalogue(language).get(f"country.{code}", code)


def spoken(text: str) -> str:
    """A reason's sentence as it stands on a page: it begins large, ends with a stop, and needs no backticks."""
    plain = text.replace("`", "")
    return f"{plain[:1].upper()}{plain[1:]}{'' if plain.endswith(('.', '?', '!')) else '.'}" if plain else ""
