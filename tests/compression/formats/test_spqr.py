"""The format `spqr`, bit by bit, and what it refuses.

spqr-quant compiles CUDA when it is imported, so the layout is derived here once more, with Python's integers and numpy's
float16. The package's own de-quantiser (its C++ file compiled for the host) reads the same values: scripts/check-formats.sh.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import SpQRConfig

from compression.compress import compress
from compression.errors import InvalidOptions, UnsupportedModel
from compression.families.base import Architecture, Matrix, Slot
from compression.formats import rules_spqr
from compression.formats.spqr import pack_matrix, read_matrix, unpack_matrix
from compression.formats.stored import StoredMatrix
from compression.models.checkpoint import Checkpoint
from compression.options import SpqrOptions
from compression.plan import PlannedLayer
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import parse_recipe, resolve
from compression.report import Report
from compression.spqr_weights import SpqrWeights
from tests import tiny_models
from tests.compression.examples import few
from tests.compression.problems import layer, seeded
from tests.compression.test_spqr import solved

PARTS = ("dense_weights", "row_offsets", "col_vals", "in_perm")


def random_weights(rows: int, columns: int, *, is_ordered: bool = True, outliers: float = 0.05, seed: int = 0) -> SpqrWeights:
    """Any codes and any positive statistics: what a file can hold, not only what the method makes."""
    generator, tiles = seeded(seed), (rows // 16, columns // 16)

    def codes(*shape: int) -> Tensor:
        return torch.randint(8, shape, generator=generator, dtype=torch.uint8)

    values_RC = torch.randn(rows, columns, generator=generator).half()
    return SpqrWeights.assemble(
        codes(rows, columns),
        scale_codes_RG=codes(rows, columns // 16),
        zero_codes_RG=codes(rows, columns // 16),
        meta_4TG=(torch.randn(4, *tiles, generator=generator) * torch.tensor([0.01, 3, 0.5, 3]).view(4, 1, 1)).half(),
        outliers_RC=torch.where(torch.rand(rows, columns, generator=generator) < outliers, values_RC, 0),
        order_C=torch.randperm(columns, generator=generator) if is_ordered else None,
        bits=3,
        group_size=16,
        qq_group_size=16,
        qq_bits=(3, 3),
    )


def word(weights: SpqrWeights, row: int, tile: int) -> int:
    """The 64 bits of one row of one tile."""
    found = int(weights.scale_codes_RG[row, tile]) | int(weights.zero_codes_RG[row, tile]) << 3
    for k in range(16):
        found |= int(weights.codes_RC[row, 16 * tile + k]) << (6 + 3 * k)
    step, zero, zero_step, zero_zero = weights.meta_4TG[:, row // 16, tile].numpy().view(np.uint16).tolist()
    meta: int = step | zero_step << 16 | zero << 32 | zero_zero << 48
    return found | (meta >> (8 * (row % 16 // 2)) & 0xFF) << 54


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (48, 32), (32, 80)])
def test_layout_is_the_one_that_spqr_quant_reads(rows: int, columns: int) -> None:
    weights = random_weights(rows, columns)
    tensors = pack_matrix(weights)
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "dense_weights": "torch.int64",
        "row_offsets": "torch.int32",
        "col_vals": "torch.int32",
        "in_perm": "torch.int32",
    }
    assert all(tensor.ndim == 1 and tensor.is_contiguous() for tensor in tensors.values())
    words = tensors["dense_weights"].tolist()
    assert len(words) == rows * columns // 16
    for row in range(rows):
        for tile in range(columns // 16):
            place = ((row // 16) * (columns // 16) + tile) * 16 + row % 16
            assert words[place] == word(weights, row, tile)
            assert words[place] >> 62 == 0
    offsets = tensors["row_offsets"].tolist()
    assert offsets[0] == 0 and offsets[-1] == len(tensors["col_vals"]) and len(offsets) == rows + 1
    values = weights.outlier_values.numpy().view(np.uint16).tolist()
    expected = [column | value << 16 for column, value in zip(weights.outlier_columns.tolist(), values, strict=True)]
    assert [found & 0xFFFFFFFF for found in tensors["col_vals"].tolist()] == expected
    assert weights.order_C is not None
    order = weights.order_C.tolist()
    assert [found & 0xFFFFFFFF for found in tensors["in_perm"].tolist()] == [
        first | second << 16 for first, second in zip(order[::2], order[1::2], strict=True)
    ]


def read_as_spqr_quant(tensors: dict[str, Tensor], rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Its de-quantiser, word by word, every operation rounded to float16; columns in the file's order."""
    words, half = [value & (2**64 - 1) for value in tensors["dense_weights"].tolist()], np.float16
    dense = np.zeros((rows, columns), np.float32)
    for band in range(rows // 16):
        for tile in range(columns // 16):
            own = words[(band * (columns // 16) + tile) * 16 :][:16]
            meta = sum((own[2 * k] >> 54) << (8 * k) for k in range(8))
            step, zero_step, zero, zero_zero = np.array([meta >> 16 * k & 0xFFFF for k in range(4)], np.uint16).view(half)
            for k, bits in enumerate(own):
                s = step * (half(bits & 7) - zero)
                z = zero_step * (half(bits >> 3 & 7) - zero_zero)
                for j in range(16):
                    dense[16 * band + k, 16 * tile + j] = s * (half(bits >> (6 + 3 * j) & 7) - z)
    offsets = tensors["row_offsets"].tolist()
    for row in range(rows):
        for entry in tensors["col_vals"][offsets[row] : offsets[row + 1]].tolist():
            dense[row, entry & 0xFFFF] += np.float32(np.array([entry >> 16 & 0xFFFF], np.uint16).view(half)[0])
    return dense.astype(half)


@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "storage order"])
def test_values_are_those_that_spqr_quant_computes_to_the_last_bit(is_ordered: bool) -> None:
    weights = random_weights(32, 48, is_ordered=is_ordered)
    tensors = pack_matrix(weights)
    expected = torch.from_numpy(read_as_spqr_quant(tensors, 32, 48))
    if weights.order_C is not None:
        expected = expected[:, weights.order_C.argsort()]
    assert torch.equal(weights.to_dense().half(), expected)
    assert (len(tensors["in_perm"]) == 0) is not is_ordered


@few
@given(
    bands=st.integers(1, 4),
    tiles=st.integers(1, 5),
    outliers=st.sampled_from([0.0, 0.02, 1.0]),
    is_ordered=st.booleans(),
    seed=st.integers(0, 9),
)
def test_unpacking_gives_back_every_part(bands: int, tiles: int, outliers: float, is_ordered: bool, seed: int) -> None:
    weights = random_weights(16 * bands, 16 * tiles, is_ordered=is_ordered, outliers=outliers, seed=seed)
    again = unpack_matrix(pack_matrix(weights), 16 * bands, 16 * tiles)
    assert again.tensors().keys() == weights.tensors().keys()
    for name, part in weights.tensors().items():
        assert torch.equal(again.tensors()[name], part), name
        assert again.tensors()[name].dtype == part.dtype


def test_columns_up_to_the_readers_limit_survive() -> None:
    weights = random_weights(16, rules_spqr.MAX_COLUMNS, outliers=0.001)
    again = unpack_matrix(pack_matrix(weights), 16, rules_spqr.MAX_COLUMNS)
    assert torch.equal(again.outlier_columns, weights.outlier_columns)
    assert int(weights.outlier_columns.max()) > 2**14
    assert torch.equal(again.to_dense(), weights.to_dense())


def test_file_takes_four_bits_a_weight_and_its_outliers() -> None:
    weights = solved(layer(64, 128))
    stored = sum(tensor.nbytes for tensor in pack_matrix(weights).values())
    outliers = len(weights.outlier_values)
    assert 8 * stored == 4 * 64 * 128 + 32 * outliers + 32 * 65 + 16 * 128


# Through the whole pass


def run(folder: Path, out: Path, recipe: dict[str, Any]) -> Report:
    text = out.with_suffix(".txt")
    text.write_text(tiny_models.text())
    return compress(
        folder,
        {"method": "spqr", "bits": 3} | recipe,
        out,
        calibration=Calibration(source=str(text), nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(str(text),), windows=1, seqlen=32),
        output=Output(format="spqr"),
        device="cpu",
    )


@pytest.fixture(scope="module", params=["float16", "bfloat16", "float32"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Report]:
    folder = tmp_path_factory.mktemp("spqr")
    model = tiny_models.save(folder / "model", "llama", getattr(torch, request.param))
    return model, folder / "out", run(model, folder / "out", {"skip_blocks": [1]})


def test_transformers_would_replace_the_packed_matrices_and_no_others(artifact: tuple[Path, Path, Report]) -> None:
    source, out, _ = artifact
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "float16"
    quantization = SpQRConfig(**{key: value for key, value in config["quantization_config"].items() if key != "quant_method"})
    model = AutoModelForCausalLM.from_pretrained(source)
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    replaced = {name for name in linears if should_convert_module(name, quantization.modules_to_not_convert)}
    assert replaced == {name for name in linears if ".layers." in name and ".layers.1." not in name}
    assert quantization.shapes.keys() == {f"{name}.{part}.shape" for name in replaced for part in PARTS}
    for name in replaced:
        tensors = StoredMatrix(out, name).tensors
        assert tensors.keys() == set(PARTS)
        assert all(quantization.shapes[f"{name}.{part}.shape"] == tensors[part].numel() for part in PARTS)


def test_other_tensors_stay_as_they_were(artifact: tuple[Path, Path, Report]) -> None:
    source, out, _ = artifact
    checkpoint = Checkpoint(source)
    for name in ("model.norm", "model.embed_tokens", "model.layers.1.mlp.up_proj"):
        assert torch.equal(StoredMatrix(out, name).tensors["weight"], checkpoint.read([f"{name}.weight"])[f"{name}.weight"])
    (left_alone,) = (one for one in checkpoint.architecture.matrices if one.name == "mlp.up_proj")
    found = read_matrix(out, PlannedLayer(name, 1, left_alone, None))
    assert torch.equal(found, checkpoint.read([f"{name}.weight"])[f"{name}.weight"])


@torch.inference_mode()
def test_model_with_the_values_that_are_read_has_the_perplexity_of_the_report(artifact: tuple[Path, Path, Report]) -> None:
    source, out, report = artifact
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    architecture = Checkpoint(source).architecture
    storage = Checkpoint(source).dtype_of("model.embed_tokens.weight")
    for block in (0, 2):
        for matrix in architecture.matrices:
            name = architecture.module_name(block, matrix)
            values = read_matrix(out, PlannedLayer(name, block, matrix, None))
            model.get_submodule(name).get_parameter("weight").copy_(values.to(storage).float())  # as the pass evaluates them
    text = out.with_suffix(".txt").read_text()
    ids = torch.tensor([tiny_models.byte_tokenizer()(text)["input_ids"][:32]])
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:])
    assert float(loss.exp()) == pytest.approx(report.results[0].compressed.value, rel=1e-5)


def test_report_counts_every_bit_and_never_says_verified_without_the_loader(artifact: tuple[Path, Path, Report]) -> None:
    _, out, report = artifact
    assert {(found.method, found.bits, found.group_size) for found in report.layers} == {("spqr", 3, 16)}
    for found in report.layers:
        nnz = len(StoredMatrix(out, found.name).tensors["col_vals"])
        rows, columns = found.shape
        weights = rows * columns
        group_size = 16 if columns > 16 else columns
        formula = 3 + 6 / group_size + 64 / 256 + 32 * nnz / weights
        assert found.bits_per_weight == pytest.approx(formula + (32 * (rows + 1) + 16 * columns) / weights)
    assert report.verification.verdict == "not verified"
    assert "spqr_quant" in report.verification.detail


# Refusals


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"method": "spqr", "bits": 4}, "no other software reads SpQR at 4 bits"),
        ({"method": "spqr", "bits": 3, "group_size": 32}, "has group_size 16 built in, not 32"),
        ({"method": "spqr", "bits": 3, "qq_group_size": 8}, "has qq_group_size 16 built in, not 8"),
        ({"method": "spqr", "bits": 3, "qq_zero_bits": 4}, "has qq_zero_bits 3 built in, not 4"),
        ({"bits": 3}, "set method to spqr"),
        ({"sparsity": 0.5}, "set method to spqr"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_options_that_the_reader_does_not_know_are_refused_at_submit(recipe: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptions, match=reason) as refused:
        resolve(parse_recipe(recipe), "spqr")
    assert refused.value.field == "output.format"
    assert refused.value.allowed is not None and "dense" in refused.value.allowed


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (Matrix("fc", (40, 32), "x", 0), "16 does not divide the 40 outputs"),
        (Matrix("fc", (32, 40), "x", 0), "16 does not divide the 40 inputs"),
        (Matrix("fc", (32, 2**15 + 16), "x", 0), "beyond input 32768"),
        (Matrix("fc", (32, 32), "x", 0, is_transposed=True), "Conv1D"),
        (Matrix("fc", (32, 32), "x", 0, slot=Slot("experts.up_proj", 0, (0, 32))), "one expert of many"),
        (Matrix("fc", (32, 2**15), "x", 0), None),
    ],
)
def test_shapes_that_the_reader_does_not_take_are_refused(matrix: Matrix, reason: str | None) -> None:
    architecture = Architecture("llama", "Llama", "llama", 1, "model.layers", "model", (matrix,), 64, 64)
    found = rules_spqr.refuses_layer(PlannedLayer("model.layers.0.fc", 0, matrix, SpqrOptions(bits=3)), architecture)
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.mark.parametrize(
    ("family", "error", "reason"),
    [
        ("gpt2", InvalidOptions, "Conv1D"),
        ("qwen2", UnsupportedModel, "q_proj has a bias, which spqr-quant's linear layer lacks"),
    ],
)
def test_models_whose_matrices_the_reader_would_misread_are_refused_before_any_work(
    tmp_path: Path, family: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        run(tiny_models.save(tmp_path / "model", family), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_biased_matrices_may_be_left_alone(tmp_path: Path) -> None:
    biased = [f"*.{name}_proj" for name in "qkv"]
    report = run(tiny_models.save(tmp_path / "model", "qwen2"), tmp_path / "out", {"ignore": biased})
    assert len(report.layers) == 4 * tiny_models.BLOCKS
    assert StoredMatrix(tmp_path / "out", "model.layers.0.self_attn.q_proj").tensors.keys() == {"weight", "bias"}
