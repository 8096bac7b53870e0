"""spqr-quant's own de-quantiser: `spqr` artifacts.

Its kernels need a GPU, and importing the package compiles them. But the C++ file beside them holds its packer and unpacker as
plain functions for the host. That file, as it was installed, is compiled here against the headers of CUDA alone; what it
cannot find of CUDA's libraries is never called. The rest of the model is transformers'.
"""

import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from causal_lm import answer
from comparison import arguments
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.cpp_extension import load

HERE = Path(__file__).parent
PARTS = ("dense_weights", "row_offsets", "col_vals", "in_perm")


def host_code() -> ModuleType:
    """spqr-quant's C++ file, compiled once into this environment."""
    build = Path(sys.prefix) / "spqr-host"
    build.mkdir(exist_ok=True)
    sys.setdlopenflags(os.RTLD_LAZY)  # the file also names kernels, which are missing
    found: ModuleType = load(
        "spqr_host",
        [str(_place("spqr_quant") / "inference_kernels" / "spqr_cuda.cpp")],
        extra_include_paths=[str(next(_place("nvidia").glob("cu*/include"))), str(HERE / "spqr_headers")],
        extra_cflags=["-O1"],
        extra_ldflags=["-Wl,-z,lazy"],
        build_directory=str(build),
        with_cuda=False,
    )
    return found


def _place(package: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def dequantised(host: ModuleType, config: dict[str, Any], tensors: dict[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """The matrix (R, C) of one linear layer, columns in the order of its inputs."""
    dense_weights, row_offsets, col_vals, in_perm = (tensors[f"{name}.{part}"] for part in PARTS)
    for part, tensor in zip(PARTS, (dense_weights, row_offsets, col_vals, in_perm), strict=True):
        assert config["shapes"][f"{name}.{part}.shape"] == tensor.numel(), f"{name}.{part}: config.json gives another shape"
    R, C = shape
    W_RC = torch.zeros(R, C, dtype=torch.float16)
    host.dequantize_compressed(
        R, C, config["bits"], config["beta1"], config["beta2"], dense_weights, row_offsets, col_vals, len(col_vals), W_RC
    )
    if not len(in_perm):
        return W_RC
    order = in_perm.view(torch.int16).to(torch.int64) & 0xFFFF  # two to a word, the lower half first
    return torch.zeros_like(W_RC).index_copy_(1, order, W_RC)  # its kernels read input order[k] for column k


folder, comparison = arguments()
host = host_code()
config = transformers.AutoConfig.from_pretrained(folder)
spqr = config.to_dict()["quantization_config"]
spqr = spqr if isinstance(spqr, dict) else spqr.to_dict()
tensors: dict[str, Tensor] = {}
for file in sorted(folder.glob("*.safetensors")):
    tensors |= load_file(file)
del config.quantization_config
model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
state = {name: value for name, value in tensors.items() if name.rpartition(".")[2] not in PARTS}
for name, module in model.named_modules():
    if f"{name}.dense_weights" in tensors:
        assert isinstance(module, torch.nn.Linear)
        state[f"{name}.weight"] = dequantised(host, spqr, tensors, name, module.weight.shape)
missing, unexpected = model.load_state_dict(state, strict=False)
model.tie_weights()
tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
if unexpected or set(missing) - tied:
    sys.exit(f"tensors missing: {sorted(set(missing) - tied)}; unexpected: {sorted(unexpected)}")
answer(comparison, "spqr-quant's de-quantiser", f"{version('spqr-quant')} (transformers {transformers.__version__})", model)
