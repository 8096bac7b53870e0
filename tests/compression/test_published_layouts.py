"""Checkpoints as their authors published them: other names, other prefixes, tensors that the model no longer has."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from compression.compress import compress
from compression.errors import UnsupportedModel
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.protocol import Calibration, Evaluation
from tests import tiny_models

Tensors = dict[str, Tensor]


def without_prefix(tensors: Tensors) -> Tensors:
    """As BLOOM and GPT-2: saved from the model without its head."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_masks(tensors: Tensors) -> Tensors:
    """As Pythia: causal masks and rotary frequencies, which were buffers once."""
    for block in range(tiny_models.BLOCKS):
        name = f"gpt_neox.layers.{block}.attention"
        tensors[f"{name}.bias"] = torch.ones(1, 1, 512, 512, dtype=torch.bool).tril()
        tensors[f"{name}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{name}.rotary_emb.inv_freq"] = torch.ones(4)
    return tensors


def with_a_block_to_spare(tensors: Tensors) -> Tensors:
    """As DeepSeek-V3: the block that predicts the token after next, behind the last."""
    last = f"model.layers.{tiny_models.BLOCKS - 1}."
    spare = {name.replace(last, f"model.layers.{tiny_models.BLOCKS}."): tensor for name, tensor in tensors.items()}
    return {name: tensor.clone() for name, tensor in (spare | tensors).items()}


@pytest.mark.parametrize(
    ("family", "publish"),
    [
        ("bloom", without_prefix),
        ("gpt2", without_prefix),
        ("gpt_neox", with_masks),
        ("deepseek_v3", with_a_block_to_spare),
    ],
    ids=["bloom without prefix", "gpt2 without prefix", "pythia with masks", "deepseek with a spare block"],
)
def test_published_layout_is_read_and_kept(family: str, publish: Callable[[Tensors], Tensors], tmp_path: Path) -> None:
    folder, text = tiny_models.save(tmp_path / "model", family), tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    own = load_file(folder / "model.safetensors")
    published = publish(dict(own))
    assert published.keys() != own.keys()
    save_file(published, folder / "model.safetensors", {"format": "pt"})
    report = compress(
        folder,
        {"pattern": "2:4"},
        tmp_path / "out",
        calibration=Calibration(source=str(text), nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(str(text),), windows=2, seqlen=32),
        device="cpu",
        certificate=False,
    )
    assert report.model.dtype == "float32"
    written = Checkpoint(tmp_path / "out")
    assert written.tensors.keys() == published.keys()
    changed = {name for name, tensor in written.read(written.tensors).items() if not torch.equal(tensor, published[name])}
    stored = {written.stored_name(f"{layer.name}.weight") for layer in report.layers}
    assert changed == stored
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for layer in report.layers:
        if ".experts." not in layer.name:
            assert bool((loaded.get_submodule(layer.name).get_parameter("weight") == 0).any())


def test_router_bias_of_deepseek_v3_is_read_although_it_is_no_parameter(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "deepseek_v3")
    name = "mlp.gate.e_score_correction_bias"
    stored = load_file(folder / "model.safetensors")[f"model.layers.1.{name}"]
    assert bool((stored != 0).all())
    block = StreamedModel(Checkpoint(folder), torch.device("cpu"), torch.float32).load_block(1)
    assert torch.equal(block.state_dict()[name], stored)


def test_checkpoint_that_lacks_a_parameter_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "gpt_neox")
    tensors = load_file(folder / "model.safetensors")
    del tensors["gpt_neox.layers.1.attention.dense.bias"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = StreamedModel(Checkpoint(folder), torch.device("cpu"), torch.float32)
    with pytest.raises(UnsupportedModel, match=r"no tensor gpt_neox\.layers\.1\.attention\.dense\.bias"):
        model.load_block(1)
