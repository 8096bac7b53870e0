"""Debian's Chromium, driven by Playwright, and what every test asks of every page: no script error, nothing refused."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "no Chromium is installed (Debian: apt-get install chromium), so no page can be looked at"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 375, "height": 740}
TIMEOUT_MS = 20_000


def launch(playwright: Playwright) -> Browser:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@dataclass
class Visitor:
    """A browser window of somebody's own, at one service.

    Args: errors: what went wrong on its pages, beyond what a test said that it expects.
    """

    context: BrowserContext
    page: Page
    url: str
    screenshots: Path
    expected: tuple[str, ...] = ()
    errors: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, key: str) -> None:
        page = self.go("/sign-in")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.url}/")

    def screenshot(self, name: str) -> None:
        self.page.screenshot(path=self.screenshots / f"{name}.png", full_page=True)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(words in message.text for words in self.expected):
            self.errors.append(f"{self.page.url}: {message.text}")


@contextmanager
def visiting(
    browser: Browser, url: str, screenshots: Path, *, is_dark: bool = False, is_narrow: bool = False
) -> Iterator[Visitor]:
    """A window. At its end, no page may have complained of anything that was not expected."""
    context = browser.new_context(
        viewport=NARROW if is_narrow else WIDE,  # type: ignore[arg-type]  # the same shape
        color_scheme="dark" if is_dark else "light",
        accept_downloads=True,
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    visitor = Visitor(context, page, url, screenshots)
    page.on("console", visitor.hear)
    page.on("pageerror", lambda error: visitor.errors.append(f"{page.url}: {error}"))
    page.on("dialog", lambda dialog: dialog.accept())
    try:
        yield visitor
    finally:
        context.close()
    assert not visitor.errors, "\n".join(visitor.errors)
