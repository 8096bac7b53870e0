"""The database of structures: orders, errors and weights agree with brute force; a build continues where it was."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compression.block_files import block_path
from compression.errors import Cancelled, InvalidOptions
from compression.events import BlockFinished, Event
from compression.families.structure import Half
from compression.hessian import Hessian
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.structure import database
from compression.structure.database import Building, HalfRemovals, Structures, build_structures, read_info, removals_of
from compression.structure.removal import columns_of, refit, relative_error, remove_units
from compression.structure.units import levels_of, structure_of
from tests import tiny_models
from tests.compression.structure.models import ids


def problem(rows: int = 5, columns: int = 12, tokens: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """W (R, C), inputs X (N, C) that depend on each other, and H."""
    random = torch.Generator().manual_seed(seed)
    W_RC = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    mixing_CC = torch.randn(columns, columns, generator=random, dtype=torch.float64)
    X_NC = torch.randn(tokens, columns, generator=random, dtype=torch.float64) @ mixing_CC
    return W_RC, X_NC, 2 / tokens * X_NC.T @ X_NC


def half(units: int, width: int) -> Half:
    return Half(name="ffn", output="down", units=units, width=width, feeds=(), stand_ins=())


@pytest.mark.parametrize("width", [1, 3])
def test_weights_of_a_level_are_those_that_removing_one_by_one_leads_to(width: int) -> None:
    W_RC, _, H_CC = problem()
    levels = tuple(range(12 // width, 0, -1))
    for found in remove_units(W_RC, H_CC, width, levels):
        columns_K = columns_of(found.kept, width, W_RC.device)
        torch.testing.assert_close(refit(W_RC, H_CC, columns_K), found.weights_RK, rtol=1e-9, atol=1e-9)


def test_weights_of_a_level_are_the_least_squares_of_what_is_kept() -> None:
    W_RC, X_NC, H_CC = problem()
    columns_K = torch.tensor([0, 3, 4, 7, 11])
    expected_KR = torch.linalg.lstsq(X_NC[:, columns_K], X_NC @ W_RC.T).solution
    torch.testing.assert_close(refit(W_RC, H_CC, columns_K), expected_KR.T, rtol=1e-8, atol=1e-8)


def test_errors_of_levels_are_what_the_outputs_are_off_by() -> None:
    W_RC, X_NC, H_CC = problem()
    levels = (12, 9, 5, 2, 0)
    found = removals_of(W_RC, Hessian(H_CC, 40), half(12, 1), levels)
    whole = float((X_NC @ W_RC.T).square().sum())
    assert [cost.kept for cost in found.costs] == list(levels)
    for level, cost in enumerate(found.costs):
        kept = torch.tensor(found.kept(level), dtype=torch.long)
        W_RK = refit(W_RC, H_CC, kept) if len(kept) else W_RC[:, :0]
        off = float((X_NC @ W_RC.T - X_NC[:, kept] @ W_RK.T).square().sum())
        assert cost.error == pytest.approx(off / whole, abs=1e-9)
        assert cost.error == pytest.approx(relative_error(W_RC, H_CC, kept, W_RK), abs=1e-9)
    errors = [cost.error for cost in found.costs]
    assert errors == sorted(errors) and errors[0] == pytest.approx(0, abs=1e-12) and errors[-1] == 1


def test_levels_are_nested_and_the_smallest_is_a_level_of_its_own() -> None:
    W_RC, _, H_CC = problem()
    found = removals_of(W_RC, Hessian(H_CC, 40), half(4, 3), (4, 3, 2, 1, 0))
    kept = [set(found.kept(level)) for level in range(5)]
    assert all(later < earlier for earlier, later in itertools.pairwise(kept))
    assert found.kept(4) == () and found.kept(0) == (0, 1, 2, 3)


def test_inputs_that_depend_on_each_other_are_damped_and_their_errors_are_real() -> None:
    W_RC, X_NC, _ = problem(tokens=40)
    X_NC[:, 6:] = X_NC[:, :6]  # twice the same
    H_CC = 2 / 40 * X_NC.T @ X_NC
    found = removals_of(W_RC, Hessian(H_CC, 40), half(12, 1), (12, 6, 0))
    assert found.costs[1].damp > 0
    kept = torch.tensor(found.kept(1))
    assert {unit % 6 for unit in kept.tolist()} == set(range(6))  # of each pair one stays
    W_RK = refit(W_RC, H_CC, kept, found.costs[1].damp)
    assert found.costs[1].error == pytest.approx(relative_error(W_RC, H_CC, kept, W_RK), rel=1e-6)
    assert found.costs[1].error < 1e-3


def building(folder: Path, tmp_path: Path, on_event: Any = lambda event: None) -> Building:
    checkpoint = Checkpoint(folder)
    attention, ffn = structure_of(checkpoint.architecture)
    levels = levels_of(attention), levels_of(ffn, 8)
    model = StreamedModel(checkpoint, torch.device("cpu"), torch.float32)
    ids_WL = ids(6, 24)
    hessians = KeptHessians(Kept(), "model", ids_WL, torch.device("cpu"), torch.float32)
    with MemoryMeter(torch.device("cpu")) as meter:
        return Building(model, levels, {"a": "key"}, hessians, torch.float32, Spill(tmp_path), meter, on_event)


def files(structures: Structures) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(structures.folder.glob("block-*"))}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_an_interrupted_build_continues_and_ends_alike(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    whole = build_structures(building(folder, tmp_path), tmp_path / "whole")

    def stop(event: Event) -> None:
        if isinstance(event, BlockFinished) and event.block == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        build_structures(building(folder, tmp_path, stop), tmp_path / "parts")
    assert read_info(tmp_path / "parts") is None
    solved: list[str] = []
    real = database.removals_of

    def counted(W_RC: Tensor, hessian: Hessian, half: Half, levels: Any) -> HalfRemovals:
        solved.append(half.name)
        return real(W_RC, hessian, half, levels)

    monkeypatch.setattr(database, "removals_of", counted)
    parts = build_structures(building(folder, tmp_path), tmp_path / "parts")
    assert len(solved) == 2 * (tiny_models.BLOCKS - 2)
    assert files(parts) == files(whole) and read_info(tmp_path / "parts") is not None


def test_a_damaged_file_is_told_of_and_built_again(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    structures = build_structures(building(folder, tmp_path), tmp_path / "database")
    before, path = files(structures), block_path(structures.folder, 1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidOptions, match="missing or damaged"):
        structures.errors()
    assert files(build_structures(building(folder, tmp_path), tmp_path / "database")) == before
