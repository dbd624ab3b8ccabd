"""What a grant says, in the words of the person who signs it: one sentence, from the very fields that are signed.

Nothing is said that is not in the signed bytes, but the name of whoever is named there by an id; each term changes
the sentence. In every language the numbers, dates and names are the same. What others chose (a name) or typed (a
preference) can not pass for our own words: see :func:`name_of` and :func:`quoted`.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.consent.grant import Grant

LANGUAGES = ("en", "de")
LONGEST_NAME = 60
_PLAIN_NAME = re.compile(r"[\w&'’-]+(?: [\w&'’-]+){0,2}")
"""At most three words without any mark that could end a clause."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's general categories of what can not be seen: controls, marks of direction, line breaks, half characters."""
_QUOTES = frozenset('"“”„‟«»‹›‚‘\\')


@dataclass(frozen=True, slots=True)
class _Language:
    """How one language says it. `{…}` are filled in."""

    words: Mapping[str, str]
    months: str
    day: str
    minute: str
    second: str
    opening: str
    quotes: tuple[str, str]
    joins: tuple[str, str]
    """How the last of several is joined: as one more, or as one instead."""
    take_back: str

    def list(self, words: Sequence[str], join: str) -> str:
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {join} {words[-1]}"

    def date(self, at: datetime) -> str:
        month = self.months.split()[at.month - 1]
        return self.day.format(day=at.day, month=month, year=at.year)

    def time(self, at: datetime) -> str:
        clock = self.second if at.second else self.minute
        return f"{self.date(at)}{clock.format(at=at)}"


_ENGLISH = _Language(
    words={
        "generate": "make",
        "remix": "remix",
        "edit": "edit",
        "extend": "extend",
        "dpv:NonCommercialPurpose": "for non-commercial use",
        "dpv:CommercialPurpose": "for commercial use",
        "dpv:Advertising": "for advertising",
        "political": "political",
        "sexual": "sexual",
        "violent": "violent",
        "romantic": "romantic",
        "advertising": "advertising",
        "face": "your face, not your voice",
        "voice": "your voice, not your face",
        "both": "your face and your voice",
        "one": "1 video",
        "many": "up to {count} videos",
        "everyone": "anyone may watch them",
        "requester": "only they may watch them",
        "anywhere": "anywhere",
        "only in": "only in {places}",
        "allowed": "{contexts} ones too",
        "forbidden": "nothing {contexts}",
        "rather not": "you would rather not be shown with {things}",
        "before_release": "you approve each one before it goes out",
        "none": "you are not asked about each one",
        "delegate": "whoever holds the key {key}… may pass it on, only narrower",
        "parent": "it passes on what you allowed in {parent}",
        "withdraw_all": "and everything made with it is withdrawn",
        "stop_new": "what is already out stays",
        "grantee/everyone": "Everyone may",
        "grantee/group": "The people you approve of may",
        "grantee/one": "{name} may",
    },
    months="January February March April May June July August September October November December",
    day="{day} {month} {year}",
    minute=" {at:%H:%M} UTC",
    second=" {at:%H:%M:%S} UTC",
    opening="{who} {does} {many} with {likeness}, from {starts} until {expires}",
    quotes=("“", "”"),
    joins=("and", "or"),
    take_back="You can take this back at any moment: nothing new is made from then on, {after}.",
)
_GERMAN = _Language(
    words={
        "generate": "erstellen",
        "remix": "neu mischen",
        "edit": "bearbeiten",
        "extend": "verlängern",
        "dpv:NonCommercialPurpose": "für nicht kommerzielle Zwecke",
        "dpv:CommercialPurpose": "für kommerzielle Zwecke",
        "dpv:Advertising": "für Werbung",
        "political": "Politisches",
        "sexual": "Sexuelles",
        "violent": "Gewalttätiges",
        "romantic": "Romantisches",
        "advertising": "Werbliches",
        "face": "deinem Gesicht, nicht deiner Stimme,",
        "voice": "deiner Stimme, nicht deinem Gesicht,",
        "both": "deinem Gesicht und deiner Stimme",
        "one": "1 Video",
        "many": "bis zu {count} Videos",
        "everyone": "ansehen dürfen sie alle",
        "requester": "ansehen darf sie niemand sonst",
        "anywhere": "überall",
        "only in": "nur in {places}",
        "allowed": "auch {contexts}",
        "forbidden": "nichts {contexts}",
        "rather not": "du möchtest lieber nicht gezeigt werden mit {things}",
        "before_release": "du gibst jedes einzelne frei, bevor es erscheint",
        "none": "du wirst nicht vor jedem einzelnen gefragt",
        "delegate": "wer den Schlüssel {key}… hat, darf es weitergeben, nur enger",
        "parent": "es gibt weiter, was du in {parent} erlaubt hast",
        "withdraw_all": "und alles damit Gemachte wird zurückgezogen",
        "stop_new": "was schon erschienen ist, bleibt",
        "grantee/everyone": "Alle dürfen",
        "grantee/group": "Die Menschen in deinem Kreis dürfen",
        "grantee/one": "{name} darf",
    },
    months="Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    day="{day}. {month} {year}",
    minute=", {at:%H:%M} Uhr UTC",
    second=", {at:%H:%M:%S} Uhr UTC",
    opening="{who} {many} mit {likeness} {does}, vom {starts} bis zum {expires}",
    quotes=("„", "“"),
    joins=("und", "oder"),
    take_back="Du kannst das jederzeit zurücknehmen: Von da an entsteht nichts Neues, {after}.",
)
_SPOKEN: Mapping[str, _Language] = {"en": _ENGLISH, "de": _GERMAN}
_NAMES = {"en": "Someone", "de": "Jemand"}


def language_of(tag: str) -> str:
    """The language spoken here for a tag such as `de-CH`: itself, or English."""
    spoken = tag.partition("-")[0].lower()
    return spoken if spoken in LANGUAGES else "en"


def sentence(grant: "Grant", grantee_name: str) -> str:
    """What the grant says, in the grant's own language.

    `grantee_name`: of the app or person that `grant.grantee.id` names; of no account where it names many.
    """
    told = _SPOKEN[language_of(grant.language)]
    words, (also, instead) = told.words, told.joins
    modalities = set(grant.modalities)
    opening = told.opening.format(
        who=_grantee(told, grant, grantee_name),
        does=told.list([words[action] for action in grant.actions], also),
        many=words["one"] if grant.max_uses == 1 else words["many"].format(count=grant.max_uses),
        likeness=words["both" if len(modalities) > 1 else grant.modalities[0]],
        starts=told.date(grant.starts) if _midnight(grant.starts) else told.time(grant.starts),
        expires=told.time(grant.expires),
    )
    after = words[grant.revocation_effect]
    parts = [opening.replace(",,", ","), *_terms(told, grant, lambda many: told.list(many, instead))]
    return f"{', '.join(parts)}. {told.take_back.format(after=after)}"


def _terms(told: _Language, grant: "Grant", either: Callable[[list[str]], str]) -> list[str]:
    """Every term after the opening, in one order."""
    words = told.words
    parts = [either([words[purpose] for purpose in grant.purposes]), words[grant.audience]]
    if "*" in grant.jurisdictions:
        parts.append(words["anywhere"])
    else:
        places = told.list([_place(told, code) for code in grant.jurisdictions], told.joins[0])
        parts.append(words["only in"].format(places=places))
    if grant.allowed_contexts:
        named = either([words[context] for context in grant.allowed_contexts])
        parts.append(words["allowed"].format(contexts=named))
    if grant.forbidden_contexts:
        named = either([words[context] for context in grant.forbidden_contexts])
        parts.append(words["forbidden"].format(contexts=named))
    if grant.preferences:
        things = either([quoted(one, grant.language) for one in grant.preferences])
        parts.append(words["rather not"].format(things=things))
    parts.append(words[grant.approval])
    if grant.delegate_key is not None:
        parts.append(words["delegate"].format(key=grant.delegate_key[:12]))
    if grant.parent is not None:
        parts.append(words["parent"].format(parent=grant.parent))
    return parts


def date_of(at: datetime, language: str) -> str:
    """`2 March 2026`; `2. März 2026`."""
    return _SPOKEN[language_of(language)].date(at.astimezone(UTC))


def quoted(text: str, language: str) -> str:
    """Somebody's own words between quotation marks that they can not close, with nothing unseen in them."""
    first, last = _SPOKEN[language_of(language)].quotes
    return f"{first}{''.join(map(_visible, text))}{last}"


def name_of(name: str, language: str) -> str:
    """A name that somebody chose, fit to stand in a sentence of ours.

    Marks of direction, line breaks and control characters go; what is long is cut; and what is not plainly a name
    (over three words, a comma, a word that the sentence itself begins with) stands in quotation marks.
    """
    language = language_of(language)
    kept = "".join(" " if unicodedata.category(one) in {*_INVISIBLE, "Zs"} else one for one in name)
    kept = " ".join(unicodedata.normalize("NFC", kept).split())
    if not kept:
        return _NAMES[language]
    if len(kept) > LONGEST_NAME:
        kept = f"{kept[: LONGEST_NAME - 1].rstrip()}…"
    reserved = {
        told.words[f"grantee/{many}"].split()[0]
        for told in _SPOKEN.values()
        for many in ("everyone", "group")
    }
    plain = _PLAIN_NAME.fullmatch(kept) and kept.split()[0].casefold() not in {
        one.casefold() for one in reserved
    }
    return kept if plain else quoted(kept, language)


def _grantee(told: _Language, grant: "Grant", name: str) -> str:
    kind = grant.grantee.type
    if kind in {"everyone", "group"}:
        return told.words[f"grantee/{kind}"]
    return told.words["grantee/one"].format(name=name_of(name, grant.language))


def _visible(one: str) -> str:
    unseen = one in _QUOTES or unicodedata.category(one) in _INVISIBLE
    return f"\\u{ord(one):04x}" if unseen else one


def _midnight(at: datetime) -> bool:
    return (at.hour, at.minute, at.second) == (0, 0, 0)


def _place(told: _Language, code: str) -> str:
    name = _COUNTRIES["de" if told is _GERMAN else "en"].get(code)
    return f"{name} ({code})" if name else code


def _countries(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split(", "))


_COUNTRIES = {
    "en": _countries(
        "AR=Argentina, AT=Austria, AU=Australia, BE=Belgium, BG=Bulgaria, BR=Brazil, CA=Canada, CH=Switzerland, "
        "CN=China, CY=Cyprus, CZ=Czechia, DE=Germany, DK=Denmark, EE=Estonia, ES=Spain, FI=Finland, FR=France, "
        "GB=the United Kingdom, GR=Greece, HR=Croatia, HU=Hungary, ID=Indonesia, IE=Ireland, IN=India, IS=Iceland, "
        "IT=Italy, JP=Japan, KR=South Korea, LI=Liechtenstein, LT=Lithuania, LU=Luxembourg, LV=Latvia, MT=Malta, "
        "MX=Mexico, NL=the Netherlands, NO=Norway, NZ=New Zealand, PL=Poland, PT=Portugal, RO=Romania, SE=Sweden, "
        "SI=Slovenia, SK=Slovakia, TR=Türkiye, UA=Ukraine, US=the United States, ZA=South Africa"
    ),
    "de": _countries(
        "AR=Argentinien, AT=Österreich, AU=Australien, BE=Belgien, BG=Bulgarien, BR=Brasilien, CA=Kanada, "
        "CH=der Schweiz, CN=China, CY=Zypern, CZ=Tschechien, DE=Deutschland, DK=Dänemark, EE=Estland, ES=Spanien, "
        "FI=Finnland, FR=Frankreich, GB=dem Vereinigten Königreich, GR=Griechenland, HR=Kroatien, HU=Ungarn, "
        "ID=Indonesien, IE=Irland, IN=Indien, IS=Island, IT=Italien, JP=Japan, KR=Südkorea, LI=Liechtenstein, "
        "LT=Litauen, LU=Luxemburg, LV=Lettland, MT=Malta, MX=Mexiko, NL=den Niederlanden, NO=Norwegen, "
        "NZ=Neuseeland, PL=Polen, PT=Portugal, RO=Rumänien, SE=Schweden, SI=Slowenien, SK=der Slowakei, "
        "TR=der Türkei, UA=der Ukraine, US=den Vereinigten Staaten, ZA=Südafrika"
    ),
}
"""As they stand after “in”; of any other country its ISO 3166-1 code is said."""
