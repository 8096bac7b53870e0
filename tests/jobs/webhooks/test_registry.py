"""Webhooks in the database: written with the change they tell of, claimed once, retried over days, given up in the end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from jobs import attempts, repository
from jobs.access.secrets import MasterKeys, new_master_key, rotate
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.access.tenants import create_tenant
from jobs.database import Sessions
from jobs.errors import DeliveryNotFound, QuotaExceeded, SecretsNotConfigured, UrlRefused, WebhookDisabled, WebhookNotFound
from jobs.failure import Failure
from jobs.tables import Delivery, Secret, Webhook
from jobs.webhooks.deliveries import (
    DISABLED_AFTER,
    LEASE_S,
    RETRY_DELAYS_S,
    Outcome,
    claim,
    forget_old,
    list_deliveries,
    record,
    resend,
)
from jobs.webhooks.outbound import OutboundPolicy
from jobs.webhooks.outbox import EVENT_NAMES, EventName
from jobs.webhooks.registry import (
    MAX_WEBHOOKS,
    change_webhook,
    create_webhook,
    delete_webhook,
    get_webhook,
    list_webhooks,
    rotate_secret,
    send_test,
    signing_secrets,
)
from jobs.webhooks.tables import DeliveryState
from tests.jobs.conftest import Submit

KEYS = MasterKeys([new_master_key()])
POLICY = OutboundPolicy()
URL = "https://hooks.example.com/scalpel?token=1"
TENANT = OURS

Make = Callable[..., Webhook]


@pytest.fixture
def make(sessions: Sessions) -> Make:
    def make(*events: EventName, tenant_id: str = TENANT) -> Webhook:
        with sessions.begin() as session:
            return create_webhook(session, KEYS, POLICY, tenant_id, URL, events or EVENT_NAMES)[0]

    return make


def messages(sessions: Sessions, webhook: Webhook) -> list[Delivery]:
    with sessions() as session:
        return list(session.scalars(select(Delivery).where(Delivery.webhook_id == webhook.id).order_by(Delivery.id)))


def taken(sessions: Sessions, now: datetime | None = None) -> Delivery | None:
    with sessions.begin() as session:
        return claim(session, now)


def failed(status_code: int | None = 500, at: datetime | None = None) -> Outcome:
    return Outcome(at or datetime.now(UTC), 0.1, status_code, error="no")


def written(sessions: Sessions, message: Delivery, outcome: Outcome, draw: float = 0.0) -> Delivery | None:
    with sessions.begin() as session:
        return record(session, message.id, message.attempt, outcome, lambda: draw)


def test_secret_is_kept_encrypted_and_told_once(sessions: Sessions) -> None:
    with sessions.begin() as session:
        webhook, secret = create_webhook(session, KEYS, POLICY, OURS, URL, ["job.failed"])
    assert secret.startswith("whsec_")
    with sessions() as session:
        (row,) = session.scalars(select(Secret))
        assert secret.encode() not in row.ciphertext
        assert signing_secrets(session, KEYS, webhook) == (secret,)


def test_secret_before_the_newest_signs_for_a_day_more(sessions: Sessions) -> None:
    with sessions.begin() as session:
        webhook, first = create_webhook(session, KEYS, POLICY, OURS, URL, ["job.failed"])
    with sessions.begin() as session:
        webhook, second = rotate_secret(session, KEYS, OURS, webhook.id)
        assert signing_secrets(session, KEYS, webhook) == (second, first)
        assert webhook.old_secret_until is not None
        assert timedelta(hours=23) < webhook.old_secret_until - datetime.now(UTC) <= timedelta(hours=24)
        webhook.old_secret_until = datetime.now(UTC)
        assert signing_secrets(session, KEYS, webhook) == (second,)
        delete_webhook(session, OURS, webhook.id)
        assert session.scalars(select(Secret)).all() == []


def test_nothing_is_made_without_a_master_key_beyond_the_limit_or_to_a_private_address(sessions: Sessions, make: Make) -> None:
    for keys, url, error in (
        (MasterKeys([]), URL, SecretsNotConfigured),
        (KEYS, "https://169.254.169.254/", UrlRefused),
        (KEYS, "http://example.com/", UrlRefused),
    ):
        with pytest.raises(error), sessions.begin() as session:
            create_webhook(session, keys, POLICY, OURS, url, ["job.failed"])
    for _ in range(MAX_WEBHOOKS):
        make()
    with pytest.raises(QuotaExceeded, match="delete one"):
        make()
    with sessions() as session:
        assert len(list_webhooks(session, OURS, limit=200).rows) == MAX_WEBHOOKS


def test_change_keeps_what_is_not_given(sessions: Sessions, make: Make) -> None:
    webhook = make("job.failed")
    with sessions.begin() as session:
        with pytest.raises(UrlRefused):
            change_webhook(session, POLICY, OURS, webhook.id, url="https://10.0.0.1/")
        changed = change_webhook(session, POLICY, OURS, webhook.id, description="ours")
        assert (changed.url, changed.events, changed.description) == (URL, ["job.failed"], "ours")
        change_webhook(session, POLICY, OURS, webhook.id, is_enabled=False)
        with pytest.raises(WebhookDisabled):
            send_test(session, OURS, webhook.id)
        assert get_webhook(session, OURS, webhook.id).disabled_reason == "Its user has disabled it."
        change_webhook(session, POLICY, OURS, webhook.id, is_enabled=True)
        assert get_webhook(session, OURS, webhook.id).disabled_reason is None


class TestOutbox:
    def test_each_end_of_a_job_is_told_to_those_who_want_to_know(self, sessions: Sessions, submit: Submit, make: Make) -> None:
        everything, failures = make(), make("job.failed")
        with sessions.begin() as session:
            disabled = create_webhook(session, KEYS, POLICY, OURS, URL, EVENT_NAMES)[0]
            change_webhook(session, POLICY, OURS, disabled.id, is_enabled=False)
            stranger = create_tenant(session, "stranger").id
        theirs = make(tenant_id=stranger)
        job = submit(labels={"team": "a"})
        failure = Failure(type="numerical-error", title="It broke", detail="of /models/ours")
        with sessions.begin() as session:
            running = attempts.claim(session, "worker", 30.0)
            assert running is not None
            attempts.fail(session, job.id, running.attempt, failure)
        cancelled = submit()
        with sessions.begin() as session:
            repository.request_pause(session, OURS, cancelled.id)
            repository.request_cancel(session, OURS, cancelled.id)
        assert [(one.type, one.job_id) for one in messages(sessions, everything)] == [
            ("job.failed", job.id),
            ("job.paused", cancelled.id),
            ("job.cancelled", cancelled.id),
        ]
        (message,) = messages(sessions, failures)
        assert messages(sessions, disabled) == messages(sessions, theirs) == []
        assert message.payload["type"] == "job.failed"
        data = message.payload["data"]
        assert (data["id"], data["state"], data["labels"]) == (job.id, "failed", {"team": "a"})
        assert data["error"] == {"type": "numerical-error", "title": "It broke"}
        assert data["finished_at"] is not None and data["link"] == f"/v1/jobs/{job.id}"

    def test_change_that_is_rolled_back_tells_nobody(self, sessions: Sessions, submit: Submit, make: Make) -> None:
        webhook, job = make(), submit()
        with pytest.raises(ZeroDivisionError), sessions.begin() as session:
            repository.request_cancel(session, OURS, job.id)
            raise ZeroDivisionError
        assert messages(sessions, webhook) == []


class TestDelivery:
    @pytest.fixture
    def webhook(self, sessions: Sessions, make: Make) -> Webhook:
        """With one message that is due."""
        webhook = make()
        with sessions.begin() as session:
            send_test(session, OURS, webhook.id)
        return webhook

    def test_message_is_claimed_once_and_again_when_its_sender_is_gone(self, sessions: Sessions, webhook: Webhook) -> None:
        first = taken(sessions)
        assert first is not None and first.attempt == 1
        assert taken(sessions) is None
        later = datetime.now(UTC) + timedelta(seconds=LEASE_S + 1)
        second = taken(sessions, later)
        assert second is not None and (second.id, second.attempt) == (first.id, 2)
        assert written(sessions, first, Outcome(datetime.now(UTC), 0.1, 200)) is None, "it is the second one's"
        done = written(sessions, second, Outcome(datetime.now(UTC), 0.1, 204, excerpt="ok"))
        assert done is not None and (done.state, done.status_code, done.excerpt) == (DeliveryState.DELIVERED, 204, "ok")
        assert taken(sessions, later + timedelta(days=9)) is None

    def test_one_message_at_a_time_goes_to_a_webhook(self, sessions: Sessions, webhook: Webhook, make: Make) -> None:
        other = make()
        with sessions.begin() as session:
            send_test(session, OURS, webhook.id)
            send_test(session, OURS, other.id)
        first, second = taken(sessions), taken(sessions)
        assert first is not None and second is not None
        assert (first.webhook_id, second.webhook_id) == (webhook.id, other.id)
        assert taken(sessions) is None
        written(sessions, first, Outcome(datetime.now(UTC), 0.1, 200))
        third = taken(sessions)
        assert third is not None and third.webhook_id == webhook.id

    def test_address_that_fails_comes_after_all_others(self, sessions: Sessions, webhook: Webhook, make: Make) -> None:
        message = taken(sessions)
        assert message is not None
        written(sessions, message, failed())
        other = make()
        with sessions.begin() as session:
            send_test(session, OURS, webhook.id)
            send_test(session, OURS, other.id)
        first, second = taken(sessions), taken(sessions)
        assert first is not None and second is not None
        assert (first.webhook_id, second.webhook_id) == (other.id, webhook.id)

    def test_failures_are_tried_again_over_days_and_then_given_up(self, sessions: Sessions, webhook: Webhook) -> None:
        now, waits = datetime.now(UTC), []
        for _ in range(len(RETRY_DELAYS_S)):
            message = taken(sessions, now)
            assert message is not None
            before = datetime.now(UTC)
            message = written(sessions, message, failed(at=now), draw=1.0)
            assert message is not None and message.state is DeliveryState.PENDING
            waits.append((message.due_at - before).total_seconds())
            now = message.due_at
        assert waits == pytest.approx([1.1 * delay_s for delay_s in RETRY_DELAYS_S], abs=5)
        message = taken(sessions, now)
        assert message is not None
        with sessions.begin() as session:
            session.execute(update(Webhook).values(failing_since=now - DISABLED_AFTER))
        message = written(sessions, message, failed(503, at=now))
        assert message is not None
        assert (message.state, message.attempt, message.status_code) == (DeliveryState.FAILED, 10, 503)
        with sessions() as session:
            found = get_webhook(session, OURS, webhook.id)
            assert not found.is_enabled and (found.disabled_reason or "").startswith("Nothing was delivered since ")

    def test_webhook_that_something_reached_in_between_stays(self, sessions: Sessions, webhook: Webhook) -> None:
        message = taken(sessions)
        assert message is not None
        with sessions.begin() as session:
            session.execute(update(Delivery).values(retries=len(RETRY_DELAYS_S)))
        assert written(sessions, message, failed()) is not None
        with sessions.begin() as session:
            assert get_webhook(session, OURS, webhook.id).failing_since is not None
            send_test(session, OURS, webhook.id)
        message = taken(sessions)
        assert message is not None
        written(sessions, message, Outcome(datetime.now(UTC), 0.1, 200))
        with sessions() as session:
            found = get_webhook(session, OURS, webhook.id)
            assert (found.is_enabled, found.failing_since) == (True, None)

    def test_address_that_is_gone_is_asked_no_more(self, sessions: Sessions, webhook: Webhook) -> None:
        message = taken(sessions)
        assert message is not None
        message = written(sessions, message, failed(410))
        assert message is not None and message.state is DeliveryState.FAILED
        with sessions.begin() as session:
            assert get_webhook(session, OURS, webhook.id).disabled_reason == "It answered 410 (gone)."
            with pytest.raises(WebhookDisabled):
                resend(session, OURS, webhook.id, message.id)
            change_webhook(session, POLICY, OURS, webhook.id, is_enabled=True)
            again = resend(session, OURS, webhook.id, message.id)
            assert (again.id, again.state, again.retries) == (message.id, DeliveryState.PENDING, 0)
        second = taken(sessions)
        assert second is not None and (second.id, second.attempt) == (message.id, 2)

    def test_message_of_a_disabled_webhook_waits_until_it_is_enabled(self, sessions: Sessions, webhook: Webhook) -> None:
        with sessions.begin() as session:
            change_webhook(session, POLICY, OURS, webhook.id, is_enabled=False)
        assert taken(sessions) is None
        with sessions.begin() as session:
            change_webhook(session, POLICY, OURS, webhook.id, is_enabled=True)
        assert taken(sessions) is not None

    def test_log_is_read_page_by_page_by_its_owner_alone(self, sessions: Sessions, webhook: Webhook, make: Make) -> None:
        other = make()
        with sessions.begin() as session:
            for _ in range(4):
                send_test(session, OURS, webhook.id)
            stranger = create_tenant(session, "stranger").id
        known = [one.id for one in messages(sessions, webhook)][::-1]
        seen, cursor = [], None
        with sessions() as session:
            while True:
                page = list_deliveries(session, OURS, webhook.id, cursor=cursor, limit=2)
                seen += [one.id for one in page.rows]
                if (cursor := page.next_cursor) is None:
                    break
            assert seen == known
            with pytest.raises(WebhookNotFound):
                list_deliveries(session, stranger, webhook.id)
            with pytest.raises(DeliveryNotFound):
                resend(session, OURS, other.id, known[0])

    def test_log_forgets_what_ended_long_ago(self, sessions: Sessions, webhook: Webhook) -> None:
        message = taken(sessions)
        assert message is not None
        later = datetime.now(UTC) + timedelta(days=31)
        with sessions.begin() as session:
            assert forget_old(session, later) == 0, "it is pending"
        written(sessions, message, Outcome(datetime.now(UTC), 0.1, 200))
        with sessions.begin() as session:
            assert (forget_old(session), forget_old(session, later)) == (0, 1)


def test_master_keys_can_be_rotated_under_webhooks(sessions: Sessions, make: Make) -> None:
    old, new = new_master_key(), new_master_key()
    with sessions.begin() as session:
        webhook, secret = create_webhook(session, MasterKeys([old]), POLICY, OURS, URL, ["job.failed"])
        rotate(session, MasterKeys([new, old]))
        assert signing_secrets(session, MasterKeys([new]), webhook) == (secret,)
