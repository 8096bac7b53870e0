"""What labels a classifier chooses from, by its config.json alone. Torch-free."""

from collections.abc import Mapping
from typing import Any

from compression.errors import InvalidOptions
from compression.families import Architecture

FIELD = "evaluation.labelled"
MAX_LABELS = 2**20


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a classifier, in the order of its outputs, as transformers reads them from config.json.

    Raises: InvalidOptions: it does not choose one of several labels.
    """
    problem = config.get("problem_type")
    if problem in ("regression", "multi_label_classification"):
        reason = f"there is no accuracy for problem_type {problem!r} in config.json"
        raise InvalidOptions(FIELD, reason, "leave it out")
    names, count = config.get("id2label"), config.get("num_labels", 2)
    try:
        if names:
            found = {int(number): str(name) for number, name in dict(names).items()}
        else:
            found = {number: f"LABEL_{number}" for number in range(min(int(count), MAX_LABELS))}
    except (TypeError, ValueError) as error:
        raise InvalidOptions(FIELD, f"the labels in config.json cannot be read ({error})", "a whole config.json") from error
    if len(found) < 2 or sorted(found) != list(range(len(found))):
        raise InvalidOptions(FIELD, f"config.json names {len(found)} labels, not 2 or more from 0 on", "leave it out")
    return tuple(found[number] for number in range(len(found)))


def check_labelled(architecture: Architecture, config: Mapping[str, Any]) -> None:
    """Raises: InvalidOptions: the model is no classifier with one label to a text."""
    if architecture.task != "classification":
        is_not = f"{architecture.class_name or architecture.model_type} gives no labels"
        raise InvalidOptions(FIELD, is_not, "leave it out, or name a ...ForSequenceClassification checkpoint")
    label_names(config)
