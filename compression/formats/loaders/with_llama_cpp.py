"""Loads a `gguf` artifact with llama.cpp, through llama-cpp-python; on the CPU, whatever the device.

It quantises activations to 8 bits where weights are quantised, so its logits differ by a few hundredths of their spread from
those of exact arithmetic, however right the file is.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import outcome  # type: ignore[import-not-found] # beside this file
import torch
from torch import Tensor

CONTEXT = 256  # more than a probe's window, or its prompt and what is generated; logits of all places are held
F32 = 0  # ggml's number for it: keys and values in full precision


def load(folder: Path, _device: str) -> Any:
    [file] = folder.glob("*.gguf")
    model = llama_cpp.Llama(
        str(file), n_ctx=CONTEXT, n_batch=CONTEXT, logits_all=True, n_threads=1, n_threads_batch=1, use_mmap=False,
        type_k=F32, type_v=F32, flash_attn=False, verbose=False,
    )  # fmt: skip

    def logits(ids: Tensor) -> Tensor:
        model.reset()
        model.eval(ids[0].tolist())
        return torch.from_numpy(np.array(model.scores[: ids.shape[1]]))[None]

    return logits


if __name__ == "__main__":
    outcome.run(f"llama-cpp-python {version('llama-cpp-python')}", load)
