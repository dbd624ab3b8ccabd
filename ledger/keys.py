"""Key files of one installation, and the encryption that erasure relies on.

Every key is 32 random bytes in a file of mode 0600, created once with O_EXCL so that two processes starting
together agree on the winner. Ed25519 keys: `log` (checkpoints), `service` (leaves), `permit` (what may be
rendered). AES-256-GCM key: `master` (wraps one random key per person). HMAC-style key: `watermark`.

Erasing a person is destroying their wrapped key: bodies and openings sealed under it become noise, in the
live database at once, and in a backup as soon as the backup's master key is gone.
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import Unavailable

_NONCE = 12


@dataclass(frozen=True, slots=True)
class Keyring:
    log: Ed25519PrivateKey = field(repr=False)
    service: Ed25519PrivateKey = field(repr=False)
    permit: Ed25519PrivateKey = field(repr=False)
    watermark: bytes = field(repr=False)
    master: bytes = field(repr=False)

    @classmethod
    def open(cls, directory: Path) -> "Keyring":
        """Load the keys, creating what has never existed. Raises Unavailable for a damaged file."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

        def signing(name: str) -> Ed25519PrivateKey:
            return Ed25519PrivateKey.from_private_bytes(_load(directory / f"{name}.key"))

        return cls(
            log=signing("log"),
            service=signing("service"),
            permit=signing("permit"),
            watermark=_load(directory / "watermark.key"),
            master=_load(directory / "master.key"),
        )


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


def _load(path: Path) -> bytes:
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
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    key = path.read_bytes()
    if len(key) != 32:
        raise Unavailable(
            "keys.damaged",
            f"key file `{path.name}` holds {len(key)} bytes, not 32",
            "restore it from your backup",
        )
    return key
