"""The fast ways of running a block, each held against the plain one."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compression import environment
from compression.errors import InvalidOptions
from compression.hessian import Accumulator
from compression.inputs import by_input, listening
from compression.lanes import computing_in, enter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer
from tests import tiny_models

CPU = torch.device("cpu")
HAS_BFLOAT16 = environment.has_bfloat16  # which no other test here asks


@pytest.fixture
def model(tmp_path: Path) -> StreamedModel:
    return StreamedModel(Checkpoint(tiny_models.save(tmp_path / "llama")), CPU, torch.float32)


def planned(model: StreamedModel) -> list[PlannedLayer]:
    return [PlannedLayer(matrix.name, 0, matrix, None) for matrix in model.checkpoint.architecture.block(0)]


@torch.inference_mode()
def test_forward_that_ends_with_the_last_input_heard_gives_the_hessians_of_a_whole_one(
    model: StreamedModel, tmp_path: Path
) -> None:
    lane, block, layers = enter(model, torch.arange(64).view(2, 32), Spill(tmp_path)), model.load_block(0), planned(model)
    inputs: dict[str, list[Tensor]] = {label: [] for label in by_input(layers)}
    for label, readers in by_input(layers).items():
        block.get_submodule(readers[0].name).register_forward_pre_hook(
            lambda module, args, heard=inputs[label]: heard.append(args[0][0])
        )
    ends: list[nn.Module] = []
    block.register_forward_hook(lambda module, args, output: ends.append(module))
    for window in range(2):
        block(lane.stream[window], *lane.calls[0].args, **lane.calls[0].kwargs)
    assert len(ends) == 2
    with listening(block, layers, CPU) as accumulators:
        for window in range(2):
            lane.listen(model, block, 0, window)
    assert len(ends) == 2, "no listening forward came to its end"
    for label, heard in inputs.items():
        X_NC = torch.cat(heard[:2])
        torch.testing.assert_close(accumulators[label].finish(label).H_CC, 2 / len(X_NC) * X_NC.T @ X_NC)


@torch.inference_mode()
def test_listening_goes_on_where_the_last_input_alone_is_asked_for_or_a_forward_broke(
    model: StreamedModel, tmp_path: Path
) -> None:
    lane, block, layers = enter(model, torch.arange(32)[None], Spill(tmp_path)), model.load_block(0), planned(model)
    with listening(block, layers, CPU) as accumulators:
        with suppress(RuntimeError):
            block(torch.zeros(1, 32, 7), *lane.calls[0].args, **lane.calls[0].kwargs)
        for _ in range(3):
            lane.listen(model, block, 0, 0)
    assert {accumulator.finish(label).tokens for label, accumulator in accumulators.items()} == {3 * 32}


@torch.inference_mode()
def test_weights_cast_once_give_what_autocast_gives(model: StreamedModel, tmp_path: Path) -> None:
    lane, block = enter(model, torch.arange(32)[None], Spill(tmp_path)), model.load_block(0)
    kept = {name: weight.clone() for name, weight in block.named_parameters()}
    with torch.autocast("cpu", torch.bfloat16):
        plain = block(lane.stream[0], *lane.calls[0].args, **lane.calls[0].kwargs)
    with computing_in(block, torch.bfloat16, CPU):
        fast = block(lane.stream[0], *lane.calls[0].args, **lane.calls[0].kwargs)
    first, second = (output[0] if isinstance(output, tuple) else output for output in (plain, fast))
    assert torch.equal(first, second)
    assert all(torch.equal(weight, kept[name]) for name, weight in block.named_parameters())
    assert {weight.dtype for weight in block.parameters()} == {torch.float32}


def test_hessian_is_of_what_the_matrices_read() -> None:
    X_NC = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    rounded, exact = Accumulator(16, CPU, torch.bfloat16), Accumulator(16, CPU)
    rounded.add(X_NC)
    exact.add(X_NC.bfloat16().float())
    assert torch.equal(rounded.finish("x").H_CC, exact.finish("x").H_CC)


def test_bfloat16_is_what_the_processor_has_instructions_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, has in (({}, False), ({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features, raising=False)
        assert HAS_BFLOAT16(CPU) is has


def test_compute_dtype_by_itself_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.pick_compute_dtype("auto", CPU) == torch.float32
    monkeypatch.setattr(environment, "has_bfloat16", lambda device: True)
    assert environment.pick_compute_dtype("auto", CPU) == torch.bfloat16
    assert environment.pick_compute_dtype("float32", CPU) == torch.float32
    with pytest.raises(InvalidOptions, match="float16"):
        environment.pick_compute_dtype("float16", CPU)
