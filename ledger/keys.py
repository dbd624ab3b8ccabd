"""Key files of one installation, and the encryption that erasure relies on.

Every key is 32 random bytes in a file of mode 0600, created once with O_EXCL so that two processes starting
together agree on the winner. Ed25519 keys: `log` (checkpoints), `service` (leaves), `permit` (what may be
rendered). P-256 key: `receipt`. HMAC-style key: `watermark`. `log`, `service` and `receipt` can be rotated:
`service-2.key` succeeds `service.key`, and so on.

Each person and app has one random key. Their entries are sealed under it, and :func:`list_key` derives from it
the key that numbers their entries in public. It is stored wrapped under a short-lived key (:class:`Wrapping`).
Erasing a person destroys their wrapped key: what was sealed under it becomes noise, in the live database at
once, and in every backup of the database as soon as the wrapping key of that time is destroyed. So wrapping keys
lie apart (`keys/wrapping/`) and must never be kept in the same backup, nor for longer than erasure may take.
"""

import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import LogError, Unavailable

_NONCE = 12
_WRAPPING_ID = 8
_LIST_KEY = b"countersign/list-key/v1"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Wrapping:
    """The short-lived keys that wrap people's keys: `wrapping/<id>.key`, the newest one wraps.

    A wrapped key is `id ‖ nonce ‖ ciphertext`. Call :meth:`wrap` and the two halves of a rotation only while
    holding the database's write lock: then no process wraps under a key that another one is destroying.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keys: dict[str, bytes] = {}
        if not self._names():
            # One name for everyone who starts at once; load_key lets the first of them decide what it holds.
            load_key(directory / f"{'0' * 2 * _WRAPPING_ID}.key")

    @property
    def current(self) -> str:
        return self._names()[-1]

    def age_s(self, at: datetime) -> float:
        """Seconds since the current key was made."""
        return at.timestamp() - (self._directory / f"{self.current}.key").stat().st_mtime

    def wrap(self, key: bytes, *, context: str) -> bytes:
        name = self.current
        return bytes.fromhex(name) + seal(self._key(name), key, context=context)

    def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Inverse of :meth:`wrap`. Raises Unavailable when the wrapping key has been destroyed."""
        name = wrapped[:_WRAPPING_ID].hex()
        return unseal(self._key(name), wrapped[_WRAPPING_ID:], context=context)

    def is_current(self, wrapped: bytes) -> bool:
        return wrapped[:_WRAPPING_ID].hex() == self.current

    def renew(self) -> None:
        """First half of a rotation: from now on a new key wraps. Durable when this returns."""
        following = int(self.current, 16) + 1
        load_key(self._directory / f"{following:0{2 * _WRAPPING_ID}x}.key")

    def destroy_old(self) -> int:
        """Second half, once nothing stored is wrapped under an older key. Returns how many were destroyed."""
        *old, _ = self._names()
        for name in old:
            path = self._directory / f"{name}.key"
            # Best effort against undelete; a device that keeps old blocks needs encryption below the file system.
            path.write_bytes(bytes(32))
            path.unlink()
            self._keys.pop(name, None)
        sync_folder(self._directory)
        return len(old)

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob("[0-9a-f]*.key"))

    def _key(self, name: str) -> bytes:
        path = self._directory / f"{name}.key"
        if name not in self._keys:
            if not path.exists():
                raise Unavailable(
                    "keys.wrapping",
                    f"the wrapping key `{name}` is not here: it was destroyed, or not restored",
                    "restore `keys/wrapping` from its own, short-lived backup",
                )
            self._keys[name] = load_key(path)
        return self._keys[name]


Rotated = Literal["service", "log", "receipt"]
"""Keys that the log announces, in the order in which it does first: the one that signs leaves before the others."""
SigningKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Keyring:
    log: Ed25519PrivateKey = field(repr=False)
    """The newest; :attr:`log_retired` are those it succeeded and that still sign beside it."""
    service: Ed25519PrivateKey = field(repr=False)
    receipt: ec.EllipticCurvePrivateKey = field(repr=False)
    permit: Ed25519PrivateKey = field(repr=False)
    watermark: bytes = field(repr=False)
    wrapping: Wrapping
    directory: Path
    log_retired: tuple[Ed25519PrivateKey, ...] = field(default=(), repr=False)

    @property
    def facts_key(self) -> bytes:
        """What facts are digested with: without it, a digest of few facts could be searched for them."""
        return hmac.digest(self.permit.private_bytes_raw(), b"countersign/facts/v1", "sha256")

    @classmethod
    def open(cls, directory: Path) -> "Keyring":
        """Load the keys, creating what has never existed. Raises Unavailable for a damaged file."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        *retired, log = map(Ed25519PrivateKey.from_private_bytes, _generations(directory, "log"))
        return cls(
            log=log,
            log_retired=tuple(retired),
            service=Ed25519PrivateKey.from_private_bytes(_generations(directory, "service")[-1]),
            receipt=_p256(_generations(directory, "receipt")[-1]),
            permit=Ed25519PrivateKey.from_private_bytes(load_key(directory / "permit.key")),
            watermark=load_key(directory / "watermark.key"),
            wrapping=Wrapping(directory / "wrapping"),
            directory=directory,
        )

    def candidate(self, role: Rotated) -> SigningKey:
        """The key to rotate to, durable under a name that no start loads. The same one until it is adopted.

        Raises LogError while another process adopts it: then that rotation is done.
        """
        try:
            return _signing(role, load_key(self._waiting(role)))
        except FileNotFoundError as error:
            raise LogError(
                "log.keys",
                f"another process has just rotated the `{role}` key",
                "rotate it again if you still want to",
            ) from error

    def adopt(self, role: Rotated) -> "Keyring":
        """The keyring after the candidate of `role` was announced. Harmless when another process was first."""
        newest = _names_of(self.directory, role)[-1].stem.removeprefix(role) or "-1"
        with suppress(FileNotFoundError):
            self._waiting(role).rename(self.directory / f"{role}-{int(newest[1:]) + 1}.key")
        sync_folder(self.directory)
        return Keyring.open(self.directory)

    def _waiting(self, role: Rotated) -> Path:
        return self.directory / f".next-{role}.key"


def list_key(subject_key: bytes) -> bytes:
    """The key K that numbers everything recorded about one person. Whoever holds it can follow that list."""
    return hmac.digest(subject_key, _LIST_KEY, "sha256")


def tag_of(key: bytes, n: int) -> bytes:
    """`t_n = HMAC-SHA256(K, "countersign/tag/v1" ‖ 00 ‖ u64be n)`: the public name of a person's n-th entry."""
    return hmac.digest(key, b"countersign/tag/v1\x00" + n.to_bytes(8, "big"), "sha256")


def new_person_key() -> bytes:
    return secrets.token_bytes(32)


def seal(key: bytes, plaintext: bytes, *, context: str) -> bytes:
    """AES-256-GCM, nonce first. `context` says what and whose it is, so rows cannot be swapped unnoticed."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context.encode())


def unseal(key: bytes, sealed: bytes, *, context: str) -> bytes:
    """Inverse of :func:`seal`. Raises Unavailable when the key or the context is not the one it was sealed with."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise Unavailable(
            "store.unreadable",
            f"stored data for `{context}` does not open with its key",
            "restore the key file this database was written with",
        ) from error


def _names_of(directory: Path, role: str) -> list[Path]:
    first, rest = directory / f"{role}.key", directory.glob(f"{role}-[0-9]*.key")
    return [first, *sorted(rest, key=lambda path: int(path.stem.rpartition("-")[2]))]


def _generations(directory: Path, role: str) -> list[bytes]:
    """The keys of a role that are still here, oldest first. The first one is made when there is none."""
    *older, newest = _names_of(directory, role)
    return [*(path.read_bytes() for path in older if path.exists()), load_key(newest)]


def _signing(role: Rotated, seed: bytes) -> SigningKey:
    return _p256(seed) if role == "receipt" else Ed25519PrivateKey.from_private_bytes(seed)


def _p256(seed: bytes) -> ec.EllipticCurvePrivateKey:
    """The private scalar of a 32-byte seed: 1 … n-1."""
    return ec.derive_private_key(int.from_bytes(seed, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def load_key(path: Path) -> bytes:
    """The 32 bytes in a key file, made at the first call. Raises Unavailable for a damaged file."""
    if not path.exists():
        # The temporary file is complete and durable before the name exists; link() refuses to overwrite.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process won; its key is the key
        finally:
            temporary.unlink()
        # The name must survive a power cut too, or the next start would make a second key.
        sync_folder(path.parent)
    key = path.read_bytes()
    if len(key) != 32:
        raise Unavailable(
            "keys.damaged",
            f"key file `{path.name}` holds {len(key)} bytes, not 32",
            "restore it from your backup",
        )
    return key


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
