"""Settings, from the environment (`COUNTERSIGN_…`) and nowhere else.

The defaults run everything on this machine with no account and no network.
"""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="COUNTERSIGN_", frozen=True)

    home: Path = Path("var/countersign")
    """Keys, database, clips and the signed checkpoint. Back it up whole, or not at all."""
    database_url: str = ""
    """Empty: SQLite inside `home`. `postgresql+psycopg://…` at scale."""
    host: str = "127.0.0.1"
    port: int = 8460
    base_url: str = ""
    """How others reach this service; goes into manifests. Empty: `http://host:port`."""
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
    max_upload_mb: int = 200
    renders_at_once: int = 1
    workers: int = 2
    """Processes that verify and seal large batches. They start with the first one."""
    session_hours: int = 12
    mail: str = ""
    """`smtp://user:password@host:587` or `smtps://…`. Empty, for development: letters lie in `home/mail` as files."""
    mail_from: str = "notices@countersign.local"
    """Who our letters are from."""

    @property
    def uploads(self) -> Path:
        """Where files of a request in progress lie; emptied at every start, so that no crash keeps one."""
        return self.home / "uploads"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'ledger.db'}"

    @property
    def jobs_database(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'jobs.db'}"

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/") or f"http://{self.host}:{self.port}"
