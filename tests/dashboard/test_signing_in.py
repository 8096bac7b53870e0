"""Getting in and out of the dashboard."""

import re

from playwright.sync_api import expect

from jobs.access.browser_sessions import make_link
from tests.dashboard.conftest import Played, Visit


def test_wrong_key_is_told_and_the_right_one_leads_to_the_page_asked_for(visit: Visit, played: Played) -> None:
    visitor = visit(played, signed_in=False)
    visitor.expected = ("status of 401",)
    page = visitor.go("/jobs?state=failed")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.get_by_label("API key").fill("scalpel_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("the key is unknown")
    page.get_by_label("API key").fill(played.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{played.url}/jobs?state=failed")
    visitor.screenshot("signed-in")


def test_signed_out_browser_sees_nothing_any_more(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    cookies = visitor.context.cookies()
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page).to_have_url(f"{played.url}/sign-in")
    visitor.screenshot("sign-in")
    visitor.context.add_cookies(cookies)  # type: ignore[arg-type]  # a thief's copy of what was there
    expect(visitor.go("/keys")).to_have_url(re.compile("/sign-in"))


def test_cookies_are_kept_from_scripts_and_hold_no_key(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    cookies = visitor.context.cookies()
    assert len(cookies) == 2
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies)
    assert played.key not in str(cookies)
    assert visitor.page.evaluate("document.cookie") == ""


def test_link_signs_one_browser_in_once(visit: Visit, played: Played) -> None:
    with played.sessions.begin() as session:
        token = make_link(session, played.key)
    first, second = visit(played, signed_in=False), visit(played, signed_in=False)
    first.go(f"/sign-in/once#{token}")
    expect(first.page.get_by_role("heading", name="Overview")).to_be_visible()
    second.expected = ("status of 401",)
    second.go(f"/sign-in/once#{token}")
    expect(second.page.get_by_role("alert")).to_contain_text("the link was used")


def test_revoking_the_key_in_use_ends_the_session(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/keys")
    page.get_by_label("Name").fill("laptop")
    page.get_by_label("manage keys and secrets").check()
    page.get_by_role("button", name="Make it").click()
    key = page.locator("#new-key").inner_text()
    assert key.startswith("scalpel_")
    visitor.screenshot("key-made")
    assert key not in visitor.go("/keys").content()
    other = visit(played, signed_in=False)
    other.sign_in(key)
    other.expected = ("status of 401", "status 401")
    page.get_by_role("button", name="Revoke laptop").click()
    expect(page.get_by_text("revoked", exact=True)).to_be_visible()
    expect(other.page).to_have_url(re.compile("/sign-in"))  # its overview was open, and hears of it
