"""llama.cpp, through llama-cpp-python: `gguf` artifacts.

It quantises activations to 8 bits where the weights are quantised, so its logits differ by a few hundredths of their spread
from those of exact arithmetic, however right the file is.
"""

from itertools import islice

import llama_cpp
import numpy as np
from comparison import NEW_TOKENS, arguments

F32 = 0  # ggml's number for it: keys and values in full precision

folder, comparison = arguments()
[file] = folder.glob("*.gguf")
length = comparison.tokens.shape[1]
model = llama_cpp.Llama(
    str(file), n_ctx=length + NEW_TOKENS, n_batch=length, logits_all=True, n_threads=1, n_threads_batch=1, use_mmap=False,
    type_k=F32, type_v=F32, flash_attn=False, verbose=False,
)  # fmt: skip
windows = []
for row in comparison.tokens:
    model.reset()
    model.eval(row.tolist())
    windows.append(np.array(model.scores[:length]))
model.reset()
generated = list(islice(model.generate(comparison.prompt, temp=0.0), NEW_TOKENS))
comparison.answer("llama-cpp-python", llama_cpp.__version__, np.stack(windows), generated)
