"""The sparse-packed layout: parts give back the very weights, take the bits that the page says, and never lie unnoticed."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

from compression.errors import UnsupportedModel
from compression.formats import load
from compression.formats.sparse_packed import QUANT_METHOD
from compression.formats.sparse_parts import pack_mask, pack_parts, unpack_mask, unpack_parts
from compression.models.checkpoint import Checkpoint
from compression.models.untrusted import read_object
from compression.options import Bits, Offset, code_bits, top_code
from compression.protocol import Output
from compression.weights import DenseWeights, GridWeights, Weights
from tests.compression.formats.artifacts import cross_entropy, make

ALL_BITS = [2, 3, 4, 5, 6, 8, "ternary"]
GROUPS, SIZE = 3, 8


def grid_weights(
    seed: int,
    bits: Bits,
    rows: int = 5,
    *,
    sparsity: float = 0.0,
    offset: Offset = "zero_point",
    is_symmetric: bool = False,
    is_scattered: bool = False,
) -> GridWeights:
    """Random codes, a fraction of them at the zero of their group."""
    generator = torch.Generator().manual_seed(seed)
    columns, top = GROUPS * SIZE, top_code(bits)
    scale_RG = (torch.rand(rows, GROUPS, generator=generator) + 0.01).half().float()
    zero_RG = torch.randint(0, top + 1, (rows, GROUPS), generator=generator).float()
    if is_symmetric:
        zero_RG = torch.full_like(zero_RG, (top + 1) // 2)
    group_C = torch.arange(columns, dtype=torch.int32) // SIZE
    if is_scattered:
        group_C = group_C[torch.randperm(columns, generator=generator)]
    codes_RC = torch.randint(0, top + 1, (rows, columns), generator=generator, dtype=torch.uint8)
    if offset == "minimum":
        zero_RG = -torch.randn(rows, GROUPS, generator=generator).half().float() / scale_RG
    else:
        is_zero = torch.rand(rows, columns, generator=generator) < sparsity
        codes_RC = torch.where(is_zero, zero_RG.to(torch.uint8)[:, group_C.long()], codes_RC)
    return GridWeights(codes_RC, scale_RG, zero_RG, group_C, bits, offset)


def unpacked(parts: dict[str, Tensor], shape: tuple[int, int]) -> Tensor:
    kinds = {name.split(".")[1] for name in parts}
    assert len(kinds) == 1
    return unpack_parts(kinds.pop(), {name.split(".")[2]: part for name, part in parts.items()}, shape, "file: matrix")


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 999),
    bits=st.sampled_from(ALL_BITS),
    rows=st.integers(1, 7),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    offset=st.sampled_from(get_args(Offset)),
    is_symmetric=st.booleans(),
    is_scattered=st.booleans(),
)
def test_grids_come_back_as_the_very_values(
    seed: int, bits: Bits, rows: int, sparsity: float, offset: Offset, is_symmetric: bool, is_scattered: bool
) -> None:
    weights = grid_weights(
        seed, bits, rows, sparsity=sparsity, offset=offset, is_symmetric=is_symmetric, is_scattered=is_scattered
    )
    parts = pack_parts(weights, torch.float32)
    assert torch.equal(unpacked(parts, (rows, GROUPS * SIZE)), weights.to_dense())
    assert ("weight.grid.group" in parts) == (not weights.is_in_order)
    assert ("weight.grid.minimum" in parts) == (offset == "minimum")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 6),
    columns=st.integers(1, 40),
    sparsity=st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_pruned_weights_come_back_as_the_very_values(
    seed: int, rows: int, columns: int, sparsity: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    W_RC = torch.randn(rows, columns, generator=generator).to(dtype)
    W_RC[torch.rand(rows, columns, generator=generator) < sparsity] = 0
    parts = pack_parts(DenseWeights(W_RC), dtype)
    found = parts["weight"] if "weight" in parts else unpacked(parts, (rows, columns))
    assert found.dtype == dtype and torch.equal(found, W_RC)
    assert sum(part.nbytes for part in parts.values()) <= W_RC.nbytes


def test_mask_has_the_bit_of_a_column_where_the_page_says() -> None:
    kept_RC = torch.zeros(2, 11, dtype=torch.bool)
    kept_RC[0, [0, 3, 8]], kept_RC[1, 10] = True, True
    mask = pack_mask(kept_RC)
    assert mask.tolist() == [[0b00001001, 0b00000001], [0, 0b00000100]]
    found, is_clean = unpack_mask(mask, 11)
    assert torch.equal(found, kept_RC) and is_clean
    assert not unpack_mask(torch.full((1, 2), 255, dtype=torch.uint8), 11)[1]


def test_codes_of_kept_weights_follow_each_other_through_the_rows() -> None:
    codes_RC = torch.tensor([[8, 1, 8, 8, 2, 8, 8, 8], [8, 8, 3, 8, 8, 8, 8, 15]], dtype=torch.uint8)
    grid = torch.ones(2, 1), torch.full((2, 1), 8.0)
    weights = GridWeights(codes_RC, *grid, torch.zeros(8, dtype=torch.int32), 4)
    parts = pack_parts(weights, torch.float32)
    assert parts["weight.grid.mask"].tolist() == [[0b00010010], [0b10000100]]
    assert parts["weight.grid.codes"].tolist() == [0xF321]
    assert parts["weight.grid.bits"].tolist() == [4]
    assert "weight.grid.zero_point" not in parts  # the middle code goes without saying


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_mask_is_written_where_it_saves_space_and_only_there(bits: Bits, sparsity: float) -> None:
    weights = grid_weights(0, bits, 64, sparsity=sparsity)
    count = weights.codes_RC.numel()
    zeros = int((weights.to_dense() == 0).sum())
    parts = pack_parts(weights, torch.float32)
    masked, plain = count + (count - zeros) * code_bits(bits), count * code_bits(bits)
    assert ("weight.grid.mask" in parts) == (masked < plain)
    held = parts["weight.grid.codes"].nbytes + (parts["weight.grid.mask"].nbytes if masked < plain else 0)
    assert held * 8 == pytest.approx(min(masked, plain), abs=32)


DENSE = DenseWeights(torch.tensor([[0.0, 1, 0, 0, 0, 0, 2, 0, 0, 3], [0, 0, 0, 4, 0, 0, 0, 0, 0, 0]]))
GRID = grid_weights(0, 3, sparsity=0.9, is_scattered=True)
TERNARY = grid_weights(0, "ternary")


def tampered(weights: Weights, part: str, change: Any) -> tuple[str, dict[str, Tensor], tuple[int, int]]:
    parts = {name.split(".")[2]: tensor for name, tensor in pack_parts(weights, torch.float32).items()}
    found = change(parts[part].clone())
    parts = {name: tensor for name, tensor in parts.items() if name != part} | ({} if found is None else {part: found})
    shape = weights.to_dense().shape
    return weights.kind, parts, (shape[0], shape[1])


def with_entry(index: tuple[int, ...], value: float) -> Any:
    def change(part: Tensor) -> Tensor:
        part[index] = value
        return part

    return change


@pytest.mark.parametrize(
    ("weights", "part", "change", "reason"),
    [
        (DENSE, "mask", with_entry((0, 0), 0b11111111), r"the mask keeps 10 weights, and there are 4 values"),
        (DENSE, "mask", with_entry((0, 1), 0b10000010), "bits set beyond its last column"),
        (DENSE, "mask", lambda part: part[:, :1], r"'mask' is torch.uint8 \(2, 1\)"),
        (DENSE, "values", lambda part: part[1:], "there are 3 values"),
        (DENSE, "values", with_entry((0,), torch.nan), "NaN"),
        (DENSE, "values", lambda part: part.int(), r"'values' is torch.int32"),
        (DENSE, "values", lambda _: None, "'values' is missing"),
        (GRID, "mask", with_entry((0, 0), 255), "codes of 3 bits in 'codes' fill"),
        (GRID, "codes", lambda part: part[:-1], "codes of 3 bits in 'codes' fill"),
        (GRID, "codes", lambda part: part.long(), "'codes' is torch.int64"),
        (GRID, "scale", with_entry((0, 0), 0), "a scale is not a positive number"),
        (GRID, "scale", with_entry((1, 1), torch.inf), "a scale is not a positive number"),
        (GRID, "scale", lambda part: part[:2], "'scale' is"),
        (GRID, "group", with_entry((0,), GROUPS), "a group beyond the 3"),
        (GRID, "group", with_entry((0,), -1), "a group beyond the 3"),
        (GRID, "bits", with_entry((0,), 7), "codes of 7 bits"),
        (GRID, "zero_point", lambda part: part[:-1], "in 'zero_point' fill"),
        (TERNARY, "codes", with_entry((0,), -1), "holds the code 3, and the largest is 2"),
        (grid_weights(0, 4), "scale", lambda part: part.repeat(1, 3)[:, :7], "7 groups do not divide 24 columns"),
        (grid_weights(0, 4, offset="minimum"), "minimum", with_entry((0, 0), torch.nan), "a minimum is NaN"),
    ],
)
def test_parts_that_disagree_are_refused_with_file_matrix_and_reason(
    weights: Weights, part: str, change: Any, reason: str
) -> None:
    kind, parts, shape = tampered(weights, part, change)
    with pytest.raises(UnsupportedModel, match=rf"^shard: some\.matrix.*{reason}"):
        unpack_parts(kind, parts, shape, "shard: some.matrix")


def test_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="kind 'dragon' are unknown"):
        unpack_parts("dragon", {}, (1, 1), "shard: some.matrix")


@pytest.mark.parametrize(
    ("family", "recipe", "embeddings", "dtype"),
    [
        ("llama", {"pattern": "2:4"}, "keep", torch.bfloat16),
        ("llama-untied", {"bits": 3, "sparsity": 0.5, "group_size": 16}, "int8", torch.float16),
        ("llama", {"bits": "ternary", "group_size": 32}, "int8", torch.bfloat16),
        ("opt", {"bits": 4, "act_order": True, "static_groups": False, "group_size": 16}, "keep", torch.float32),
        ("gpt2", {"sparsity": 0.7}, "int8", torch.float32),
        ("gpt2", {"bits": 4, "pattern": "2:4", "overrides": {"*.c_fc": {"bits": 6}, "*.0.*": None}}, "keep", torch.float32),
    ],
    ids=["2:4", "3 bit sparse", "ternary", "dynamic groups", "gpt2 sparse", "gpt2 mixture"],
)
def test_loaded_artifact_is_the_model_that_was_evaluated(
    family: str, recipe: dict[str, Any], embeddings: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    report = make(tmp_path, recipe, Output(format="sparse-packed", embeddings=embeddings), family, dtype)
    model = load(tmp_path / "out", dtype=torch.float32)
    evaluated = report.results[0].compressed.value
    assert torch.tensor(evaluated).log().item() == pytest.approx(cross_entropy(model, tmp_path), abs=1e-5)
    assert report.sizes.artifact_bytes < report.sizes.source_bytes
    assert next(load(tmp_path / "out").parameters()).dtype == dtype
    rounded = [row for row in report.coverage if row.reason and "8 bits" in row.reason]
    assert len(rounded) == {"keep": 0, "int8": 1 + ("untied" in family)}[embeddings]


def test_dense_and_packed_artifacts_of_one_recipe_are_one_model(tmp_path: Path) -> None:
    recipe = {"bits": 4, "sparsity": 0.5, "group_size": 32}
    make(tmp_path, recipe, Output(format="dense"))
    dense = AutoModelForCausalLM.from_pretrained((tmp_path / "out").rename(tmp_path / "dense"), dtype=torch.float32)
    make(tmp_path, recipe, Output(format="sparse-packed"))
    packed = load(tmp_path / "out")
    for name, tensor in dense.state_dict().items():
        assert torch.equal(packed.state_dict()[name], tensor), name


def test_other_loaders_are_told_that_this_is_no_plain_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, {"pattern": "2:4", "method": "magnitude"}, Output(format="sparse-packed"))
    assert read_object(tmp_path / "out" / "config.json")["quantization_config"]["quant_method"] == QUANT_METHOD
    with pytest.raises(UnsupportedModel, match="already quantised"):
        Checkpoint(tmp_path / "out")
