"""Which model a pass reads, once it lies on this machine. Torch-free."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint on disk, with what the report must say about where it came from."""

    path: Path
    """A folder with config.json and safetensors weights, or a .gguf file."""
    name: str
    """As the user named it."""
    revision: str | None = None
    """Commit of a hub model, version of a packaged one."""
    notes: tuple[str, ...] = ()
    """Sentences for the report, such as a source that was 4 bit already."""
