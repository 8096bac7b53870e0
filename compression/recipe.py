"""The recipe: what a request asks for, flat and short, and how it becomes one method's options per layer. Torch-free.

`{"sparsity": 0.5}` is a whole recipe. `resolve` picks the method, fills the defaults and refuses contradictions, each with
the field named; it needs no model. What depends on the model (widths, names, blocks) is checked by `plan.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compression.errors import InvalidOptions
from compression.formats.catalog import FORMATS, check_options
from compression.options import (
    METHOD_OPTIONS,
    Bits,
    BlockPattern,
    BlockSize,
    Damp,
    Grid,
    GroupSize,
    LayerOptions,
    MethodName,
    MethodOptions,
    Offset,
    OutlierThreshold,
    PruningOptions,
    QuantizationOptions,
    RunLength,
    Sparsity,
    StatisticBits,
    parse_block,
    parse_pattern,
)
from compression.protocol import OutputFormat

MAX_PATTERN_M = 32
TARGETS: dict[str, type[MethodOptions]] = {"sparsity": PruningOptions, "bits": QuantizationOptions}  # and what they bring
Inputs = Literal["compressed", "dense"]
NamePattern = str  # shell-style: `*` and `?` over the whole module name, such as `*.mlp.down_proj`


class Target(BaseModel):
    """The options that a whole recipe and an override share. None means: not said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: MethodName | None = Field(
        None, description="Chosen from the target when absent: sparsity -> sparsegpt, bits -> optq, both -> joint."
    )
    sparsity: Sparsity | None = Field(None, description="Fraction of weights set to zero.")
    pattern: BlockPattern | None = Field(
        None, description="`unstructured`; `n:m`: n kept of every m consecutive inputs; `block:s` (obc): s inputs at once."
    )
    bits: Bits | None = Field(None, description="Bits per weight code, or `ternary`.")
    group_size: GroupSize | None = Field(None, description="Inputs that share one scale, or `row`.")
    symmetric: bool | None = None
    grid: Grid | None = Field(None, description="`minmax` or `mse` (searched for the least error).")
    offset: Offset | None = Field(None, description="`zero_point`, or `minimum` as GGUF's Q4_1 stores it.")
    act_order: bool | None = None
    static_groups: bool | None = None
    damp: Damp | None = None
    block_size: BlockSize | None = None
    force: bool | None = Field(None, description="Let obc solve matrices whose estimated time is beyond the limit.")
    qq_group_size: RunLength | None = Field(None, description="spqr: rows whose scales share one second-level grid.")
    qq_scale_bits: StatisticBits | None = Field(None, description="spqr: bits per quantised scale.")
    qq_zero_bits: StatisticBits | None = Field(None, description="spqr: bits per quantised zero point.")
    outlier_threshold: OutlierThreshold | None = Field(None, description="spqr: smaller keeps more outliers.")


class Recipe(Target):
    """What a user asks for. Every field is optional, but a target (sparsity, pattern or bits) must be named."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"sparsity": 0.5}, {"sparsity": 0.5, "pattern": "2:4"}, {"bits": 4}]},
    )

    inputs: Inputs = Field(
        "compressed",
        description="What a block is calibrated on: the outputs of the `compressed` blocks before it, or those of the `dense` "
        "model, which are the same for every recipe, so that many recipes share them.",
    )
    true_sequential: bool = Field(
        False, description="Calibrate the matrices of a block one after the other, each seeing the compressed ones before it."
    )
    asymmetric_calibration: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of what earlier compressed blocks changed that second-order methods make up for, by calibrating "
        "against the dense model's outputs. 0: none.",
    )
    ignore: tuple[NamePattern, ...] = Field((), description="Modules to leave alone, by name pattern.")
    overrides: dict[NamePattern, Target | None] = Field(
        default_factory=dict,
        description="By name pattern: options that replace the recipe's for those modules; null leaves them alone. "
        "Where several match, the later one wins.",
    )
    skip_blocks: tuple[int, ...] = Field((), description="Blocks to leave alone; negative numbers count from the end.")


class ResolvedRecipe(BaseModel):
    """A recipe with its method chosen and its defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: LayerOptions
    inputs: Inputs = "compressed"
    true_sequential: bool = False
    asymmetric_calibration: float = 0.0
    ignore: tuple[NamePattern, ...] = ()
    overrides: dict[NamePattern, LayerOptions | None] = Field(default_factory=dict)
    skip_blocks: tuple[int, ...] = ()


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """Read a recipe from plain data.

    Raises: InvalidOptions: naming the first offending field and what is allowed there.
    """
    try:
        return Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise _refusal(error, "recipe") from error


def _refusal(error: ValidationError, where: str) -> InvalidOptions:
    first = error.errors()[0]
    return InvalidOptions(".".join([where, *map(str, first["loc"])]), f"{first['input']!r} is refused: {first['msg']}")


def resolve(recipe: Recipe, output_format: OutputFormat = "dense") -> ResolvedRecipe:
    """Choose the method, fill in the defaults (a format may bring its own), refuse contradictions.

    Raises: InvalidOptions: with the field, the reason and the allowed range.
    """
    base = _said(recipe)
    if recipe.asymmetric_calibration and recipe.true_sequential:
        reason = "the dense model's inputs are measured before any matrix of the block is compressed"
        raise InvalidOptions("recipe.asymmetric_calibration", reason, "0 with true_sequential")
    if recipe.inputs == "dense":
        _check_dense(recipe)
    overrides: dict[NamePattern, Any] = {}
    for name, override in recipe.overrides.items():
        where = f"recipe.overrides.{name}"
        overrides[name] = None if override is None else _override(base, _said(override), where, output_format)
    options = _options(base, "recipe", output_format)
    if recipe.asymmetric_calibration and not any(hasattr(found, "damp") for found in (options, *overrides.values())):
        reason = f"method {options.method} reads no Hessian as a whole"
        raise InvalidOptions("recipe.asymmetric_calibration", reason, f"methods: {_takers('damp')}")
    return ResolvedRecipe(
        options=options,
        inputs=recipe.inputs,
        true_sequential=recipe.true_sequential,
        asymmetric_calibration=recipe.asymmetric_calibration,
        ignore=recipe.ignore,
        overrides=overrides,
        skip_blocks=recipe.skip_blocks,
    )


def _check_dense(recipe: Recipe) -> None:
    """With the dense model's inputs there is nothing of what compressed matrices or blocks have changed."""
    for option, neutral in (("true_sequential", "false"), ("asymmetric_calibration", "0")):
        if getattr(recipe, option):
            reason = "it is about what compressed matrices do to their successors' inputs, and inputs: dense leaves that out"
            raise InvalidOptions(f"recipe.{option}", reason, f"{neutral} with inputs: dense, or inputs: compressed")


def _said(target: Target) -> dict[str, Any]:
    """What the user wrote, explicit nulls included: in an override a null takes the recipe's value away."""
    return {name: getattr(target, name) for name in Target.model_fields if name in target.model_fields_set}


def _override(base: dict[str, Any], override: dict[str, Any], where: str, output_format: OutputFormat) -> Any:
    """The options of an override: what the recipe said for another method is dropped, the override's own words are not."""
    merged = {name: value for name, value in _merge(base, override).items() if value is not None}
    _settle_pattern(merged, where)
    takes = _takes(METHOD_OPTIONS[merged.get("method") or _method_for(merged, where)], merged)
    said = {n: v for n, v in merged.items() if n in takes or n in override or n in ("method", *TARGETS)}
    return _options(said, where, output_format)


def _merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """The override's words over the recipe's. A new n:m pattern brings its sparsity; no sparsity means no pattern."""
    merged = {**base, **override}
    if "pattern" in override and "sparsity" not in override and parse_pattern(override["pattern"] or "unstructured"):
        merged.pop("sparsity", None)
    if "sparsity" in override and override["sparsity"] is None and "pattern" not in override:
        merged.pop("pattern", None)
    return merged


def _options(said: dict[str, Any], where: str, output_format: OutputFormat) -> Any:
    """Turn one flat target into one method's options.

    Raises: InvalidOptions: no target, a contradiction, or an option that the method does not take.
    """
    given = {name: value for name, value in said.items() if value is not None}
    _settle_pattern(given, where)
    method = given.pop("method", None) or _method_for(given, where)
    model = METHOD_OPTIONS[method]
    _check_fields(model, method, given, where)
    if given.get("bits") == "ternary" and given.get("symmetric") is False:
        raise InvalidOptions(f"{where}.symmetric", "ternary codes stand for -1, 0 and 1, so their grid is symmetric", "true")
    takes = _takes(model, given)
    wanted = {n: v for n, v in FORMATS[output_format].defaults({**given, "method": method}).items() if n in takes}
    try:
        options: Any = model.model_validate({**wanted, **given})
    except ValidationError as error:  # a value that other methods take and this one does not
        raise _refusal(error, where) from error
    _check_tiling(options, where)
    _check_offset(options, where)
    check_options(output_format, options, where)
    return options


def _check_fields(model: type[MethodOptions], method: str, given: dict[str, Any], where: str) -> None:
    """Every target that the method needs is there, and every option that is there means something to it."""
    for target, verb in (("sparsity", "prune"), ("bits", "quantise")):
        field = model.model_fields.get(target)
        if field is not None and field.is_required() and target not in given:
            raise InvalidOptions(f"{where}.{target}", f"method {method} needs it", _allowed(target))
        if field is None and target in given:
            raise InvalidOptions(f"{where}.{target}", f"method {method} does not {verb}", f"methods: {_takers(target)}")
    if not given.keys() & TARGETS.keys():
        raise InvalidOptions(where, f"method {method} has no target", "name at least one of sparsity, pattern, bits")
    for name in [name for name in given if name not in _takes(model, given)]:
        if name not in model.model_fields:
            raise InvalidOptions(f"{where}.{name}", f"method {method} has no such option", f"methods: {_takers(name)}")
        target = "sparsity" if name in PruningOptions.model_fields else "bits"
        raise InvalidOptions(f"{where}.{name}", f"means nothing without {target}", f"name {target}, or leave this one out")
    if parse_block(given.get("pattern", "unstructured")) and not model.prunes_blocks:
        blockwise = ", ".join(name for name, other in METHOD_OPTIONS.items() if other.prunes_blocks)
        raise InvalidOptions(f"{where}.pattern", f"method {method} does not prune blocks", f"methods: {blockwise}")


def _takes(model: type[MethodOptions], given: Mapping[str, Any]) -> set[str]:
    """The options that mean something: those of pruning need a sparsity, those of a grid need bits."""
    takes = set(model.model_fields)
    for target, brings in TARGETS.items():
        if target not in given:
            takes -= brings.model_fields.keys() - MethodOptions.model_fields.keys() - {target}
    return takes


def _settle_pattern(given: dict[str, Any], where: str) -> None:
    """An n:m pattern fixes the sparsity at 1 - n/m; fill it in, or refuse another value."""
    nm = parse_pattern(given.get("pattern", "unstructured"))
    if nm is None:
        return
    kept, of = nm
    if not 1 <= kept < of <= MAX_PATTERN_M:
        raise InvalidOptions(f"{where}.pattern", f"{kept}:{of} is refused", f"n:m with 1 <= n < m <= {MAX_PATTERN_M}")
    implied = 1 - kept / of
    asked = given.setdefault("sparsity", implied)
    if abs(asked - implied) > 0.005:
        raise InvalidOptions(
            f"{where}.sparsity", f"{asked} contradicts pattern {kept}:{of}", f"{implied:.4g}, or leave one of the two out"
        )
    given["sparsity"] = implied


def _method_for(given: dict[str, Any], where: str) -> str:
    match ("sparsity" in given, "bits" in given):
        case (True, True):
            return "joint"
        case (True, False):
            return "sparsegpt"
        case (False, True):
            return "optq"
    if "pattern" in given:
        raise InvalidOptions(f"{where}.sparsity", "an unstructured pattern needs it", _allowed("sparsity"))
    raise InvalidOptions(where, "no target", "name at least one of sparsity, pattern, bits")


def _check_tiling(options: Any, where: str) -> None:
    """n:m groups must tile the sweep's blocks and the quantisation groups, or a group would be cut in two."""
    nm = options.nm
    if nm is None:
        return
    block_size, group_size = getattr(options, "block_size", None), getattr(options, "group_size", None)
    if block_size is not None and block_size < nm[1]:
        raise InvalidOptions(f"{where}.block_size", f"{block_size} is below the pattern's m", f">= {nm[1]}")
    if isinstance(group_size, int) and group_size % nm[1]:
        raise InvalidOptions(
            f"{where}.group_size", f"{group_size} is no multiple of the pattern's m", f"multiples of {nm[1]}, or row"
        )


def _check_offset(options: Any, where: str) -> None:
    """A grid in the form `minimum` need not hold zero: nothing could be pruned on it, and its range has no middle."""
    if getattr(options, "offset", "zero_point") == "zero_point":
        return
    if getattr(options, "sparsity", None):
        reason = "zero is not on a grid with a minimum, so pruned weights could not stay zero"
        raise InvalidOptions(f"{where}.offset", reason, "zero_point")
    if options.symmetric or options.bits == "ternary":
        raise InvalidOptions(f"{where}.offset", "a symmetric or ternary grid has a zero point and no minimum", "zero_point")


def _takers(option: str) -> str:
    return ", ".join(name for name, model in METHOD_OPTIONS.items() if option in model.model_fields)


def _allowed(target: str) -> str:
    return "0 <= sparsity < 1" if target == "sparsity" else "2, 3, 4, 5, 6, 8 or ternary"
