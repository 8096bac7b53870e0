"""Loads a `gguf` artifact with transformers' reader, which de-quantises everything, so that its logits are exact.

`from_pretrained(gguf_file=...)` asks for accelerate and fills gaps with random weights. Where it is not installed, the same
reader is called as `from_pretrained` calls it, and a gap is an error.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint


def load(folder: Path, device: str) -> Any:
    [file] = folder.glob("*.gguf")
    if find_spec("accelerate"):
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
    else:
        model = filled(file)
    model.eval().to(device)
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


def filled(file: Path) -> Any:
    """The model that the file's own metadata describes, with every parameter from the file."""
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
    unlike = {name for name, _ in model.named_parameters()} ^ tensors.keys()
    if unlike:
        raise ValueError(f"tensors without a counterpart: {sorted(unlike)[:3]}")
    model.load_state_dict(tensors, strict=False)
    return model


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with gguf {version('gguf')}", load)
