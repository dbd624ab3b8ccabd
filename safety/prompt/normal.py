"""What a text says once its disguises are undone: every way it can be read, in plain lower-case letters.

Undone are: compatibility forms, mojibake and HTML entities (ftfy, Unicode NFKC), invisible characters and tags, piled-up
marks, look-alike and enclosed letters, letters that are spaced, dotted or stretched, leetspeak, emoji that stand for
words, spellings by ear ("seggs", "unalive"), and text in base64, hexadecimal, binary, percent or backslash escapes.
Text that runs backwards, or has its alphabet turned by 13, can be turned (:func:`backwards`, :func:`rot13`); whether it
does, :mod:`safety.prompt` asks.

Guarantees: pure, in time linear in the text's length; the first reading is the text as typed, only folded, so nothing
that undoing loses goes unread.

Left to others: which readings matter (`rules.py`), and what they say.
"""

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import ftfy

MAX_CHARS: Final = 4_000
MAX_FOLDED: Final = MAX_CHARS + MAX_CHARS // 2
WORD: Final = re.compile(r"[^\W_]+")

# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────

_HEARD: Final = """
sex: seggs seggz segs secks secks sekks saks3 s3ks
sexy: seggsy secksy sekksy
sexual: seggsual sekshual
having sex: smexing seggsing
porn: pron pr0n prn prawn_video pronhub corn_star
nude: nood noode n00d newd nud3 n*de
nudes: noods noodz newds nudez n*des
naked: nekkid nakey nekked nakid naykid
boobs: bewbs boobz bewbies b00bz
tits: titz tiddies tiddy
penis: peen pp_hard peenis pnis
pussy: pusy pussi poosy pvssy
cock: cawk kok_hard
dick: dik dikk
whore: hoor hore_
slut: sloot slvt
fuck: fuk fuq phuck fvck fck fxck phuk
fucked: fukked phucked fcked
fucking: fuking fukking phucking fcking
bitch: biotch biatch b!tch
rape: r4pe graped_her
kill: unalive
killed: unalived
kill people: unaliving
kill yourself: kys
kill myself: kms_ unalive_myself
suicide: sewerslide sewer_slide sooicide sudoku_himself self_deletion
self harm: self_h4rm sh_scars
dead: ded dedd
murder: merder mrder
weed: ouid weeed
cocaine: cocane kokain coke_lines
heroin: herowin
lesbian: le_dollar_bean ledollarbean
nazi: notsee natzee
jews: joos jooz
pedophile: pdf_file pedofile
terrorist: terr0rist
masturbate: masterbate masturb8
masturbating: masterbating
orgasm: orgazm
blowjob: bl0wjob blowie
hentai: hentie hentay
"""
"""Words, and how they are written by ear. `_` is a blank."""

_SHOWN: Final = """
woman: 👩 💃 👱‍♀ 🙎‍♀
man: 👨 🕺
girl: 👧
boy: 👦
child: 🧒 🚸
baby: 👶 🍼
person: 🧑
people: 👥 👫 👬 👭
penis: 🍆
butt: 🍑
breasts: 🍒
cum: 💦
sex: 👉👌 🍆🍑 🍑🍆 🍆💦 💦🍆
pussy: 🐱💦 🌮💦 🍑💦
porn: 🌽⭐ 🌽
nsfw: 🔞
lingerie: 👙
underwear: 🩲
kiss: 💋 😘 💏
bed: 🛏 🛌
tongue: 👅
gun: 🔫
knife: 🔪 🗡
bomb: 💣
explosion: 💥 🧨
blood: 🩸
dead: 💀 ☠ ⚰ 🪦
kill: 🔪🩸 🔪💀 🔫💀
weapon: ⚔
drugs: 💊
syringe: 💉
weed: 🍁💨 🌿💨
cigarette: 🚬
cocaine: ❄👃 👃❄
monkey: 🐒 🐵
ape: 🦍
pig: 🐷 🐖
rat: 🐀
fire: 🔥
dog: 🐶 🐕
cat: 🐱 🐈
sun: ☀ 🌞
house: 🏠
love: ❤
"""
"""Words, and the emoji that stand for them, alone or side by side."""

_LOOK_ALIKES: Final = {
    ord(other): latin
    for latin, others in {
        "a": "аАαΑɑᴀ", "b": "ВвьЬβΒʙɓ", "c": "сСϲϹᴄ", "d": "ԁԀɗᴅđ", "e": "еЕєЄεΕᴇəɛҽ", "f": "ƒғҒϝ", "g": "ɡԌɢցǥ",
        "h": "һНнҺΗʜհħ", "i": "іІɩιΙıɪӏ", "j": "јЈϳᴊ", "k": "кКκΚᴋқ", "l": "Ӏʟł", "m": "мМΜᴍ", "n": "пΝηɴո",
        "o": "оОοΟσᴏօøө", "p": "рРρΡᴘ", "q": "ԛզ", "r": "гʀɾ", "s": "ѕЅꜱʂ", "t": "тТτΤᴛŧ", "u": "υսᴜ",
        "v": "νѵᴠ", "w": "ԝωшᴡѡ", "x": "хХχΧ", "y": "уУүγΥʏ", "z": "Ζᴢʐ",
    }.items()
    for other in others
} | {first + n: chr(97 + n) for first in (0x1F130, 0x1F150, 0x1F170, 0x1F1E6) for n in range(26)}  # fmt: skip
_BLANKS: Final = frozenset("\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\uffa0")
_MARKS: Final = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe2f\U000e0100-\U000e01ef]"
)
_TAGS: Final = re.compile("(?<!\U0001f3f4)(?<![\U000e0020-\U000e007f])[\U000e0020-\U000e007e]{2,}")

_LETTER: Final = r"[^\W\d_]"
_GAP: Final = r"[\s._\-*|,/~+·•:;]"
_SPACED_DIGITS: Final = re.compile(r"(?<![\w.])\d(?: \d)+(?![\w.])(?![\s\-]*years?[\s\-]*olds)")
_SPACED_LETTERS: Final = re.compile(rf"(?<![^\W_])[^\W_](?:{_GAP}{{1,4}}[^\W_@$]){{2,}}(?![^\W_])")
_INNER_PUNCTUATION: Final = re.compile(rf"(?<={_LETTER})[._\-*|~^`'·•+=]+(?={_LETTER})")
_LEET_WORD: Final = re.compile(r"(?<![\w@$])[\w@$!|€]*[\d@$!|€][\w@$!|€]*")
_NUMBER_AND_UNIT: Final = re.compile(
    rf"\d+(?:k|d|mm|cm|km|px|fps|st|nd|rd|th|hz|kg|yo|yr|yrs|am|pm|mph|girls?|boys?)?|{_LETTER}+!+"
)
_LEET_I: Final = str.maketrans("01345678@$!|€", "oieasgtbasiie")
_LEET_L: Final = str.maketrans("01345678@$!|€", "oleasgtbaslle")
_STRETCHED: Final = re.compile(rf"({_LETTER})\1{{2,}}")


def fold(text: str) -> str:
    """Lower case, and the bare letter of each accented one: what a plain reader sees in ordinary writing."""
    if text.isascii():
        return text.lower()
    return "".join(
        unicodedata.normalize("NFD", c)[0] if "\x7f" < c < "\u3000" or c > "\ud7a3" else c
        for c in unicodedata.normalize("NFC", text).casefold()
    )


def join_digits(text: str) -> str:
    """`1 7 years` → `17 years`, as some tokenisers write it."""
    return _SPACED_DIGITS.sub(lambda match: match[0].replace(" ", ""), text)


def repair(text: str) -> str:
    """Undo encodings a reader never notices: mojibake, full width, invisible characters, piled-up marks."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _TAGS.sub(lambda m: " " + "".join(chr(ord(c) - 0xE0000) for c in m[0]) + " ", text)
    if text.isascii() and "&" not in text:
        return text
    text = ftfy.fix_text(text, normalization="NFKC")[: MAX_FOLDED + 1]
    if text.isascii():
        return text
    kept: list[str] = []
    for c in _MARKS.sub("", unicodedata.normalize("NFC", text)):
        kind = unicodedata.category(c)
        if kind == "Cf" or c in _BLANKS:
            continue
        # A mark after a Latin, Greek, Cyrillic, Hebrew or Arabic letter decorates; in other scripts it spells.
        if kind == "Mn" and kept and kept[-1] < "\u0900":
            continue
        kept.append(" " if kind in {"Cc", "Zs"} else c)
    return unicodedata.normalize("NFKC", "".join(kept))


def _latinise(text: str) -> str:
    """Write look-alike letters as Latin, in words that then are Latin throughout; real Russian stays Russian."""
    if text.isascii():
        return text

    def word(match: re.Match[str]) -> str:
        latin = match[0].translate(_LOOK_ALIKES)
        return latin if fold(latin).isascii() else match[0]

    return re.sub(r"[^\s]+", word, text)


def _join_letters(text: str, known: Collection[str] = ()) -> str:
    """`n u d e` → `nude`. Where the gaps do not show where a word ends, also the known words found inside."""

    def run(match: re.Match[str]) -> str:
        pieces = re.split(f"({_GAP}+)", match[0])
        gaps = pieces[1::2]
        if 2 * sum(letter.isalpha() for letter in pieces[::2]) < len(pieces[::2]):
            return match[0]
        blank = [any(c.isspace() for c in gap) for gap in gaps]
        shortest = min(map(len, gaps))
        mixed = any(blank) and not all(blank)
        out = pieces[0]
        for gap, is_blank, letter in zip(gaps, blank, pieces[2::2], strict=True):
            out += (gap if (is_blank if mixed else len(gap) > shortest) else "") + letter
        return " ".join(
            f"{word} {inner}" if (inner := _words_inside(word, known)) != word else word
            for word in out.split()
        )

    return _SPACED_LETTERS.sub(run, text)


def _words_inside(run: str, known: Collection[str]) -> str:
    """The longest known words in a run of letters without word gaps, left to right."""
    found, i = [], 0
    while i < len(run):
        word = next(
            (run[i : i + n] for n in range(min(14, len(run) - i), 2, -1) if run[i : i + n] in known), ""
        )
        if word:
            found.append(word)
        i += len(word) or 1
    return " ".join(found) or run


def _unleet(text: str, letters: dict[int, int]) -> str:
    def word(match: re.Match[str]) -> str:
        return match[0] if _NUMBER_AND_UNIT.fullmatch(match[0]) else match[0].translate(letters)

    return _LEET_WORD.sub(word, text)


def hidden(text: str) -> Iterator[str]:
    """Readable text that is written in another way: base64, hexadecimal, binary, escapes."""
    for pattern, decodes in _ENCODED:
        for match in pattern.finditer(text):
            for decode in decodes:
                try:
                    plain = decode(match[0]).decode("utf-8")
                except (binascii.Error, ValueError):
                    continue
                letters = sum(c.isalpha() or c.isspace() for c in plain)
                if len(plain) >= _FEWEST_HIDDEN and plain.isprintable() and letters >= 0.8 * len(plain):
                    yield plain


def _from_base64(blob: str) -> bytes:
    body = blob.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)


def _from_hex(blob: str) -> bytes:
    return bytes.fromhex(blob.replace(":", " "))


def _from_bits(blob: str) -> bytes:
    return bytes(int(eight, 2) for eight in re.findall("[01]{8}", blob))


def _from_escapes(blob: str) -> bytes:
    return "".join(chr(int(code, 16)) for code in re.findall(r"[0-9a-f]{2,4}", blob.lower())).encode()


_FEWEST_HIDDEN: Final = 6
_ENCODED: Final = (
    (re.compile(r"(?<![\w+/\-])[A-Za-z0-9+/_\-]{12,}={0,2}"), (_from_base64, _from_hex)),
    (re.compile(r"(?<![0-9a-fA-F])(?:[0-9a-fA-F]{2}[\s:]?){6,}(?![0-9a-fA-F])"), (_from_base64, _from_hex)),
    (re.compile(r"(?<![01])(?:[01]{8}\s?){6,}(?![01])"), (_from_bits,)),
    (re.compile(r"(?:%[0-9a-fA-F]{2}){6,}"), (_from_escapes,)),
    (re.compile(r"(?:\\x[0-9a-fA-F]{2}){6,}|(?:\\u00[0-9a-fA-F]{2}){6,}"), (_from_escapes,)),
)


class Readings(NamedTuple):
    """plain: everything undone that can be. meant: the same, spellings by ear and emoji too, in words and blanks alone,
    as a sentence is said. views: every reading, the text as typed first.
    """

    plain: str
    meant: tuple[str, ...]
    views: tuple[str, ...]


def read(repaired: str, known: Collection[str]) -> Readings:
    """Every way a repaired text can be read. `known`: words to look for where letters run together."""
    folded = join_digits(fold(repaired))
    shown = _named(repaired)
    latin = join_digits(fold(_latinise(shown)))
    joined = _join_letters(latin, known)
    plain = _unleet(joined, _LEET_I)
    views = [folded, latin, joined, plain]
    for reading in (plain, _unleet(joined, _LEET_L)):
        views += [reading, _INNER_PUNCTUATION.sub("", reading)]
        views += [_STRETCHED.sub(r"\1", reading), _STRETCHED.sub(r"\1\1", reading)]
    views += [_heard(view) for view in dict.fromkeys((plain, *views[-3:]))]
    apart = _join_letters(latin)
    meant = _heard(_unleet(apart, _LEET_I))
    said = (said_aloud(view) for view in ((meant,) if joined == apart else (meant, joined)))
    return Readings(plain, tuple(dict.fromkeys(filter(None, said))), tuple(dict.fromkeys(views)))


def said_aloud(view: str) -> str:
    """The words of a reading that are in plain letters, and nothing else: what a network that reads English gets."""
    return " ".join(word for word in WORD.findall(view) if word.isascii())


def backwards(text: str) -> str:
    return text[::-1]


def rot13(text: str) -> str:
    return codecs.encode(text, "rot13")


def signs_of_disguise(text: str, repaired: str) -> int:
    """Writing that hides itself, whatever it says."""
    marks = len(_MARKS.findall(unicodedata.normalize("NFC", text)))
    run = max((len(WORD.findall(m[0])) for m in _SPACED_LETTERS.finditer(repaired)), default=0)
    return max(
        1000 if len(repaired) > MAX_FOLDED else 0,  # the rest would go unread
        800 if _TAGS.search(text) else 0,
        600 if "\u202e" in text or "\u202d" in text else 0,
        600 if marks > 20 and marks > len(text) // 4 else 0,
        400 if run >= 12 else 0,
    )


def _heard(view: str) -> str:
    return _HEARD_AS.sub(lambda match: _BY_EAR[match[0]], view)


def _named(text: str) -> str:
    """Emoji as words."""
    if text.isascii():
        return text
    return _EMOJI.sub(lambda match: f" {_BY_EMOJI[_TONES.sub('', match[0])]} ", _TONES.sub("", text))


def _table(written: str) -> dict[str, str]:
    lines = (line.partition(":") for line in written.splitlines() if line)
    return {
        spelt.replace("_", " ").strip(): word for word, _, spellings in lines for spelt in spellings.split()
    }


_TONES: Final = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f\u200d\u2640\u2642]")
_BY_EAR: Final = _table(_HEARD)
_HEARD_AS: Final = re.compile(
    rf"(?<![^\W_])(?:{'|'.join(map(re.escape, sorted(_BY_EAR, key=len, reverse=True)))})(?![^\W_])"
)
_BY_EMOJI: Final = {_TONES.sub("", emoji): word for emoji, word in _table(_SHOWN).items()}
_EMOJI: Final = re.compile("|".join(map(re.escape, sorted(_BY_EMOJI, key=len, reverse=True))))
