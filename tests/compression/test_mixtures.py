"""Mixtures of experts: both layouts on disk, experts that few tokens reach, routers, and what no family declares."""

import json
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from compression.block import check_block, install
from compression.compress import compress
from compression.errors import UnsupportedModel
from compression.families import read_architecture
from compression.families.base import Matrix
from compression.hessian import Accumulator, SingularHessian
from compression.inputs import by_input, hessian_of, needed_tokens, portions
from compression.matrix_view import matrix_view
from compression.models.checkpoint import Checkpoint, opened
from compression.models.storage import check_places, place
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer, plan
from compression.protocol import Calibration, Evaluation
from compression.recipe import parse_recipe, resolve
from compression.report import Report
from compression.weights import DenseWeights
from tests import tiny_models

WINDOWS, SEQLEN = 6, 32
CPU = torch.device("cpu")
mixtures = pytest.mark.parametrize("family", tiny_models.MIXTURES)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(folder: Path, text: Path, out: Path, recipe: dict[str, Any], **options: Any) -> Report:
    return compress(
        folder,
        recipe,
        out,
        calibration=Calibration(source=str(text), nsamples=WINDOWS, seqlen=SEQLEN),
        evaluation=Evaluation(sources=(str(text),), windows=2, seqlen=SEQLEN),
        device="cpu",
        certificate=False,
        **options,
    )


def tensors(folder: Path) -> dict[str, Tensor]:
    checkpoint = Checkpoint(folder)
    return checkpoint.read(checkpoint.tensors)


def layout(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors(folder).items()}


def save_fused(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Path:
    """The same checkpoint with the names and the layout of the model's own parameters."""
    tiny_models.save(folder, family, dtype)
    save_file({name: p.to(dtype) for name, p in tiny_models.build(family).state_dict().items()}, folder / "model.safetensors")
    return folder


@mixtures
def test_checkpoints_are_saved_with_a_tensor_for_each_expert_and_read_as_the_model_has_them(
    family: str, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    stored = tensors(folder)
    assert any(".experts.3." in name for name in stored)
    assert not any("gate_up_proj" in name for name in stored)
    blocks_equal_the_whole_model(folder)


@mixtures
def test_fused_checkpoints_are_read_as_the_model_has_them(family: str, tmp_path: Path) -> None:
    folder = save_fused(tmp_path / "model", family)
    assert any(name.endswith("experts.gate_up_proj") for name in tensors(folder))
    blocks_equal_the_whole_model(folder)


def blocks_equal_the_whole_model(folder: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    streamed = StreamedModel(Checkpoint(folder), CPU, torch.float32)
    path = streamed.checkpoint.architecture.block_path
    for index in range(tiny_models.BLOCKS):
        block = streamed.load_block(index).state_dict()
        expected = whole.get_submodule(f"{path}.{index}").state_dict()
        assert block.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(block[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_artifact_keeps_layout_and_dtype_of_its_source_and_both_layouts_give_one_model(
    family: str, dtype: torch.dtype, tmp_path: Path, text: Path
) -> None:
    apart = tiny_models.save(tmp_path / "apart", family, dtype, max_shard_size="40KB")
    fused = save_fused(tmp_path / "fused", family, dtype)
    assert (apart / "model.safetensors.index.json").is_file()
    for folder in (apart, fused):
        run(folder, text, tmp_path / f"{folder.name}.out", {"pattern": "2:4"})
        before, after = tensors(folder), tensors(tmp_path / f"{folder.name}.out")
        assert {name: (t.shape, t.dtype) for name, t in before.items()} == {
            name: (t.shape, t.dtype) for name, t in after.items()
        }
    loaded = [
        AutoModelForCausalLM.from_pretrained(tmp_path / f"{folder.name}.out", dtype=torch.float32).state_dict()
        for folder in (apart, fused)
    ]
    assert loaded[0].keys() == loaded[1].keys()
    assert all(torch.equal(tensor, loaded[1][name]) for name, tensor in loaded[0].items())


@pytest.mark.parametrize(
    ("recipe", "method"),
    [
        ({"pattern": "2:4"}, "magnitude"),
        ({"pattern": "2:4", "method": "wanda"}, "magnitude"),
        ({"bits": 4, "group_size": 32}, "rtn"),
        ({"pattern": "2:4", "bits": 4, "group_size": 32}, "magnitude + rtn"),
    ],
    ids=["sparsegpt", "wanda", "optq", "joint"],
)
def test_expert_with_too_few_tokens_falls_back_and_says_how_many_it_had(
    recipe: dict[str, Any], method: str, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    monkeypatch.setattr("compression.inputs.MIN_EXPERT_TOKENS", 90)
    report = run(folder, text, tmp_path / "out", recipe)
    experts = [layer for layer in report.layers if ".experts." in layer.name]
    few = {layer.name for layer in experts if layer.tokens < 90}
    assert 0 < len(few) < len(experts)
    for layer in report.layers:
        if layer.name in few:
            assert layer.method == method
            assert layer.fallbacks[0] == f"only {layer.tokens} calibration tokens reached this expert, 90 are needed"
        else:
            assert not layer.fallbacks
    assert {row.name for row in report.coverage if row.status == "fallback"} == few


def test_expert_without_a_single_token_is_compressed_without_data(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    blocked = "model.layers.1"
    one_sided_router(folder, blocked)
    report = run(folder, text, tmp_path / "out", {"pattern": "2:4"})
    found = {layer.name: layer for layer in report.layers if layer.name.startswith(f"{blocked}.mlp.experts.")}
    idle = [layer for layer in found.values() if layer.tokens == 0]
    assert len({layer.name.split(".")[5] for layer in idle}) == 2
    assert len(idle) == 2 * 3
    for layer in idle:
        assert layer.method == "magnitude"
        assert layer.relative_error is None
        assert layer.sparsity == 0.5
    rows = {row.name: row for row in report.coverage}
    assert all(rows[layer.name].status == "fallback" for layer in idle)
    assert all("only 0 calibration tokens" in str(rows[layer.name].reason) for layer in idle)


def one_sided_router(folder: Path, block: str) -> None:
    """Every token of a block goes to the same two experts: all scores are equal."""
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored[f"{block}.block_sparse_moe.gate.weight"].zero_()
    save_file(stored, path, {"format": "pt"})


@mixtures
def test_forwards_in_bfloat16_route_and_count_as_in_float32(family: str, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    exact = run(folder, text, tmp_path / "exact", {"bits": 4, "group_size": 32})
    rounded = run(folder, text, tmp_path / "rounded", {"bits": 4, "group_size": 32}, compute_dtype="bfloat16")
    total = [sum(layer.tokens for layer in report.layers if ".experts." in layer.name) for report in (exact, rounded)]
    assert total[0] == total[1]
    for a, b in zip(exact.layers, rounded.layers, strict=True):
        assert a.relative_error is not None
        assert b.relative_error == pytest.approx(a.relative_error, rel=0.2)


@pytest.mark.parametrize("limit_bytes", [1, 3 * 4 * 32**2, 5 * 4 * 64**2])
def test_hessians_that_do_not_fit_together_take_more_forwards_and_change_nothing(
    limit_bytes: int, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.save(tmp_path / "model", "deepseek_v3")
    run(folder, text, tmp_path / "at once", {"pattern": "2:4"})
    monkeypatch.setattr("compression.budgets.MAX_HESSIANS_BYTES", limit_bytes)
    report = run(folder, text, tmp_path / "in portions", {"pattern": "2:4"})
    at_once, in_portions = tensors(tmp_path / "at once"), tensors(tmp_path / "in portions")
    assert all(torch.equal(tensor, in_portions[name]) for name, tensor in at_once.items())
    assert [layer.name for layer in report.layers] == [row.name for row in report.coverage if row.status != "skipped"]


def test_portions_hold_every_layer_once_and_are_as_full_as_they_may() -> None:
    _, _, layers = mixtral_block()
    assert list(portions(layers, 2**30)) == [list(chain.from_iterable(by_input(layers).values()))]
    limit = 4 * (32**2 + 64**2)
    parts = list(portions(layers, limit))
    assert sorted(layer.name for part in parts for layer in part) == sorted(layer.name for layer in layers)
    sizes = [[4 * readers[0].matrix.shape[1] ** 2 for readers in by_input(part).values()] for part in parts]
    assert all(sum(part) <= limit for part in sizes)
    assert all(sum(part) + following[0] > limit for part, following in pairwise(sizes))
    labels = [label for part in parts for label in by_input(part)]
    assert len(labels) == len(set(labels))


@mixtures
def test_report_counts_the_tokens_of_each_expert_and_keeps_routers_dense(family: str, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    report = run(folder, text, tmp_path / "out", {"bits": 4, "group_size": 32})
    architecture = read_architecture(Checkpoint(folder).config)
    per_block: dict[tuple[int, str], int] = {}
    for layer in report.layers:
        if ".experts." in layer.name:
            kind = (layer.block, layer.name.rpartition(".")[2])
            per_block[kind] = per_block.get(kind, 0) + layer.tokens
        else:
            assert layer.tokens == WINDOWS * SEQLEN
    with_experts = [k for k in range(architecture.blocks) if any(matrix.slot for matrix in architecture.block(k))]
    assert len(per_block) == 3 * len(with_experts)
    assert set(per_block.values()) == {WINDOWS * SEQLEN * 2}
    routers = [row for row in report.coverage if row.name.endswith((".mlp.gate", ".shared_expert_gate"))]
    assert {row.status for row in routers} == {"skipped"}
    assert all("kept dense" in str(row.reason) for row in routers)
    assert sum(row.reason == "router: kept dense" for row in routers) == len(with_experts)
    before, after = tensors(folder), tensors(tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in before if "gate.weight" in name)


def expert_of(config: dict[str, Any]) -> Matrix:
    return next(matrix for matrix in read_architecture(config).matrices if matrix.slot)


def test_expert_needs_more_tokens_the_wider_it_is() -> None:
    assert needed_tokens(expert_of(mixtral_config())) == 32
    wide = mixtral_config() | {"hidden_size": 4096, "num_attention_heads": 32, "head_dim": 128}
    assert needed_tokens(expert_of(wide)) == 512


@pytest.mark.parametrize(("tokens", "damp"), [(31, None), (32, 1.0), (64, 0.5), (3200, 0.01), (20000, 0.01)])
def test_expert_is_damped_by_its_inputs_over_its_tokens_and_unfit_with_too_few(tokens: int, damp: float | None) -> None:
    matrix = expert_of(mixtral_config())
    accumulator = Accumulator(32, CPU)
    accumulator.add(torch.randn(tokens, 32, generator=torch.Generator().manual_seed(0)))
    hessian = hessian_of(accumulator, "expert", matrix)
    assert hessian.tokens == tokens
    if damp is None:
        with pytest.raises(SingularHessian, match="only 31 calibration tokens reached this expert, 32 are needed"):
            hessian.factor(0.01)
    else:
        assert hessian.factor(0.01).damp == pytest.approx(damp)


def test_other_matrices_take_every_hessian_as_it_is() -> None:
    matrix = read_architecture(mixtral_config()).matrices[0]
    accumulator = Accumulator(32, CPU)
    accumulator.add(torch.eye(32)[:3])
    hessian = hessian_of(accumulator, "query", matrix)
    assert hessian.unfit is None
    assert hessian.factor(0.01).damp == 0.01


def mixtral_config() -> dict[str, Any]:
    config: dict[str, Any] = tiny_models.build("mixtral").config.to_dict()
    return config


def mixtral_block() -> tuple[PreTrainedModel, nn.Module, list[PlannedLayer]]:
    model = tiny_models.build("mixtral")
    architecture = read_architecture(model.config.to_dict())
    layers = [PlannedLayer(architecture.module_name(0, matrix), 0, matrix, None) for matrix in architecture.block(0)]
    return model, model.get_submodule("model.layers.0"), layers


def test_block_with_a_matrix_that_the_family_does_not_declare_is_refused() -> None:
    _, block, layers = mixtral_block()
    check_block(block, layers)
    for left_out in layers:
        with pytest.raises(UnsupportedModel, match=r"does not declare|do not tile"):
            check_block(block, [layer for layer in layers if layer is not left_out])
    block.register_parameter("extra", nn.Parameter(torch.zeros(2, 2, 2)))
    with pytest.raises(UnsupportedModel, match="a matrix extra that its family does not declare"):
        check_block(block, layers)


def test_block_whose_fused_parameter_has_other_shapes_than_the_config_says_is_refused() -> None:
    for shape in ((5, 128, 32), (4, 130, 32), (4, 128, 36), (3, 128, 32), (4, 128 * 32)):
        _, block, layers = mixtral_block()
        block.get_submodule("mlp.experts").register_parameter("gate_up_proj", nn.Parameter(torch.zeros(shape)))
        with pytest.raises(UnsupportedModel, match=r"experts\.gate_up_proj has shape"):
            check_block(block, layers)


@pytest.mark.parametrize(
    ("save", "reason"),
    [(tiny_models.save, "has no tensor .*experts"), (save_fused, "that its family does not declare")],
    ids=["apart", "fused"],
)
def test_job_fails_when_a_family_leaves_its_experts_out(
    save: Callable[[Path, str], Path], reason: str, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "model", "mixtral")
    whole = Checkpoint(folder).architecture.matrices
    monkeypatch.setattr("compression.families.mixtral.experts", lambda *_, **__: ())
    assert len(Checkpoint(folder).architecture.matrices) < len(whole)
    with pytest.raises(UnsupportedModel, match=reason):
        run(folder, text, tmp_path / "out", {"pattern": "2:4"})
    assert not (tmp_path / "out").exists()


def test_install_changes_one_expert_and_no_other() -> None:
    _, block, layers = mixtral_block()
    before = {name: p.detach().clone() for name, p in block.named_parameters()}
    layer = next(layer for layer in layers if layer.matrix.name == "mlp.experts.2.w3")
    with torch.no_grad():
        install(block, layer, DenseWeights(torch.full((64, 32), 7.0)), torch.float32)
    after = dict(block.named_parameters())
    assert bool((after["mlp.experts.gate_up_proj"][2, 64:] == 7).all())
    before["mlp.experts.gate_up_proj"][2, 64:] = 7
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("missing", ["block_sparse_moe.experts.2.w3.weight", "block_sparse_moe.experts.0.w1.weight"])
def test_checkpoint_without_one_experts_matrix_is_refused_by_name(missing: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    stored = load_file(folder / "model.safetensors")
    del stored[f"model.layers.1.{missing}"]
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    model = StreamedModel(Checkpoint(folder), CPU, torch.float32)
    model.load_block(0)
    with pytest.raises(UnsupportedModel, match=r"no tensor model\.layers\.1\.mlp\.experts\.\d\.w\d"):
        model.load_block(1)


def test_expert_of_another_shape_or_with_nan_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    stored = load_file(folder / "model.safetensors")
    name = "model.layers.0.block_sparse_moe.experts.2.w3.weight"
    integers = torch.zeros(64, 32, dtype=torch.int32)
    unfit = (torch.zeros(60, 32), "has shape"), (torch.full((64, 32), torch.nan), "holds NaN"), (integers, "holds I32")
    for bad, reason in unfit:
        save_file(stored | {name: bad}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UnsupportedModel, match=rf"experts\.2\.w3\.weight {reason}"):
            StreamedModel(Checkpoint(folder), CPU, torch.float32).load_block(0)


@pytest.mark.parametrize("save", [tiny_models.save, save_fused], ids=["apart", "fused"])
def test_shapes_on_disk_are_held_against_the_config_before_any_work(
    save: Callable[[Path, str], Path], tmp_path: Path, text: Path
) -> None:
    folder = save(tmp_path / "model", "mixtral")
    config = json.loads((folder / "config.json").read_text())
    for changes in ({"intermediate_size": 96}, {"num_local_experts": 5}, {"head_dim": 16}):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UnsupportedModel, match=r"has shape \(.*its config says|has no tensor"):
            run(folder, text, tmp_path / "out", {"pattern": "2:4"})
        assert not list(tmp_path.glob(".out*/blocks/block*"))


def test_packed_formats_refuse_a_tensor_of_all_experts_but_not_one_tensor_for_each(tmp_path: Path) -> None:
    for folder in (save_fused(tmp_path / "fused", "mixtral"), tiny_models.save(tmp_path / "apart", "mixtral")):
        checkpoint = Checkpoint(folder)
        layers = plan(resolve(parse_recipe({"bits": 4})), checkpoint.architecture).layers
        check_places(checkpoint, layers, may_share=True)
        if folder.name == "apart":
            check_places(checkpoint, layers, may_share=False)
            continue
        with pytest.raises(UnsupportedModel, match="holds all experts in one tensor"):
            check_places(checkpoint, layers, may_share=False)


def test_folder_is_opened_once_and_again_when_it_changed(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    first = opened(folder)
    assert opened(folder) is first
    stored = load_file(folder / "model.safetensors")
    save_file(stored | {"more": torch.zeros(3)}, folder / "model.safetensors", {"format": "pt"})
    assert "more" in opened(folder).tensors
    assert "more" not in first.tensors


def test_experts_stored_in_unlike_dtypes_lose_nothing(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    stored = load_file(folder / "model.safetensors")
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    save_file(stored | {name: stored[name].to(torch.bfloat16)}, folder / "model.safetensors", {"format": "pt"})
    both = StreamedModel(Checkpoint(folder), CPU, torch.float32).load_block(0).get_parameter("mlp.experts.gate_up_proj")
    assert torch.equal(both[0, :64], stored[name].to(torch.bfloat16).float())
    assert torch.equal(both[1, :64], stored[name.replace("experts.0", "experts.1")])


@mixtures
def test_places_of_all_matrices_are_the_views_that_the_model_computes_with(family: str, tmp_path: Path) -> None:
    model = tiny_models.build(family)
    for folder in (tiny_models.save(tmp_path / "apart", family), save_fused(tmp_path / "fused", family)):
        checkpoint = Checkpoint(folder)
        stored = checkpoint.read(checkpoint.tensors)
        for index in range(checkpoint.architecture.blocks):
            block = model.get_submodule(f"{checkpoint.architecture.block_path}.{index}")
            for matrix in checkpoint.architecture.block(index):
                found = place(checkpoint, checkpoint.architecture.module_name(index, matrix), matrix).view(stored)
                own = matrix_view(block.get_parameter(matrix.parameter), matrix, is_fused=matrix.slot is not None)
                assert torch.equal(found, own), matrix.name
                read = place(checkpoint, checkpoint.architecture.module_name(index, matrix), matrix).read(checkpoint)
                assert torch.equal(read, own), matrix.name
