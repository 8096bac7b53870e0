"""The load certificate: the artifact opened in a fresh process by software of other people, held against what the pass saw."""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compression.errors import VerificationError
from compression.memory import available_bytes
from compression.probe import Probe
from compression.protocol import OutputFormat
from compression.report import Verification

MAX_KL_NATS = 1e-3
MAX_RELATIVE_ERROR = 1e-6  # of an encoder's outputs: a thousandth of their length
TIMEOUT_S = 3600.0
_PROGRAMS = Path(__file__).parent / "loaders"


@dataclass(frozen=True)
class Loader:
    """Software that loads a format. Args: packages: what must be importable; program: file in `loaders/`."""

    packages: tuple[str, ...]
    program: str


LOADERS: dict[OutputFormat, Loader] = {
    "dense": Loader(("transformers",), "with_transformers.py"),
    "compressed-tensors": Loader(("transformers", "compressed_tensors"), "with_compressed_tensors.py"),
    "gptq": Loader(("gptqmodel", "optimum"), "with_gptqmodel.py"),
    "spqr": Loader(("spqr_quant", "nvidia"), "with_spqr_quant.py"),
    "gguf": Loader(("transformers", "gguf"), "with_gguf.py"),
    "sparse-packed": Loader(("transformers",), "with_own_reader.py"),
}
SHRUNK = Loader(("transformers",), "with_shrunk_loader.py")
"""Of models whose blocks are not all alike: the file that lies beside their weights."""


@dataclass(frozen=True)
class Certificate:
    """The verdict, and the greedy tokens that the loaded artifact gave after the prompt; None where it was not loaded, or is
    an encoder."""

    verification: Verification
    generated: list[int] | None = None


def unverified(loader: str, reason: str) -> Certificate:
    """Nothing was loaded, for this reason."""
    return Certificate(Verification(loader=loader, verdict="not verified", detail=reason))


def certify(
    folder: Path,
    output_format: OutputFormat,
    probe: Probe,
    scratch: Path,
    device: str,
    *,
    parameters: int,
    memory_limit_bytes: int | None = None,
    loader: Loader | None = None,
) -> Certificate:
    """Load an artifact in a fresh process and compare what it gives with the probe.

    Args:
        loader: in place of the format's own.
        scratch: an existing folder for the probe's file.
        parameters: of the model; loaders may unpack all of them.
        memory_limit_bytes: that this process and its children are held to together.
    Raises: VerificationError: the loader fails on the artifact, or its outputs differ by more than rounding.
    """
    loader = loader or LOADERS.get(output_format)
    if loader is None:
        return unverified("this project's own reading", f"no other software reads the format {output_format}")
    missing = [package for package in loader.packages if find_spec(package) is None]
    if missing:
        return unverified(" + ".join(loader.packages), f"not installed here: {', '.join(missing)}")
    if not fits(parameters, memory_limit_bytes):
        return unverified(" + ".join(loader.packages), "the whole model does not fit in free memory")
    path = scratch / "probe.safetensors"
    probe.save(path)
    try:
        found = _run(loader.program, folder, path, device)
    finally:
        path.unlink()
    _check(found)
    given = "outputs" if probe.is_encoder else "logits"
    verification = Verification(
        loader=found["loader"],
        verdict="ok",
        detail=f"loads in a fresh process and gives the {given} that the pass measured on {probe.ids_WL.numel()} tokens",
        max_logit_difference=found["max_difference"],
        mean_logit_difference=found["mean_difference"],
        kl=found.get("kl"),
        relative_error=found.get("relative_error"),
    )
    return Certificate(verification, found["generated"])


def _check(found: dict[str, Any]) -> None:
    """Raises: VerificationError: more than rounding lies between loaded artifact and pass."""
    if "kl" in found and not found["kl"] <= MAX_KL_NATS:
        raise VerificationError(
            f"loaded by {found['loader']}, the artifact's predictions are {found['kl']:.3g} nats (KL) from those that the "
            f"pass measured; at most {MAX_KL_NATS:g} is rounding"
        )
    if "relative_error" in found and not found["relative_error"] <= MAX_RELATIVE_ERROR:
        raise VerificationError(
            f"loaded by {found['loader']}, the artifact's outputs have a relative error of {found['relative_error']:.3g} "
            f"against those that the pass measured; at most {MAX_RELATIVE_ERROR:g} is rounding"
        )


def fits(parameters: int, memory_limit_bytes: int | None = None) -> bool:
    """Whether a whole float32 model, with some room to run, fits in the free host memory."""
    return parameters * 4 * 1.5 < available_bytes(memory_limit_bytes)


def _run(program: str, folder: Path, probe: Path, device: str) -> dict[str, Any]:
    command = [sys.executable, str(_PROGRAMS / program), str(folder), str(probe), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  our own program
    if done.returncode != 0:
        raise VerificationError(f"the artifact does not load ({program}): {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(_last_line(done.stdout))
    return found


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
