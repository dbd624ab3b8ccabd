"""Events told to apps: signed, durable, retried, never doubled, and never sent into our own network."""

import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway import courier
from gateway.courier import AFTER_S, CLAIM_S, Courier, checked, is_public, next_attempt, send
from ledger.ids import AppId, new_id
from ledger.log.sequencer import Ledger
from ledger.store import records
from ledger.store.outbox import Claimed
from ledger.store.transaction import Transaction
from live import PATIENCE_S, Launcher, Site, free_port
from test_owners_api import reason_of
from test_store import Home, home, new_app, postgres, url
from world import START

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow
__all__ = ["home", "postgres", "url"]  # the fixtures of both databases


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """An app's endpoint: answers each request as `answers` says, and at last 204."""

    port: int
    requests: list[Received] = field(default_factory=list)
    answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def wait(self, count: int, *, within_s: float = 20) -> list[Received]:
        until = time.monotonic() + within_s
        while len(self.requests) < count and time.monotonic() < until:
            time.sleep(0.05)
        assert len(self.requests) >= count, f"{len(self.requests)} of {count} events came"
        return list(self.requests)


@contextmanager
def receiving(
    *answers: int | Callable[[BaseHTTPRequestHandler], None],
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.answers.pop(0) if receiver.answers else 204
            receiver.requests.append(Received(self.path, headers, body, time.monotonic()))
            if isinstance(answer, int):
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()
            else:
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Endpoint)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up on us is no news
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver = Receiver(server.server_address[1], answers=list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()


def add_endpoint(ledger: Ledger, app: AppId, url: str, secret: bytes = b"s" * 32) -> str:
    webhook = records.Webhook(new_id("webhook"), app, url, created_at=0)
    ledger.transact(lambda tx: tx.add_webhook(webhook, secret))
    return webhook.id


def tell(ledger: Ledger, app: AppId, number: int = 0, *, at: datetime = START) -> None:
    ledger.transact(lambda tx: tx.event(app, "video.completed", {"video_id": f"video_{number}"}, at=at))


def told(ledger: Ledger, webhook_id: str) -> list[records.Delivery]:
    with ledger.reading() as tx:
        return tx.deliveries(webhook_id)


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    opened = home.start()
    yield opened
    opened.close()


# Over a running service --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(launcher, tmp_path_factory.mktemp("hooks") / "home", env={"WEBHOOKS_TO_PRIVATE": "true"})
    site.start()
    yield site
    site.stop()


def endpoint(site: Site, url: str, app: str = "film club") -> dict[str, Any]:
    with site.client(app) as web:
        answer = web.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask_for_test(site: Site, webhook_id: str) -> str:
    with site.client("film club") as web:
        answer = web.post(f"/v1/webhooks/{webhook_id}/test")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["event_id"])


def deliveries(site: Site, webhook_id: str) -> list[dict[str, Any]]:
    with site.client("film club") as web:
        found: list[dict[str, Any]] = web.get(f"/v1/webhooks/{webhook_id}/deliveries").json()["deliveries"]
    return found


def settled(site: Site, webhook_id: str) -> dict[str, Any]:
    """The newest delivery, once something became of its attempt."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        newest = deliveries(site, webhook_id)[0]
        if newest["last_status"] is not None:
            return newest
        time.sleep(0.05)
    raise AssertionError(f"nothing became of it: {newest}")


def test_an_event_is_one_that_the_specifications_library_accepts(site: Site) -> None:
    with receiving() as receiver:
        made = endpoint(site, receiver.url)
        event_id = ask_for_test(site, made["id"])
        (got,) = receiver.wait(1)
        delivered = settled(site, made["id"])
    payload = Webhook(made["secret"]).verify(got.body, got.headers)
    assert payload.keys() == {"type", "timestamp", "data"}
    assert (payload["type"], payload["data"]) == ("webhook.test", {"webhook_id": made["id"]})
    assert got.headers["webhook-id"] == event_id
    assert (delivered["attempts"], delivered["last_status"], delivered["next_at"]) == (1, "204", None)
    assert delivered["delivered_at"]
    for body, secret in (
        (got.body + b" ", made["secret"]),
        (got.body, endpoint(site, receiver.url)["secret"]),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, got.headers)


def test_the_secret_is_shown_once_and_lies_nowhere_in_the_open(site: Site) -> None:
    made = endpoint(site, "https://example.com/hook", "other app")
    with site.client("other app") as web:
        listed = web.get("/v1/webhooks")
    assert made["secret"].startswith("whsec_")
    assert listed.json() == {"webhooks": [{name: made[name] for name in made if name != "secret"}]}
    raw = Webhook(made["secret"])._whsecret
    assert len(raw) == 32
    for path in site.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert raw not in content, path
            assert made["secret"].encode() not in content, path


def test_what_failed_comes_again_under_the_same_id(site: Site) -> None:
    with receiving(500, 302) as receiver:
        made = endpoint(site, receiver.url)
        event_id = ask_for_test(site, made["id"])
        first, second = receiver.wait(2)[:2]
        again = settled(site, made["id"])
    assert second.at - first.at >= 5
    assert [one.headers["webhook-id"] for one in (first, second)] == [event_id, event_id]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    for one in (first, second):
        Webhook(made["secret"]).verify(one.body, one.headers)
    # The second answer was a redirect: nobody went there, and it counts as a failure.
    assert [one.path for one in receiver.requests] == ["/events", "/events"]
    assert again["delivered_at"] is None


def test_an_event_survives_a_service_that_is_killed(launcher: Launcher, tmp_path: Path) -> None:
    site = Site(launcher, tmp_path / "home", env={"WEBHOOKS_TO_PRIVATE": "true"})
    site.start()
    port = free_port()
    made = endpoint(site, f"http://127.0.0.1:{port}/events")
    event_id = ask_for_test(site, made["id"])
    assert site.pid is not None
    os.kill(site.pid, signal.SIGKILL)
    assert site.ended() == -signal.SIGKILL
    with receiving(port=port) as receiver:
        site.start(ahead_s=CLAIM_S)  # whatever it had claimed is free again
        got = receiver.wait(1)[0]
        site.stop()
    assert got.headers["webhook-id"] == event_id
    Webhook(made["secret"]).verify(got.body, got.headers)


def test_who_is_gone_or_was_deleted_gets_nothing_more(site: Site) -> None:
    with receiving(410) as gone, receiving() as deleted:
        first, second = endpoint(site, gone.url), endpoint(site, deleted.url)
        ask_for_test(site, first["id"])
        gone.wait(1)
        settled(site, first["id"])
        with site.client("film club") as web:
            assert web.delete(f"/v1/webhooks/{second['id']}").status_code == 204
            listed = {one["id"]: one for one in web.get("/v1/webhooks").json()["webhooks"]}
            assert listed[first["id"]]["disabled_at"]
            assert second["id"] not in listed
            answer = web.post(f"/v1/webhooks/{first['id']}/test")
            assert reason_of(answer, 400) == "webhook.disabled"
            assert reason_of(web.post(f"/v1/webhooks/{second['id']}/test"), 404) == "webhook.unknown"
        time.sleep(1)
        assert len(gone.requests) == 1
        assert deleted.requests == []


def test_a_webhook_is_its_apps_own(site: Site) -> None:
    made = endpoint(site, "https://example.com/hook")
    with site.client("third app") as other, site.client() as nobody:
        assert other.get("/v1/webhooks").json() == {"webhooks": []}
        for answer in (
            other.get(f"/v1/webhooks/{made['id']}/deliveries"),
            other.post(f"/v1/webhooks/{made['id']}/test"),
            other.delete(f"/v1/webhooks/{made['id']}"),
        ):
            assert reason_of(answer, 404) == "webhook.unknown"
        assert reason_of(nobody.get("/v1/webhooks"), 401) == "access.key"
        for _ in range(10):
            assert other.post("/v1/webhooks", json={"url": "https://example.com/"}).status_code == 201
        assert (
            reason_of(other.post("/v1/webhooks", json={"url": "https://example.com/"}), 400)
            == "webhook.too_many"
        )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/hook", "webhook.url"),
        ("ftp://example.com/hook", "webhook.url"),
        ("https://", "webhook.url"),
        ("https:///hook", "webhook.url"),
        ("https://user@example.com/", "webhook.url"),
        ("https://user:pass@example.com/", "webhook.url"),
        ("https://example.com/#part", "webhook.url"),
        ("https://example.com:99999/", "webhook.url"),
        ("https://exam ple.com/", "webhook.url"),
        ("https://example.com\\@127.0.0.1/", "webhook.url"),
        ("https://exämple.com/", "webhook.url"),
        ("https://[::1", "webhook.url"),
        ("https://127.0.0.1/", "webhook.address"),
        ("https://169.254.169.254/latest/meta-data", "webhook.address"),
        ("https://[::1]/", "webhook.address"),
        ("https://[::ffff:127.0.0.1]/", "webhook.address"),
        ("https://[fd00:ec2::254]/", "webhook.address"),
    ],
)
def test_an_address_we_would_never_send_to_is_refused_at_once(live: Site, url: str, reason: str) -> None:
    with live.client("film club") as web:
        assert reason_of(web.post("/v1/webhooks", json={"url": url}), 400) == reason


def test_a_name_that_leads_to_this_machine_is_found_out_when_it_is_delivered_to(live: Site) -> None:
    with receiving() as receiver:
        made = endpoint(live, f"https://localhost:{receiver.port}/")
        ask_for_test(live, made["id"])
        assert settled(live, made["id"])["last_status"] == "address_not_public"
        assert receiver.requests == []


# Which addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255"),
        *("169.254.169.254", "169.254.170.2", "168.63.129.16", "172.16.0.1", "172.31.255.255"),
        *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *(
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
        ),
        *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1"),
        *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    ],
)
def test_an_address_that_is_nobodys_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(courier.NotPublic):
        checked([address], to_private=False)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111"])
def test_an_address_of_the_internet_is_used(address: str) -> None:
    assert checked([address], to_private=False) == address


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_not_to_be(address: Any) -> None:
    if is_public(address):
        assert address.is_global
        assert not any((address.is_multicast, address.is_loopback, address.is_link_local))


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    for found in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], []):
        with pytest.raises(courier.NotPublic):
            checked(found, to_private=False)


def lead(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Names lead to these addresses, one after the other. Returns the names that were asked for."""
    asked: list[str] = []
    real, left = socket.getaddrinfo, list(answers)

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *args, **options)
        asked.append(host)
        return real(left.pop(0) if len(left) > 1 else left[0], port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_is_looked_up_once_for_each_delivery_and_that_very_address_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as receiver:
        # Rebinding: what was checked is not what a second look-up would find.
        asked = lead(monkeypatch, "127.0.0.1", "192.0.2.1")
        at = f"http://app.example:{receiver.port}/events"
        assert send(at, b"{}", {}, to_private=True) == "204"
        assert asked == ["app.example"]
        assert receiver.requests[0].headers["host"] == f"app.example:{receiver.port}"
        lead(monkeypatch, "127.0.0.1")
        assert send(at, b"{}", {}) == "address_not_public"
        assert len(receiver.requests) == 1


# What an endpoint may do to us ---------------------------------------------------------------------------------


def drip(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(100):
        handler.wfile.write(b"H")
        time.sleep(0.1)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(1 << 40))
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x" * (1 << 20))


def many_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.flush_headers()
    for number in range(100_000):
        handler.wfile.write(b"x-%d: y\r\n" % number)


@pytest.mark.parametrize(
    ("behaviour", "status"), [(drip, "timeout"), (endless, "200"), (many_headers, "not_http")]
)
def test_an_endpoint_cannot_hold_us_or_fill_us(
    behaviour: Callable[[BaseHTTPRequestHandler], None], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "TIMEOUT_S", 1.0)
    with receiving(behaviour) as receiver:
        began = time.monotonic()
        assert send(receiver.url, b"{}", {}, to_private=True) == status
        assert time.monotonic() - began < 2


def test_nobody_there_is_said_in_a_word() -> None:
    assert send(f"http://127.0.0.1:{free_port()}/", b"{}", {}, to_private=True) == "unreachable"


def test_a_certificate_must_be_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certified(tmp_path, "app.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    lead(monkeypatch, "127.0.0.1")
    with receiving(tls=context) as receiver:
        right, wrong = (f"https://{name}.example:{receiver.port}/" for name in ("app", "other"))
        assert send(right, b"{}", {}, to_private=True) == "204"
        assert send(wrong, b"{}", {}, to_private=True) == "unreachable"
        monkeypatch.delenv("SSL_CERT_FILE")
        assert send(right, b"{}", {}, to_private=True) == "unreachable"
        assert len(receiver.requests) == 1


def certified(folder: Path, name: str) -> ssl.SSLContext:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


# The outbox, on both databases ------------------------------------------------------------------------------


class Answers:
    """Stands for the network: what every attempt is answered with."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []

    def __call__(self, url: str, body: bytes, headers: dict[str, str], *, to_private: bool) -> str:
        self.sent.append((url, body, headers))
        return self.status


def round_of(courier: Courier) -> list[Claimed]:
    claimed = courier.claim()
    for one in claimed:
        courier.deliver(one)
    return claimed


def test_an_event_is_kept_with_what_it_tells_of_or_not_at_all(ledger: Ledger) -> None:
    app = new_app(ledger)
    hook = add_endpoint(ledger, app, "https://example.com/")

    def undone(tx: Transaction) -> None:
        tx.event(app, "video.completed", {"video_id": "video_1"}, at=START)
        raise RuntimeError("something else of it failed")

    with pytest.raises(RuntimeError):
        ledger.transact(undone)
    assert told(ledger, hook) == []
    tell(ledger, app)
    assert [json.loads(one.payload) for one in told(ledger, hook)] == [
        {"type": "video.completed", "timestamp": "2026-03-01T12:00:00Z", "data": {"video_id": "video_0"}}
    ]


def test_an_event_goes_to_every_live_endpoint_of_its_app_under_one_id(ledger: Ledger) -> None:
    app, other = new_app(ledger), new_app(ledger)
    hooks = [add_endpoint(ledger, app, f"https://example.com/{number}") for number in range(2)]
    disabled, foreign = (
        add_endpoint(ledger, app, "https://example.com/2"),
        add_endpoint(ledger, other, "https://o.example/"),
    )
    ledger.transact(lambda tx: tx.disable_webhook(disabled, at=START))
    tell(ledger, app)
    ids = [[one.id for one in told(ledger, hook)] for hook in hooks]
    assert ids[0] == ids[1] != []
    assert told(ledger, disabled) == told(ledger, foreign) == []


def test_attempts_follow_the_specifications_schedule_and_then_the_endpoint_is_disabled(
    ledger: Ledger,
) -> None:
    app, now = new_app(ledger), [START]
    hook = add_endpoint(ledger, app, "https://example.com/")
    tell(ledger, app, 0)
    answers = Answers("503")
    courier = Courier(ledger, lambda: now[0], send=answers)
    waits = []
    while True:
        assert len(round_of(courier)) == 1
        assert round_of(courier) == []  # nothing more is due now
        (delivery,) = told(ledger, hook)
        if delivery.next_at is None:
            break
        waits.append(delivery.next_at - int(now[0].timestamp()))
        now[0] = datetime.fromtimestamp(delivery.next_at, UTC)
    for waited, suggested in zip(waits, AFTER_S, strict=True):
        assert suggested <= waited <= suggested * 1.1 + 1  # whole seconds, and never early
    assert (delivery.attempts, delivery.last_status, delivery.delivered_at) == (10, "503", None)
    assert len({headers["webhook-id"] for _, _, headers in answers.sent}) == 1
    with ledger.reading() as tx:
        (webhook,) = tx.webhooks(app)
    assert webhook.disabled_at == int(now[0].timestamp())
    tell(ledger, app, 1, at=now[0])
    assert round_of(courier) == []
    assert len(told(ledger, hook)) == 1


def test_what_waits_for_an_endpoint_that_is_gone_is_not_sent(ledger: Ledger) -> None:
    app = new_app(ledger)
    hook = add_endpoint(ledger, app, "https://example.com/")
    for number in range(3):
        tell(ledger, app, number)
    answers = Answers("410")
    courier = Courier(ledger, lambda: START, send=answers)
    assert len(round_of(courier)) == 1
    assert round_of(courier) == []
    assert [one.next_at for one in told(ledger, hook)] == [None] * 3
    assert len(answers.sent) == 1


def test_a_claim_ends_with_its_time_and_a_late_word_changes_nothing(ledger: Ledger) -> None:
    app, now = new_app(ledger), [START]
    hook = add_endpoint(ledger, app, "https://example.com/")
    tell(ledger, app)
    died = Courier(ledger, lambda: now[0], send=Answers("500")).claim()
    assert len(died) == 1
    courier = Courier(ledger, lambda: now[0], send=Answers("200"))
    now[0] += timedelta(seconds=CLAIM_S - 1)
    assert courier.claim() == []
    now[0] += timedelta(seconds=1)
    assert [one.delivery.id for one in round_of(courier)] == [died[0].delivery.id]
    Courier(ledger, lambda: now[0], send=Answers("500")).deliver(died[0])
    (delivery,) = told(ledger, hook)
    assert (delivery.last_status, delivery.attempts, delivery.next_at) == ("200", 2, None)


def test_several_processes_deliver_every_event_once(home: Home) -> None:
    count = 12
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving()) for _ in range(3)]
        ledgers = [home.start() for _ in range(2)]
        for one in ledgers:
            stack.callback(one.close)
        app = new_app(ledgers[0])
        hooks = [add_endpoint(ledgers[0], app, one.url) for one in receivers]
        for number in range(count):
            tell(ledgers[number % 2], app, number, at=datetime.now(UTC))
        for one in ledgers:
            stack.enter_context(courier.delivering(one, lambda: datetime.now(UTC), to_private=True))
        for receiver in receivers:
            receiver.wait(count, within_s=40)
        time.sleep(0.5)
        for receiver, hook in zip(receivers, hooks, strict=True):
            ids = [one.headers["webhook-id"] for one in receiver.requests]
            assert len(ids) == len(set(ids)) == count
            for got in receiver.requests:
                Webhook(b"s" * 32).verify(got.body, got.headers)
            assert {one.id for one in told(ledgers[0], hook)} == set(ids)


def test_an_endpoint_that_hangs_keeps_nobody_else_waiting(ledger: Ledger) -> None:
    done = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        done.wait(20)

    with receiving(hang) as slow, receiving() as quick:
        app = new_app(ledger)
        for one in (slow, quick):
            add_endpoint(ledger, app, one.url)
        for number in range(5):
            tell(ledger, app, number, at=datetime.now(UTC))
        with courier.delivering(ledger, lambda: datetime.now(UTC), to_private=True):
            quick.wait(5, within_s=8)
            assert len(slow.requests) == 1
            done.set()


def test_what_is_done_is_forgotten_and_what_waits_is_kept(ledger: Ledger) -> None:
    app = new_app(ledger)
    hook = add_endpoint(ledger, app, "https://example.com/")
    tell(ledger, app, 0)
    round_of(Courier(ledger, lambda: START, send=Answers("200")))
    tell(ledger, app, 1)
    ledger.transact(lambda tx: tx.forget_deliveries(before=START))
    assert len(told(ledger, hook)) == 2
    ledger.transact(lambda tx: tx.forget_deliveries(before=START + timedelta(days=1)))
    (left,) = told(ledger, hook)
    assert left.next_at is not None


def test_after_the_last_attempt_there_is_no_other() -> None:
    assert next_attempt(len(AFTER_S), at=START) is not None
    assert next_attempt(len(AFTER_S) + 1, at=START) is None
