"""The tensors of an artifact's safetensors shards, by their names in the model. The folder may come from anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from compression.errors import UnsupportedModel
from compression.families import Architecture, read_architecture
from compression.models.checkpoint import read_tensors
from compression.models.headers import TensorInfo, read_folder
from compression.models.stored_names import spellings
from compression.models.untrusted import CONFIG, read_object


@dataclass(frozen=True)
class Shards:
    """Checked headers; tensors are read when they are asked for."""

    tensors: Mapping[str, TensorInfo]
    architecture: Architecture

    @staticmethod
    def of(folder: Path) -> "Shards":
        """Read a folder's headers; kept for the next call while its files stay the same.

        Raises: UnsupportedModel: no readable config.json, or shards that lie about themselves.
        """
        return _open(folder, _state(folder))

    def stored_name(self, name: str) -> str | None:
        return next((found for found in spellings(self.architecture, name) if found in self.tensors), None)

    def read(self, name: str) -> Tensor | None:
        """A plain tensor; None where it is not stored under its own name."""
        stored = self.stored_name(name)
        return None if stored is None else read_tensors(self.tensors, [stored])[stored]

    def below(self, name: str) -> dict[str, str]:
        """Rest of the name -> stored name, of all tensors whose name begins with this one and a dot."""
        for spelling in spellings(self.architecture, name):
            prefix = f"{spelling}."
            found = {stored.removeprefix(prefix): stored for stored in self.tensors if stored.startswith(prefix)}
            if found:
                return found
        return {}

    def read_below(self, name: str) -> dict[str, Tensor]:
        names = self.below(name)
        tensors = read_tensors(self.tensors, names.values())
        return {last: tensors[stored] for last, stored in names.items()}

    def file_of(self, name: str) -> str:
        """The file that holds the first of the tensors below a name."""
        return self.tensors[next(iter(self.below(name).values()))].file.name


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells one content of a folder from another: a loader asks once for every matrix."""
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder} is not a folder")
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=1)
def _open(folder: Path, _: tuple[tuple[str, int, int], ...]) -> Shards:
    config = {name: value for name, value in read_object(folder / CONFIG).items() if name != "quantization_config"}
    return Shards(read_folder(folder), read_architecture(config))


def read_plain(folder: Path, name: str, _: tuple[int, ...]) -> Tensor | None:
    """One parameter by its name in the model, as the shards hold it; None: not stored."""
    return Shards.of(folder).read(name)
