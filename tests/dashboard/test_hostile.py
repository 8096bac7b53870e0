"""Names, texts and messages of strangers are shown as text, wherever they stand."""

from playwright.sync_api import Page, expect
from sqlalchemy import update

from compression.report import Report, Sample
from jobs.failure import Failure
from jobs.tables import Job
from tests.dashboard.conftest import Finish, Played, Visit

EVIL = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>' onfocus='window.hacked=1"
ATTRIBUTE = '" autofocus onfocus="window.hacked=1" hx-on:load="window.hacked=1" x="'


def assert_unharmed(page: Page) -> None:
    page.wait_for_load_state("load")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script, main [onfocus], main [onerror]").count() == 0


def rename(played: Played, job_id: str, model: str) -> None:
    with played.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(model=model, labels={"a": EVIL}))


def test_report_of_a_hostile_model_is_text(visit: Visit, played: Played, finish: Finish, report: Report) -> None:
    layer = report.layers[0].model_copy(update={"name": f"model.layers.0.{EVIL}", "fallbacks": (EVIL,)})
    job_id = finish(
        {"pattern": "2:4"},
        model=report.model.model_copy(update={"source": EVIL, "architecture": EVIL}),
        layers=(layer, *report.layers[1:]),
        sample=Sample(prompt=EVIL, dense=EVIL, compressed=f"</blockquote></main>{EVIL}"),
        notes=(EVIL,),
    )
    for name in (EVIL, ATTRIBUTE):
        rename(played, job_id, name)
        visitor = visit(played)
        for path in (f"/jobs/{job_id}", "/jobs", "/", f"/compare?job={job_id}", f"/new?from={job_id}"):
            page = visitor.go(path)
            assert_unharmed(page)
            if path == f"/jobs/{job_id}":
                expect(page.get_by_role("heading", level=1)).to_have_text(name)
                expect(page.locator(".sides pre").first).to_have_text(EVIL)
                visitor.screenshot("job-hostile")


def test_hostile_events_and_errors_are_text(visit: Visit, played: Played) -> None:
    job_id = played.submit()
    visitor = visit(played)
    page = visitor.go(f"/jobs/{job_id}")
    played.worker.claim()
    played.worker.note(job_id, EVIL)
    expect(page.locator("#log")).to_contain_text(EVIL)
    assert_unharmed(page)
    with page.expect_navigation():  # to the results
        played.worker.fail(job_id, Failure(type="x", title=EVIL, detail=EVIL, layer=EVIL, last_words=EVIL))
    expect(page.locator("#job-state .notice")).to_contain_text(EVIL)
    assert_unharmed(page)


def test_hostile_names_of_keys_and_addresses_are_text(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/keys")
    page.get_by_label("Name").fill(EVIL[:60])
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".notice.good")).to_contain_text(EVIL[:60])
    assert_unharmed(page)
    page = visitor.go("/webhooks")
    page.get_by_label("Address").fill("https://hooks.example.com/?'><script>window.hacked=1</script>")
    page.get_by_label("Description").fill(EVIL)
    page.get_by_role("button", name="Add it").click()
    expect(page.locator("tbody")).to_contain_text(EVIL)
    assert_unharmed(page)
    page.locator("tr", has_text=EVIL).first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("hooks.example.com")
    assert_unharmed(page)
    for path in (f"/jobs?model={ATTRIBUTE}&state=queued", f"/sign-in?next={ATTRIBUTE}", f"/new?model={ATTRIBUTE}"):
        assert_unharmed(visitor.go(path))
