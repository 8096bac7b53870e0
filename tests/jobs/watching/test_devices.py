from pathlib import Path

import pytest

from jobs.errors import SettingsError
from jobs.needs import CPU_QUEUE, GPU_QUEUE
from jobs.settings import Settings
from jobs.watching.devices import Gpu, find_gpus, make_slots, queues_of

H100, T4 = "NVIDIA H100 80GB HBM3", "Tesla T4"
SMALL, LARGE = Gpu(name="Small", memory_bytes=8), Gpu(name="Large", memory_bytes=80)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose `nvidia-smi` answers as the real one does for two cards."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'Tesla T4, [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    return tool


def test_gpus_are_found_with_name_and_memory(driver: Path) -> None:
    assert find_gpus({}) == [
        Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * 1024**2),
        Gpu(name="Tesla T4", memory_bytes=None),
    ]


def test_without_the_drivers_tool_the_device_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert find_gpus({}, devices=tmp_path) == [Gpu(), Gpu()]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("1", [T4]), ("1,0", [T4, H100]), ("0,7,1", [H100])],
    ids=["none", "minus-one", "one", "reordered", "ends-at-an-invalid-one"],
)
def test_only_visible_gpus_count_in_their_own_order(driver: Path, visible: str, names: list[str]) -> None:
    assert [gpu.name for gpu in find_gpus({"CUDA_VISIBLE_DEVICES": visible})] == names


@pytest.mark.parametrize(
    ("settings", "gpus", "devices"),
    [
        ({}, [], ["cpu"]),
        ({}, [SMALL, LARGE], ["cuda:0", "cuda:1"]),
        ({"device": "cuda:1"}, [SMALL, LARGE], ["cuda:1"]),
        ({"device": "cpu"}, [SMALL], ["cpu"]),
        ({"device": "cpu", "cpu_slots": 3}, [], ["cpu", "cpu", "cpu"]),
        ({"cpu_slots": 1}, [SMALL], ["cuda:0", "cpu"]),
    ],
    ids=["no-gpu", "each-gpu", "one-gpu", "cpu-only", "several-on-the-processor", "both"],
)
def test_each_device_is_a_slot(settings: dict[str, object], gpus: list[Gpu], devices: list[str]) -> None:
    assert [slot.device for slot in make_slots(Settings.model_validate(settings), gpus)] == devices


def test_slots_serve_what_they_can_and_listen_for_it() -> None:
    def served(gpus: list[Gpu], **settings: int) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
        slots = make_slots(Settings.model_validate(settings), gpus)
        return [slot.needs for slot in slots], queues_of(slots)

    assert served([]) == ([("any", "cpu")], (CPU_QUEUE,))
    assert served([SMALL]) == ([("any", "cpu", "gpu")], (GPU_QUEUE, CPU_QUEUE))
    assert served([SMALL], cpu_slots=0) == ([("any", "gpu")], (GPU_QUEUE,))
    assert served([SMALL], cpu_slots=1) == ([("any", "gpu"), ("any", "cpu")], (GPU_QUEUE, CPU_QUEUE))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"device": "cuda"}, "no GPU"), ({"device": "cuda:2"}, "0 GPUs"), ({"cpu_slots": 0}, "SCALPEL_CPU_SLOTS")],
    ids=["no-gpu", "not-so-many", "nothing-left"],
)
def test_worker_without_a_device_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_slots(Settings.model_validate(settings), [])
