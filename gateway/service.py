"""The composition root: everything the service is made of, opened in the order it depends on.

A start either yields a service that can do its whole work, or fails with the reason: keys that are damaged, a
log that contradicts what was signed, an object store that overwrites, a signer whose canary is not found out.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway import demo_issuer, retention
from gateway.background import in_background
from gateway.courier import delivering
from gateway.notices.mail import mailing
from gateway.settings import Settings
from gateway.signing import Signing
from generator.pipeline import Pipeline
from generator.reference import ReferenceRenderer
from generator.stamp import Stamper
from ledger.errors import LedgerError
from ledger.keys import Keyring
from ledger.log.policy import Policy
from ledger.log.sequencer import Ledger
from ledger.provenance import media, tsa
from ledger.provenance.manifest import Signer, canary
from ledger.provenance.verdict import Verifier
from ledger.sandbox import Sandbox
from ledger.store.database import Database
from ledger.store.objects import Objects
from safety import copies, prompt
from safety.chain import Sealer
from safety.errors import CheckUnavailable, SafetyError
from safety.gate import Gate
from safety.models import Folder
from safety.policy.activation import Activated, archive, seed
from safety.policy.engine import Engine
from safety.workers import Workers

DEFAULT_MODEL = "countersign-reference"
_AGAIN_S = 60.0
_log = logging.getLogger(__name__)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Service:
    settings: Settings
    clock: Callable[[], datetime]
    keyring: Keyring
    ledger: Ledger
    gate: Gate
    sets: Activated
    objects: Objects
    verifier: Verifier
    eyes: Workers
    """What opens the files that strangers send, closed in."""
    signing: Signing
    pipeline: Pipeline
    demo_issuer: str = ""
    """Where the embedded age issuer listens, if this service runs one."""

    @property
    def models(self) -> list[str]:
        return sorted(self.pipeline.backends)


@contextmanager
def open_service(settings: Settings, *, clock: Callable[[], datetime] = now) -> Iterator[Service]:
    """Open everything but the job queue, which only a serving process runs (:func:`running_jobs`)."""
    home = settings.home
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # prompts, jobs and clips that were not cleared are in here
    with ExitStack() as stack:
        keyring = Keyring.open(home / "keys")
        database = Database(settings.database)
        database.migrate()
        policy = Policy.parse(settings.witnesses.read_bytes()) if settings.witnesses else None
        workers = ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn"))
        stack.callback(workers.shutdown)
        ledger = Ledger(
            database,
            keyring,
            settings.origin,
            home / "log",
            policy=policy,
            linger_s=settings.linger_ms / 1000,
            workers=workers,
        )
        stack.callback(ledger.close)
        signing = Signing.open(settings, ledger, clock)
        tsa_url = settings.tsa_url
        if signing.configured is None and not tsa_url:
            tsa_url = stack.enter_context(tsa.serve(signing.authority(), clock))
        sets = Activated()
        gate = Gate(ledger, sets, Sealer(keyring.permit), Folder(settings.models))
        limits = media.Limits(max_bytes=settings.max_upload_mb << 20)
        eyes = Workers(3, sandbox=Sandbox(whole=settings.sandbox == "whole"))
        stack.callback(eyes.close)
        minds = Workers(1)
        stack.callback(minds.close)
        objects = Objects.local(home / "objects")
        renderer = ReferenceRenderer()
        stamper = Stamper(
            keyring.watermark,
            Signer(signing, tsa_url),
            signing.believed,
            settings.origin,
            settings.url,
            settings.provider,
        )
        service = Service(
            settings=settings,
            clock=clock,
            keyring=keyring,
            ledger=ledger,
            gate=gate,
            sets=sets,
            objects=objects,
            verifier=Verifier(ledger, signing.believed, keyring.watermark, limits, eyes, minds, gate.clips),
            eyes=eyes,
            signing=signing,
            pipeline=Pipeline(gate, {renderer.name: renderer}, stamper, objects, home / "work", clock),
        )
        _seed_policies(service)
        if settings.age_issuer == "demo":
            address = stack.enter_context(demo_issuer.serve(clock, f"{settings.url}/age/return"))
            service = replace(service, demo_issuer=address)
        yield service


def _warm(_stop: threading.Event) -> None:
    """Load what every request needs; one that comes meanwhile waits for it."""
    try:
        prompt.warm()
    except CheckUnavailable as unavailable:
        # Nothing is made; everything else, revoking above all, goes on.
        _log.error("every request will be denied: %s (%s)", unavailable, unavailable.reason.remedy)


@contextmanager
def running_jobs(service: Service) -> Iterator[None]:
    """Run the job queue, once the signer has shown that it marks what it should and notices what it must."""
    shutil.rmtree(service.settings.uploads, ignore_errors=True)
    service.settings.uploads.mkdir(parents=True)
    service.signing.check()
    with TemporaryDirectory(prefix="canary-") as directory:
        stamper = service.pipeline.stamper
        canary(stamper.signer, service.signing.anchors, Path(directory), at=service.clock())
    service.pipeline.launch(service.settings.jobs_database, concurrency=service.settings.renders_at_once)
    private = service.settings.webhooks_to_private
    try:
        with (
            in_background("warming", _warm),
            in_background("wrapping", partial(_rotate_wrapping, service)),
            in_background("fingerprints", partial(_fill_fingerprints, service)),
            delivering(service.ledger, service.clock, to_private=private),
            mailing(service.ledger, service.settings, service.clock),
            retention.running(service),
        ):
            yield
    finally:
        service.pipeline.close()


def _seed_policies(service: Service) -> None:
    """The first set of a log comes into force with its first start; every later one by :mod:`gateway.orders`."""
    engine, at = Engine.load(service.settings.policies), service.clock()
    if engine.policies is None:
        sentence = engine.fault.sentence if engine.fault else ""
        _log.error("the policies in %s are not usable: %s", service.settings.policies, sentence)
        return
    files = engine.policies.files
    with service.ledger.reading() as tx:
        in_force = tx.policies()
    if in_force is None:
        in_force = service.ledger.transact(lambda tx: seed(tx, files, at=at))
    if in_force.current == engine.policy_set_hash and not _archived(service, engine.policy_set_hash):
        # The archive lost what is in force, and here it is.
        service.ledger.transact(lambda tx: archive(tx, files, at=at))
    if in_force.current != engine.policy_set_hash:
        _log.warning(
            "the policies in %s are not those in force: `countersign policy activate` changes that",
            service.settings.policies,
        )


def _archived(service: Service, set_sha256: str) -> bool:
    with service.ledger.reading() as tx:
        return service.sets.of(tx, set_sha256).policies is not None


def _fill_fingerprints(service: Service, stop: threading.Event) -> None:
    """Look at what was released before fingerprints were kept, a few clips at a time."""
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            if not copies.fill(service.ledger, service.objects, service.settings.home / "work"):
                return
            wait_s = 0.0
        except (LedgerError, SafetyError) as error:
            _log.warning("fingerprints of earlier clips cannot be made now: %s", error.reason.sentence)
            wait_s = _AGAIN_S


def _rotate_wrapping(service: Service, stop: threading.Event) -> None:
    """Keep the wrapping key short-lived, so that an erasure soon reaches the backups too."""
    life_s = service.settings.wrapping_hours * 3600
    while not stop.wait(max(1.0, life_s - service.keyring.wrapping.age_s(service.clock()))):
        with suppress(LedgerError):  # tried again in a moment
            service.ledger.rotate_wrapping()
