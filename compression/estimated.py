"""The report's section of what was expected: the estimate of a compression, made from what a submit knows too. Torch-free."""

from collections.abc import Mapping

from compression.estimate import Sizing, memory_on_cpu, memory_on_device, scratch_bytes, sizing
from compression.families import Architecture
from compression.formats.rough_sizes import rough_bytes
from compression.formats.sizes import predicted_bytes
from compression.models.headers import TensorInfo
from compression.plan import Plan
from compression.protocol import Calibration, Evaluation, Output
from compression.report import Estimated
from compression.text_load import text_load
from compression.work import method_of, work_of


def sizing_of(
    plan: Plan,
    architecture: Architecture,
    tensors: Mapping[str, TensorInfo],
    calibration: Calibration,
    evaluation: Evaluation,
    output: Output,
    text_sizes: Mapping[str, int] | None = None,
) -> Sizing:
    """Args: text_sizes: as of `text_load`. Raises: InvalidOptions: a window longer than the model's positions."""
    load = text_load(calibration, evaluation, architecture, text_sizes)
    return sizing(plan, architecture, tensors, load, output)


def artifact_bytes(
    output: Output, plan: Plan, architecture: Architecture, tensors: Mapping[str, TensorInfo]
) -> tuple[int | None, bool]:
    """Bytes of the artifact's weights, and whether that is to the byte."""
    exact = predicted_bytes(output.format, plan, architecture, tensors)
    return (exact, True) if exact is not None else (rough_bytes(output, plan, architecture, tensors), False)


def estimated(
    sizes: Sizing, tensors: Mapping[str, TensorInfo], *, on_device: bool, expected_s: float | None = None
) -> Estimated:
    """Args: expected_s: by whoever has the rates of earlier compressions."""
    memory = memory_on_device(sizes) if on_device else memory_on_cpu(sizes)
    foretold, _ = artifact_bytes(sizes.output, sizes.plan, sizes.architecture, tensors)
    return Estimated(
        host_peak_bytes=memory.host_peak_bytes,
        device_peak_bytes=memory.device_peak_bytes,
        scratch_bytes=scratch_bytes(sizes, foretold or 0),
        artifact_bytes=foretold,
        seconds=expected_s,
        method=method_of(sizes),
        work=dict(work_of(sizes)),
    )
