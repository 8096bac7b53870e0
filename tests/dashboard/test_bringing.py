"""Texts and models brought by the browser itself."""

from pathlib import Path

from playwright.sync_api import expect

from tests.dashboard.conftest import Played, Visit


def test_text_is_uploaded_listed_used_and_deleted(visit: Visit, played: Played, tmp_path: Path) -> None:
    (tmp_path / "support.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    visitor = visit(played)
    page = visitor.go("/datasets")
    page.get_by_label("Name").fill("support")
    page.get_by_label("File").set_input_files(tmp_path / "support.jsonl")
    page.get_by_role("button", name="Upload").click()
    row = page.locator("tbody tr", has_text="support")
    expect(row).to_contain_text("documents")
    row.get_by_role("link", name="Calibrate on it").click()
    page.locator("summary", has_text="Calibration text").click()
    expect(page.locator("#calibration-source")).to_have_value("dataset:" + page.url.rpartition("dataset%3A")[2])
    page = visitor.go("/datasets")
    page.get_by_role("button", name="Delete support").click()
    expect(page.get_by_text("There is none yet.")).to_be_visible()


def test_refused_text_says_why(visit: Visit, played: Played, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("no JSON\n")
    visitor = visit(played)
    visitor.expected = ("status of 422",)
    page = visitor.go("/datasets")
    page.get_by_label("Name").fill("bad")
    page.get_by_label("File").set_input_files(tmp_path / "bad.jsonl")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("form .error")).to_contain_text("line 1")


def test_model_is_hashed_uploaded_checked_and_ready(visit: Visit, played: Played, tiny: Path) -> None:
    files = [path for path in sorted((tiny / "model").iterdir()) if path.name != "chat_template.jinja"]
    visitor = visit(played)
    page = visitor.go("/models")
    page.get_by_label("Name").fill("mine")
    page.get_by_label("Its files").set_input_files(files)
    page.get_by_role("button", name="Upload").click()
    row = page.locator("tbody tr", has_text="mine")
    expect(row).to_contain_text("checking")
    played.worker.tend_uploads()  # the hashes that the browser found are held against the bytes here
    page.reload()
    expect(row).to_contain_text("ready")
    row.get_by_role("link", name="Compress").click()
    expect(page.get_by_label("One I uploaded")).to_be_checked()
