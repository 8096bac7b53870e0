"""Every page in a browser: it loads, complains of nothing, can be used by everybody, and is light."""

from pathlib import Path

import pytest

from tests.dashboard.browsing import Visitor
from tests.dashboard.conftest import Played, Visit

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
MAX_FIRST_PAGE_BYTES = 150_000
SERIOUS = ("serious", "critical")


def pages(finished: tuple[str, ...]) -> dict[str, str]:
    compared = "&".join(f"job={job_id}" for job_id in finished)
    return {
        "overview": "/", "new-job": "/new", "jobs": "/jobs", "job": f"/jobs/{finished[0]}", "compare": f"/compare?{compared}",
        "models": "/models", "datasets": "/datasets", "keys": "/keys",
        "webhooks": "/webhooks",
    }  # fmt: skip


LOOKS = pytest.mark.parametrize("looks", [{}, {"is_dark": True}, {"is_narrow": True}], ids=["light", "dark", "narrow"])


@LOOKS
def test_every_page_is_accessible_and_fits(
    visit: Visit, played: Played, finished: tuple[str, ...], looks: dict[str, bool]
) -> None:
    visitor = visit(played, **looks)
    for name, path in pages(finished).items():
        page = visitor.go(path)
        page.wait_for_load_state("load")
        if name == "new-job":
            page.get_by_text("Weights compressed").wait_for()
        if name == "job":
            page.locator("#log li.strong").last.get_by_text("succeeded").wait_for(state="attached")
        assert_accessible(visitor, f"{name}-{'-'.join(looks) or 'light'}")


@LOOKS
def test_page_to_sign_in_is_accessible_and_fits(visit: Visit, played: Played, looks: dict[str, bool]) -> None:
    visitor = visit(played, signed_in=False, **looks)
    visitor.go("/sign-in")
    assert_accessible(visitor, f"sign-in-{'-'.join(looks) or 'light'}")


def assert_accessible(visitor: Visitor, name: str) -> None:
    page = visitor.page
    visitor.screenshot(name)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
    assert serious == [], f"{name}\n" + "\n".join(serious)


def test_first_page_is_light(visit: Visit, played: Played, finished: tuple[str, ...]) -> None:
    visitor = visit(played)
    sizes: dict[str, int] = {}
    visitor.page.on("response", lambda answer: sizes.update({answer.url: int(answer.headers.get("content-length", 0))}))
    visitor.go("/").wait_for_load_state("load")
    assert len(sizes) >= 5
    assert sum(sizes.values()) < MAX_FIRST_PAGE_BYTES, sizes


def test_page_of_an_unknown_job_is_a_page(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    visitor.expected = ("status of 404",)
    page = visitor.go("/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    page.get_by_role("heading", name="Job not found").wait_for()
