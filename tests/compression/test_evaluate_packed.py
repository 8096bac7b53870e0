"""Evaluating an artifact that somebody else's library packed. Runs where compressed-tensors is installed."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compression.evaluate import evaluate
from compression.protocol import Evaluation
from tests import tiny_models

compressed_tensors = pytest.importorskip("compressed_tensors")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A packed model, and its values de-quantised."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    model = tiny_models.build("llama-wide")
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"]))
    dequantised = tiny_models.build("llama-wide")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and hasattr(module, "weight_scale"):
            groups = module.weight.detach().unflatten(1, (-1, 32))
            scale = groups.abs().amax(-1) / 7
            module.get_parameter("weight_scale").data.copy_(scale)
            codes = (groups / scale[..., None]).round().clamp(-8, 7)
            dequantised.get_submodule(name).get_parameter("weight").data.copy_((codes * scale[..., None]).flatten(1))
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
    assert compressor is not None
    compressor.compress_model(model)
    packed, dense = tmp_path / "packed", tmp_path / "dense"
    model.save_pretrained(packed)
    compressor.update_config(packed)
    dequantised.save_pretrained(dense)
    for folder in (packed, dense):
        tiny_models.byte_tokenizer().save_pretrained(folder)
    return packed, dense


def test_packed_model_has_the_figures_of_its_dequantised_self(folders: tuple[Path, Path], tmp_path: Path) -> None:
    packed, dense = folders
    (tmp_path / "text.txt").write_text(tiny_models.text())
    protocol = Evaluation(sources=(str(tmp_path / "text.txt"),), windows=2, seqlen=32)
    report = evaluate(packed, reference=dense, evaluation=protocol, device="cpu")
    (result,) = report.results
    assert result.comparison is not None
    assert result.comparison.kl < 1e-6
    assert result.comparison.top1_agreement == 1.0
    assert any("compressed-tensors" in note for note in report.model.notes)
    assert torch.isfinite(torch.tensor(result.perplexity.value))
