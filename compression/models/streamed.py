"""A model of which one block at a time is in memory.

The skeleton is transformers' own model with every parameter on the meta device. Its list of blocks is taken out and
replaced by taps. A tap either records what the model passes to a block (hidden states, masks, rotary tables: whatever the
family uses), or hands the model a finished hidden state, so that the model's own code runs its final norm and head. The
pass therefore needs no knowledge of a family beyond where its blocks are.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from compression.errors import UnsupportedModel
from compression.families.base import Matrix
from compression.heap import give_back_freed_memory, keep_freed_memory
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.models.ends import RoundedEnds, predicting
from compression.models.footprint import check_footprint
from compression.models.read_ahead import ReadAhead
from compression.models.refusing import refusing
from compression.models.skeleton import frozen, parameters_on_meta
from compression.models.storage import assemble, check_values, place
from compression.plan import PlannedLayer
from compression.protocol import Embeddings


@dataclass(frozen=True)
class BlockCall:
    """What the model passes to one block besides the hidden states; equal for all windows of one length."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def hidden(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Hidden states after a block; some families' blocks give them as the first of several."""
        output: Tensor | tuple[Tensor, ...] = block(hidden, *self.args, **self.kwargs)
        return output[0] if isinstance(output, tuple) else output


class _Tap(nn.Module):
    """Stands in for a block."""

    def __init__(self, owner: "StreamedModel") -> None:
        super().__init__()
        self._owner = [owner]  # in a list, so that torch does not take it for a submodule

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, None]:
        owner = self._owner[0]
        if owner.injected is not None:
            hidden = owner.injected
        else:
            owner.recorded.append((hidden, BlockCall(args, kwargs)))
        return (hidden, None) if owner.checkpoint.architecture.block_returns_tuple else hidden


class StreamedModel:
    """Runs a checkpoint's embeddings, single blocks and head; holds what lies outside the blocks, and one block.

    Args:
        device: where blocks are run.
        compute_dtype: weights and activations are cast to it.
        embeddings: how the output file will hold embedding and head; see `as_written`.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, compute_dtype: torch.dtype, embeddings: Embeddings = "keep"
    ) -> None:
        keep_freed_memory()
        self.checkpoint, self.device, self.compute_dtype = checkpoint, device, compute_dtype
        self.injected: Tensor | None = None
        self.recorded: list[tuple[Tensor, BlockCall]] = []
        auto_class = AUTO_CLASSES[checkpoint.architecture.task]
        with refusing("config.json cannot be read by transformers"):
            config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
        check_footprint(config, auto_class, checkpoint.tensors)
        with refusing("config.json describes no model that transformers can build"), parameters_on_meta():
            self._model = auto_class.from_config(config, dtype=compute_dtype, trust_remote_code=False).eval()
        self._ahead = ReadAhead(checkpoint, device)
        self._options = {} if checkpoint.architecture.is_encoder else {"use_cache": False}
        path = checkpoint.architecture.block_path
        self._blocks: list[nn.Module] = list(self._model.get_submodule(path))
        parent, _, leaf = path.rpartition(".")
        taps = nn.ModuleList(_Tap(self) for _ in self._blocks)
        setattr(self._model.get_submodule(parent), leaf, taps)
        self._fill(self._model, "")
        self._model.to(device)
        self._rounded = RoundedEnds(self._model, self._storage_dtype) if embeddings == "int8" else None

    def as_written(self) -> AbstractContextManager[None]:
        """While inside, embedding and head are those of the output file, not the dense ones."""
        return self._rounded.installed() if self._rounded else nullcontext()

    def enter(self, input_ids_1L: Tensor) -> tuple[Tensor, list[BlockCall]]:
        """Embed one window: the hidden states before block 0, and the call of every block."""
        self.recorded = []
        self._model.base_model(input_ids=input_ids_1L.to(self.device), **self._options)
        recorded, self.recorded = self.recorded, []
        return recorded[0][0], [call for _, call in recorded]

    def without_blocks(self, input_ids_BL: Tensor, **options: Any) -> None:
        """Run everything but the blocks, embedding to head, to see what it costs. Args: options: of the model's forward."""
        self._model(input_ids=input_ids_BL.to(self.device), **self._options, **options)
        self.recorded = []

    def logits(self, hidden_1LD: Tensor, part: slice | None = None) -> Tensor:
        """Final norm and head on hidden states after the last block: (1, L, vocabulary).

        Of an encoder what it gives: also (1, labels), or its last hidden states (1, L, D).

        Args: part: of the vocabulary; no other logits are worked out.
        """
        if part is not None:
            with predicting(self._model.get_output_embeddings(), part):
                return self.logits(hidden_1LD)
        self.injected = hidden_1LD.to(self.device, self.compute_dtype)
        try:
            ids = torch.zeros(hidden_1LD.shape[:2], dtype=torch.long, device=self.device)  # only their length matters
            found = self._model(input_ids=ids, **self._options)
            logits: Tensor = found.last_hidden_state if self.checkpoint.architecture.task == "hidden-states" else found.logits
        finally:
            self.injected = None
        return logits

    def written_logits(self, hidden_1LD: Tensor, part: slice | None = None) -> Tensor:
        """As `logits`, by the output file's head."""
        with self.as_written():
            return self.logits(hidden_1LD, part)

    def load_block(self, index: int) -> nn.Module:
        """Block `index` (from 0) on the device with its dense weights; those of the next one are read meanwhile."""
        block = self._blocks[index]
        self._fill(block, self._prefix(index), self.checkpoint.architecture.block(index))
        if index + 1 < len(self._blocks):
            following, prefix = self._blocks[index + 1], self._prefix(index + 1)
            self._ahead.start(lambda: filter(None, self._stored(following, prefix).values()))
        return block.to(self.device)

    def free_block(self, index: int) -> None:
        """Send the weights of a block back to the meta device."""
        for module in self._blocks[index].modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = frozen(parameter.to("meta"))
        give_back_freed_memory()

    def storage_dtype_of(self, layer: PlannedLayer) -> torch.dtype:
        """The dtype that the source stores this matrix in."""
        return self.checkpoint.dtype_of(place(self.checkpoint, layer.name, layer.matrix).tensor)

    def _storage_dtype(self, name: str) -> torch.dtype:
        stored = self.checkpoint.stored_name(name)
        assert stored is not None, "it has been read"
        return self.checkpoint.dtype_of(stored)

    def _fill(self, root: nn.Module, prefix: str, matrices: tuple[Matrix, ...] = ()) -> None:
        """Replace the meta parameters below `root`, and the buffers that are stored; tied parameters share storage.

        Args: matrices: of a block; those of a fused parameter that the checkpoint holds in pieces are put together.
        """
        tied: dict[str, str] = dict(getattr(self._model, "all_tied_weights_keys", None) or {})
        names = _parameters(root)
        stored = self._stored(root, prefix)
        tensors = self._ahead.take(filter(None, stored.values()))
        for name, tensor in stored.items():
            if tensor is not None:
                self._place(root, name, tensors[tensor], tensor)
        fused = {name: [matrix for matrix in matrices if matrix.slot and matrix.parameter == name] for name in names}
        for name in sorted(name for name in names if stored[name] is None):
            parent, _, leaf = name.rpartition(".")
            if fused[name]:
                whole = assemble(self.checkpoint, prefix, root.get_parameter(name).shape, fused[name])
                self._place(root, name, whole, prefix + name)
            elif prefix + name in tied:
                root.get_submodule(parent)._parameters[leaf] = root.get_parameter(tied[prefix + name])
            else:
                raise UnsupportedModel(f"the checkpoint has no tensor {prefix + name}")

    def _prefix(self, index: int) -> str:
        return f"{self.checkpoint.architecture.block_path}.{index}."

    def _stored(self, root: nn.Module, prefix: str) -> dict[str, str | None]:
        """The checkpoint's name of each parameter and stored buffer below `root`."""
        names = _parameters(root) | set(root.state_dict())
        return {name: self.checkpoint.stored_name(prefix + name) for name in sorted(names)}

    def _place(self, root: nn.Module, name: str, tensor: Tensor, stored: str) -> None:
        parent, _, leaf = name.rpartition(".")
        module = root.get_submodule(parent)
        present = module._parameters[leaf] if leaf in module._parameters else module._buffers[leaf]
        assert present is not None
        if tensor.shape != present.shape:
            raise UnsupportedModel(f"tensor {stored} has shape {tuple(tensor.shape)}, its config says {tuple(present.shape)}")
        tensor = tensor.to(self.device, non_blocking=True)  # as it is stored, often half as large
        check_values(stored, tensor)
        if leaf in module._parameters:
            module._parameters[leaf] = frozen(tensor.to(self.compute_dtype))
        else:
            module._buffers[leaf] = tensor.to(present.dtype)


def _parameters(root: nn.Module) -> set[str]:
    return {name for name, _ in root.named_parameters(remove_duplicate=False)}
