"""The cuts of finished blocks on disk: what a restarted pass continues from."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compression.block_files import FINGERPRINT_FILE, block_path
from compression.durable import sync_and_rename, write_durably
from compression.errors import InvalidOptions
from compression.structure.shrink import Cut, Cuts

HALVES = ("attention", "ffn")
TUNED = ":"  # between a half and the name of a tuned parameter


class CutFiles:
    """Those of one pass.

    Args: key: what they belong to; files of another pass are removed.
    """

    def __init__(self, folder: Path, key: Mapping[str, str]) -> None:
        self._folder = folder
        mark, words = folder / FINGERPRINT_FILE, json.dumps(key, indent=2)
        if not mark.is_file() or mark.read_text("utf-8") != words:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_durably(mark, words.encode())

    def save(self, index: int, cuts: Cuts, errors: tuple[float, float]) -> None:
        """Write one block; it is there whole or not at all. Args: errors: of the halves' outputs, relative."""
        tensors: dict[str, Tensor] = {}
        for half, cut in zip(HALVES, cuts, strict=True):
            tensors[f"{half}.kept"] = torch.tensor(cut.kept, dtype=torch.int64)
            if cut.weights_RK is not None:
                tensors[f"{half}.weights"] = cut.weights_RK.detach().cpu().contiguous()
            tensors |= {f"{half}{TUNED}{name}": tensor.detach().cpu().contiguous() for name, tensor in cut.tuned.items()}
        partial = block_path(self._folder, index).with_suffix(".partial")
        save_file(tensors, partial, {"errors": json.dumps(errors)})
        sync_and_rename(partial, block_path(self._folder, index))

    def cuts(self, index: int) -> Cuts:
        """Of a block that is finished. Raises: as `require`."""
        return self.require(index)[0]

    def require(self, index: int) -> tuple[Cuts, tuple[float, float]]:
        """As `load`, of a block that is finished. Raises: InvalidOptions: it is not."""
        found = self.load(index)
        if found is None:
            reason = f"the cuts of block {index} vanished during the pass"
            raise InvalidOptions("work", reason, "a folder that nobody else clears")
        return found

    def load(self, index: int) -> tuple[Cuts, tuple[float, float]] | None:
        """A block's cuts and errors; None where it is not finished, or damaged."""
        try:
            with safe_open(block_path(self._folder, index), framework="pt") as file:
                names = set(file.keys())
                attention, ffn = (
                    Cut(
                        tuple(file.get_tensor(f"{half}.kept").tolist()),
                        file.get_tensor(f"{half}.weights") if f"{half}.weights" in names else None,
                        {
                            name.removeprefix(f"{half}{TUNED}"): file.get_tensor(name)
                            for name in sorted(names)
                            if name.startswith(f"{half}{TUNED}")
                        },
                    )
                    for half in HALVES
                )
                first, second = json.loads(file.metadata()["errors"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None
        return (attention, ffn), (float(first), float(second))
