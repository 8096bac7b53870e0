"""The answer of a loader that gives a transformers model."""

import torch
from comparison import NEW_TOKENS, Comparison
from transformers import PreTrainedModel


def answer(comparison: Comparison, loader: str, version: str, model: PreTrainedModel) -> None:
    """Run the windows one by one, continue the prompt greedily, and answer."""
    model.eval()
    prompt = torch.tensor([comparison.prompt])
    with torch.inference_mode():
        windows = [model(input_ids=torch.from_numpy(row)[None], use_cache=False).logits.float() for row in comparison.tokens]
        ids = model.generate(  # type: ignore[operator]
            prompt,
            attention_mask=torch.ones_like(prompt),
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
    comparison.answer(loader, version, torch.cat(windows).numpy(), ids[0, prompt.shape[1] :].tolist())
