"""Greedy continuations of one prompt by the models of an evaluation, so that a reader sees what the figures mean."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.errors import UnsupportedModel
from compression.evaluation_report import EvaluationSample
from compression.formats.loaders.outcome import GENERATED_TOKENS, PROMPT_TOKENS
from compression.models.whole import WholeModel
from compression.subjects import Subject


def generation_sample(
    model: Subject, reference: Subject | None, window_L: Tensor, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> tuple[EvaluationSample | None, str | None]:
    """Continuations of a window's first tokens, or why there are none: a model is loaded whole for this."""
    prompt_L = window_L[:PROMPT_TOKENS]
    try:
        texts = [
            None if subject is None else tokenizer.decode(greedy(subject.whole(device), prompt_L), skip_special_tokens=True)
            for subject in (model, reference)
        ]
    except UnsupportedModel as error:
        return None, f"no sample: {error}"
    prompt = str(tokenizer.decode(prompt_L, skip_special_tokens=True))
    return EvaluationSample(
        prompt=prompt, evaluated=str(texts[0]), reference=None if texts[1] is None else str(texts[1])
    ), None


def greedy(model: WholeModel, prompt_L: Tensor) -> list[int]:
    """The tokens that follow, without a cache: every packed format can do that. Fewer where the model's positions end."""
    ids_L = prompt_L
    positions = int(getattr(model.config, "max_position_embeddings", None) or 2**24)
    for _ in range(min(GENERATED_TOKENS, positions - len(prompt_L))):
        ids_L = torch.cat([ids_L, model.logits(ids_L)[-1:].argmax(-1).cpu()])
    found: list[int] = ids_L[len(prompt_L) :].tolist()
    return found
