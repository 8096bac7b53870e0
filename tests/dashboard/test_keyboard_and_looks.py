"""Without a mouse; light and dark; and when the server goes away for a while."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.api.conftest import NO_HUB
from tests.cli.process import serving
from tests.dashboard.browsing import visiting
from tests.dashboard.conftest import Played, Visit
from tests.dashboard.conftest import Service as Running

AWAY = ("net::ERR_", "htmx:sse:error", "htmx:error", "network error")  # what a browser says of a server that is not there


def test_job_is_submitted_with_the_keyboard_alone(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New job").last).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/new")
    page.get_by_label("Prune: set weights to zero").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Quantise: fewer bits per weight")).to_be_checked()
    page.get_by_label("Bits per weight", exact=True).focus()
    page.keyboard.press("Enter")  # a list opens, or the form is sent: browsers differ
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Submit the job").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#job-state .state")).to_have_text("queued")
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#job-state .state")).to_have_text("cancelled")


def test_theme_follows_the_system_until_it_is_switched_and_stays_so(visit: Visit, played: Played) -> None:
    def ground() -> str:
        return str(visitor.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    visitor = visit(played, is_dark=True)
    dark = ground()
    visitor.page.get_by_role("button", name="Switch between light and dark").click()
    light = ground()
    assert light != dark
    visitor.go("/jobs")
    assert ground() == light
    assert visitor.page.locator("html").get_attribute("data-theme") == "light"


def test_open_pages_catch_up_after_the_server_was_restarted(browser: Browser, screenshots: Path, tmp_path: Path) -> None:
    environment = {"SCALPEL_HUB_ENDPOINT": NO_HUB}
    with serving(tmp_path / "data", "--no-worker", environment=environment) as before:
        url, key = before.url, before.api_key
        service = Running(url, key)
        with service.client() as scalpel:
            job_id = scalpel.submit("demo:smollm2-135m", {"bits": 4}).id
        with visiting(browser, url, screenshots) as overview, visiting(browser, url, screenshots) as job:
            for visitor in (overview, job):
                visitor.expected = AWAY
                visitor.sign_in(key)
            job.go(f"/jobs/{job_id}")
            for visitor in (overview, job):
                expect(visitor.page.locator("#connection")).to_have_text("live")
                visitor.page.evaluate("window.loaded = 'once'")
            before.stop()
            expect(overview.page.locator("#connection")).to_have_text("connecting again …")
            port = url.rpartition(":")[2]
            with serving(tmp_path / "data", "--no-worker", "--port", port, environment=environment) as after:
                assert after.url == url
                with service.client() as scalpel:
                    later = scalpel.submit("demo:smollm2-135m", {"bits": 3}).id
                    scalpel.pause(job_id)
                expect(overview.page.locator(f"#waiting-{later}")).to_be_visible()
                expect(job.page.locator("#job-state .state")).to_have_text("paused")
                assert {visitor.page.evaluate("window.loaded") for visitor in (overview, job)} == {"once"}
                after.stop()
