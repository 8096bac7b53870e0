"""Groups of flags that several commands take: each flag stands once, and a command names the group.

A command's parameter whose type is a group becomes the flags of that group, in its place.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any

from cli import flags


@dataclass(frozen=True)
class RecipeFlags:
    recipe: flags.RecipeFile = None
    method: flags.Method = None
    sparsity: flags.Sparsity = None
    pattern: flags.Pattern = None
    bits: flags.Bits = None
    group_size: flags.GroupSize = None
    symmetric: flags.Symmetric = None
    grid: flags.Grid = None
    offset: flags.Offset = None
    act_order: flags.ActOrder = None
    static_groups: flags.StaticGroups = None
    outlier_threshold: flags.OutlierThreshold = None
    damp: flags.Damp = None
    block_size: flags.BlockSize = None
    force: flags.Force = None
    inputs: flags.Inputs = None
    true_sequential: flags.TrueSequential = None
    asymmetric_calibration: flags.AsymmetricCalibration = None
    ignore: flags.Ignore = None
    overrides: flags.Override = None
    skip_blocks: flags.SkipBlock = None

    def asked(self) -> dict[str, Any]:
        """The request's `recipe`."""
        said = dict(vars(self))
        return flags.recipe(said.pop("recipe"), **said)


@dataclass(frozen=True)
class GoalFlags:
    goal: flags.Goal = None
    level: flags.Levels = None
    evaluations: flags.Evaluations = None
    stitched: flags.Stitched = False
    runs_on: flags.RunsOn = None
    uniform: flags.Uniform = False
    multiple_of: flags.MultipleOf = None
    adaprune: flags.AdaPrunePasses = None

    def asked(self) -> dict[str, Any] | None:
        """The request's `goal`; None: a recipe is asked for."""
        return flags.goal(**vars(self))


@dataclass(frozen=True)
class TextFlags:
    calibration: flags.CalibrationText = None
    nsamples: flags.Nsamples = None
    seqlen: flags.Seqlen = None
    seed: flags.Seed = None
    evaluation: flags.EvalText = None
    windows: flags.Windows = None
    eval_seqlen: flags.EvalSeqlen = None
    labelled: flags.Labelled = None

    def asked(self) -> dict[str, dict[str, Any]]:
        """The request's `calibration` and `evaluation`."""
        return flags.texts(**vars(self))


@dataclass(frozen=True)
class LimitFlags:
    max_perplexity_ratio: flags.MaxPerplexityRatio = None
    max_kl: flags.MaxKl = None
    max_kl_p99: flags.MaxKlP99 = None
    min_top1_agreement: flags.MinTop1Agreement = None
    max_perplexity: flags.MaxPerplexity = None
    max_output_error: flags.MaxOutputError = None
    max_accuracy_loss: flags.MaxAccuracyLoss = None

    def asked(self) -> dict[str, float | None]:
        """The request's `acceptance`."""
        return flags.acceptance(**vars(self))


@dataclass(frozen=True)
class OutputFlags:
    format: flags.Format = None
    embeddings: flags.Embeddings = None

    def asked(self) -> dict[str, Any]:
        """The request's `output`."""
        return flags.output(**vars(self))


def takes_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the flags of its groups as parameters, as typer reads them."""
    parameters = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: parameter.annotation for name, parameter in parameters.items() if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def flat(**given: Any) -> Any:
        made = {name: group(**{flag.name: given.pop(flag.name) for flag in fields(group)}) for name, group in groups.items()}
        return command(**given, **made)

    spread = [one for parameter in parameters.values() for one in _spread(parameter)]
    flat.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    return flat


def _spread(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    if not is_dataclass(parameter.annotation):
        return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    return [
        inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, default=flag.default, annotation=flag.type)
        for flag in fields(parameter.annotation)
    ]
