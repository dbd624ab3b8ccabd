"""What a person would rather not be shown with, in their own words: what of it can be looked for in a prompt.

    "no alcohol, and please no swimming pools"  →  {alcohol} or {swimming, pools}

Commas, `or` and `and` separate one thing from the next; the words of one thing belong together. Words that every
sentence has tell nothing. A preference that says nothing else is refused when it is signed: the person would believe
in it, and nobody could keep to it.
"""

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_EMPTY = frozenset(
    _WORD.findall(
        # English
        "no not never nothing none nobody without any anything anyone with of the a an in on at to for from by into about"
        " around near next beside behind front background my me i mine please dont don doesnt t s do does like likes"
        " showing shown show shows that this which is are be being been am was were it its them they there where when"
        " while if kind kinds sort sorts type types thing things stuff something content scene scenes video videos clip"
        " clips picture pictures image images photo photos prompt want wants wish would should rather prefer see seen"
        " appear appears appearing depict depicted depicting also too very really ever etc such as all every wearing"
        " holding using having have has get got make made"
        # German
        " kein keine keinen keinem keiner keines nicht nie niemals nichts ohne mit von der die das den dem des ein eine"
        " einen einem einer eines im aus bei zu zum zur fur uber unter neben vor hinter mein meine meinen meiner ich mich"
        " mir bitte zeigen zeigt gezeigt sein ist sind werden wird wurde mochte will lieber sehen gesehen arten sache"
        " sachen ding dinge etwas irgendwas irgendwelche bild bilder bildern szene szenen alle alles jede jeder jedes"
        " auch sehr wie usw bzw auf"
        # The no of other languages
        " sans pas aucun aucune ningun ninguna senza nessun nessuna geen zonder sem nenhum bez без нет не никаких"
    )
)
_APART = re.compile(r"[,;/|&+\n.!?]|\b(?:and|or|nor|und|oder|noch|sowie)\b")
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Letters of scripts that leave no space between words, or write endings to them."""


def words(text: str) -> list[str]:
    """Its words in lower case, without the marks on their letters."""
    return _WORD.findall(_folded(text))


def telling(preference: str) -> list[frozenset[str]]:
    """The things it names, each by its words; none, where there is nothing to look for."""
    parts = (words(part) for part in _APART.split(_folded(preference)))
    found = (frozenset(word for word in part if word not in _EMPTY and _lookable(word)) for part in parts)
    return [part for part in found if part]


def _lookable(word: str) -> bool:
    return len(word) > 1 or UNSPACED.match(word) is not None


def _folded(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", "".join(c for c in apart if unicodedata.category(c) != "Mn"))
