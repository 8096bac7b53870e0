"""What a GPU does otherwise than a processor, on a GPU: it comes to the same.

All of them run on a machine that has nothing but what `compression/` needs, with `--noconftest`.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compression.compress import compress
from compression.errors import Cancelled
from compression.events import BlockFinished, Event, LayerFinished
from compression.finished_blocks import FinishedBlocks, read_block
from compression.hessian import GPU_PANEL, GPU_STRIP, Accumulator, Hessian, _turn_over
from compression.isolation import Reach, isolated
from compression.layer import LayerSolution, relative_error
from compression.masks import drop_smallest
from compression.memory import MemoryMeter
from compression.models.activations import Spill, Stream
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from compression.weights import DenseWeights
from tests import tiny_models
from tests.compression.problems import correlated_inputs, hessian_of, random_weights, seeded

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

CUDA = torch.device("cuda:0")
RECIPES: Mapping[str, dict[str, Any]] = {
    "50%": {"sparsity": 0.5},
    "2:4": {"pattern": "2:4"},
    "4 bit": {"bits": 4, "group_size": 32},
    "joint": {"method": "joint", "sparsity": 0.5, "bits": 4, "group_size": 16},
}


@pytest.fixture(autouse=True)
def full_float32() -> None:
    assert torch.backends.cuda.matmul.fp32_precision != "tf32", "the solvers count on float32"


def run(tmp_path: Path, out: str, recipe: dict[str, Any], device: str = "cuda", **options: Any) -> Report:
    text, model = tmp_path / "text.txt", tmp_path / "model"
    if not model.exists():
        text.write_text(tiny_models.text())
        tiny_models.save(model)
    return compress(
        model,
        recipe,
        tmp_path / out,
        calibration=Calibration(source=str(text), nsamples=6, seqlen=32),
        evaluation=Evaluation(sources=(str(text),), windows=3, seqlen=32),
        device=device,
        **{"certificate": False, "compute_dtype": "float32", **options},
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_pass_comes_to_what_it_comes_to_on_a_processor(name: str, tmp_path: Path) -> None:
    here, there = (run(tmp_path, device, RECIPES[name], device) for device in ("cuda", "cpu"))
    for a, b in zip(here.layers, there.layers, strict=True):
        assert a.sparsity == b.sparsity
        assert a.relative_error == pytest.approx(b.relative_error, rel=0.02)
    assert here.results[0].dense.value == pytest.approx(there.results[0].dense.value, rel=1e-4)
    assert here.results[0].compressed.value == pytest.approx(there.results[0].compressed.value, rel=0.02)
    assert here.memory.device_peak_bytes
    assert here.environment.device_name == torch.cuda.get_device_name(CUDA)


def test_an_artifact_is_certified_by_a_fresh_process_on_the_gpu(tmp_path: Path) -> None:
    report = run(tmp_path, "out", RECIPES["2:4"], certificate=True, compute_dtype="bfloat16")
    assert report.verification.verdict == "ok"


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_an_interrupted_pass_and_one_that_saves_memory_end_bit_identical(compute_dtype: str, tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", RECIPES["50%"], compute_dtype=compute_dtype)
    with pytest.raises(Cancelled):
        run(tmp_path, "stopped", RECIPES["50%"], compute_dtype=compute_dtype, on_event=_stop_in_the_second_block)
    resumed = run(tmp_path, "stopped", RECIPES["50%"], compute_dtype=compute_dtype)
    frugal = run(tmp_path, "frugal", RECIPES["50%"], compute_dtype=compute_dtype, low_memory=True)
    assert resumed.resumed_blocks == 1
    assert whole.payload_digest == resumed.payload_digest == frugal.payload_digest


def _stop_in_the_second_block(event: Event) -> None:
    if isinstance(event, LayerFinished) and event.result.block == 1:
        raise Cancelled


def test_a_block_that_is_told_finished_is_on_disk(tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(event: Event) -> None:
        if isinstance(event, BlockFinished):
            seen.append(read_block(tmp_path / ".out.work" / "blocks", event.block - 1) is not None)

    run(tmp_path, "out", RECIPES["50%"], on_event=look)
    assert seen == [True] * tiny_models.BLOCKS


def test_a_block_that_could_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished, W_RC = FinishedBlocks(tmp_path / "blocks", {}), random_weights(6, 32).to(CUDA)
    monkeypatch.setattr("compression.finished_blocks.save_file", _no_space)
    finished.start_saving(0, {"layer": LayerSolution(DenseWeights(W_RC), "rtn")}, [])
    with pytest.raises(OSError, match="no space"):
        finished.wait()
    assert not finished.has(0)


def _no_space(*_: object) -> None:
    raise OSError("no space")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_written_beside_the_work_is_what_was_there(dtype: torch.dtype, tmp_path: Path) -> None:
    finished = FinishedBlocks(tmp_path / "blocks", {})
    W_RC = torch.randn(2000, 3000, device=CUDA).to(dtype)
    expected_RC = W_RC.cpu()
    finished.start_saving(3, {"layer": LayerSolution(DenseWeights(W_RC), "rtn")}, [])
    W_RC.zero_()  # on the same stream, so after the copy
    finished.wait()
    found = finished.load(3)
    assert found is not None
    assert torch.equal(found[0]["layer"].to_dense(), expected_RC)


@pytest.mark.parametrize("limit_bytes", [2**30, 0], ids=["pinned", "in a file"])
def test_windows_come_and_go_in_order(limit_bytes: int, tmp_path: Path) -> None:
    stream = Stream(7, 256, 2048, torch.float32, Spill(tmp_path, limit_bytes), CUDA)
    assert stream.is_spilled == (limit_bytes == 0)
    for window in range(7):
        stream[window] = torch.full((1, 256, 2048), float(window), device=CUDA)
    busy = torch.randn(4096, 4096, device=CUDA)
    for _ in range(3):  # blocks
        for window in range(7):
            hidden = stream.on_device(window)
            for _ in range(4):
                busy = (busy @ busy).clamp_(-1, 1)  # the GPU lags behind the host
            stream[window] = hidden + 1 + 0 * busy[0, 0]
            del hidden
    assert torch.equal(stream.on_device(5), torch.full((1, 256, 2048), 8.0, device=CUDA))
    assert stream.states_WLD[:, 0, 0].tolist() == [window + 3.0 for window in range(7)]


def test_a_window_that_is_written_after_the_one_before_was_fetched_is_not_the_old_one(tmp_path: Path) -> None:
    stream = Stream(2, 8, 8, torch.float32, Spill(tmp_path), CUDA)
    for window in range(2):
        stream[window] = torch.zeros(1, 8, 8, device=CUDA)
    stream.on_device(0)
    stream[1] = torch.ones(1, 8, 8, device=CUDA)
    assert bool((stream.on_device(1) == 1).all())


@pytest.mark.parametrize("columns", [100, 2 * GPU_STRIP + 64])
@pytest.mark.parametrize("reads", [torch.float32, torch.bfloat16])
def test_hessians_lose_nothing(columns: int, reads: torch.dtype) -> None:
    accumulator = Accumulator(columns, CUDA, reads)
    X_NC = torch.randn(3, 300, columns, generator=seeded(1)).to(CUDA, torch.bfloat16)
    for window in X_NC:
        accumulator.add(window)
    H_CC, exact_CC = accumulator.finish("layer").H_CC.double(), X_NC.flatten(0, 1).double()
    exact_CC = exact_CC.T @ exact_CC * (2 / 900)
    assert torch.equal(H_CC, H_CC.T)
    assert float((H_CC - exact_CC).norm() / exact_CC.norm()) < 2e-5


@pytest.mark.parametrize("by_activity", [False, True])
def test_the_factor_is_that_of_the_inverse(by_activity: bool) -> None:
    columns = 2 * GPU_PANEL + 100
    hessian = _hessian(columns)
    factor = hessian.factor(0.01, by_activity=by_activity)
    order = hessian.activity_order() if by_activity else torch.arange(columns, device=CUDA)
    H_CC = hessian.damped(0.01, torch.float64)[order][:, order]
    U_CC = factor.U_CC.double()
    assert factor.steps == () and bool((U_CC.tril(-1) == 0).all())
    unit_CC = U_CC @ H_CC @ U_CC.T
    assert float((unit_CC - torch.eye(columns, device=CUDA, dtype=torch.float64)).abs().max()) < 1e-3


def test_errors_of_layers_are_those_of_the_whole_product() -> None:
    hessian = _hessian(2 * GPU_STRIP)
    W_RC = random_weights(8, 2 * GPU_STRIP).to(CUDA)
    D_RC, H_CC = (W_RC - W_RC.half().float()).double(), hessian.H_CC.double()
    exact = ((D_RC @ H_CC) * D_RC).sum() / ((W_RC.double() @ H_CC) * W_RC.double()).sum()
    assert relative_error(W_RC, W_RC.half().float(), hessian) == pytest.approx(float(exact), rel=1e-3)


def _hessian(columns: int) -> Hessian:
    return Hessian(hessian_of(correlated_inputs(columns + 200, columns)).H_CC.to(CUDA), columns + 200)


@pytest.mark.parametrize("pruned", [0, 1, 777, 5000, 9999, 10000])
def test_masks_are_those_of_a_processor(pruned: int) -> None:
    score: Tensor = torch.randint(0, 50, (100, 100), generator=seeded(2)).float()
    assert torch.equal(drop_smallest(score.to(CUDA), pruned).cpu(), drop_smallest(score, pruned))


def test_pinned_memory_is_counted() -> None:
    with MemoryMeter(CUDA) as meter:
        before_bytes = meter.now_bytes()
        kept = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
        assert meter.now_bytes() - before_bytes >= 0.9 * kept.nbytes
        del kept


ISOLATED = """
import torch
from compression.isolation.evidence import in_force
from compression.obs import has_kernel
X = torch.randn(100, 100, device="cuda")
print(bool(torch.isfinite(X @ X).all()) and has_kernel(X.device), "; ".join(in_force()))
"""


def test_an_isolated_process_reaches_the_gpu_and_compiles_its_kernel(tmp_path: Path) -> None:
    command = isolated([sys.executable, "-c", ISOLATED], Reach(write=(tmp_path,), names_threads=True))
    environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert found.stdout.startswith("True"), found.stdout + found.stderr
    assert "no new privileges" in found.stdout


@pytest.mark.parametrize("size", [1, 50, 3 * GPU_PANEL + 7])
def test_an_upper_matrix_is_turned_over(size: int) -> None:
    M_CC = torch.randn(size, size, generator=seeded(3)).triu()
    turned_CC = M_CC.clone()
    _turn_over(turned_CC)
    assert torch.equal(turned_CC, M_CC.T)


def test_goals_are_reached_on_a_gpu(tmp_path: Path) -> None:
    from tests.compression.goals.test_reach import run as reach_goal

    text = tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    folder = tiny_models.save(tmp_path / "model")
    report = reach_goal(folder, text, tmp_path / "out", {"metric": "bytes", "factor": 1.5}, device="cuda")
    assert report.goal is not None
    assert report.sizes.artifact_bytes <= report.goal.budget
