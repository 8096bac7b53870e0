"""Pieces of work done abreast, held against the same one after the other."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compression import abreast
from compression.abreast import afterwards, run_abreast, share
from compression.calibrating import OnCompressed
from compression.compress import compress
from compression.hessian import Hessian
from compression.inputs import listening
from compression.lanes import enter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer
from compression.protocol import Calibration, Evaluation
from tests import tiny_models

CPU = torch.device("cpu")
PATIENCE_S = 60.0


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def opened(folder: Path, family: str) -> tuple[StreamedModel, list[PlannedLayer], Tensor]:
    """A model, the matrices of its first block, and four windows."""
    model = StreamedModel(Checkpoint(tiny_models.save(folder / family, family)), CPU, torch.float32)
    layers = [PlannedLayer(matrix.name, 0, matrix, None) for matrix in model.checkpoint.architecture.block(0)]
    ids_WL = torch.randint(tiny_models.VOCABULARY, (4, 32), generator=torch.Generator().manual_seed(0))
    return model, layers, ids_WL


@torch.inference_mode()
def heard(model: StreamedModel, layers: list[PlannedLayer], ids_WL: Tensor, folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Hidden states after the first block, and the Hessians of what it read."""
    lane, block = enter(model, ids_WL, Spill(folder)), model.load_block(0)
    with listening(block, layers, CPU, ends_forward=False) as accumulators:
        lane.advance(model, block, 0, torch.float32)
    return lane.stream.states_WLD, {label: found.finish(label).H_CC for label, found in accumulators.items()}


@pytest.mark.parametrize("family", [*tiny_models.FAMILIES, *tiny_models.ENCODERS])
def test_every_family_says_the_same(family: str, tmp_path: Path) -> None:
    model, layers, ids_WL = opened(tmp_path, family)
    states_WLD, hessians = heard(model, layers, ids_WL, tmp_path)
    torch.set_num_threads(2)
    try:
        abreast_WLD, found = heard(model, layers, ids_WL, tmp_path)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(abreast_WLD, states_WLD)
    for label, H_CC in hessians.items():
        torch.testing.assert_close(found[label], H_CC, rtol=1e-6, atol=1e-6)  # their products are shared by the threads


def test_dense_and_compressed_inputs_of_a_window_stay_together(tmp_path: Path) -> None:
    model, layers, ids_WL = opened(tmp_path, "llama")

    @torch.inference_mode()
    def drifted() -> dict[str, Hessian]:
        calibrating = OnCompressed(
            model, lambda ids_WL: enter(model, ids_WL, Spill(tmp_path)), ids_WL, torch.float32, is_asymmetric=True
        )
        states_WLD = calibrating._lane.stream.states_WLD
        states_WLD += 0.1 * torch.randn(states_WLD.shape, generator=torch.Generator().manual_seed(1))
        return calibrating.hessians(0, model.load_block(0), layers, is_last=True)

    one_after_the_other = drifted()
    torch.set_num_threads(2)
    try:
        side_by_side = drifted()
    finally:
        torch.set_num_threads(1)
    for label, hessian in one_after_the_other.items():
        found_CC, expected_CC = side_by_side[label].drift_CC, hessian.drift_CC
        assert found_CC is not None and expected_CC is not None
        assert (found_CC - expected_CC).abs().max() < 1e-4 * expected_CC.abs().max()


@pytest.mark.usefixtures("two_threads")
def test_one_input_at_a_time_gives_the_very_same_artifact(tmp_path: Path) -> None:
    folder, text = tiny_models.save(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    found = [
        compress(
            folder,
            {"sparsity": 0.5},
            tmp_path / str(low_memory),
            calibration=Calibration(source=str(text), nsamples=5, seqlen=32),
            evaluation=Evaluation(sources=(str(text),), windows=3, seqlen=32),
            low_memory=low_memory,
            certificate=False,
        )
        for low_memory in (False, True)
    ]
    assert found[0].payload_digest == found[1].payload_digest
    assert found[0].results[0].compressed == found[1].results[0].compressed


@pytest.mark.usefixtures("two_threads")
def test_what_was_put_off_is_done_in_the_order_of_pieces_whoever_is_first() -> None:
    done: list[int] = []
    second_is_through = threading.Event()

    def work(window: int) -> None:
        if window == 0:
            assert second_is_through.wait(PATIENCE_S), "the second window runs at the same time"
        afterwards(lambda: done.append(window))
        afterwards(lambda: done.append(10 + window))
        if window == 1:
            assert done == []
            second_is_through.set()

    run_abreast(work, 5, True, CPU)
    assert done == [0, 10, 1, 11, 2, 12, 3, 13, 4, 14]


@pytest.mark.usefixtures("two_threads")
def test_pieces_keep_the_caller_s_modes_and_share_its_threads() -> None:
    seen: list[tuple[bool, bool, torch.dtype, int]] = []
    shares: list[float] = []

    def look(_: int) -> None:
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu")
        seen.append((torch.is_inference_mode_enabled(), autocast, dtype, torch.get_num_threads()))
        shares.append(share())

    run_abreast(look, 2, True, CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        run_abreast(look, 3, True, CPU)
    bfloat16 = torch.bfloat16
    assert [(*modes, threads) for *modes, _, threads in seen[:2]] == [(False, False, 1)] * 2
    assert seen[2:] == [(True, True, bfloat16, 1)] * 3, "the last one has no more threads for being without neighbours"
    assert shares == [0.5, 0.5, 0.5, 0.5, 1.0]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_first_piece_that_fails_tells_why_and_nothing_of_its_group_is_done() -> None:
    done: list[int] = []

    def work(window: int) -> None:
        afterwards(lambda: done.append(window))
        if window in (2, 3):
            raise ValueError(f"window {window}")

    with pytest.raises(ValueError, match="window 2"):
        run_abreast(work, 6, True, CPU)
    assert done == [0, 1]
    assert torch.get_num_threads() == 2
    afterwards(lambda: done.append(9))
    assert done == [0, 1, 9], "outside of windows things are done at once"


@pytest.mark.usefixtures("two_threads")
def test_large_pieces_and_lone_ones_have_all_threads() -> None:
    seen: list[tuple[int, int]] = []

    def look(_: int) -> None:
        seen.append((threading.get_ident(), torch.get_num_threads()))

    run_abreast(look, 3, False, CPU)
    run_abreast(look, 1, True, CPU)
    assert seen == [(threading.get_ident(), 2)] * 4
    run_abreast(look, 1, True, CPU, also_alone=True)
    assert seen[4][1] == 1


@pytest.mark.parametrize(("threads", "width"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (8, 4), (7, 1), (15, 3)])
def test_no_thread_is_left_over(threads: int, width: int) -> None:
    assert abreast._width(threads) == width
