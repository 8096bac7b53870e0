import pytest

from client import ApiError, Scalpel

URL = "https://hooks.example.com/"


def test_webhooks_are_managed_and_their_log_is_read_over_all_pages(scalpel: Scalpel) -> None:
    made = scalpel.webhooks.create(URL, ["job.failed"], description="pager")
    rotated = scalpel.webhooks.rotate(made.id)
    assert rotated.secret != made.secret and rotated.old_secret_until is not None
    assert scalpel.webhooks.change(made.id, events=["job.paused"]).events == ("job.paused",)
    sent = [scalpel.webhooks.test(made.id).id for _ in range(3)]
    assert [entry.id for entry in scalpel.webhooks.deliveries(made.id, page_size=2)] == sent[::-1]
    assert scalpel.webhooks.resend(made.id, sent[0]).state == "pending"
    assert [webhook.id for webhook in scalpel.webhooks.list()] == [scalpel.webhooks.delete(made.id).id]
    with pytest.raises(ApiError, match="no webhook"):
        scalpel.webhooks.test(made.id)
