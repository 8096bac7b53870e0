"""Loads an `spqr` artifact with spqr-quant's own de-quantiser, on the CPU, whatever the device.

Its kernels need a GPU, and importing the package compiles them. But the C++ file beside them holds its packer and unpacker as
plain functions for the host. That file, as it was installed, is compiled here against the headers of CUDA alone; what it
cannot find of CUDA's libraries is never called. The rest of the model is transformers'.
"""

import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils import cpp_extension
from transformers import AutoConfig, AutoModelForCausalLM

PARTS = ("dense_weights", "row_offsets", "col_vals", "in_perm")
CUDA_CONTEXT = """#pragma once
#include <cuda_runtime_api.h>
namespace at::cuda { cudaStream_t getCurrentCUDAStream(int device); }  // for the kernels, which are not here
"""


def load(folder: Path, _device: str) -> Any:
    settings = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    dense = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in PARTS}
    host = host_code()
    for name, module in model.named_modules():
        if f"{name}.dense_weights" in tensors:
            dense[f"{name}.weight"] = dequantised(host, settings, tensors, name, module.weight.shape)
    found = model.load_state_dict(dense, strict=False)
    model.tie_weights()
    missing = set(found.missing_keys) - ({"lm_head.weight"} if config.tie_word_embeddings else set())
    if missing or found.unexpected_keys:
        sys.exit(f"tensors missing: {sorted(missing)}; not expected: {found.unexpected_keys}")
    model.eval()
    return lambda ids: model(input_ids=ids, use_cache=False).logits


def host_code() -> ModuleType:
    """spqr-quant's C++ file, compiled once into this environment."""
    build = Path(sys.prefix) / "spqr-host"
    stand_in = build / "include" / "ATen" / "cuda" / "CUDAContext.h"  # a CPU build of torch lacks what the real one includes
    stand_in.parent.mkdir(parents=True, exist_ok=True)
    if not stand_in.exists():
        stand_in.write_text(CUDA_CONTEXT)
    sys.setdlopenflags(os.RTLD_LAZY)  # the file names kernels, which are missing
    found: ModuleType = cpp_extension.load(
        "spqr_host",
        [str(_place("spqr_quant") / "inference_kernels" / "spqr_cuda.cpp")],
        extra_include_paths=[str(build / "include"), str(next(_place("nvidia").glob("cu*/include")))],
        extra_cflags=["-O1"],
        extra_ldflags=["-Wl,-z,lazy"],
        build_directory=str(build),
        with_cuda=False,
    )
    return found


def dequantised(host: ModuleType, settings: Any, tensors: dict[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    """The matrix (R, C) of one linear layer, float16, columns in the order of its inputs."""
    for part in PARTS:  # transformers allocates by these before it reads
        if settings["shapes"][f"{name}.{part}.shape"] != tensors[f"{name}.{part}"].numel():
            sys.exit(f"{name}.{part}: the length in config.json is not the tensor's")
    dense_weights, row_offsets, col_vals, in_perm = (tensors[f"{name}.{part}"] for part in PARTS)
    W_RC = torch.zeros(shape, dtype=torch.float16)
    grid = (settings["bits"], settings["beta1"], settings["beta2"])
    host.dequantize_compressed(*shape, *grid, dense_weights, row_offsets, col_vals, len(col_vals), W_RC)
    if not len(in_perm):
        return W_RC
    order_C = in_perm.view(torch.int16).to(torch.int64) & 0xFFFF  # two to a word, the lower half first
    return torch.zeros_like(W_RC).index_copy_(1, order_C, W_RC)  # its kernels read input order_C[k] for column k


def _place(package: str) -> Path:
    """Where a package is installed, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


if __name__ == "__main__":
    outcome.run(f"spqr-quant {version('spqr-quant')} (its host code)", load)
