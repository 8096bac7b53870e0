"""A GGUF file, de-quantised once to a safetensors folder that the streaming pass can read.

The weights are written in float32: a GGUF grid's values (scale * code + minimum) are exact only there.
"""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from compression.errors import UnsupportedModel
from compression.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from gguf import GGUFReader

_SHARD_SIZE = "2GB"


def dequantize_once(gguf: Path, cache: Path) -> tuple[Path, tuple[str, ...]]:
    """Give the safetensors folder of a GGUF file, writing it on the first call for these bytes.

    Needs host memory for all weights in float32.

    Args:
        gguf: the file.
        cache: folder for the results; each is named by the SHA-256 of its file and appears complete or not at all.
    Returns: the folder, and notes for the report on how the source was quantised, read from its tensors.
    Raises: UnsupportedModel: the file is damaged, or describes a model that cannot be rebuilt exactly.
    """
    from gguf import GGUFReader  # where there is such a file alone: a bare machine has no gguf

    with _refusing(gguf):
        reader = GGUFReader(gguf)
        _check_rope(reader)
        notes = _quantization_notes(reader)
        done = cache / f"gguf-{_sha256(gguf)}"
        if not done.is_dir():
            _write(gguf, reader, done)
    return done, notes


@contextmanager
def _refusing(gguf: Path) -> Iterator[None]:
    """Turn whatever a parser of untrusted bytes may raise into a refusal that names the file and the reason."""
    try:
        yield
    except MemoryError:
        raise
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{gguf.name}: {error}") from error
    except FileNotFoundError as error:
        raise UnsupportedModel(f"{gguf.name}: there is no such file") from error
    except Exception as error:
        raise UnsupportedModel(f"{gguf.name} cannot be read as a GGUF model: {error}") from error


def _check_rope(reader: "GGUFReader") -> None:
    """Refuse scaled rotary embeddings: transformers drops the factors that a GGUF keeps for them."""
    scaled = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    scaled += [key for key in reader.fields if ".rope.scaling.type" in key and reader.fields[key].contents() != "none"]
    if scaled:
        raise UnsupportedModel(f"its rotary embeddings are scaled ({', '.join(scaled)}), and that scaling would be lost")


def _quantization_notes(reader: "GGUFReader") -> tuple[str, ...]:
    """Say for each block-wise type of the file on which grid how many of its weights lie."""
    weights: Counter[Any] = Counter()
    for tensor in reader.tensors:
        weights[tensor.tensor_type] += int(tensor.n_elements)
    total = sum(weights.values())
    grids = [
        f"{_grid(kind)} for {count / total:.1%} of the weights" for kind, count in weights.most_common() if _is_grid(kind)
    ]
    if not grids:
        return ()
    return (f"source was quantised: GGUF {'; '.join(grids)}; results at such widths are flattered by it",)


def _is_grid(kind: Any) -> bool:
    from gguf import GGML_QUANT_SIZES

    return bool(GGML_QUANT_SIZES[kind][0] > 1)


def _grid(kind: Any) -> str:
    """Such as `Q4_1 (4 bit in groups of 32)`; K-quants divide their blocks of 256 further."""
    from gguf import GGML_QUANT_SIZES

    block, size_bytes = GGML_QUANT_SIZES[kind]
    named_bits = re.match(r"(?:I|T)?Q(\d)", kind.name)
    bits = named_bits[1] if named_bits else f"{8 * size_bytes / block:.2f}"
    return f"{kind.name} ({bits} bit in {'groups' if block < 256 else 'super-blocks'} of {block})"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(gguf: Path, reader: "GGUFReader", done: Path) -> None:
    """Write the folder beside its final place, then rename: another process may be doing the same."""
    done.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=done.parent) as scratch, quiet_transformers():
        folder, gguf = Path(scratch) / done.name, _alone(gguf, Path(scratch))
        _load(gguf, reader).save_pretrained(folder, max_shard_size=_SHARD_SIZE)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
        try:
            folder.rename(done)
        except OSError:
            if not done.is_dir():  # otherwise the other process was first, and its folder holds the same
                raise


def _alone(gguf: Path, scratch: Path) -> Path:
    """The file in a folder of its own: transformers would also read a config or tokenizer that lies beside it."""
    folder = scratch / "source"
    folder.mkdir()
    alone = folder / gguf.name
    alone.symlink_to(gguf.resolve())
    return alone


def _load(gguf: Path, reader: "GGUFReader") -> PreTrainedModel:
    """Build the model from the file, or refuse if a tensor of either side has no counterpart.

    `from_pretrained(gguf_file=...)` does the same but fills gaps with random weights, and asks for accelerate.
    """
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model, torch_dtype=torch.float32)["tensors"]
    if len(tensors) != len(reader.tensors):
        raise UnsupportedModel(f"{len(reader.tensors) - len(tensors)} of its {len(reader.tensors)} tensors are unknown")
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing:
        raise UnsupportedModel(f"it lacks {len(missing)} tensors, the first {missing[0]}")
    return model
