"""Which of transformers' automatic classes opens a model, by what the model gives."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from compression.families import Task

AUTO_CLASSES: Mapping[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "hidden-states": AutoModel,
    "masked-lm": AutoModelForMaskedLM,
    "classification": AutoModelForSequenceClassification,
}
