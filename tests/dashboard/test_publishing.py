"""A finished job's files brought elsewhere from its page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from jobs.access.tables import LOCAL_TENANT_ID
from jobs.publications import Published
from tests.dashboard.conftest import Finish, Played, Visit
from tests.dashboard.test_pages import assert_accessible

URL = "https://hub.example.com/owner/smollm2-2of4/commit/5f0c"


@pytest.fixture
def token(played: Played) -> Iterator[None]:
    with played.client() as scalpel:
        scalpel.set_hub_token("hf_" + "T" * 34)
        yield
        scalpel.delete_hub_token()


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.usefixtures("token")
def test_job_is_published_by_form_and_its_page_links_to_the_place(
    visit: Visit, played: Played, finish: Finish, is_dark: bool
) -> None:
    job_id, look = finish({"pattern": "2:4"}), "dark" if is_dark else "light"
    visitor = visit(played, is_dark=is_dark)
    page = visitor.go(f"/jobs/{job_id}")
    expect(page.get_by_label("Folder")).to_be_hidden()
    page.get_by_label("Repository", exact=True).fill("owner/smollm2-2of4")
    page.get_by_label("Branch").fill("next")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#job-state .state").first).to_have_text("queued")
    expect(page.get_by_text("publish of another job")).to_be_visible()
    made = page.url.rpartition("/")[2]
    row = visitor.go(f"/jobs/{job_id}").locator(f"#publication-{made}")
    expect(row).to_contain_text("owner/smollm2-2of4 @ next")
    expect(row.locator(".state")).to_have_text("queued")
    assert played.worker.claim() == made
    played.worker.publish(made, Published(url=URL, revision="5f0c", files=3, size_bytes=5_000))
    page.reload()
    expect(row.locator(".state")).to_have_text("succeeded")
    expect(row.get_by_role("link", name=URL)).to_have_attribute("href", URL)
    assert_accessible(visitor, f"job-published-{look}")
    row.get_by_role("link").first.click()
    expect(page.locator("#job-state").get_by_role("link", name=URL)).to_be_visible()
    assert_accessible(visitor, f"publication-{look}")


@pytest.mark.usefixtures("token")
def test_refused_folder_stays_in_the_form_and_is_corrected_there(visit: Visit, played: Played, finish: Finish) -> None:
    job_id = finish({"pattern": "2:4"})
    visitor = visit(played, is_narrow=True)
    visitor.expected = ("status of 422",)
    page = visitor.go(f"/jobs/{job_id}")
    page.get_by_label("a bucket").check()
    expect(page.get_by_label("Repository", exact=True)).to_be_hidden()
    page.get_by_label("Folder").fill("s3://elsewhere/model")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("alert")).to_contain_text("this server does not publish there")
    expect(page.get_by_label("Folder")).to_have_value("s3://elsewhere/model")
    expect(page.get_by_label("Folder")).to_be_focused()
    assert_accessible(visitor, "job-publish-refused")
    page.get_by_label("Folder").fill(f"s3://models/{LOCAL_TENANT_ID}/mine")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#job-state .state").first).to_have_text("queued")
    with played.client() as scalpel:
        (made,) = scalpel.publications(job_id)
    assert made.request == {"target": {"bucket": f"s3://models/{LOCAL_TENANT_ID}/mine"}}
