"""The child's environment: an allowlist. Database, broker, storage keys and hub token stay with the supervisor."""

from collections.abc import Mapping
from pathlib import Path

PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = Path(__file__).parent.parent  # the checkout, where Scalpel is not installed


def child_environment(environment: Mapping[str, str], home: Path, threads: int | None) -> dict[str, str]:
    """What the runner may know of its supervisor's environment.

    Args:
        home: an existing folder of the job's own; takes the place of the user's home and of the temporary folder.
        threads: CPU threads, or None for what the environment says.
    """
    passed_on = {name: environment[name] for name in PASSED_ON if name in environment}
    return {
        **passed_on,
        **({name: str(threads) for name in THREADS} if threads is not None else {}),
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(PACKAGES),
        "PYTHONUNBUFFERED": "1",  # so that the last words are not lost in a buffer
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # A thread that spins at a barrier takes the core from the one it waits for: with one other process on two cores a
        # sweep took 11.6 s spinning and 0.24 s sleeping.
        "OMP_WAIT_POLICY": environment.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
