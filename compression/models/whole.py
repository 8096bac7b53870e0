"""A whole model through transformers' own loader: for artifacts whose packed weights the streaming pass does not read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer

from compression.errors import UnsupportedModel
from compression.formats.loading import load_as
from compression.memory import available_bytes
from compression.models.checkpoint import TORCH_DTYPES
from compression.models.footprint import check_footprint
from compression.models.headers import TensorInfo, read_folder
from compression.models.quiet import quiet_transformers
from compression.models.refusing import refusing
from compression.protocol import OutputFormat

ROOM = 1.5  # of the weights, for activations and one window's logits
PACKED_EXPANSION = 8  # bytes of float32 that one byte of 4-bit codes becomes


class WholeModel:
    """A checkpoint in any format that transformers opens, first only its headers, then in memory.

    Args: artifact: format of an artifact of ours that our own readers open instead.
    Attributes:
        config: transformers' own, of the text part where there are several.
    Raises: UnsupportedModel: on construction: remote code, pickled weights, no such architecture.
    """

    def __init__(self, folder: Path, artifact: OutputFormat | None = None) -> None:
        self.folder, self._artifact = folder, artifact
        self.tensors: Mapping[str, TensorInfo] = read_folder(folder)
        self.config = _config(folder)
        packing = self.config.to_dict().get("quantization_config")
        if packing is not None and artifact is None and not _knows(packing):
            raise UnsupportedModel(
                f"transformers cannot load it: quant_method {packing.get('quant_method')!r} is unknown to it"
            )
        check_footprint(self.config, AutoModelForCausalLM, self.tensors, is_packed=packing is not None or artifact is not None)
        self._model: PreTrainedModel | None = None

    @property
    def stored_numbers(self) -> int:
        """Of all tensors, as they are stored; a packed number holds several weights."""
        return sum(math.prod(info.shape) for info in self.tensors.values())

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises: UnsupportedModel: a package that its format needs is not installed, or too little memory is free."""
        self._require_room()
        if self._artifact:
            self._model = load_as(self._artifact, self.folder, dtype=dtype, device=str(device))
        else:
            self._model = _load(self.folder, dtype).eval().to(device)

    @torch.inference_mode()
    def logits(self, ids_L: Tensor) -> Tensor:
        """(L, vocabulary) of one window."""
        assert self._model is not None, "load it first"
        logits: Tensor = self._model(input_ids=ids_L[None].to(self._model.device), use_cache=False).logits
        return logits[0]

    def _require_room(self) -> None:
        needed = ROOM * sum(_expanded_bytes(info) for info in self.tensors.values())
        available = available_bytes()
        if needed > available:
            raise UnsupportedModel(
                f"a model in this format is loaded whole, which needs about {needed / 1e9:.1f} GB, and "
                f"{available / 1e9:.1f} GB are free; evaluate it on a larger machine"
            )


def _config(folder: Path) -> PretrainedConfig:
    with refusing("transformers knows no such architecture"):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return config.get_text_config()


def _knows(packing: dict[str, Any]) -> bool:
    """Asked beforehand, since transformers would leave the packing out with a warning and load what is left."""
    with quiet_transformers():
        return bool(AutoHfQuantizer.supports_quant_method(packing))


def _expanded_bytes(info: TensorInfo) -> int:
    return info.size_bytes * (2 if info.dtype in TORCH_DTYPES else PACKED_EXPANSION)


def _load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": False, "use_safetensors": True}
    with refusing("transformers cannot load it"), quiet_transformers():
        try:
            loading: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
        except ImportError as error:
            raise UnsupportedModel(f"its format needs a package that is not installed here: {error}") from error
        model, found = loading
    if found["missing_keys"]:
        raise UnsupportedModel(f"the checkpoint lacks {min(found['missing_keys'])}, which transformers would make up")
    whole: PreTrainedModel = model
    return whole
