"""The notice a person is shown before they sign: every version there ever was, in every language it was given in.

A grant names the notice by the SHA-256 of its exact bytes and by its version, so years later anyone can say what the
person had read. Append only: a text that was once shown never changes and never goes away; a better one is a new
version. The newest version exists in every language of :data:`LANGUAGES`.
"""

from typing import NamedTuple

from ledger.canonical import sha256
from ledger.consent.grant import Grant, Notice
from ledger.consent.words import LANGUAGES, language_of
from ledger.errors import InvalidStatement


class NoticeText(NamedTuple):
    """One version in one language."""

    version: str
    language: str
    text: str

    @property
    def sha256(self) -> str:
        return sha256(self.text.encode()).hex()

    @property
    def named(self) -> Notice:
        """How a grant names it."""
        return Notice(sha256=self.sha256, version=self.version)


NOTICES = (
    NoticeText(
        "2026-11",
        "en",
        "Your face is used only as this grant says. Every use and every refusal is on your timeline.",
    ),
    NoticeText(
        "2026-11.2",
        "en",
        "You are about to let somebody make videos in which you can be recognised.\n"
        "\n"
        "What is used: your face or your voice, as the permission says, and the likeness we keep of them. Faces and "
        "voices identify people; by law they are specially protected, and nothing is done with them without your "
        "explicit consent. You need not give it, and nothing else here depends on it.\n"
        "\n"
        "What happens: every request is checked against your permission before anything is made. Every use, every "
        "refusal and every question about you is on your timeline, and you can prove that the list is complete.\n"
        "\n"
        "How long: until the day the permission names. You can take it back at any moment, with one tap and without "
        "a reason; nothing new is made from then on. If the permission says so, what was made is withdrawn too. "
        "Copies that others saved are beyond our reach.\n"
        "\n"
        "Your rights: see everything, take a copy of it, correct it, have it erased, and complain to a data "
        "protection authority.\n",
    ),
    NoticeText(
        "2026-11.2",
        "de",
        "Du bist dabei, jemandem Videos zu erlauben, in denen du zu erkennen bist.\n"
        "\n"
        "Was verwendet wird: dein Gesicht oder deine Stimme, wie es die Erlaubnis sagt, und das Abbild, das wir davon "
        "aufbewahren. Gesichter und Stimmen machen Menschen erkennbar; das Gesetz schützt sie besonders, und ohne "
        "deine ausdrückliche Einwilligung geschieht nichts mit ihnen. Du musst sie nicht geben, und nichts anderes "
        "hier hängt davon ab.\n"
        "\n"
        "Was geschieht: Jede Anfrage wird an deiner Erlaubnis gemessen, bevor etwas entsteht. Jede Verwendung, jede "
        "Ablehnung und jede Frage nach dir steht in deinem Verlauf, und du kannst beweisen, dass nichts darin "
        "fehlt.\n"
        "\n"
        "Wie lange: bis zu dem Tag, den die Erlaubnis nennt. Du kannst sie jederzeit zurücknehmen, mit einer Berührung "
        "und ohne Grund; von da an entsteht nichts Neues. Wenn die Erlaubnis es sagt, wird auch das schon Gemachte "
        "zurückgezogen. Kopien, die andere gespeichert haben, erreichen wir nicht.\n"
        "\n"
        "Deine Rechte: alles sehen, eine Kopie davon bekommen, es berichtigen und löschen lassen, und dich bei einer "
        "Datenschutzbehörde beschweren.\n",
    ),
)
_BY_HASH = {one.sha256: one for one in NOTICES}
_NEWEST = NOTICES[-1].version


def current(language: str) -> NoticeText:
    """The notice shown today, in this language or, where it is not spoken here, in English."""
    spoken = language_of(language)
    return next(one for one in NOTICES if (one.version, one.language) == (_NEWEST, spoken))


def shown(sha256: str) -> NoticeText | None:
    """The text with this hash; None for one that was never a notice of ours."""
    return _BY_HASH.get(sha256)


def check_notice(grant: Grant) -> NoticeText:
    """The notice a grant names, in the language it was signed in. Raises InvalidStatement for any other text."""
    found = _BY_HASH.get(grant.notice.sha256)
    if found is None or found.version != grant.notice.version:
        raise InvalidStatement(
            "grant.notice",
            "the grant names a notice that was never shown here",
            "ask for a new preview and sign that",
        )
    if found.language != language_of(grant.language):
        raise InvalidStatement(
            "grant.notice_language",
            f"the grant is in `{grant.language}` and its notice in `{found.language}`",
            "ask for a new preview and sign that",
        )
    return found


__all__ = ["LANGUAGES", "NOTICES", "NoticeText", "check_notice", "current", "shown"]
