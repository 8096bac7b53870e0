"""Messages over real HTTP: signed, sent once by however many senders, and written down as they were answered."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from cli.embedded import ValkeyServer
from client.webhooks import WebhookRefused, verify_webhook
from jobs import repository
from jobs.access.secrets import MasterKeys, new_master_key
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.housekeeping import maintain
from jobs.settings import Settings
from jobs.tables import Delivery, Webhook
from jobs.webhooks.deliveries import list_deliveries
from jobs.webhooks.outbound import OutboundPolicy
from jobs.webhooks.registry import create_webhook, rotate_secret, send_test
from jobs.webhooks.sending import Postman
from jobs.webhooks.tables import DeliveryState
from tests.jobs.conftest import Submit
from tests.jobs.webhooks.receiver import Receiver, answering, receiving

DEADLINE_S = 30.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def able(database_settings: Settings, receiver: Receiver) -> Settings:
    """Settings under which the receiver may be reached."""
    return database_settings.model_copy(
        update={
            "webhook_allow_http": True,
            "webhook_ports": (receiver.port,),
            "webhook_allowed_networks": (ip_network("127.0.0.0/8"),),
            "secret_keys": (SecretStr(new_master_key()),),
        }
    )


def made(sessions: Sessions, settings: Settings, url: str) -> tuple[Webhook, str]:
    with sessions.begin() as session:
        keys, policy = MasterKeys.of(settings), OutboundPolicy.of(settings)
        return create_webhook(session, keys, policy, OURS, url, ["job.failed"])


def queue(sessions: Sessions, webhook: Webhook, count: int = 1) -> None:
    with sessions.begin() as session:
        for _ in range(count):
            send_test(session, OURS, webhook.id)


def log_of(sessions: Sessions, webhook: Webhook) -> list[Delivery]:
    with sessions() as session:
        return list(list_deliveries(session, OURS, webhook.id, limit=200).rows)


def send_all(sessions: Sessions, webhook: Webhook, *postmen: Postman) -> list[Delivery]:
    """Have everything attempted once. Returns: the log."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for postman in postmen:
            postman.start_due()
        log = log_of(sessions, webhook)
        if all(one.attempted_at for one in log):
            return log
        time.sleep(0.02)
    raise AssertionError("not everything was attempted in time")


def test_message_arrives_signed_as_the_specification_has_it(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    webhook, secret = made(sessions, able, receiver.url)
    queue(sessions, webhook)
    receiver.answer = answering(200, b"thanks\0")
    with Postman(sessions, able) as postman:
        (entry,) = send_all(sessions, webhook, postman)
    (got,) = receiver.received
    assert Verifier(secret).verify(got.body, got.headers) == json.loads(got.body)
    assert verify_webhook(got.body, got.headers, secret) == json.loads(got.body)
    body = json.loads(got.body)
    assert (body["type"], body["data"]["webhook"]) == ("webhook.test", webhook.id)
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert got.headers["webhook-id"] == f"msg_{entry.id}"
    assert got.headers["content-type"] == "application/json"
    assert (entry.state, entry.attempt, entry.status_code, entry.error) == (DeliveryState.DELIVERED, 1, 200, None)
    assert entry.excerpt == "thanks\ufffd"
    assert entry.latency_s is not None and entry.latency_s > 0


def test_both_secrets_sign_after_a_rotation(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    webhook, first = made(sessions, able, receiver.url)
    with sessions.begin() as session:
        second = rotate_secret(session, MasterKeys.of(able), OURS, webhook.id)[1]
    queue(sessions, webhook)
    with Postman(sessions, able) as postman:
        send_all(sessions, webhook, postman)
    (got,) = receiver.received
    for secret in (first, second):
        assert Verifier(secret).verify(got.body, got.headers)
        assert verify_webhook(got.body, got.headers, secret)
    with pytest.raises(WebhookVerificationError):
        Verifier("whsec_" + "A" * 43).verify(got.body, got.headers)


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (answering(500, b"traceback"), 500, "the answer's status was 500"),
        (answering(302, Location="http://127.0.0.1/"), 302, "the answer's status was 302; redirects are not followed"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), None, "RemoteProtocolError"),
        (lambda handler: handler.connection.close(), None, "RemoteProtocolError"),
    ],
    ids=["500", "redirect", "no HTTP", "hangs up"],
)
def test_failure_is_in_the_log_and_comes_again_under_the_same_id(
    sessions: Sessions, able: Settings, receiver: Receiver, answer: Any, status: int | None, error: str
) -> None:
    webhook, _ = made(sessions, able, receiver.url)
    queue(sessions, webhook)
    receiver.answer = answer
    with Postman(sessions, able) as postman:
        (entry,) = send_all(sessions, webhook, postman)
        assert (entry.state, entry.status_code) == (DeliveryState.PENDING, status)
        assert error in (entry.error or "")
        receiver.answer = None
        with sessions.begin() as session:
            session.get_one(Delivery, entry.id).due_at = entry.created_at
        deadline = time.monotonic() + DEADLINE_S
        while log_of(sessions, webhook)[0].state is not DeliveryState.DELIVERED and time.monotonic() < deadline:
            postman.start_due()
            time.sleep(0.02)
    (entry,) = log_of(sessions, webhook)
    assert (entry.state, entry.attempt, entry.error) == (DeliveryState.DELIVERED, 2, None)
    assert len(set(receiver.ids)) == 1 and len(receiver.ids) == 2


def test_address_that_is_no_longer_allowed_is_not_asked(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    webhook, _ = made(sessions, able, receiver.url.replace("127.0.0.1", "localhost"))
    queue(sessions, webhook)
    strict = able.model_copy(update={"webhook_allowed_networks": (ip_network("10.0.0.0/8"),)})
    with Postman(sessions, strict) as postman:
        (entry,) = send_all(sessions, webhook, postman)
    assert "an address that is not public" in (entry.error or "")
    assert receiver.received == []


def test_webhook_whose_secret_cannot_be_read_is_sent_nothing(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    webhook, _ = made(sessions, able, receiver.url)
    queue(sessions, webhook)
    other_keys = able.model_copy(update={"secret_keys": (SecretStr(new_master_key()),)})
    with Postman(sessions, other_keys) as postman:
        (entry,) = send_all(sessions, webhook, postman)
    assert (entry.error, receiver.received) == ("the server cannot read the webhook's secret; rotate it", [])


def test_several_senders_send_each_message_once(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    webhooks = [made(sessions, able, receiver.url)[0] for _ in range(4)]
    for webhook in webhooks:
        queue(sessions, webhook, 5)
    with Postman(sessions, able, senders=3) as one, Postman(sessions, able, senders=3) as other:
        log = [entry for webhook in webhooks for entry in send_all(sessions, webhook, one, other)]
    assert sorted(receiver.ids) == sorted(f"msg_{entry.id}" for entry in log)
    assert [entry.attempt for entry in log] == [1] * 20


def test_address_that_does_not_answer_holds_up_nobody_else(sessions: Sessions, able: Settings, receiver: Receiver) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/hangs":
            release.wait(10)
        answering(200)(handler)

    receiver.answer = hang
    slow, _ = made(sessions, able, receiver.url.replace("/hook", "/hangs"))
    quick, _ = made(sessions, able, receiver.url)
    queue(sessions, slow, 5)
    queue(sessions, quick, 3)
    with Postman(sessions, able, senders=2) as postman:
        log = send_all(sessions, quick, postman)
        assert {entry.state for entry in log} == {DeliveryState.DELIVERED}
        assert [one.path for one in receiver.received].count("/hangs") == 1
        release.set()


def test_housekeeping_sends_what_a_job_s_end_has_written(
    sessions: Sessions, able: Settings, receiver: Receiver, submit: Submit, valkey: ValkeyServer
) -> None:
    with sessions.begin() as session:
        keys, policy = MasterKeys.of(able), OutboundPolicy.of(able)
        secret = create_webhook(session, keys, policy, OURS, receiver.url, ["job.cancelled"])[1]
    job, stop = submit(), threading.Event()
    settings = able.model_copy(update={"broker_url": valkey.url, "relay_s": 0.05})
    house = threading.Thread(target=maintain.run, args=(settings, stop))
    house.start()
    try:
        with sessions.begin() as session:
            repository.request_cancel(session, OURS, job.id)
        deadline = time.monotonic() + DEADLINE_S
        while not receiver.received and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        stop.set()
        house.join(DEADLINE_S)
    (got,) = receiver.received
    message = verify_webhook(got.body, got.headers, secret)
    assert (message["type"], message["data"]["id"]) == ("job.cancelled", job.id)


class TestVerify:
    SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the specification's own example
    HEADERS = {  # noqa: RUF012
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    BODY = '{"test": 2432232314}'

    def test_the_specification_s_example_is_good(self) -> None:
        assert verify_webhook(self.BODY, self.HEADERS, self.SECRET, now_s=1614265330) == {"test": 2432232314}
        renamed = {name.title(): value for name, value in self.HEADERS.items()}
        assert verify_webhook(self.BODY.encode(), renamed, self.SECRET, now_s=1614265330)

    @pytest.mark.parametrize(
        ("change", "now_s", "reason"),
        [
            ({"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="}, 1614265330, "signature"),
            ({"webhook-signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, 1614265330, "signature"),
            ({"webhook-signature": "v1,ü nonsense v1"}, 1614265330, "signature"),
            ({"webhook-id": "msg_other"}, 1614265330, "signature"),
            ({"webhook-timestamp": "1614265331"}, 1614265330, "signature"),
            ({"webhook-timestamp": "soon"}, 1614265330, "timestamp"),
            ({}, 1614265330 + 301, "timestamp"),
            ({}, 1614265330 - 301, "timestamp"),
            ({"webhook-id": ""}, 1614265330, "headers"),
        ],
    )
    def test_anything_else_is_refused(self, change: dict[str, str], now_s: int, reason: str) -> None:
        with pytest.raises(WebhookRefused, match=reason):
            verify_webhook(self.BODY, {**self.HEADERS, **change}, self.SECRET, now_s=now_s)
