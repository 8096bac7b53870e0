"""A model under evaluation: dense ones stream block by block, so that large ones work; all others are loaded whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.evaluable import causal_class
from compression.evaluation import Logits
from compression.families import known_model_types
from compression.formats.loading import artifact_format
from compression.formats.rules_gguf import FILE as GGUF_FILE
from compression.kept_states import KeptStates
from compression.lanes import enter
from compression.manifest import MANIFEST_FILE
from compression.models.activations import Spill, Stream
from compression.models.checkpoint import Checkpoint, digest
from compression.models.gguf_source import dequantize_once
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.models.untrusted import CONFIG, check_model_path, read_object
from compression.models.whole import WholeModel
from compression.preparation import describe_model
from compression.protocol import OutputFormat
from compression.report import ModelInfo

OnBlock = Callable[[], None]
READ_HERE: tuple[OutputFormat, ...] = ("sparse-packed", "gptq", "spqr")
"""Formats of our own artifacts that nothing in an ordinary environment opens, so that our readers do."""


class Subject(Protocol):
    """Attributes: blocks: how often `run` calls back. positions: the longest window it takes, in tokens."""

    folder: Path
    info: ModelInfo
    blocks: int
    positions: int
    vocab_size: int

    def run(self, ids_WL: Tensor, spill: Spill, states: KeptStates, on_block: OnBlock) -> None:
        """Have the model ready to give the logits of these windows.

        Args: states: device and dtype to run with; of a model that streams, its hidden states where they were kept.
        """

    def logits(self, window: int) -> Logits:
        """Of one of them."""

    def whole(self, device: torch.device) -> WholeModel:
        """The model in memory, in float32. Raises: UnsupportedModel: it does not fit."""


def open_subject(source: ModelSource, cache: Path) -> Subject:
    """Read all that can be known of a model without its weights.

    Args: cache: where a .gguf file is de-quantised to.
    Raises: UnsupportedModel.
    """
    check_model_path(source.path)
    artifact = artifact_format(source.path) if (source.path / MANIFEST_FILE).is_file() else None
    path = source.path / GGUF_FILE if artifact == "gguf" else source.path
    folder, notes = dequantize_once(path, cache) if path.suffix == ".gguf" else (path, ())
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder} is no folder and no .gguf file")
    config = read_object(folder / CONFIG)
    if artifact in READ_HERE:
        return WholeSubject(source, folder, config, artifact)
    if config.get("quantization_config") is None and config.get("model_type") in known_model_types():
        return StreamedSubject(source, folder, notes)
    return WholeSubject(source, folder, config)


class StreamedSubject:
    """A dense checkpoint of a known family."""

    def __init__(self, source: ModelSource, folder: Path, notes: tuple[str, ...]) -> None:
        self._checkpoint = Checkpoint(folder)
        architecture = self._checkpoint.architecture
        if architecture.is_encoder:
            raise UnsupportedModel(
                f"{architecture.class_name} is an encoder and predicts no next token; a compression reports its output error"
            )
        self.folder = folder
        self.info = describe_model(source, self._checkpoint, (*source.notes, *notes))
        self.blocks, self.positions, self.vocab_size = architecture.blocks, architecture.max_positions, architecture.vocab_size

    @torch.inference_mode()
    def run(self, ids_WL: Tensor, spill: Spill, states: KeptStates, on_block: OnBlock) -> None:
        self._model = StreamedModel(self._checkpoint, states.device, torch.float32)
        found = states.load()
        for _ in range(0 if found is None else self.blocks):
            on_block()
        self._stream: Stream = self._streamed(ids_WL, spill, states, on_block) if found is None else found

    def _streamed(self, ids_WL: Tensor, spill: Spill, states: KeptStates, on_block: OnBlock) -> Stream:
        lane = enter(self._model, ids_WL, spill)
        for index in range(self.blocks):
            block = self._model.load_block(index)
            try:
                lane.advance(self._model, block, index, states.compute_dtype)
            finally:
                self._model.free_block(index)
            on_block()
        states.keep(lane.stream)
        return lane.stream

    def logits(self, window: int) -> Logits:
        hidden_1LD = self._stream[window]
        return lambda places, part: self._model.logits(hidden_1LD[:, places], part)[0]

    def whole(self, device: torch.device) -> WholeModel:
        model = WholeModel(self.folder)
        model.load(device, torch.float32)
        return model


class WholeSubject:
    """Whatever else transformers opens as a causal language model. One window's logits exist at a time.

    Args: artifact: format of an artifact of ours that our own readers open instead.
    """

    def __init__(
        self, source: ModelSource, folder: Path, config: dict[str, Any], artifact: OutputFormat | None = None
    ) -> None:
        class_name = causal_class(config)
        self._model = WholeModel(folder, artifact)
        read = self._model.config
        self.folder, self.blocks = folder, 1
        self.positions = int(getattr(read, "max_position_embeddings", None) or 2**24)
        self.vocab_size = int(read.vocab_size)
        self.info = _describe(source, config, class_name, self._model, artifact)

    def run(self, ids_WL: Tensor, spill: Spill, states: KeptStates, on_block: OnBlock) -> None:
        self._ids_WL = ids_WL
        self._model.load(states.device, states.compute_dtype)
        on_block()

    def logits(self, window: int) -> Logits:
        logits_LV = self._model.logits(self._ids_WL[window])
        return lambda places, part: logits_LV[places, part].clone()

    def whole(self, device: torch.device) -> WholeModel:
        return self._model


def _describe(
    source: ModelSource, config: dict[str, Any], class_name: str, model: WholeModel, artifact: OutputFormat | None
) -> ModelInfo:
    packing = artifact or (config.get("quantization_config") or {}).get("quant_method")
    packed = (f"packed: {packing}; parameters are stored numbers",) if packing else ()
    return ModelInfo(
        source=source.name,
        revision=source.revision,
        family=str(config.get("model_type")),
        architecture=class_name,
        blocks=int(getattr(model.config, "num_hidden_layers", 0)),
        parameters=model.stored_numbers,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "unknown"),
        digest=digest(model.folder, {info.file for info in model.tensors.values()}),
        notes=(*source.notes, *packed, f"loaded whole, {'by our own reader' if artifact else 'through transformers'}"),
    )
