"""What each output format can hold, decided before any weight is read. Torch-free: requests are checked with it.

A format says in words what it refuses, and which options it wants where the user named none. Writers have files of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compression.errors import InvalidOptions
from compression.families.base import Architecture
from compression.formats import rules_gguf, rules_packed, rules_spqr
from compression.options import LayerOptions
from compression.protocol import Output, OutputFormat

if TYPE_CHECKING:  # plan imports recipe, which imports this
    from compression.plan import Plan, PlannedLayer


def _takes_all(*_: Any) -> str | None:
    return None


def _no_defaults(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Format:
    """One output format.

    Args:
        content: what its files hold, in a sentence.
        loads_in: software that reads it.
        refuses: why a matrix with these options cannot be written, or None; known when a job is submitted.
        refuses_layer: the same of one matrix of the model, whose widths and place are known now.
        refuses_plan: the same of the whole: what its matrices can be alone but not together.
        refuses_model: why a model with this config.json cannot be written, or None.
        defaults: given the flat options that the user named, further ones that the format wants.
        carries_embeddings: whether embedding and head can be stored in 8 bits.
    """

    name: OutputFormat
    content: str
    loads_in: tuple[str, ...]
    refuses: Callable[[LayerOptions], str | None] = _takes_all
    refuses_layer: "Callable[[PlannedLayer, Architecture], str | None]" = _takes_all
    refuses_plan: "Callable[[Plan, Architecture], str | None]" = _takes_all
    refuses_model: Callable[[Mapping[str, Any], Output], str | None] = _takes_all
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_defaults
    carries_embeddings: bool = False


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format(
            "dense",
            "safetensors in the source's dtype: zeros are real zeros, quantised weights are stored de-quantised.",
            ("transformers", "vLLM"),
        ),
        Format(
            "compressed-tensors",
            "safetensors with codes of 2 to 8 bits packed in 32-bit words, a scale to each group or row (`pack-quantized`).",
            ("transformers with compressed-tensors", "vLLM (symmetric; asymmetric with 4 or 8 bits)"),
            refuses=rules_packed.compressed_tensors_refuses,
            refuses_layer=rules_packed.compressed_tensors_refuses_layer,
            refuses_plan=rules_packed.compressed_tensors_refuses_plan,
            defaults=rules_packed.symmetric_unless_told,
        ),
        Format(
            "gptq",
            "safetensors with codes of 2, 3, 4 or 8 bits packed in 32-bit words, zero points, scales, a group to each input.",
            ("gptqmodel", "transformers with optimum and gptqmodel", "vLLM"),
            refuses=rules_packed.gptq_refuses,
            refuses_layer=rules_packed.gptq_refuses_layer,
            refuses_plan=rules_packed.gptq_refuses_plan,
            defaults=rules_packed.symmetric_unless_told,
        ),
        Format(
            "spqr",
            "safetensors with SpQR's 3-bit codes in tiles of 16 x 16, their quantised statistics, and outliers in float16.",
            ("spqr-quant, alone or with transformers (NVIDIA GPUs)",),
            refuses=rules_spqr.refuses,
            refuses_layer=rules_spqr.refuses_layer,
        ),
        Format(
            "gguf",
            "one file model.gguf: matrices as Q4_0, Q4_1, Q8_0 or in the source's dtype, with config and tokenizer in it.",
            ("llama.cpp", "llama-cpp-python", "transformers"),
            refuses=rules_gguf.refuses,
            refuses_model=rules_gguf.refuses_model,
            defaults=rules_gguf.defaults,
            carries_embeddings=True,
        ),
        Format(
            "sparse-packed",
            "safetensors with bit masks where they save space, the kept weights' values or codes, scales and zero points.",
            ("compression.formats.load",),
            carries_embeddings=True,
        ),
    )
}


def check_options(name: OutputFormat, options: LayerOptions, where: str) -> None:
    """Refuse options whose result the format cannot hold.

    Args: where: what the options are for, such as `recipe` or the name of a layer.
    Raises: InvalidOptions: with the reason, and the formats that would do.
    """
    reason = FORMATS[name].refuses(options)
    if reason is not None:
        others = ", ".join(found.name for found in FORMATS.values() if found.refuses(options) is None)
        raise InvalidOptions("output.format", f"{name} cannot hold {where} ({options.method}): {reason}", others)


def check_plan(name: OutputFormat, plan: "Plan", architecture: Architecture) -> None:
    """Refuse a plan whose result the format cannot hold, before any weight is read.

    Raises: InvalidOptions: with the reason, and the matrix that it is about.
    """
    form = FORMATS[name]
    if architecture.is_encoder and name != "dense":
        kind = f"this {architecture.class_name} is an encoder"
        raise InvalidOptions("output.format", f"{name} is written for causal language models, and {kind}", "dense")
    for layer in plan.targeted:
        reason = form.refuses_layer(layer, architecture)
        if reason is not None:
            raise InvalidOptions("output.format", f"{name} cannot hold {layer.name}: {reason}")
    reason = form.refuses_plan(plan, architecture)
    if reason is not None:
        raise InvalidOptions("output.format", f"{name} cannot hold this model: {reason}")


def check_output(output: Output) -> None:
    """Refuse what contradicts itself in the wish for an output, whatever the model.

    Raises: InvalidOptions: the format cannot store embedding and head in 8 bits.
    """
    if output.embeddings != "keep" and not FORMATS[output.format].carries_embeddings:
        carrying = ", ".join(found.name for found in FORMATS.values() if found.carries_embeddings)
        raise InvalidOptions(
            "output.embeddings", f"{output.format} cannot store embedding and head in 8 bits", f"keep, or formats: {carrying}"
        )


def check_model(output: Output, config: Mapping[str, Any]) -> None:
    """Refuse a model that the format cannot hold, whatever the recipe. Args: config: its config.json.

    Raises: InvalidOptions: with the reason.
    """
    reason = FORMATS[output.format].refuses_model(config, output)
    if reason is not None:
        raise InvalidOptions("output.format", f"{output.format} cannot hold this model: {reason}")


def check_same_values(evaluated: Output, wanted: Output) -> None:
    """Refuse an export that would hold other values than were evaluated: only the format may be another one.

    Raises: InvalidOptions: naming the field.
    """
    before, after = evaluated.model_dump(exclude={"format"}), wanted.model_dump(exclude={"format"})
    for field, value in before.items():
        if after[field] != value:
            reason = f"{after[field]!r} would change values that were evaluated; that needs a new compression"
            raise InvalidOptions(f"output.{field}", reason, str(value))
