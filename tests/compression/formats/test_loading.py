"""One loader for every artifact: the same model whatever the format, and a reason for each folder that is none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compression import weights
from compression.compress import compress
from compression.errors import InvalidOptions, UnsupportedModel
from compression.formats import load
from compression.formats.semi_structured import fits_semi_structured
from compression.formats.sparse_parts import pack_parts, unpack_parts
from compression.models.headers import INDEX_FILE
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from tests import tiny_models
from tests.compression.formats.artifacts import cross_entropy, make, some_ids
from tests.compression.test_mixtures import save_fused

RECIPE = {"bits": 4, "pattern": "2:4", "symmetric": True, "group_size": 32}
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SHARD = "model-00003-of-00004.safetensors"  # of block 1


def loaded(folder: Path, recipe: dict[str, Any], output: Output) -> dict[str, Tensor]:
    """What `load` makes of a recipe's artifact."""
    make(folder, recipe, output, "llama-wide", torch.float16)
    return load((folder / "out").rename(folder / output.format)).state_dict()


@pytest.mark.parametrize(
    ("recipe", "output", "reference"),
    [
        (RECIPE, Output(format="gguf"), Output(format="dense")),
        (RECIPE, Output(format="sparse-packed"), Output(format="dense")),
        (RECIPE, Output(format="compressed-tensors"), Output(format="dense")),
        (RECIPE, Output(format="gptq"), Output(format="dense")),
        (RECIPE, Output(format="gguf", embeddings="int8"), Output(format="sparse-packed", embeddings="int8")),
        ({"method": "spqr", "bits": 3}, Output(format="spqr"), Output(format="dense")),
        ({"method": "spqr", "bits": 3}, Output(format="sparse-packed"), Output(format="dense")),
    ],
    ids=["gguf", "sparse-packed", "compressed-tensors", "gptq", "8-bit embeddings", "spqr", "spqr in sparse-packed"],
)
def test_formats_of_one_recipe_load_as_one_model(
    recipe: dict[str, Any], output: Output, reference: Output, tmp_path: Path
) -> None:
    recipe = recipe | {"overrides": {"*.o_proj": None}}
    found, expected = loaded(tmp_path, recipe, output), loaded(tmp_path, recipe, reference)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


@pytest.mark.parametrize("save", [tiny_models.save, save_fused], ids=["apart", "fused"])
@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_experts_are_found_again_in_either_layout(family: str, save: Any, tmp_path: Path) -> None:
    save(tmp_path / "model", family)
    recipe = {"bits": 3, "method": "rtn", "group_size": 16, "overrides": {"*.experts.1.*": None}}
    report = make(tmp_path, recipe, Output(format="sparse-packed"))
    assert report.sizes.artifact_bytes < report.sizes.source_bytes
    model = load(tmp_path / "out")
    assert np.log(report.results[0].compressed.value) == pytest.approx(cross_entropy(model, tmp_path), abs=1e-5)


def test_model_is_as_wished_and_ready_to_use(tmp_path: Path) -> None:
    make(tmp_path, RECIPE, Output(format="sparse-packed"))
    model = load(str(tmp_path / "out"), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not model.training
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # tied in the source
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.generate(some_ids()[:, :4], max_new_tokens=3, do_sample=False).shape == (1, 7)  # type: ignore[operator]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make(folder, RECIPE, Output(format="sparse-packed"))
    return folder / "out"


@pytest.fixture
def artifact(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    for path in made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def rewrite(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def resave(artifact: Path, change: Any) -> None:
    tensors = load_file(artifact / SHARD)
    change(tensors)
    save_file(tensors, artifact / SHARD)
    weight_map = {name: path.name for path in artifact.glob("*.safetensors") for name in load_file(path)}
    rewrite(artifact / INDEX_FILE, lambda index: index.update(weight_map=weight_map))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: (a / "scalpel.json").unlink(), r"artifact has no scalpel\.json"),
        (lambda a: (a / "scalpel.json").write_text("[]"), r"scalpel\.json is not a JSON object"),
        (lambda a: rewrite(a / "scalpel.json", lambda d: d.update(format="dragon")), "names the format 'dragon'"),
        (lambda a: rewrite(a / "scalpel.json", lambda d: d.update(format=["gguf"])), r"names the format \['gguf'\]"),
        (lambda a: rewrite(a / "scalpel.json", lambda d: d.update(format="gguf")), r"model\.gguf: there is no such file"),
        (lambda a: rewrite(a / "config.json", lambda d: d.update(dtype="int8")), "dtype 'int8'"),
        (lambda a: rewrite(a / "config.json", lambda d: d.update(auto_map={"AutoModel": "x.y"})), "remote code"),
        (lambda a: rewrite(a / "config.json", lambda d: d.update(num_attention_heads="many")), "not an integer"),
        (lambda a: rewrite(a / "config.json", lambda d: d.update(hidden_act="dragon")), "no model that transformers"),
        (lambda a: rewrite(a / "config.json", lambda d: d.update(num_hidden_layers=4)), "no tensor model.layers.3"),
        (lambda a: rewrite(a / INDEX_FILE, lambda d: d["weight_map"].update(x="../secret")), "outside the model folder"),
        (lambda a: (a / SHARD).write_bytes((a / SHARD).read_bytes()[:-9]), f"{SHARD}: .*truncated"),
        (lambda a: resave(a, lambda t: t.pop(f"{Q_PROJ}.grid.codes")), f"{SHARD}: {Q_PROJ} .*'codes' is missing"),
        (lambda a: resave(a, lambda t: t[f"{Q_PROJ}.grid.mask"].fill_(255)), f"{SHARD}: {Q_PROJ} .*codes of 4 bits"),
        (lambda a: resave(a, lambda t: t.update({f"{Q_PROJ}.dense.mask": torch.zeros(1)})), f"{Q_PROJ} is stored as several"),
        (lambda a: resave(a, lambda t: t.pop("model.layers.1.input_layernorm.weight")), "no tensor model.layers.1.input"),
        (
            lambda a: resave(a, lambda t: t["model.layers.1.input_layernorm.weight"].fill_(torch.nan)),
            "model.layers.1.input_layernorm.weight holds NaN",
        ),
        (
            lambda a: resave(a, lambda t: t.update({"model.layers.1.input_layernorm.weight": torch.ones(3)})),
            r"input_layernorm.weight has shape \(3,\), its config says \(32,\)",
        ),
    ],
    ids=[
        "no manifest", "no object", "unknown format", "format of another kind", "other format", "dtype", "remote code",
        "heads",
        "activation", "more blocks", "outside", "truncated", "no codes", "mask", "two kinds", "no norm", "NaN", "shape",
    ],
)  # fmt: skip
def test_damaged_artifact_is_refused_with_its_reason(change: Any, reason: str, artifact: Path) -> None:
    change(artifact)
    with pytest.raises(UnsupportedModel, match=reason):
        load(artifact)


@pytest.mark.parametrize(
    ("recipe", "name", "part"),
    [
        ({"bits": 4, "group_size": 32}, "compressed-tensors", "weight_scale"),
        ({"bits": 4, "group_size": 32}, "gptq", "qweight"),
        ({"method": "spqr", "bits": 3}, "spqr", "row_offsets"),
        ({"pattern": "2:4", "method": "magnitude"}, "dense", "weight"),
    ],
    ids=["compressed-tensors", "gptq", "spqr", "dense"],
)
def test_damage_in_other_peoples_layouts_is_refused_too(
    recipe: dict[str, Any], name: OutputFormat, part: str, tmp_path: Path
) -> None:
    make(tmp_path, recipe, Output(format=name), "llama-wide", torch.float16)
    matrix = "model.layers.1.mlp.up_proj"
    cut = f"{matrix}.{part}"
    for change in (lambda t: t.update({cut: t[cut][:-3].clone()}), lambda t: t.pop(cut)):
        resave(tmp_path / "out", change)
        with pytest.raises(UnsupportedModel, match=matrix):
            load(tmp_path / "out")


@dataclass(frozen=True)
class Doubled:
    """A kind of weights that the layout knows nothing of."""

    kind: ClassVar[str] = "doubled"
    half: Tensor

    def to_dense(self) -> Tensor:
        return 2 * self.half

    def tensors(self) -> dict[str, Tensor]:
        return {"half": self.half}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["half"])

    def stored_bits(self) -> int:
        return 0


def test_other_kinds_of_weights_are_carried_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.KINDS, "doubled", Doubled)
    parts = pack_parts(Doubled(torch.arange(6.0).view(2, 3)), torch.float32)
    assert list(parts) == ["weight.doubled.half"]
    found = unpack_parts("doubled", {"half": parts["weight.doubled.half"]}, (2, 3), "shard: matrix")
    assert torch.equal(found, 2 * torch.arange(6.0).view(2, 3))
    for parts, reason in (({}, "do not fit together"), ({"half": torch.ones(1, 3)}, r"a matrix of \(1, 3\)")):
        with pytest.raises(UnsupportedModel, match=f"shard: matrix.*{reason}"):
            unpack_parts("doubled", parts, (2, 3), "shard: matrix")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the other half is tested on such a device")
def test_semi_structured_kernels_without_their_device_are_refused(made: Path) -> None:
    with pytest.raises(InvalidOptions, match=r"^semi_structured: .*need a CUDA device, not cpu"):
        load(made, semi_structured=True)
    with pytest.raises(InvalidOptions, match=r"^device: cuda is not on this machine"):
        load(made, device="cuda", semi_structured=True)


def test_only_matrices_that_the_kernels_take_go_to_them() -> None:
    pattern = torch.tensor([1.0, 0, 2, 0]).repeat(32, 16)
    assert fits_semi_structured(pattern)
    assert not fits_semi_structured(pattern[:, :32])
    assert not fits_semi_structured(pattern[:16])
    assert not fits_semi_structured(pattern.index_fill(1, torch.tensor([5]), 1))


@pytest.mark.gpu
@needs_cuda
def test_semi_structured_kernels_give_the_dense_logits(tmp_path: Path) -> None:
    make(tmp_path, {"pattern": "2:4", "method": "magnitude"}, Output(format="sparse-packed"), "llama-wide", torch.float16)
    dense = load(tmp_path / "out", device="cuda")
    sparse = load(tmp_path / "out", device="cuda", semi_structured=True)
    replaced = [name for name, one in sparse.named_parameters() if type(one.data).__name__.startswith("SparseSemiStructured")]
    assert replaced
    ids = some_ids().cuda()
    with torch.inference_mode():
        torch.testing.assert_close(sparse(ids).logits, dense(ids).logits, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    ("pattern", "dtype", "reason"),
    [("2:4", torch.float32, "^dtype: .*float32"), ("3:4", None, "^semi_structured: no matrix is 2:4")],
    ids=["float32", "3:4"],
)
def test_semi_structured_kernels_refuse_what_they_cannot_take(pattern: str, dtype: Any, reason: str, tmp_path: Path) -> None:
    recipe = {"pattern": pattern, "method": "magnitude"}
    make(tmp_path, recipe, Output(format="sparse-packed"), "llama-wide", torch.float16)
    with pytest.raises(InvalidOptions, match=reason):
        load(tmp_path / "out", device="cuda", dtype=dtype, semi_structured=True)


@pytest.mark.parametrize("name", ["gguf", "sparse-packed"])
def test_certificate_is_made_by_the_loader_of_the_format(name: OutputFormat, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(tiny_models.text())
    report = compress(
        tiny_models.save(tmp_path / "model"),
        RECIPE,
        tmp_path / "out",
        calibration=Calibration(source=str(tmp_path / "text.txt"), nsamples=2, seqlen=32),
        evaluation=Evaluation(sources=(), seqlen=32),
        output=Output(format=name, embeddings="int8"),
        device="cpu",
    )
    assert report.verification.verdict == "ok"
    assert report.verification.loader.startswith({"gguf": "transformers", "sparse-packed": "scalpel"}[name])
    assert report.verification.max_logit_difference == pytest.approx(0, abs=1e-5)
    assert report.sample is not None
