"""Settings, from the environment (`COUNTERSIGN_…`) and nowhere else.

The defaults run everything on this machine with no account and no network.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ledger.provenance.profiles import ProfileId


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="COUNTERSIGN_", frozen=True)

    home: Path = Path("var/countersign")
    """Keys, database, clips and the signed checkpoint. Back it up whole, or not at all."""
    database_url: str = ""
    """Empty: SQLite inside `home`. `postgresql+psycopg://…` at scale."""
    host: str = "127.0.0.1"
    port: int = 8460
    base_url: str = ""
    """How others reach this service; goes into manifests, and passkeys are bound to its host, which must be a name.

    Empty: `http://host:port`, or `http://localhost:port` where the host is this machine.
    """
    origin: str = "countersign.local/log"
    """The log's name, for ever: it is in every checkpoint."""
    witnesses: Path | None = None
    """A tlog-policy file: whom to ask to cosign, and how many must. None: what is signed is published."""
    linger_ms: float = 0
    """How long a commit waits for more to commit with it. 0: only while another commit is in flight."""
    wrapping_hours: float = 24
    """How long people's keys stay wrapped under one key: how long after an erasure an old backup still opens."""
    policies: Path = Path(__file__).resolve().parent.parent / "policies"
    """The policy set a new log begins with. Later ones come into force by `countersign policy activate`."""
    tsa_url: str = ""
    """An RFC 3161 authority. Empty: the embedded development one."""
    tsa_roots: Path | None = None
    """The roots (PEM) of that authority, without which its time-stamps count for nothing."""
    signing_chain: Path | None = None
    """What clips are signed with (PEM): the claim certificate, then each issuer but the root. None: the embedded
    development authority. With it goes one of the three kinds of key below."""
    signing_roots: Path | None = None
    """The roots (PEM) that chain ends below."""
    signing_key: Path | None = None
    """The claim key as a PEM file."""
    signing_pkcs11_module: Path | None = None
    """The claim key in a PKCS#11 token: the library, the token's label, the key's, and a file with the PIN."""
    signing_pkcs11_token: str = ""
    signing_pkcs11_key: str = ""
    signing_pkcs11_pin_file: Path | None = None
    signing_command: str = ""
    """The claim key behind a command: it gets a digest on standard input and answers the ECDSA signature, within 10 s.
    `COUNTERSIGN_ALG` says ES256 or ES384. For key services; see `ledger/provenance/signing.py`."""
    trusted_elsewhere: Path | None = None
    """Roots (PEM) that others believe, like the official C2PA trust list: their clips are told from a stranger's."""
    provider: str = "Countersign"
    """Who runs this service, as clips name them: what laws call the provider."""
    profiles: Annotated[tuple[ProfileId, ...], NoDecode] = ()
    """By which rules every clip is marked, whatever its app asks for: `eu,cn`. See `ledger/provenance/profiles.py`."""
    visible_label: bool = False
    """Whether every clip says in the picture that AI made it."""
    age_issuer: str = ""
    """The OpenID Connect issuer believed about people's ages. Empty: nobody's age can be shown; `demo`: an embedded
    one that believes everybody, for demonstrations only."""
    age_client_id: str = "countersign"
    age_client_secret: str = ""
    capture_anchors: Path | None = None
    """Certificates (PEM) of camera makers whose C2PA signature on an enrolment film is shown to the operator."""
    max_upload_mb: int = 200
    sandbox: Literal["whole", "partial"] = "whole"
    """`partial`: files of strangers are looked at also where this system can not keep what looks at them from the
    network, from writing, or from reading what is not theirs. Memory and time are bounded all the same."""
    renders_at_once: int = 1
    workers: int = 2
    """Processes that verify and seal large batches. They start with the first one."""
    session_hours: int = 12
    """How long a session lasts at most."""
    idle_minutes: int = 120
    """How long it lasts while nothing is asked in it."""
    proxies: int = 0
    """How many reverse proxies of yours stand before this service: whose word on a client's address is believed."""
    sign_ins_per_address: int = 120
    """Within five minutes; asking for a challenge counts as well."""
    failures_per_account: int = 20
    """Sign-ins with a wrong signature by one account's keys, within five minutes."""
    accounts_per_address: int = 20
    """Within an hour; asking counts as well."""
    recoveries_per_address: int = 10
    """Within an hour."""
    webhooks_to_private: bool = False
    """For development: webhooks may go to this machine and to private networks, and over http."""
    mail: str = ""
    """`smtp://user:password@host:587` or `smtps://…`. Empty, for development: letters lie in `home/mail` as files."""
    mail_from: str = "notices@countersign.local"
    """Who our letters are from."""

    @field_validator("profiles", mode="before")
    @classmethod
    def _listed(cls, said: object) -> object:
        return [one.strip() for one in said.split(",") if one.strip()] if isinstance(said, str) else said

    @property
    def uploads(self) -> Path:
        """Where files of a request in progress lie; emptied at every start, so that no crash keeps one."""
        return self.home / "uploads"

    @property
    def models(self) -> Path:
        """Where the weights lie that `countersign models add` and `fetch` brought."""
        return self.home / "models"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'ledger.db'}"

    @property
    def jobs_database(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'jobs.db'}"

    @property
    def url(self) -> str:
        # WebAuthn knows no addresses, and of the names of this machine only this one is a secure context.
        here = self.host in {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 — compared, not bound
        return self.base_url.rstrip("/") or f"http://{'localhost' if here else self.host}:{self.port}"

    @property
    def rp_id(self) -> str:
        """WebAuthn's relying party: what passkeys made here are bound to. Empty where the host is an address."""
        name = urlsplit(self.url).hostname or ""
        return "" if name.rpartition(".")[2].isdecimal() or ":" in name else name
