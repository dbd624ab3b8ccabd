"""Letters: written in the transaction that gives rise to them, sent outside of it, until somebody took them.

A letter is a row of the out-box from the commit that it speaks of. Whoever sends it claims it first, so that of two
processes one does; a process that dies between sending and striking it off sends it once more, under the same
`Message-ID`. A letter nobody takes is tried for three days. It lies sealed under the key of the notice it is about.

`COUNTERSIGN_MAIL` says how: empty, for development, writes files to `home/mail`; `smtp://` and `smtps://` send.
Neither addresses nor tokens are ever logged.
"""

import logging
import os
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.background import in_background
from gateway.settings import Settings
from ledger.canonical import canonical, parse
from ledger.consent.notices import lapse
from ledger.errors import LedgerError, NotFound
from ledger.ids import NoticeId, new_id
from ledger.keys import seal, unseal
from ledger.log.sequencer import Ledger
from ledger.store.records import Mail
from ledger.store.transaction import Transaction

MOST_TRIES = 20
_LONGEST_WAIT_S = 6 * 3600
_EVERY_S = 1.0
_LAPSE_EVERY_S = 600.0
_TIMEOUT_S = 30
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_log = logging.getLogger(__name__)
Send = Callable[[EmailMessage], None]


@dataclass(frozen=True, slots=True)
class Letter:
    to: str
    subject: str
    text: str


def post(tx: Transaction, notice_id: NoticeId, letter: Letter, *, at: datetime) -> None:
    """Put a letter into the out-box: it is sent if, and only if, this transaction is kept."""
    mail_id = new_id("mail")
    plain = canonical({"to": letter.to, "subject": letter.subject, "text": letter.text})
    sealed = seal(tx.held(notice_id).key, plain, context=f"mail/{mail_id}")
    tx.add_mail(Mail(mail_id, notice_id, sealed, tries=0, next_at=int(at.timestamp())))


@dataclass(frozen=True, slots=True)
class Postman:
    """Sends what lies in the out-box."""

    ledger: Ledger
    send: Send
    sender: str
    clock: Callable[[], datetime]

    def deliver(self) -> int:
        """Send what is due. Returns how many letters were taken."""
        now = int(self.clock().timestamp())
        with self.ledger.reading() as tx:
            due = tx.due_mail(at=now, limit=20)
        return sum(map(self._deliver, due))

    def _deliver(self, mail: Mail) -> bool:
        at = self.clock()
        wait_s = min(60 << mail.tries, _LONGEST_WAIT_S)
        until = int(at.timestamp()) + wait_s
        # Claimed before it is sent, and due again later: a failure, or our death, needs no further word.
        if not self.ledger.transact(lambda tx: tx.claim_mail(mail, until=until)):
            return False
        try:
            self.send(self._message(mail, at))
        except NotFound:
            pass  # taken back meanwhile: there is nobody to write to
        except (OSError, smtplib.SMTPException, LedgerError) as error:
            _log.warning("letter %s was not taken (%s)", mail.id, type(error).__name__)
            if mail.tries + 1 < MOST_TRIES:
                return False
            _log.error("letter %s is given up", mail.id)
        self.ledger.transact(lambda tx: tx.drop_mail(mail.id))
        return True

    def _message(self, mail: Mail, at: datetime) -> EmailMessage:
        with self.ledger.reading() as tx:
            key = tx.held(mail.notice_id).key
        letter = Letter(**parse(unseal(key, mail.sealed, context=f"mail/{mail.id}")))
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, letter.to, letter.subject
        message["Date"] = format_datetime(at)
        message["Message-ID"] = f"<{mail.id}@{self.sender.rpartition('@')[2]}>"
        # No machine answers this: an absence note must not go back and forth.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        return message


@contextmanager
def mailing(ledger: Ledger, settings: Settings, clock: Callable[[], datetime]) -> Iterator[None]:
    """Send letters while this lasts, and let notices lapse that nobody confirmed."""
    postman = Postman(ledger, transport(settings), settings.mail_from, clock)

    def work(stop: threading.Event) -> None:
        until_lapse = 0.0
        while True:
            try:
                postman.deliver()
                if until_lapse <= 0:
                    ledger.transact(partial(lapse, at=clock()))
                    until_lapse = _LAPSE_EVERY_S
            except Exception:  # noqa: BLE001 — whatever it was, the letters that follow are still to be sent
                _log.exception("letters could not be sent; they wait")
            if stop.wait(_EVERY_S):
                return
            until_lapse -= _EVERY_S

    with in_background("mail", work):
        yield


# How ---------------------------------------------------------------------------------------------------


def transport(settings: Settings) -> Send:
    """Raises ValueError for an address that says no way to send."""
    if not settings.mail:
        folder = settings.home / "mail"
        return lambda message: _write(folder, message)
    server = urlsplit(settings.mail)
    if server.scheme not in {"smtp", "smtps"} or not server.hostname:
        raise ValueError("COUNTERSIGN_MAIL must be empty, `smtp://host` or `smtps://host`")
    return lambda message: _send(server, message)


def _write(folder: Path, message: EmailMessage) -> None:
    """A file only its owner may read, whole or not there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{message['Message-ID'].strip('<>').partition('@')[0]}.eml"
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(message.as_bytes())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _log.warning("no mail server is set (COUNTERSIGN_MAIL): a letter lies in %s", path)


def _send(server: SplitResult, message: EmailMessage) -> None:
    """Over TLS where there is a password to protect; else wherever the server offers it."""
    host, context = str(server.hostname), ssl.create_default_context()
    if server.scheme == "smtps":
        with smtplib.SMTP_SSL(host, server.port or 465, timeout=_TIMEOUT_S, context=context) as smtp:
            _hand_over(smtp, server, message)
        return
    with smtplib.SMTP(host, server.port or 587, timeout=_TIMEOUT_S) as smtp:
        smtp.ehlo()
        if smtp.has_extn("starttls") or (server.username and host not in _LOOPBACK):
            smtp.starttls(context=context)
        _hand_over(smtp, server, message)


def _hand_over(smtp: smtplib.SMTP, server: SplitResult, message: EmailMessage) -> None:
    if server.username:
        smtp.login(unquote(server.username), unquote(server.password or ""))
    smtp.send_message(message)
