"""Results in files for later jobs: found by their key alone, never used damaged, no larger together than they may be."""

import os
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compression.events import Event, Note
from compression.kept import Kept
from compression.kept_room import prune

KEY = {"model": "a", "threads": "2"}
STATES = torch.arange(24, dtype=torch.float32).view(2, 3, 4)


def keep(folder: Path, tensor: Tensor = STATES, key: dict[str, str] = KEY, **facts: str) -> Path:
    before = set(folder.glob("*"))
    Kept(folder).keep("states", key, tensor, facts)
    (made,) = set(folder.glob("*")) - before
    return made


def load(folder: Path, key: dict[str, str] = KEY) -> tuple[Tensor | None, list[Event], list[str]]:
    notes: list[Event] = []
    kept = Kept(folder, notes.append)
    found = kept.load("states", key)
    return None if found is None else found[0], notes, kept.reused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_a_tensor_comes_back_bit_for_bit_with_its_facts(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(3, 4, 5).mul(100).to(dtype)
    keep(tmp_path, tensor, protocol="rows")
    kept = Kept(tmp_path)
    found = kept.load("states", KEY)
    assert found is not None
    assert found[0].dtype == dtype and torch.equal(found[0], tensor)
    assert found[1] == {"protocol": "rows"}
    assert kept.reused == ["states"]


def test_strides_do_not_matter(tmp_path: Path) -> None:
    keep(tmp_path, STATES.transpose(1, 2))
    found = load(tmp_path)[0]
    assert found is not None and torch.equal(found, STATES.transpose(1, 2))


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    keep(tmp_path)
    for other in ({"model": "a"}, {**KEY, "threads": "1"}, {**KEY, "more": ""}):
        assert load(tmp_path, other) == (None, [], [])


def test_without_a_folder_nothing_is_kept_or_found() -> None:
    kept = Kept()
    kept.keep("states", KEY, STATES)
    assert kept.load("states", KEY) is None


def test_what_this_job_has_kept_itself_is_not_called_reused(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep("states", KEY, STATES)
    assert kept.load("states", KEY) is not None
    assert kept.reused == []


@pytest.mark.parametrize("at", ["first byte", "header", "last byte", "end cut off"])
def test_a_damaged_file_is_thrown_away_with_a_warning_and_kept_anew(at: str, tmp_path: Path) -> None:
    path = keep(tmp_path)
    data = bytearray(path.read_bytes())
    if at == "end cut off":
        del data[-4:]
    else:
        data[{"first byte": 0, "header": data.index(b"[2, 3, 4]") + 1, "last byte": -1}[at]] ^= 1
    path.write_bytes(data)
    found, notes, reused = load(tmp_path)
    assert (found, reused) == (None, [])
    assert [note.level for note in notes if isinstance(note, Note)] == ["warning"]
    assert not path.exists()
    keep(tmp_path)
    again = load(tmp_path)[0]
    assert again is not None and torch.equal(again, STATES)


def test_a_file_under_the_name_of_another_key_is_not_used(tmp_path: Path) -> None:
    other = {**KEY, "model": "b"}
    path, planted = keep(tmp_path), keep(tmp_path, STATES + 1, other)
    planted.replace(path)
    assert load(tmp_path)[0] is None
    assert not path.exists()


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    notes: list[Event] = []
    (tmp_path / "file").write_text("")
    Kept(tmp_path / "file", notes.append).keep("states", KEY, STATES)
    assert [note.level for note in notes if isinstance(note, Note)] == ["warning"]


def test_writers_and_readers_of_one_result_do_not_disturb_each_other(tmp_path: Path) -> None:
    tensor = torch.randn(64, 32, 32)
    keep(tmp_path, tensor)
    notes: list[Event] = []

    def write() -> None:
        for _ in range(20):
            Kept(tmp_path, notes.append).keep("states", KEY, tensor)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = Kept(tmp_path, notes.append).load("states", KEY)
        assert found is not None and torch.equal(found[0], tensor)
    assert {note.level for note in notes if isinstance(note, Note)} == {"info"}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    paths = [keep(folders[number % 2], key={"number": str(number)}) for number in range(4)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (1e9 - age, 1e9 - age))  # the first is the oldest
    assert load(folders[0], {"number": "0"})[0] is not None  # and is used again
    size_bytes = paths[0].stat().st_blocks * 512
    assert prune(folders, 4 * size_bytes) == 0
    assert prune(folders, 2 * size_bytes) == 2
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert prune([*folders, tmp_path / "missing"], 0) == 2


def test_a_file_that_claims_to_be_of_the_future_is_no_younger_than_now(tmp_path: Path) -> None:
    planted, later = keep(tmp_path), keep(tmp_path, key={"later": ""})
    os.utime(planted, (2**33, 2**33))
    removed = prune([tmp_path], later.stat().st_blocks * 512)
    assert removed == 1 and planted.exists() != later.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").write_text("precious")
    results = tmp_path / "results"
    results.symlink_to(foreign)
    assert prune([results], 0) == 0
    results.unlink()
    results.mkdir()
    (results / "folder").symlink_to(foreign)
    (results / "file").symlink_to(foreign / "file")
    (results / "deep" / "deeper").mkdir(parents=True)
    (results / "deep" / "deeper" / "hidden").write_bytes(bytes(4096))
    assert prune([results], 0) == 0
    assert list(results.iterdir()) == []
    assert (foreign / "file").read_text() == "precious"


def test_files_of_trees_count_wherever_they_lie_and_links_on_the_way_are_not_followed(tmp_path: Path) -> None:
    foreign, tree = tmp_path / "foreign", tmp_path / "databases"
    (foreign / "levels" / "00").mkdir(parents=True)
    (foreign / "levels" / "00" / "file").write_text("precious")
    (tree / "one" / "levels" / "00").mkdir(parents=True)
    old, new = tree / "one" / "database.json", tree / "one" / "levels" / "00" / "block"
    for age, path in ((2, old), (1, new)):
        path.write_bytes(bytes(4096))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tree / "other").symlink_to(foreign)
    (tree / "one" / "levels" / "01").symlink_to(foreign / "levels" / "00")
    assert prune([], 4096, [tree]) == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert prune([], 0, [tree]) == 1
    assert (foreign / "levels" / "00" / "file").read_text() == "precious"
    tree.rename(tmp_path / "moved")
    tree.symlink_to(foreign)
    assert prune([], 0, [tree]) == 0
    assert (foreign / "levels" / "00" / "file").exists()
