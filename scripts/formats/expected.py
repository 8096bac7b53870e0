"""What this project itself reads from an artifact: a file of tokens and logits, which the loader programs compare with.

    python scripts/formats/expected.py ARTIFACT EXPECTED

Needs this project on the path. The tokens are random; logits at any token say whether the weights are the same.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from compression.formats import load

WINDOWS = 2
TOKENS = 48

folder, file = map(Path, sys.argv[1:])
model = load(folder, dtype=torch.float32)
tokens = torch.randint(model.config.vocab_size, (WINDOWS, TOKENS), generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    logits = torch.cat([model(input_ids=row[None], use_cache=False).logits for row in tokens])
save_file({"input_ids": tokens, "logits": logits}, file)
