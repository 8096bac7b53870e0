"""The `gguf` format: one file for llama.cpp, written tensor by tensor, codes and scales as they were solved.

A matrix on a grid becomes Q4_0, Q4_1 or Q8_0 with its very codes; what is only pruned, and the embedding, keep the source's
dtype, since the pass evaluated them in it; vectors are float32. config.json and tokenizer lie beside the file for our own
loader; llama.cpp and transformers need the file alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import (
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGUFWriter,
    LlamaFileType,
    TensorNameMap,
    get_tensor_name_map,
)
from gguf import GGMLQuantizationType as Type
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from compression.block import scale_dtype
from compression.errors import UnsupportedModel, VerificationError
from compression.formats.export import Export, names_by_block, write_config
from compression.formats.gguf_blocks import PLAIN_TYPES, encode, plain, row_bytes, type_of
from compression.formats.gguf_file import open_gguf
from compression.formats.gguf_tokenizer import describe_tokenizer
from compression.formats.rules_gguf import ARCHITECTURES, FILE
from compression.models.checkpoint import Checkpoint
from compression.models.ends import round_end, stored_ends
from compression.models.untrusted import CONFIG, read_object
from compression.plan import Plan, PlannedLayer
from compression.weights import DenseWeights, Weights

RECOMPUTED = "rotary_emb.inv_freq"  # a buffer that old checkpoints hold
FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
}


def check_source(checkpoint: Checkpoint, _: Plan) -> None:
    """Refuse, before any solving, a checkpoint whose tokenizer or tensors a GGUF file has no words for.

    Raises: UnsupportedModel: with the reason.
    """
    describe_tokenizer(_tokenizer(checkpoint), checkpoint.architecture.vocab_size)
    names = _Names(checkpoint.config)
    for stored in checkpoint.tensors:
        if not stored.endswith(RECOMPUTED):
            names.of(stored)


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    checkpoint = export.checkpoint
    names = _Names(checkpoint.config)
    types = {stored: kind for stored, kind, _ in _tensors(export)}
    weights = Counter[Type]()
    writer = GGUFWriter(export.folder / FILE, names.architecture)
    try:
        for stored, kind in types.items():
            shape = checkpoint.tensors[stored].shape
            weights[kind] += torch.Size(shape).numel()
            packed = (*shape[:-1], row_bytes(shape[-1], kind))
            writer.add_tensor_info(names.of(stored), packed, np.dtype(np.uint8), torch.Size(packed).numel(), raw_dtype=kind)
        _describe_model(writer, checkpoint)
        writer.add_file_type(FILE_TYPES[weights.most_common(1)[0][0]])
        describe_tokenizer(_tokenizer(checkpoint), checkpoint.architecture.vocab_size).add_to(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for stored, _, data in _tensors(export):
            writer.write_tensor_data(names.reorder(stored, data()).numpy())
    finally:
        writer.close()
    write_config(export, {})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact.

    Raises: UnsupportedModel: the file is damaged, or does not hold it in this shape.
    """
    tensor = read_tensor(folder, f"{layer.name}.weight", layer.matrix.shape)
    if tensor is None:
        raise UnsupportedModel(f"{FILE} has no tensor for {layer.name}")
    return tensor


def read_tensor(folder: Path, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """One parameter by its name in the model, in our order of rows; None: not stored."""
    names = _Names(read_object(folder / CONFIG))
    tensor = open_gguf(folder / FILE).read(names.of(name))
    if tensor is not None and tuple(tensor.shape) != tuple(shape):
        raise UnsupportedModel(f"{FILE}: tensor {names.of(name)} has shape {tuple(tensor.shape)}, config.json says {shape}")
    return None if tensor is None else names.restore(name, tensor)


def name_in_file(config: Mapping[str, Any], name: str) -> str:
    """GGUF's name of a parameter of the model with this config.json. Raises: UnsupportedModel: it has none."""
    return _Names(config).of(name)


@lru_cache(maxsize=1)
def _name_map(architecture: str, blocks: int) -> TensorNameMap:
    arch = next(found for found in MODEL_ARCH if MODEL_ARCH_NAMES[found] == architecture)
    return get_tensor_name_map(arch, blocks)


class _Names:
    """Names and row orders of tensors, ours and GGUF's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.model_type = str(config.get("model_type"))
        if self.model_type not in ARCHITECTURES:
            raise UnsupportedModel(f"model_type {self.model_type!r} has no GGUF architecture here")
        self.architecture = ARCHITECTURES[self.model_type]
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config.get("num_key_value_heads") or self.heads)
        self._map = _name_map(self.architecture, int(config["num_hidden_layers"]))

    def of(self, stored: str) -> str:
        """GGUF's name of a tensor. Raises: UnsupportedModel: it has none."""
        for spelling in (stored, f"model.{stored}"):  # some checkpoints leave the base prefix out
            found: str | None = self._map.get_name(spelling, try_suffixes=(".weight", ".bias"))
            if found is not None:
                return found
        raise UnsupportedModel(f"GGUF: tensor {stored!r} has no name in a {self.architecture} model")

    def reorder(self, stored: str, rows: Tensor) -> Tensor:
        """llama.cpp's llama takes rotary pairs as neighbouring rows, transformers half a head apart."""
        heads = self._rotary_heads(stored)
        return rows if heads is None else rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    def restore(self, stored: str, rows: Tensor) -> Tensor:
        """The inverse of `reorder`."""
        heads = self._rotary_heads(stored)
        return rows if heads is None else rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def _rotary_heads(self, stored: str) -> int | None:
        if self.architecture != "llama":
            return None
        module = stored.rpartition(".")[0].rpartition(".")[2]
        return {"q_proj": self.heads, "k_proj": self.kv_heads}.get(module)


Entry = tuple[str, Type, Callable[[], Tensor]]
"""A tensor to write: its stored name, its type, and a function that gives its bytes."""


def _tensors(export: Export) -> Iterator[Entry]:
    """Every tensor in the order of the file. The file's table comes before its data, so this is run twice."""
    ends = stored_ends(export.checkpoint) if export.output.embeddings == "int8" else ()
    for number, names in enumerate(names_by_block(export.checkpoint)):
        written = [name for name in names if not name.endswith(RECOMPUTED)]
        yield from _block(export, number - 1, written) if number else _outside(export.checkpoint, written, ends)


def _outside(checkpoint: Checkpoint, names: list[str], ends: tuple[str, ...]) -> Iterator[Entry]:
    for stored in names:
        if stored in ends:
            yield stored, Type.Q8_0, partial(_rounded, checkpoint, stored)
        else:
            yield _entry(checkpoint, stored, None)


def _block(export: Export, block: int, names: list[str]) -> Iterator[Entry]:
    solved = export.solved(block)
    weights = {export.place(layer).tensor: solved.get(layer.name) for layer in export.plan.block(block)}
    for stored in names:
        yield _entry(export.checkpoint, stored, weights.get(stored))


def _entry(checkpoint: Checkpoint, stored: str, solved: Weights | None) -> Entry:
    dtype = checkpoint.dtype_of(stored)
    if len(checkpoint.tensors[stored].shape) == 1:
        return stored, Type.F32, lambda: plain(_source(checkpoint, stored).float())
    kind = PLAIN_TYPES.get(dtype) if solved is None else type_of(solved, dtype)
    if kind is None:
        raise VerificationError(f"{stored}: no GGUF type holds these weights exactly")
    return stored, kind, lambda: encode(solved or DenseWeights(_source(checkpoint, stored)), kind, dtype)


def _rounded(checkpoint: Checkpoint, stored: str) -> Tensor:
    dtype = checkpoint.dtype_of(stored)
    return encode(round_end(_source(checkpoint, stored), scale_dtype(dtype)), Type.Q8_0, dtype)


def _source(checkpoint: Checkpoint, stored: str) -> Tensor:
    return checkpoint.read([stored])[stored]


def _describe_model(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_type("model")
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(checkpoint.architecture.vocab_size)
    writer.add_context_length(checkpoint.architecture.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _tokenizer(checkpoint: Checkpoint) -> Any:
    return AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
