"""Keys that sign claims, wherever they are kept, and what must hold of their certificates before one clip is signed.

A key is a file, an object in a PKCS#11 token, or a command that asks a key service. Whichever it is, it is asked to
sign a digest, and its answer is verified with the certificate before it goes anywhere: a token that signs with
another key than the one it was asked for is found out by the first signature, not by the first verifier.

**The command** gets the digest (32 bytes for ES256, 48 for ES384) on standard input and `COUNTERSIGN_ALG=ES256` or
`ES384` in its environment; within ten seconds it writes the ECDSA signature to standard output, in DER or as r ‖ s,
and exits with 0. It is run without a shell.

:func:`checked` holds a credential to C2PA 2.4 §14.5: a whole chain, certificates in their time, a leaf whose key usages
allow to sign claims and nothing that would make it something else, and a probe signed by the key.
"""

import os
import shlex
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.errors import ProvenanceError
from ledger.provenance.trust import Anchors

Alg = Literal["ES256", "ES384"]
CLAIM_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
_MAY_SIGN_CLAIMS: Final = frozenset({CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION, _DOCUMENT_SIGNING})
_NEVER_BESIDE: Final = frozenset(
    {
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.TIME_STAMPING,
        ExtendedKeyUsageOID.OCSP_SIGNING,
    }
)
_CURVES: Final = MappingProxyType({"secp256r1": "ES256", "secp384r1": "ES384"})
_HASHES: Final = MappingProxyType({"ES256": hashes.SHA256(), "ES384": hashes.SHA384()})
_HALF: Final = MappingProxyType({"ES256": 32, "ES384": 48})
_COMMAND_TIMEOUT_S: Final = 10.0
_LONGEST_SIGNATURE: Final = 256


class Key(Protocol):
    """A private key on P-256 or P-384."""

    def sign_digest(self, digest: bytes, alg: Alg) -> bytes:
        """The ECDSA signature, in DER or as r ‖ s. Raises ProvenanceError."""
        ...


@dataclass(frozen=True, slots=True)
class FileKey:
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "FileKey":
        """A key in a PEM file that nobody but its owner may read. Raises ProvenanceError."""
        try:
            if path.stat().st_mode & 0o077:
                raise _unusable(f"others may read the key in `{path}`", f"chmod 600 {path}")
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise _unusable(f"the key in `{path}` cannot be read: {error.strerror}", _KEY_REMEDY) from error
        except (ValueError, TypeError) as error:
            raise _unusable(f"`{path}` holds no private key in the clear", _KEY_REMEDY) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _unusable(f"the key in `{path}` is not on P-256 or P-384", _KEY_REMEDY)
        return cls(key)

    def sign_digest(self, digest: bytes, alg: Alg) -> bytes:
        return self.private.sign(digest, ec.ECDSA(utils.Prehashed(_HASHES[alg])))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.private.public_key()


@dataclass(slots=True)
class TokenKey:
    """A key in a PKCS#11 token: module, token label, key label, and a file with the PIN."""

    module: Path
    token: str
    label: str
    pin_file: Path
    _session: Any = field(default=None, init=False, repr=False)
    _held: Any = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def sign_digest(self, digest: bytes, alg: Alg) -> bytes:  # noqa: ARG002 — the digest's length says it
        import pkcs11  # noqa: PLC0415 — only where a token is used

        with self._lock:
            # A token that was reset has forgotten the session: it is opened once more, then it is a fault.
            for last in (False, True):
                try:
                    signature: bytes = self._key().sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
                except (pkcs11.PKCS11Error, RuntimeError) as error:
                    self._forget()
                    if last:
                        raise _unusable(
                            f"the PKCS#11 key `{self.label}` did not sign: {type(error).__name__}",
                            _PKCS11_REMEDY,
                        ) from error
                else:
                    return signature
        raise AssertionError

    def close(self) -> None:
        """Log out; the next signature logs in again."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        opened, self._session, self._held = self._session, None, None
        if opened is not None:
            # A session that a reset has ended cannot be closed, and need not be.
            with suppress(Exception):
                opened.close()

    def _key(self) -> Any:
        import pkcs11  # noqa: PLC0415

        if self._held is None:
            try:
                pin = self.pin_file.read_text().strip()
                token = pkcs11.lib(str(self.module)).get_token(token_label=self.token)
                try:
                    self._session = token.open(user_pin=pin)
                except pkcs11.UserAlreadyLoggedIn:  # which a token is once for a process, whoever did it
                    self._session = token.open()
                self._held = self._session.get_key(
                    object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self.label
                )
            except OSError as error:
                raise _unusable(f"the PIN in `{self.pin_file}` cannot be read", _PKCS11_REMEDY) from error
            except (pkcs11.PKCS11Error, RuntimeError) as error:
                self._forget()
                raise _unusable(
                    f"no key `{self.label}` in the PKCS#11 token `{self.token}` could be opened: "
                    f"{type(error).__name__}",
                    _PKCS11_REMEDY,
                ) from error
        return self._held


@dataclass(frozen=True, slots=True)
class CommandKey:
    """A key behind a command, for key services; see above for what it must do."""

    command: str

    def sign_digest(self, digest: bytes, alg: Alg) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 — the operator's own command, without a shell
                shlex.split(self.command),
                input=digest,
                capture_output=True,
                timeout=_COMMAND_TIMEOUT_S,
                env={**os.environ, "COUNTERSIGN_ALG": alg},
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise _unusable(
                f"the signing command ended with status `{error.returncode}`", _COMMAND_REMEDY
            ) from error
        except subprocess.TimeoutExpired as error:
            raise _unusable("the signing command did not answer within 10 s", _COMMAND_REMEDY) from error
        except (OSError, ValueError, IndexError) as error:
            raise _unusable("the signing command cannot be run", _COMMAND_REMEDY) from error
        return done.stdout[:_LONGEST_SIGNATURE]


@dataclass(frozen=True, slots=True)
class Credential:
    """A leaf certificate, its key, and the certificates above it without their root."""

    certificate: x509.Certificate
    key: Key = field(repr=False)
    above: tuple[x509.Certificate, ...]

    @property
    def issuing(self) -> x509.Certificate:
        return self.above[0]

    @property
    def chain_pem(self) -> bytes:
        """Leaf, then issuing; the root is left out, since a verifier must already have it."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.above))

    @property
    def common_name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        key = self.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
            raise _unusable("the certificate's key is not on P-256 or P-384", _CERTIFICATE_REMEDY)
        return key

    @property
    def alg(self) -> Alg:
        return "ES256" if _CURVES[self.public.curve.name] == "ES256" else "ES384"

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256, or SHA-384 on P-384; DER-encoded as X.509 and CMS want it. Verified before it is given.

        Raises ProvenanceError.
        """
        alg = self.alg
        hasher = hashes.Hash(_HASHES[alg])
        hasher.update(message)
        answer = self.key.sign_digest(hasher.finalize(), alg)
        for signature in _readings(answer, _HALF[alg]):
            try:
                self.public.verify(signature, message, ec.ECDSA(_HASHES[alg]))
            except InvalidSignature:
                continue
            return signature
        raise _unusable("the key does not sign for the certificate it was configured with", _KEY_REMEDY)

    def sign_cose(self, message: bytes) -> bytes:
        """The same signature as COSE wants it (RFC 9053 §2.1): r ‖ s."""
        half = _HALF[self.alg]
        r, s = utils.decode_dss_signature(self.sign(message))
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")


class Source(Protocol):
    """What a signer of clips is given: the credential of the moment, and how its clips are believed."""

    @property
    def claims(self) -> Credential: ...

    @property
    def anchors(self) -> Anchors: ...

    def ocsp(self, certificate: x509.Certificate, at: datetime) -> bytes | None:
        """What the issuer says of `claims` at that time, to staple to what they sign; None if it says nothing.

        Raises ProvenanceError where the certificate was revoked.
        """
        ...


def read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file, leaf first. Raises ProvenanceError."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise _unusable(f"`{path}` cannot be read: {error.strerror}", _CERTIFICATE_REMEDY) from error
    except ValueError as error:
        raise _unusable(f"`{path}` holds no certificates", _CERTIFICATE_REMEDY) from error
    return tuple(found)


def checked(credential: Credential, roots: Sequence[x509.Certificate], *, at: datetime) -> Credential:
    """The credential, once everything in the module's last sentence holds. Raises ProvenanceError that says what not."""
    leaf, above = credential.certificate, credential.above
    # 1. The chain is whole, ends below one of the roots, and its issuers are authorities.
    if not above:
        raise _unusable("the chain holds the signing certificate alone", _CHAIN_REMEDY)
    for child, parent in zip((leaf, *above), above, strict=False):
        if not _issued(child, [parent]):
            raise _unusable(f"`{_name(parent)}` did not issue `{_name(child)}`", _CHAIN_REMEDY)
    if not _issued(above[-1], roots):
        raise _unusable(f"none of the roots issued `{_name(above[-1])}`", _CHAIN_REMEDY)
    for authority in above:
        constraints = _extension(authority, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise _unusable(f"`{_name(authority)}` is not an authority", _CHAIN_REMEDY)
    # 2. All of them are in their time.
    for one in (leaf, *above):
        if not one.not_valid_before_utc <= at <= one.not_valid_after_utc:
            raise ProvenanceError(
                "signing.expired",
                f"`{_name(one)}` is valid from `{one.not_valid_before_utc:%Y-%m-%d}` to "
                f"`{one.not_valid_after_utc:%Y-%m-%d}`, and it is `{at:%Y-%m-%d}`",
                "renew the certificate, or correct the clock",
            )
    # 3. The leaf is for signing claims (§14.5.1.1).
    _require_profile(leaf)
    # 4. The key is the certificate's: `sign` verifies.
    credential.sign(os.urandom(32))
    return credential


def _require_profile(leaf: x509.Certificate) -> None:
    constraints, usage = _extension(leaf, x509.BasicConstraints), _extension(leaf, x509.KeyUsage)
    extended = frozenset(_extension(leaf, x509.ExtendedKeyUsage) or ())
    wrong = None
    if constraints is not None and constraints.ca:
        wrong = "is an authority's own certificate"
    elif usage is None or not usage.digital_signature or usage.key_cert_sign:
        wrong = "lacks the key usage `digitalSignature`, or has more than it may"
    elif not extended & _MAY_SIGN_CLAIMS:
        wrong = "lacks the extended key usage for C2PA claims (1.3.6.1.4.1.62558.2.1)"
    elif extended & _NEVER_BESIDE:
        wrong = "has an extended key usage that a claim signer must not have (any, time-stamping or OCSP)"
    elif _extension(leaf, x509.AuthorityKeyIdentifier) is None:
        wrong = "does not name its issuer's key"
    if wrong is not None:
        raise ProvenanceError("signing.profile", f"the signing certificate {wrong}", _CERTIFICATE_REMEDY)


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _issued(child: x509.Certificate, parents: Sequence[x509.Certificate]) -> bool:
    for parent in parents:
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _readings(answer: bytes, half: int) -> list[bytes]:
    """What an answer may be in DER: as it is, or made from r ‖ s."""
    if len(answer) != 2 * half:
        return [answer]
    r, s = int.from_bytes(answer[:half], "big"), int.from_bytes(answer[half:], "big")
    return [utils.encode_dss_signature(r, s), answer]


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _unusable(sentence: str, remedy: str) -> ProvenanceError:
    return ProvenanceError("signing.unusable", sentence, remedy)


_KEY_REMEDY: Final = "give the key that belongs to the first certificate in COUNTERSIGN_SIGNING_CHAIN"
_PKCS11_REMEDY: Final = (
    "check COUNTERSIGN_SIGNING_PKCS11_MODULE, _TOKEN, _KEY and _PIN_FILE, and that the token is present"
)
_COMMAND_REMEDY: Final = "COUNTERSIGN_SIGNING_COMMAND gets the digest on standard input and answers its ECDSA signature; try it by hand"
_CERTIFICATE_REMEDY: Final = "give a certificate for signing C2PA claims, as C2PA 2.4 §14.5.1 describes it"
_CHAIN_REMEDY: Final = "COUNTERSIGN_SIGNING_CHAIN holds the signing certificate, then each issuer; COUNTERSIGN_SIGNING_ROOTS their root"
