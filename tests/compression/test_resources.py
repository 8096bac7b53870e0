"""A pass that runs out of memory or disk says so in a typed error, and can be continued with less of it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from compression.disk import is_disk_full
from compression.errors import Cancelled, DiskFull, InvalidOptions, OutOfMemory, UnsupportedModel
from compression.events import ActivityStarted, BlockFinished, Event, LayerFinished, StageStarted
from compression.models.activations import Spill, Stream
from compression.resources import resource_errors
from tests import tiny_models
from tests.compression.test_pipeline import run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """While inside, this process may write no longer file: the kernel's own way to refuse a write, without a small disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        ("llama", {"pattern": "2:4"}),
        ("llama", {"bits": 4, "group_size": 32, "true_sequential": True}),
        ("llama", {"bits": 4, "group_size": 32, "asymmetric_calibration": 0.5}),
        ("deepseek_v3", {"pattern": "2:4"}),
    ],
    ids=["2:4", "true sequential", "asymmetric", "experts"],
)
def test_a_pass_that_saves_memory_gives_the_same_bits(
    family: str, recipe: dict[str, Any], tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    spilled: list[bool] = []
    kept = Stream.__init__

    def watched(self: Stream, *args: Any, **options: Any) -> None:
        kept(self, *args, **options)
        spilled.append(self.is_spilled or len(self) == 0)

    monkeypatch.setattr(Stream, "__init__", watched)
    calibrations: dict[bool, int] = {}
    reports = {}
    for low_memory in (False, True):
        spilled.clear()
        events: list[Event] = []
        out = tmp_path / f"out-{low_memory}"
        reports[low_memory] = run(folder, text, out, recipe, low_memory=low_memory, on_event=events.append)
        assert all(spilled) is low_memory
        calibrations[low_memory] = sum(
            isinstance(event, ActivityStarted) and event.activity == "calibrating" for event in events
        )
    assert reports[True].payload_digest == reports[False].payload_digest
    assert [r.model_dump(exclude={"seconds"}) for r in reports[True].layers] == [
        r.model_dump(exclude={"seconds"}) for r in reports[False].layers
    ]
    assert (reports[False].memory.mode, reports[True].memory.mode) == ("standard", "low-memory")
    shares = not recipe.get("true_sequential")  # else the stages of this family are single inputs already
    assert (calibrations[True] > calibrations[False]) is shares, "each input has a forward of its own"


def test_a_device_out_of_memory_is_typed_and_the_pass_continues_with_less(tmp_path: Path, text: Path) -> None:
    """No device is needed: what torch raises in the middle of a block is raised for it."""
    folder, solved = tiny_models.save(tmp_path / "model", "llama"), []
    undisturbed = run(folder, text, tmp_path / "undisturbed", {"pattern": "2:4"})

    def exhaust(event: Event) -> None:
        solved.append(event)
        if isinstance(event, LayerFinished) and any(isinstance(each, BlockFinished) for each in solved):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore words")

    with pytest.raises(OutOfMemory, match=r"^the device is out of memory: CUDA out of memory. Tried to allocate 20.00 MiB.$"):
        run(folder, text, tmp_path / "out", {"pattern": "2:4"}, on_event=exhaust)
    assert not (tmp_path / "out").exists()
    report = run(folder, text, tmp_path / "out", {"pattern": "2:4"}, low_memory=True)
    assert report.resumed_blocks == 1
    assert report.payload_digest == undisturbed.payload_digest


def test_an_allocation_that_the_host_refuses_is_typed() -> None:
    with pytest.raises(OutOfMemory, match="the host"), resource_errors():
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(OutOfMemory, match="the host"), resource_errors():
        bytearray(2**60)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), resource_errors():
        torch.ones(2, 3) @ torch.ones(2, 3)
    with pytest.raises(FileNotFoundError), resource_errors():
        Path("/no/such/file").read_text()
    with pytest.raises(InvalidOptions), resource_errors():
        raise InvalidOptions("output", "no space (os error 2)")


@pytest.mark.parametrize(
    ("limit_bytes", "is_solved"),
    [(300, False), (20_000, False), (20_000, True), (50_000, False)],
    ids=["fingerprint", "finished block", "artifact", "kept solutions"],
)
def test_a_write_that_the_system_refuses_leaves_nothing_that_looks_finished(
    limit_bytes: int, is_solved: bool, tmp_path: Path, text: Path
) -> None:
    folder, out, kept = tiny_models.save(tmp_path / "model", "llama"), tmp_path / "out", tmp_path / "kept"
    undisturbed = run(folder, text, tmp_path / "undisturbed", {"pattern": "2:4"})
    if is_solved:
        with pytest.raises(Cancelled):
            run(folder, text, out, {"pattern": "2:4"}, on_event=_stop_before_exporting)
    with pytest.raises(DiskFull, match="free some space"), largest_file(limit_bytes):
        run(folder, text, out, {"pattern": "2:4"}, keep_solutions=kept)
    assert not out.exists() and not kept.exists()
    report = run(folder, text, out, {"pattern": "2:4"}, keep_solutions=kept)
    assert report.payload_digest == undisturbed.payload_digest
    assert (report.resumed_blocks == tiny_models.BLOCKS) is (is_solved or limit_bytes == 50_000)


def _stop_before_exporting(event: Event) -> None:
    if isinstance(event, StageStarted) and event.stage == "exporting":
        raise Cancelled


def test_a_stream_that_the_disk_cannot_hold_is_refused_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as refusal, largest_file(10_000):
        Stream(10, 100, 10, torch.float32, Spill(tmp_path, 0), torch.device("cpu"))
    assert is_disk_full(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_through_the_errors_that_it_caused() -> None:
    try:
        try:
            raise ValueError("No space left on device (os error 28)")
        except ValueError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        assert is_disk_full(error)
    assert not is_disk_full(PermissionError(13, "Permission denied"))


def test_memory_that_ran_out_while_a_file_was_parsed_is_no_damage_of_the_file() -> None:
    with pytest.raises(OutOfMemory), resource_errors():
        try:
            bytearray(2**60)
        except Exception as error:
            raise UnsupportedModel("the file is damaged") from error
