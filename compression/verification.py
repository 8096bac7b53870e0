"""Reading back what was written, and letting dense and compressed model speak."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase

from compression.errors import VerificationError
from compression.formats.export import Export
from compression.formats.files import FILES
from compression.formats.loaders.outcome import GENERATED_TOKENS, PROMPT_TOKENS
from compression.models.quiet import quiet_transformers
from compression.options import ObcOptions
from compression.plan import PlannedLayer
from compression.report import Sample


def verify_layers(export: Export) -> None:
    """Read every solved matrix back from the written files: they hold the values that the pass evaluated, and its n:m pattern.

    Raises: VerificationError: naming the matrix.
    """
    read_matrix = FILES[export.output.format].read_matrix
    for block in range(export.checkpoint.architecture.blocks):
        solved = export.solved(block)
        for layer in export.plan.block(block):
            if layer.name in solved:
                found_RC = read_matrix(export.folder, layer)
                expected_RC = solved[layer.name].to_dense().to(export.storage_dtype(layer))
                if not torch.equal(found_RC.to(expected_RC.dtype), expected_RC):
                    raise VerificationError(f"{layer.name}: the written file holds other weights than the pass evaluated")
                check_pattern(layer, found_RC)


def check_pattern(layer: PlannedLayer, weight_RC: Tensor) -> None:
    """Raises: VerificationError: the n:m groups or blocks that the layer's options promise are not there."""
    if layer.options and layer.options.nm:
        n, m = layer.options.nm
        if int((weight_RC != 0).unflatten(1, (-1, m)).sum(-1).max()) > n:
            raise VerificationError(f"{layer.name}: the file breaks the {n}:{m} pattern")
    elif isinstance(layer.options, ObcOptions) and layer.options.tile > 1:
        gone_RG = (weight_RC == 0).unflatten(1, (-1, layer.options.tile)).all(-1)
        if int(gone_RG.sum()) < round((layer.options.sparsity or 0) * gone_RG.numel()):
            raise VerificationError(f"{layer.name}: the file has fewer zero blocks of {layer.options.tile} than were pruned")


@torch.inference_mode()
def sample(
    source: Path, tokenizer: PreTrainedTokenizerBase, device: torch.device, window_L: Tensor, generated: list[int]
) -> Sample:
    """Greedy continuations of a window's first tokens: the source's, and the one that the loaded artifact gave."""
    prompt = window_L[None, :PROMPT_TOKENS]
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    greedy = GenerationConfig(max_new_tokens=GENERATED_TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    ids = model.generate(prompt.to(device), attention_mask=torch.ones_like(prompt, device=device), generation_config=greedy)
    dense, compressed = ids[0, prompt.shape[1] :].tolist(), generated
    texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (prompt[0].tolist(), dense, compressed)]
    return Sample(prompt=texts[0], dense=texts[1], compressed=texts[2])
