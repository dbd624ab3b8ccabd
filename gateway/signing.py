"""What this installation signs clips with, and how its clips are believed: settings and log, read at the moment.

Nothing here is remembered between two clips but the key itself, so that a rotation or revocation by the command line
counts in a running service from the next clip on. Guarantees:

- A certificate signs nothing before the log names it, and nothing once the log says that it was taken back.
- :meth:`Signing.check` holds what is configured to everything a verifier will ask for; a service whose signer does not
  pass does not start, and says what to do.
- A root that clips were signed under stays an anchor: it is kept in `home/anchors`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.settings import Settings
from ledger.errors import LogError, ProvenanceError
from ledger.log.sequencer import Ledger
from ledger.log.signing import SigningTable, used
from ledger.provenance import tsa
from ledger.provenance.pki import Authority
from ledger.provenance.revocation import Revocation, Told, answered, asked
from ledger.provenance.signing import (
    CommandKey,
    Credential,
    FileKey,
    Key,
    TokenKey,
    checked,
    read_chain,
)
from ledger.provenance.trust import Anchors, Revoked, fingerprint

_ASKED_AGAIN = timedelta(hours=1)
_ONE_KEY = (
    "set COUNTERSIGN_SIGNING_CHAIN, COUNTERSIGN_SIGNING_ROOTS and exactly one of COUNTERSIGN_SIGNING_KEY, "
    "COUNTERSIGN_SIGNING_PKCS11_MODULE and COUNTERSIGN_SIGNING_COMMAND; or none of them, for the development authority"
)


@dataclass(frozen=True, slots=True)
class Signing:
    settings: Settings
    ledger: Ledger
    clock: Callable[[], datetime]
    configured: Credential | None
    """None: the embedded development authority signs."""
    _announced: set[str] = field(default_factory=set, repr=False)
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, settings: Settings, ledger: Ledger, clock: Callable[[], datetime]) -> "Signing":
        """Raises ProvenanceError where the settings contradict each other, or a file cannot be read."""
        return cls(settings, ledger, clock, _configured(settings))

    # -- what signs ---------------------------------------------------------------------------------------------

    @property
    def claims(self) -> Credential:
        """What the next clip is signed with, once the log names it."""
        credential = self.configured or self.authority().claims
        self.announce(credential.certificate)
        return credential

    @property
    def directory(self) -> Path:
        return self.settings.home / "pki"

    def authority(self) -> Authority:
        """The embedded development authority, read anew when its files change and once an hour, for renewals."""
        at = self.clock()
        state = (at.replace(minute=0, second=0, microsecond=0), *_state(self.directory))
        if self._opened.get("state") != state:
            authority = Authority.open(self.directory, at=at, url=self.settings.url)
            self._opened.update(state=(state[0], *_state(self.directory)), authority=authority)
        held: Authority = self._opened["authority"]
        return held

    def announce(self, certificate: x509.Certificate) -> None:
        """Say in the log that this certificate signs clips, once."""
        name, der = fingerprint(certificate), certificate.public_bytes(Encoding.DER)
        if name in self._announced:
            return
        at = self.clock()
        if self.table().find(sha256(der).digest()) is None:
            try:
                self.ledger.transact(
                    lambda tx: tx.announce_signing(used(der, time=int(tx.dated(at).timestamp())), at=at)
                )
            except LogError:  # somebody else has, meanwhile
                if self.table().find(sha256(der).digest()) is None:
                    raise
        self._announced.add(name)

    def ocsp(self, certificate: x509.Certificate, at: datetime) -> bytes | None:
        """What the issuer says of the leaf, ours or theirs. Raises ProvenanceError for one that was taken back."""
        held = self.table().find(bytes.fromhex(fingerprint(certificate)))
        if held is not None and held.since is not None:
            raise _taken_back()
        if self.configured is not None:
            return self._told(self.configured, at)
        issuer = self.authority().issuers[0]
        return answered(issuer, certificate, self.revoked_by_serial(), at=at)

    def _told(self, credential: Credential, at: datetime) -> bytes | None:
        """What the authority that sold it says, asked again within the hour; None while it does not answer.

        That it was revoked is not asked again: an authority that cannot be reached takes nothing back.
        """
        held: Told | None = self._opened.get("told")
        stale = held is None or self._opened["asked"] + _ASKED_AGAIN < at or held.until < at
        if stale and not (held is not None and held.revoked):
            held = asked(credential.certificate, credential.issuing, at=at)
            self._opened.update(told=held, asked=at)
        if held is not None and held.revoked:
            raise _taken_back()
        return held.der if held is not None else None

    # -- how it is believed -------------------------------------------------------------------------------------

    def table(self) -> SigningTable:
        with self.ledger.reading() as tx:
            return tx.signing()

    @property
    def anchors(self) -> Anchors:
        """Whom a verifier here believes, at this moment."""
        table, settings = self.table(), self.settings
        own = [_read(path) for path in (settings.signing_roots, settings.tsa_roots) if path is not None]
        own += [path.read_bytes() for path in sorted(self._kept.glob("*.pem"))]
        embedded = self.configured is None or self.directory.exists()
        return Anchors(
            own_pem=b"\n".join(own),
            development_pem=self.authority().roots_pem if embedded else b"",
            others_pem=_read(settings.trusted_elsewhere) if settings.trusted_elsewhere else b"",
            certificates=frozenset(row.sha256.hex() for row in table.rows),
            revoked=tuple(
                Revoked(row.sha256.hex(), datetime.fromtimestamp(row.since, UTC), row.reason or "unspecified")
                for row in table.rows
                if row.since is not None
            ),
        )

    def believed(self) -> Anchors:
        """The anchors, for those who ask each time."""
        return self.anchors

    def revoked_by_serial(self) -> Mapping[int, Revocation]:
        return {
            x509.load_der_x509_certificate(row.der).serial_number: Revocation(
                row.reason or "unspecified", datetime.fromtimestamp(row.since, UTC)
            )
            for row in self.table().rows
            if row.since is not None
        }

    @property
    def development(self) -> bool:
        return self.configured is None

    # -- at start -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ProvenanceError unless what is configured can sign what others will believe."""
        settings, at = self.settings, self.clock()
        if settings.tsa_url:
            if settings.tsa_roots is None:
                raise ProvenanceError(
                    "signing.tsa",
                    "nobody can believe the time-stamps of an authority whose root is not known",
                    "set COUNTERSIGN_TSA_ROOTS to its root certificates (PEM)",
                )
            tsa.probe(settings.tsa_url)
        if self.configured is not None:
            if not settings.tsa_url:
                raise ProvenanceError(
                    "signing.tsa",
                    "a production signer needs a time-stamp authority that others trust",
                    "set COUNTERSIGN_TSA_URL and COUNTERSIGN_TSA_ROOTS; without stamps clips end with the certificate",
                )
            checked(self.configured, x509.load_pem_x509_certificates(_read(settings.signing_roots)), at=at)
        self.ocsp(self.claims.certificate, at)
        self._keep_roots()

    def _keep_roots(self) -> None:
        """Roots outlive the settings that named them: clips signed under them are still about."""
        for path in (self.settings.signing_roots, self.settings.tsa_roots):
            if path is None:
                continue
            for root in x509.load_pem_x509_certificates(_read(path)):
                self._kept.mkdir(exist_ok=True)
                kept = self._kept / f"{fingerprint(root)}.pem"
                if not kept.exists():
                    kept.write_bytes(root.public_bytes(Encoding.PEM))

    @property
    def _kept(self) -> Path:
        return self.settings.home / "anchors"


def _taken_back() -> ProvenanceError:
    return ProvenanceError(
        "signing.revoked",
        "the certificate that clips are signed with was revoked",
        "configure another one and restart; of the development authority: countersign keys rotate-signing",
    )


def _configured(settings: Settings) -> Credential | None:
    keys = _keys(settings)
    if settings.signing_chain is None and settings.signing_roots is None and not keys:
        return None
    if settings.signing_chain is None or settings.signing_roots is None or len(keys) != 1:
        raise ProvenanceError(
            "signing.settings", "what clips are signed with is configured by half", _ONE_KEY
        )
    leaf, *above = read_chain(settings.signing_chain)
    return Credential(leaf, keys[0](), tuple(above))


def _keys(settings: Settings) -> list[Callable[[], Key]]:
    """How to come by each key that the settings name."""
    found: list[Callable[[], Key]] = []
    if (file := settings.signing_key) is not None:
        found.append(lambda: FileKey.read(file))
    if (module := settings.signing_pkcs11_module) is not None:
        found.append(
            lambda: TokenKey(
                module,
                settings.signing_pkcs11_token,
                settings.signing_pkcs11_key,
                settings.signing_pkcs11_pin_file or Path(),
            )
        )
    if settings.signing_command:
        found.append(lambda: CommandKey(settings.signing_command))
    return found


def _state(directory: Path) -> list[tuple[str, int, int]]:
    """What tells whether the files of an authority are the same as before."""
    found = [(path, path.stat()) for path in sorted(directory.glob("**/*.pem"))]
    return [(str(path), stat.st_mtime_ns, stat.st_ino) for path, stat in found]


def _read(path: Path | None) -> bytes:
    """A PEM file of roots. Raises ProvenanceError."""
    try:
        content = path.read_bytes() if path is not None else b""
        x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise ProvenanceError(
            "signing.roots", f"`{path}` cannot be read: {error.strerror}", "give a file of PEM certificates"
        ) from error
    except ValueError as error:
        raise ProvenanceError(
            "signing.roots", f"`{path}` holds no certificates", "give a file of PEM certificates"
        ) from error
    return content
