"""The folder of what was kept follows the bytes of the models and the tenant, and nothing else."""

import os
from pathlib import Path

import pytest

from jobs.kept import kept_folder, prune_kept
from jobs.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", kept_bytes=8192)


def model(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in {"config": "{}", "weights": "12", "tokenizer": "{}", **files}.items():
        (folder / name).write_text(text)
    return folder


def test_the_same_bytes_have_one_folder_wherever_they_lie(tmp_path: Path, settings: Settings) -> None:
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    blob = tmp_path / "blob"
    (second / "weights").rename(blob)
    (second / "weights").symlink_to(blob)  # as in the hub's cache
    folder = kept_folder(settings, "tenant", [first])
    assert folder == kept_folder(settings, "tenant", [second])
    assert folder.parent == settings.cache_dir / "kept" / "tenant"


@pytest.mark.parametrize("file", ["config", "weights", "tokenizer", "another"])
def test_any_file_that_differs_makes_another_folder(file: str, tmp_path: Path, settings: Settings) -> None:
    first, second = model(tmp_path / "a"), model(tmp_path / "b", **{file: "other"})
    assert kept_folder(settings, "tenant", [first]) != kept_folder(settings, "tenant", [second])


def test_a_name_counts_as_well_as_what_is_in_it(tmp_path: Path, settings: Settings) -> None:
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    (second / "tokenizer").rename(second / "vocabulary")
    assert kept_folder(settings, "tenant", [first]) != kept_folder(settings, "tenant", [second])


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path, settings: Settings) -> None:
    folder = model(tmp_path / "a")
    before = kept_folder(settings, "tenant", [folder])
    found = (folder / "weights").stat()
    (folder / "weights").write_text("21")
    os.utime(folder / "weights", ns=(found.st_atime_ns, found.st_mtime_ns))  # as if it were the old one
    assert kept_folder(settings, "tenant", [folder]) != before


def test_tenants_and_pairs_of_models_have_folders_of_their_own(tmp_path: Path, settings: Settings) -> None:
    first, second, packed = model(tmp_path / "a"), model(tmp_path / "b", weights="3"), tmp_path / "model.gguf"
    packed.write_bytes(b"GGUF")
    asked = [("x", [first]), ("y", [first]), ("x", [second]), ("x", [first, second]), ("x", [second, first]), ("x", [packed])]
    assert len({kept_folder(settings, tenant, models) for tenant, models in asked}) == len(asked)


def test_all_tenants_and_the_command_line_share_the_room(settings: Settings) -> None:
    cache = settings.cache_dir
    files = [cache / folder / "results" / "file" for folder in ("kept/a/model", "kept/b/model", ".")]
    unpacked = cache / "kept" / "a" / "model" / "gguf-1" / "weights"
    for age, file in enumerate((*files, unpacked)):
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(4096))
        os.utime(file, (1e9 + age, 1e9 + age))
    assert prune_kept(settings) == 1
    assert [file.exists() for file in (*files, unpacked)] == [False, True, True, True]
    assert prune_kept(settings.model_copy(update={"kept_bytes": 0})) == 2
    assert unpacked.exists()


def test_a_host_that_has_kept_nothing_has_nothing_to_remove(settings: Settings) -> None:
    assert prune_kept(settings) == 0
