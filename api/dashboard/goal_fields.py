"""The part of the form that names a goal: an amount, and what it is of, in words that people use."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.dashboard.schema_fields import Choice
from compression.errors import InvalidOptions
from compression.goals.goal import Goal

KIND, AMOUNT, MORE = "goal.kind", "goal.amount", "goal.more"
ASKED = frozenset({"metric", "factor", "at_most"})  # by kind and amount
KINDS = (
    Choice("times_smaller", "times smaller on disk"),
    Choice("megabytes", "megabytes on disk at most"),
    Choice("bits", "bits per weight at most, all parameters counted"),
    Choice("per_cent", "per cent more perplexity at most, as small as it can be"),
    Choice("times_faster", "times as fast where it is computed, with fewer heads and columns"),
    Choice("milliseconds", "milliseconds a forward at most where it is computed, with fewer heads and columns"),
    Choice("times_fewer", "times fewer operations"),
)
_METRICS = {
    "times_smaller": ("bytes", "factor"),
    "megabytes": ("bytes", "at_most"),
    "bits": ("bits_per_weight", "at_most"),
    "per_cent": ("perplexity_ratio", "at_most"),
    "times_faster": ("latency", "factor"),
    "milliseconds": ("latency", "at_most"),
    "times_fewer": ("flops", "factor"),
}
FIRST = {KIND: "times_smaller", AMOUNT: "1.5"}


def read_goal(form: Mapping[str, str]) -> dict[str, Any]:
    """The request's `goal`; an amount that is no number stays as it is, to be refused with its place.

    Raises: InvalidOptions: its further options are no JSON object, or name what kind and amount say.
    """
    kind = form.get(KIND, "")
    metric, limit = _METRICS.get(kind, _METRICS["times_smaller"])
    return {**_more(form.get(MORE, "")), "metric": metric, limit: _amount(kind, form.get(AMOUNT, ""))}


def fill_goal(goal: Mapping[str, Any]) -> dict[str, str]:
    """The fields that would ask for this goal again."""
    limit = "factor" if goal.get("factor") is not None else "at_most"
    wanted = goal.get("metric"), limit
    kind = next((kind for kind, found in _METRICS.items() if found == wanted), next(iter(_METRICS)))
    amount = float(goal[limit])
    shown = {"megabytes": amount / 1e6, "per_cent": 100 * (amount - 1), "milliseconds": amount * 1e3}.get(kind, amount)
    more = {name: said for name, said in _unusual(goal).items() if name not in ASKED}
    return {KIND: kind, AMOUNT: f"{shown:.10g}", MORE: json.dumps(more) if more else ""}


def _unusual(goal: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is not as by default."""
    try:
        return Goal.model_validate(goal).model_dump(mode="json", exclude_defaults=True)
    except ValidationError:
        return goal


def _more(typed: str) -> dict[str, Any]:
    if not typed.strip():
        return {}
    try:
        more = json.loads(typed)
    except (ValueError, RecursionError):
        more = None
    if not isinstance(more, dict):
        raise InvalidOptions(MORE, "is no JSON object", 'such as {"adaprune": {"passes": 4}}')
    if said := ASKED & more.keys():
        raise InvalidOptions(MORE, f"{min(said)} is said above", "other options of a goal")
    return more


def _amount(kind: str, typed: str) -> Any:
    try:
        amount = float(typed)
    except ValueError:
        return typed
    if kind == "megabytes":
        return round(amount * 1e6)
    if kind == "milliseconds":
        return amount / 1e3
    return round(1 + amount / 100, 9) if kind == "per_cent" else amount
