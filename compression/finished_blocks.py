"""Finished blocks on disk: what a restarted pass continues from.

A block is one safetensors file of its solutions (never activations) with its results in the metadata, so that one rename
makes both appear at once. The fingerprint says what they belong to; anything else found in the folder is thrown away,
with the differing fields named.
"""

import json
import shutil
from collections.abc import Callable, Container
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compression.block_files import FINGERPRINT_FILE, block_path
from compression.durable import sync_and_rename, write_durably
from compression.layer import LayerSolution
from compression.models.host_copies import to_host
from compression.report import LayerResult
from compression.weights import KINDS, Weights

Fingerprint = dict[str, str]
Found = TypeVar("Found")


class FinishedBlocks:
    """The finished blocks of one pass.

    Args:
        folder: made if it is not there; whatever an unlike pass left there is removed.
        fingerprint: everything that a solution depends on, by name.
    Attributes:
        restarts: why blocks of an earlier attempt were thrown away, empty where none were.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint) -> None:
        self.folder = folder
        self.restarts = _differences(folder, fingerprint)
        if self.restarts:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / FINGERPRINT_FILE, json.dumps(fingerprint, indent=2).encode())
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="block-writer")  # starts no thread before it has work
        self._writing: Future[None] | None = None

    def save(self, block: int, solutions: dict[str, LayerSolution], results: list[LayerResult]) -> None:
        """Write one block; it is there whole or not at all."""
        self.start_saving(block, solutions, results)
        self.wait()

    def start_saving(self, block: int, solutions: dict[str, LayerSolution], results: list[LayerResult]) -> None:
        """Write one block. From a GPU, a thread does so while the GPU goes on: the block is there after `wait`."""
        self.wait()
        tensors = {
            f"{name}:{part}": tensor
            for name, solution in solutions.items()
            for part, tensor in solution.weights.tensors().items()
        }
        metadata = {
            "results": json.dumps([result.model_dump(mode="json") for result in results]),
            "kinds": json.dumps({name: solution.weights.kind for name, solution in solutions.items()}),
        }
        copies, wait_for_copies = to_host(tensors)
        if not any(tensor.is_cuda for tensor in tensors.values()):
            self._write(block, copies, metadata)
            return

        def write() -> None:
            wait_for_copies()
            self._write(block, copies, metadata)

        self._writing = self._writer.submit(write)

    def wait(self) -> None:
        """Until nothing is being written; what went wrong with it is raised here."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, block: int, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        partial = self._path(block).with_suffix(".partial")
        save_file(tensors, partial, metadata)
        sync_and_rename(partial, self._path(block))

    def load(self, block: int) -> tuple[dict[str, Weights], list[LayerResult]] | None:
        """Weights by module name and results of a block; None where it is not finished (or its file was damaged)."""
        found = read_block(self.folder, block)
        if found is None:
            self._path(block).unlink(missing_ok=True)
        return found

    def has(self, block: int) -> bool:
        """Whether a block is finished, as its file's header tells; a damaged file is removed."""
        is_there = read_results(self.folder, block) is not None
        if not is_there:
            self._path(block).unlink(missing_ok=True)
        return is_there

    def files(self) -> list[Path]:
        """The files of all finished blocks."""
        return sorted(self.folder.glob("block-*.safetensors"))

    def _path(self, block: int) -> Path:
        return block_path(self.folder, block)


def read_block(folder: Path, block: int) -> tuple[dict[str, Weights], list[LayerResult]] | None:
    """Weights by module name and results of a block; None where its file is missing or damaged."""
    return _read(folder, block, lambda file: (_weights(file), _results(file)))


def read_results(folder: Path, block: int) -> list[LayerResult] | None:
    """The results of a block alone; None where its file is missing or damaged."""
    return _read(folder, block, _results)


def read_weights(folder: Path, block: int, modules: Container[str]) -> dict[str, Weights] | None:
    """The weights of some modules of a block; None where its file is missing or damaged."""
    return _read(folder, block, lambda file: _weights(file, modules))


def _read(folder: Path, block: int, read: Callable[[Any], Found]) -> Found | None:
    path = block_path(folder, block)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return read(file)
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None


def _results(file: Any) -> list[LayerResult]:
    return [LayerResult.model_validate(entry) for entry in json.loads(file.metadata()["results"])]


def _weights(file: Any, modules: Container[str] | None = None) -> dict[str, Weights]:
    """Args: modules: whose weights are wanted; None: all."""
    kinds: dict[str, str] = json.loads(file.metadata()["kinds"])
    parts: dict[str, dict[str, Tensor]] = {}
    for key in file.keys():  # noqa: SIM118  safe_open is no mapping
        name, _, part = key.rpartition(":")
        if modules is None or name in modules:
            parts.setdefault(name, {})[part] = file.get_tensor(key)
    return {name: KINDS[kinds[name]].from_tensors(tensors) for name, tensors in parts.items()}


def _differences(folder: Path, fingerprint: Fingerprint) -> tuple[str, ...]:
    path = folder / FINGERPRINT_FILE
    if not path.is_file():
        is_empty = not folder.is_dir() or not any(folder.iterdir())
        return () if is_empty else ("fingerprint missing",)  # an unlike pass whose removal was itself interrupted
    try:
        found = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        return ("fingerprint unreadable",)
    changed = [name for name in sorted({*found, *fingerprint}) if found.get(name) != fingerprint.get(name)]
    return tuple(f"{name} was {found.get(name, 'absent')}, is {fingerprint.get(name, 'absent')}" for name in changed)
