"""Webhooks in a browser: added, tried, given a new secret, switched off and deleted."""

from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Played, Visit
from tests.dashboard.test_pages import assert_accessible


def secret_of(page: Page) -> str:
    secret = page.locator("#new-secret").inner_text()
    assert secret.startswith("whsec_")
    return secret


def test_webhook_is_added_tried_switched_off_and_deleted(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/webhooks")
    page.get_by_label("Address").fill("https://hooks.example.com/pager")
    page.get_by_label("job.cancelled").uncheck()
    page.get_by_label("Description").fill("pager")
    page.get_by_role("button", name="Add it").click()
    first = secret_of(page)
    assert first not in visitor.go("/webhooks").content(), "it was shown once"
    row = page.locator("tr", has_text="pager")
    expect(row).to_contain_text("enabled")
    expect(row).not_to_contain_text("job.cancelled")
    row.get_by_role("link").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator("tbody")).to_contain_text("webhook.test")
    assert_accessible(visitor, "webhook")
    page.get_by_role("button", name="New secret").click()
    expect(page.locator("#new-secret")).to_be_visible()
    assert secret_of(page) != first
    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".state").first).to_have_text("disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.locator(".state").first).to_have_text("enabled")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
    expect(page.locator("tr", has_text="pager")).to_have_count(0)


def test_address_that_may_not_be_called_is_refused_on_the_page(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/webhooks")
    visitor.expected = ("status of 422",)
    page.get_by_label("Address").fill("https://127.0.0.1/")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("leads to an address that is not public")
