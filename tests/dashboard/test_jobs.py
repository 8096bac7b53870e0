"""Jobs in a browser: asked for by form, watched, stopped, compared, downloaded."""

import json
import tarfile
from pathlib import Path

from playwright.sync_api import Page, expect

from compression.manifest import REPORT_FILE
from tests.dashboard.conftest import Played, Service, Visit


def open_details(page: Page, *titles: str) -> None:
    for title in titles:
        page.locator("summary", has_text=title).click()


def test_job_is_submitted_by_form_watched_to_its_end_and_downloaded(
    visit: Visit, embedded: Service, tiny: Path, tmp_path: Path
) -> None:
    visitor = visit(embedded)
    page = visitor.go("/new")
    page.get_by_label("A folder on the server").check()
    page.get_by_label("Folder", exact=True).fill(str(tiny / "model"))
    page.get_by_label("Both").check()
    open_details(page, "Calibration text", "Evaluation", "Labels")
    text = str(tiny / "text.txt")
    for name, value in (
        ("calibration.source", text), ("calibration.nsamples", "4"), ("calibration.seqlen", "32"),
        ("evaluation.sources", text), ("evaluation.windows", "4"), ("evaluation.seqlen", "32"),
        ("labels", "made: in a browser"),
    ):  # fmt: skip
        page.locator(f"[name='{name}']").fill(value)
    expect(page.locator("#preview")).to_contain_text("27.6 k of")  # the weights of the tiny model
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("#job-state .state").first).to_have_text("running", timeout=60_000)
    expect(page.locator("#log")).to_contain_text("block 1 of 3", timeout=60_000)
    visitor.screenshot("job-running")
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=180_000)
    expect(page.locator("#errors")).to_have_attribute("aria-label", "Curve of layer errors: 21 matrices so far")
    expect(page.get_by_text("made: in a browser")).to_be_visible()
    visitor.screenshot("job-done")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download all").click()
    archive = tmp_path / "artifact.tar"
    downloading.value.save_as(archive)
    with tarfile.open(archive) as files:
        report = next(name for name in files.getnames() if name.endswith(REPORT_FILE))
        content = files.extractfile(report)
        assert content is not None
        options = json.loads(content.read())["recipe"]["options"]
    assert (options["method"], options["pattern"], options["bits"]) == ("joint", "2:4", 4)


def test_job_page_shows_each_block_as_it_ends_and_a_cancelled_job_at_once(visit: Visit, played: Played) -> None:
    job_id = played.submit()
    visitor = visit(played)
    page = visitor.go(f"/jobs/{job_id}")
    expect(page.locator("#job-state")).to_contain_text("It waits for a worker.")
    assert played.worker.claim() == job_id
    played.worker.record(job_id, "stage", stage="compressing")
    played.worker.block(job_id, 7)
    expect(page.locator("#job-state")).to_contain_text("block 7 of 30 · about 12 s left")
    expect(page.locator("#job-state progress")).to_have_attribute("value", str(7 / 30))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#job-state")).to_contain_text("will pause")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-state")).to_contain_text("will be cancelled")
    played.worker.cancelled(job_id)
    expect(page.locator("#job-state .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#job-state .state")).to_have_text("queued")
    assert not page.url.endswith(job_id)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-state .state")).to_have_text("cancelled")


def test_overview_follows_without_being_loaded_again(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.page
    page.evaluate("window.loaded = 'once'")
    job_id = played.submit(labels={"seen": "live"})
    expect(page.locator(f"#waiting-{job_id}")).to_contain_text("seen: live")
    played.worker.claim()
    played.worker.record(job_id, "stage", stage="compressing")
    played.worker.block(job_id, 3)
    expect(page.locator(f"#run-{job_id}")).to_contain_text("block 3 of 30 · about 12 s left")
    visitor.screenshot("overview-running")
    played.worker.fail(job_id)
    expect(page.locator(f"#recent-{job_id}")).to_contain_text("failed")
    assert page.evaluate("window.loaded") == "once"


def test_jobs_are_chosen_compared_and_cloned(visit: Visit, played: Played, finished: tuple[str, ...]) -> None:
    visitor = visit(played)
    page = visitor.go("/jobs?state=succeeded")
    for job_id in finished:
        page.locator(f"#all-{job_id} input").check()
    page.get_by_role("button", name="Compare those chosen").click()
    expect(page.locator("svg.pareto g")).to_have_count(3)
    expect(page.locator("svg.pareto g.dominated")).to_have_count(1)
    expect(page.locator("tr.dominated")).to_contain_text("90% sparse")
    page.locator("tr.dominated input").uncheck()
    page.get_by_role("button", name="Keep only those chosen").click()
    expect(page.locator("svg.pareto g")).to_have_count(2)
    page.locator("tr", has_text="4 bit").get_by_role("link", name="Clone").click()
    expect(page.get_by_label("Quantise: fewer bits per weight")).to_be_checked()
    expect(page.get_by_label("Bits per weight", exact=True)).to_have_value("4")


def test_mistake_is_shown_at_its_field_while_one_types_and_when_one_submits(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/new")
    open_details(page, "Method and its options", "Calibration text")
    page.locator("#recipe-damp").fill("7")
    expect(page.locator("#error-recipe-damp")).to_contain_text("less than or equal to 1")
    page.locator("#calibration-nsamples").fill("many")
    expect(page.locator("#error-calibration-nsamples")).to_contain_text("valid integer")
    visitor.screenshot("new-job-refused")
    page.locator("#recipe-damp").fill("0.02")
    expect(page.locator("#error-recipe-damp")).to_be_empty()
    visitor.expected = ("status of 422",)
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("#calibration-nsamples")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#recipe-damp")).to_have_value("0.02")


def test_options_are_those_of_the_method_and_keep_what_was_typed(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/new")
    open_details(page, "Method and its options")
    expect(page.locator("#method-fields")).to_contain_text("sparsegpt")
    page.locator("#recipe-damp").fill("0.03")
    page.get_by_label("Both").check()
    expect(page.locator("#method-fields")).to_contain_text("joint")
    expect(page.locator("#recipe-damp")).to_have_value("0.03")
    expect(page.locator("#recipe-group_size")).to_be_visible()
    page.locator("summary", has_text="The same as curl").click()
    expect(page.locator("#preview")).to_contain_text("--damp 0.03")


def test_evaluation_is_asked_for_by_form_and_cloned(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/new")
    expect(page.get_by_label("Reference", exact=True)).to_be_hidden()
    page.get_by_label("Only evaluate").check()
    for hidden in ("#recipe-pattern", "#recipe-bits", "#output-format"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("summary", has_text="Calibration text")).to_be_hidden()
    page.get_by_label("Reference", exact=True).fill("demo:smollm2-135m")
    open_details(page, "Evaluation")
    page.locator("[name='evaluation.windows']").fill("4")
    page.locator("summary", has_text="The same as curl").click()
    expect(page.locator("#preview")).to_contain_text("--evaluate")
    visitor.screenshot("new-evaluation")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("#job-state .state").first).to_have_text("queued")
    with played.client() as service:
        asked = service.job(page.url.rpartition("/")[2]).request
    assert asked == {
        "task": "evaluate",
        "model": "demo:smollm2-135m",
        "reference": "demo:smollm2-135m",
        "evaluation": {"windows": 4},
    }
    page.get_by_role("link", name="Clone").click()
    expect(page.get_by_label("Only evaluate")).to_be_checked()
    expect(page.get_by_label("Reference", exact=True)).to_have_value("demo:smollm2-135m")


def test_overrides_are_typed_one_a_line_and_refused_at_their_field(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/new")
    page.get_by_label("Quantise: fewer bits per weight").check()
    open_details(page, "Method and its options")
    page.get_by_label("Overrides").fill("*.down_proj: bits=99")
    expect(page.locator("#error-recipe-overrides")).not_to_be_empty()
    page.get_by_label("Overrides").fill("*.down_proj: bits=8\n*.down_proj: none")
    expect(page.locator("#error-recipe-overrides")).to_contain_text("*.down_proj stands twice")
    page.get_by_label("Overrides").fill("*.down_proj: bits=8\n*.v_proj: none")
    expect(page.locator("#error-recipe-overrides")).to_be_empty()
    visitor.screenshot("new-job-overrides")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("#job-state .state").first).to_have_text("queued")
    with played.client() as service:
        asked = service.job(page.url.rpartition("/")[2]).request
    assert asked["recipe"] == {"bits": 4, "overrides": {"*.down_proj": {"bits": 8}, "*.v_proj": None}}


def test_goal_is_asked_for_by_form_told_on_the_job_page_and_cloned(visit: Visit, played: Played) -> None:
    visitor = visit(played)
    page = visitor.go("/new")
    expect(page.get_by_label("How much")).to_be_hidden()
    page.get_by_label("Reach a goal").check()
    for hidden in ("#recipe-pattern", "#recipe-bits"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("summary", has_text="Method and its options")).to_be_hidden()
    page.get_by_label("How much").fill("40")
    expect(page.locator("#error-output-format")).to_contain_text("dense stores every weight at its full width")
    page.get_by_label("Written as").select_option("compressed-tensors")
    expect(page.locator("#error-goal")).to_contain_text("a factor of at most")
    page.get_by_label("How much").fill("1.4")
    expect(page.locator("#error-goal")).to_be_empty()
    page.locator("summary", has_text="The same as curl").click()
    expect(page.locator("#preview")).to_contain_text("--goal bytes/1.4")
    visitor.screenshot("new-goal")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("#job-state .state").first).to_have_text("queued")
    expect(page.locator("main")).to_contain_text("bytes / 1.4")
    with played.client() as service:
        asked = service.job(page.url.rpartition("/")[2]).request
    assert asked == {
        "model": "demo:smollm2-135m",
        "goal": {"metric": "bytes", "factor": 1.4},
        "output": {"format": "compressed-tensors"},
    }
    page.get_by_role("link", name="Re-target").click()
    expect(page.get_by_label("Reach a goal")).to_be_checked()
    expect(page.get_by_label("How much")).to_have_value("1.4")
    expect(page.get_by_label("Of what")).to_have_value("times_smaller")
    page.get_by_label("Of what").select_option("times_faster")
    expect(page.locator("#preview")).to_contain_text("a smaller model with dense weights")  # the format is still a packed one
    page.get_by_label("Written as").select_option("dense")
    page.locator("summary", has_text="The same as curl").click()
    expect(page.locator("#preview")).to_contain_text("--goal latency/1.4")
    visitor.screenshot("new-faster")
