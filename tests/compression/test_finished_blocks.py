"""Finished blocks come back bit by bit, and only to the pass that wrote them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compression import methods  # noqa: F401  registers the solvers
from compression.finished_blocks import FinishedBlocks
from compression.layer import LayerSolution
from compression.options import JointOptions, MethodOptions, OptqOptions, SparseGptOptions, top_code
from compression.registry import solve
from compression.report import LayerResult
from compression.weights import DenseWeights, GridWeights
from tests.compression.problems import layer, random_weights

MINE = {"model": "a", "recipe": "b"}
NAME = "model.layers.0.mlp.down_proj"


def result(name: str = NAME) -> LayerResult:
    return LayerResult(
        name=name,
        block=0,
        shape=(6, 32),
        method="optq",
        relative_error=0.1,
        sparsity=0.5,
        damp=0.01,
        tokens=9,
        seconds=1.5,
        bits_per_weight=32.0,
    )


def write_block(folder: Path, block: int = 0) -> FinishedBlocks:
    finished = FinishedBlocks(folder, MINE)
    finished.save(block, {NAME: LayerSolution(DenseWeights(torch.ones(6, 32)), "optq")}, [result()])
    return finished


@pytest.mark.parametrize(
    "options",
    [
        SparseGptOptions(sparsity=0.5, pattern="2:4"),
        OptqOptions(bits=3, group_size=16, static_groups=False),
        OptqOptions(bits=8, group_size="row"),
        JointOptions(sparsity=0.5, pattern="2:4", bits=4, group_size=16),
    ],
    ids=lambda options: options.method,
)
def test_solution_comes_back_to_the_last_bit(tmp_path: Path, options: MethodOptions) -> None:
    solution = solve(layer(6, 32, scale_dtype=torch.bfloat16), options)
    FinishedBlocks(tmp_path, MINE).save(2, {NAME: solution}, [result()])
    loaded = FinishedBlocks(tmp_path, MINE).load(2)
    assert loaded is not None
    weights, results = loaded
    assert results == [result()]
    assert weights.keys() == {NAME}
    assert type(weights[NAME]) is type(solution.weights)
    dense = weights[NAME].to_dense()
    assert torch.equal(dense, solution.weights.to_dense())
    assert dense.dtype == solution.weights.to_dense().dtype
    if "pattern" in type(options).model_fields:
        assert ((dense != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all()
    if isinstance(solution.weights, GridWeights):
        loaded_grid = weights[NAME]
        assert isinstance(loaded_grid, GridWeights)
        assert torch.equal(loaded_grid.codes_RC, solution.weights.codes_RC)
        assert torch.equal(loaded_grid.group_C, solution.weights.group_C)
        assert int(loaded_grid.codes_RC.max()) < 1 + top_code(solution.weights.bits) == 1 + top_code(loaded_grid.bits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dense_weights_keep_their_dtype_and_a_transposed_view_its_order(tmp_path: Path, dtype: torch.dtype) -> None:
    W_RC = random_weights(32, 6).to(dtype).T
    FinishedBlocks(tmp_path, MINE).save(0, {NAME: LayerSolution(DenseWeights(W_RC), "sparsegpt")}, [])
    loaded = FinishedBlocks(tmp_path, MINE).load(0)
    assert loaded is not None
    assert torch.equal(loaded[0][NAME].to_dense(), W_RC)
    assert loaded[0][NAME].to_dense().dtype == dtype


def test_modules_of_a_block_come_back_under_their_names(tmp_path: Path) -> None:
    names = ["model.layers.0.a", "model.layers.0.a.b", "odd:name"]
    solutions = {name: LayerSolution(DenseWeights(torch.full((2, 2), float(n))), "rtn") for n, name in enumerate(names)}
    FinishedBlocks(tmp_path, MINE).save(0, solutions, [result(name) for name in names])
    loaded = FinishedBlocks(tmp_path, MINE).load(0)
    assert loaded is not None
    assert {name: float(weights.to_dense()[0, 0]) for name, weights in loaded[0].items()} == {
        n: i for i, n in enumerate(names)
    }
    assert [entry.name for entry in loaded[1]] == names


def test_same_pass_continues_and_unfinished_blocks_are_absent(tmp_path: Path) -> None:
    write_block(tmp_path, 1)
    again = FinishedBlocks(tmp_path, MINE)
    assert again.restarts == ()
    assert again.load(0) is None
    assert again.load(1) is not None


def test_block_saved_twice_holds_the_later_solution(tmp_path: Path) -> None:
    finished = write_block(tmp_path)
    finished.save(0, {NAME: LayerSolution(DenseWeights(torch.zeros(6, 32)), "rtn")}, [])
    loaded = finished.load(0)
    assert loaded is not None
    assert not loaded[0][NAME].to_dense().any()


def test_unlike_pass_throws_the_blocks_away_and_says_what_differs(tmp_path: Path) -> None:
    write_block(tmp_path)
    other = FinishedBlocks(tmp_path, {"model": "a", "recipe": "c", "threads": "2"})
    assert other.restarts == ("recipe was b, is c", "threads was absent, is 2")
    assert other.load(0) is None
    assert FinishedBlocks(tmp_path, {"model": "a", "recipe": "c", "threads": "2"}).restarts == ()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '"text"', '{"model": 5}'])
def test_damaged_fingerprint_throws_the_blocks_away(tmp_path: Path, content: str) -> None:
    write_block(tmp_path)
    (tmp_path / "fingerprint.json").write_text(content)
    finished = FinishedBlocks(tmp_path, MINE)
    assert finished.restarts != ()
    assert finished.load(0) is None


def test_blocks_without_a_fingerprint_are_not_trusted(tmp_path: Path) -> None:
    write_block(tmp_path)
    (tmp_path / "fingerprint.json").unlink()  # as after a removal that was interrupted
    finished = FinishedBlocks(tmp_path, MINE)
    assert finished.restarts == ("fingerprint missing",)
    assert finished.load(0) is None


def test_new_or_empty_folder_is_no_restart(tmp_path: Path) -> None:
    assert FinishedBlocks(tmp_path, MINE).restarts == ()
    assert FinishedBlocks(tmp_path / "a" / "b", MINE).restarts == ()


@pytest.mark.parametrize("kept", [0, 4, 40, -1], ids=lambda kept: f"{kept} bytes")
def test_truncated_block_counts_as_unfinished_and_is_removed(tmp_path: Path, kept: int) -> None:
    finished = write_block(tmp_path)
    (file,) = tmp_path.glob("block-*")
    file.write_bytes(file.read_bytes()[:kept])
    assert finished.load(0) is None
    assert not file.exists()


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"results": "["}, {"results": "[5]"}, {"results": "5"}, {"results": '[{"name": "x"}]'}],
    ids=str,
)
def test_block_without_sound_results_counts_as_unfinished(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    finished = write_block(tmp_path)
    (file,) = tmp_path.glob("block-*")
    save_file({f"{NAME}:weight": torch.ones(2, 2)}, file, metadata)
    assert finished.load(0) is None


def test_interrupted_write_is_not_a_block(tmp_path: Path) -> None:
    finished = write_block(tmp_path)
    (file,) = tmp_path.glob("block-*")
    file.rename(file.with_suffix(".partial"))
    assert finished.load(0) is None
    finished.save(0, {NAME: LayerSolution(DenseWeights(torch.ones(2, 2)), "rtn")}, [])
    assert finished.load(0) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "fingerprint.json"]
