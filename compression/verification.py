"""Loading what was written, and comparing it with what the pass believed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from compression.errors import VerificationError
from compression.formats.export import Export
from compression.formats.files import FILES
from compression.models.checkpoint import Checkpoint
from compression.models.quiet import quiet_transformers
from compression.options import PruningOptions
from compression.plan import PlannedLayer
from compression.report import Sample, Verification

TOLERANCE_NATS = 1e-3
PROMPT_TOKENS = 24
SAMPLE_TOKENS = 40


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
                _check_pattern(layer, found_RC)


def _check_pattern(layer: PlannedLayer, weight_RC: Tensor) -> None:
    if isinstance(layer.options, PruningOptions) and layer.options.nm:
        n, m = layer.options.nm
        if int((weight_RC != 0).unflatten(1, (-1, m)).sum(-1).max()) > n:
            raise VerificationError(f"{layer.name}: the file breaks the {n}:{m} pattern")


def verify_loads(
    folder: Path, device: torch.device, dtype: torch.dtype, window_L: Tensor, expected: float | None
) -> Verification:
    """Load the artifact with transformers and compare its cross-entropy on one window with the pass's.

    Args: expected: mean cross-entropy of the compressed stream on that window in nats; None: only loading is checked.
    Raises: VerificationError: it differs by more than the tolerance.
    """
    loader = f"transformers {transformers.__version__}"
    if not fits(folder):
        return Verification(loader=loader, verdict="not verified", detail="the whole model does not fit in free memory")
    with _loaded(folder, device, dtype) as model:
        found = _cross_entropy(model, window_L.to(device))
    if expected is None:
        return Verification(loader=loader, verdict="ok", detail="loads and runs; no evaluation window to compare on")
    difference = abs(found - expected)
    if not difference <= TOLERANCE_NATS:
        raise VerificationError(f"reloaded, the artifact has cross-entropy {found:.5f}, the pass measured {expected:.5f}")
    return Verification(
        loader=loader,
        verdict="ok",
        detail="loads, and gives the cross-entropy that the pass measured on the first evaluation window",
        cross_entropy_difference=difference,
    )


def sample(
    source: Path, folder: Path, tokenizer: PreTrainedTokenizerBase, device: torch.device, dtype: torch.dtype, window_L: Tensor
) -> Sample:
    """Greedy continuations of the first tokens of a window, by the source and by the artifact."""
    prompt = window_L[None, :PROMPT_TOKENS]
    texts = []
    for path in (source, folder):
        with _loaded(path, device, dtype) as model:
            greedy = GenerationConfig(max_new_tokens=SAMPLE_TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
            ids = model.generate(  # type: ignore[operator]
                prompt.to(device), attention_mask=torch.ones_like(prompt, device=device), generation_config=greedy
            )
        texts.append(tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True))
    return Sample(prompt=tokenizer.decode(prompt[0], skip_special_tokens=True), dense=texts[0], compressed=texts[1])


def fits(folder: Path) -> bool:
    """Whether a whole float32 model, with some room to run, fits in the free host memory."""
    needed: float = Checkpoint(folder).parameters * 4 * 1.5
    available: int = psutil.virtual_memory().available
    return needed < available


@contextmanager
def _loaded(folder: Path, device: torch.device, dtype: torch.dtype) -> Iterator[PreTrainedModel]:
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval().to(device)
    with torch.inference_mode():
        yield model


def _cross_entropy(model: PreTrainedModel, window_L: Tensor) -> float:
    logits_LV = model(input_ids=window_L[None], use_cache=False).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits_LV, window_L[1:]))
