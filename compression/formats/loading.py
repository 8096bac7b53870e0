"""An artifact of any format as a transformers model, by this project's own readers: no other loader, no dependency.

The model is built from config.json and filled parameter by parameter. The folder may come from anywhere: whatever does not
fit is refused with file, tensor and reason.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from compression.environment import pick_device
from compression.errors import InvalidOptions, UnsupportedModel
from compression.families import read_architecture
from compression.families.base import Architecture
from compression.finite import all_finite
from compression.formats.files import FILES, FormatFiles
from compression.formats.semi_structured import check_semi_structured, to_semi_structured
from compression.manifest import MANIFEST_FILE
from compression.matrix_view import matrix_view
from compression.models.checkpoint import TORCH_DTYPES
from compression.models.footprint import check_footprint
from compression.models.headers import TensorInfo, read_folder
from compression.models.refusing import refusing
from compression.models.skeleton import frozen, parameters_on_meta
from compression.models.untrusted import CONFIG, check_model_path, read_object
from compression.plan import PlannedLayer
from compression.protocol import OutputFormat
from compression.structure.loading import has_shapes, load_shrunk

MAX_MANIFEST_BYTES = 64_000_000  # a file a line
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TORCH_DTYPES.values()}
DAMAGE = (KeyError, ValueError, IndexError, TypeError, RuntimeError, StopIteration)  # what tensors that do not fit may raise


def load(
    path: Path | str, *, dtype: torch.dtype | None = None, device: str = "cpu", semi_structured: bool = False
) -> PreTrainedModel:
    """Load an artifact folder. See `compression.formats.load`."""
    folder = Path(path)
    if has_shapes(folder):
        if semi_structured:
            raise InvalidOptions("semi_structured", "a model with blocks of different shapes is dense: nothing in it is 2:4")
        return load_shrunk(folder, dtype=dtype, device=device)
    check_model_path(folder)
    return load_as(artifact_format(folder), folder, dtype=dtype, device=device, semi_structured=semi_structured)


def load_as(
    name: OutputFormat, folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu", semi_structured: bool = False
) -> PreTrainedModel:
    """As `load`, of a folder whose format is known, such as one that has no manifest yet."""
    torch_device = pick_device(device)
    if semi_structured:
        check_semi_structured(torch_device)
    config = read_object(folder / CONFIG)
    config.pop("quantization_config", None)
    architecture = read_architecture(config)
    storage_dtype = _storage_dtype(config)
    model = _skeleton(config, dtype or storage_dtype, {} if name == "gguf" else read_folder(folder))
    _fill(model, FILES[name], folder, architecture, storage_dtype)
    nn.Module.to(model, torch_device)
    if semi_structured:
        to_semi_structured(model, [layers[0].name for layers in _matrices(architecture).values() if not layers[0].matrix.slot])
    return model


def artifact_format(folder: Path) -> OutputFormat:
    """The format that an artifact's manifest names. Raises: UnsupportedModel: no artifact, or an unknown format."""
    if not (folder / MANIFEST_FILE).exists():
        raise UnsupportedModel(f"{folder.name} has no {MANIFEST_FILE}, so it is no artifact or an unfinished one")
    try:
        name = read_object(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)["format"]
    except KeyError as error:
        raise UnsupportedModel(f"{MANIFEST_FILE} does not say the format") from error
    if name not in get_args(OutputFormat):
        raise UnsupportedModel(f"{MANIFEST_FILE} names the format {name!r}; known are {', '.join(get_args(OutputFormat))}")
    return cast(OutputFormat, name)


def _storage_dtype(config: Mapping[str, Any]) -> torch.dtype:
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    if name not in DTYPES:
        raise UnsupportedModel(f"config.json: dtype {name!r} is none of {', '.join(DTYPES)}")
    return DTYPES[name]


def _skeleton(config: Mapping[str, Any], dtype: torch.dtype, tensors: Mapping[str, TensorInfo]) -> PreTrainedModel:
    """Args: tensors: of the safetensors formats."""
    with refusing("config.json describes no model that transformers can build"):
        parsed = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        if tensors:
            check_footprint(parsed, AutoModelForCausalLM, tensors, is_packed=True)
        with parameters_on_meta():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(parsed, dtype=dtype, trust_remote_code=False)
    model.eval()
    return model


def _matrices(architecture: Architecture) -> dict[str, list[PlannedLayer]]:
    """The matrices that a method may have compressed, by the name of the parameter that holds them: one, or all experts'."""
    found: dict[str, list[PlannedLayer]] = {}
    for block in range(architecture.blocks):
        for matrix in architecture.block(block):
            layer = PlannedLayer(architecture.module_name(block, matrix), block, matrix, None)
            found.setdefault(f"{architecture.block_path}.{block}.{matrix.parameter}", []).append(layer)
    return found


def _fill(
    model: PreTrainedModel, files: FormatFiles, folder: Path, architecture: Architecture, storage_dtype: torch.dtype
) -> None:
    """Put the artifact's values into every parameter, and into the buffers that it stores."""
    matrices = _matrices(architecture)
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = []
    for name, present in parameters.items():
        if name in matrices:
            tensor: Tensor | None = _parameter(files, folder, matrices[name], present).to(storage_dtype)  # as it was evaluated
        else:
            tensor = files.read_tensor(folder, name, tuple(present.shape))
            if tensor is not None and tensor.ndim == 2:  # an embedding in 8 bits is read as float32
                tensor = tensor.to(storage_dtype)
        if tensor is None:
            missing.append(name)
            continue
        _check(name, tensor, present)
        _owner(model, name)._parameters[name.rpartition(".")[2]] = frozen(tensor.to(present.dtype).contiguous())
    for name in missing:
        if name not in tied:
            raise UnsupportedModel(f"{folder.name}: the artifact has no tensor {name}")
        _owner(model, name)._parameters[name.rpartition(".")[2]] = model.get_parameter(tied[name])
    for name, buffer in model.state_dict().items():
        if name not in parameters and (stored := files.read_tensor(folder, name, tuple(buffer.shape))) is not None:
            _check(name, stored, buffer)
            buffer.copy_(stored)


def _matrix(files: FormatFiles, folder: Path, layer: PlannedLayer) -> Tensor:
    """Values (R, C) of one matrix.

    Raises: UnsupportedModel: with the matrix's name, whatever a reader stumbles over.
    """
    try:
        return files.read_matrix(folder, layer)
    except DAMAGE as error:
        raise UnsupportedModel(f"{folder.name}: the tensors of {layer.name} do not fit together ({error!r})") from error


def _parameter(files: FormatFiles, folder: Path, layers: list[PlannedLayer], present: Tensor) -> Tensor:
    """A parameter of a block, put together from its matrices."""
    if len(layers) == 1 and layers[0].matrix.slot is None:
        values_RC = _matrix(files, folder, layers[0])
        return values_RC.T if layers[0].matrix.is_transposed else values_RC
    whole = torch.full(present.shape, torch.nan)  # what no matrix fills is found out
    for layer in layers:
        view_RC = matrix_view(whole, layer.matrix, is_fused=True)
        values_RC = _matrix(files, folder, layer)
        _check(layer.name, values_RC, view_RC)
        view_RC.copy_(values_RC)
    return whole


def _owner(model: PreTrainedModel, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _check(name: str, tensor: Tensor, present: Tensor) -> None:
    if tensor.shape != present.shape:
        raise UnsupportedModel(f"tensor {name} has shape {tuple(tensor.shape)}, its config says {tuple(present.shape)}")
    if not tensor.is_floating_point() or not all_finite(tensor):
        raise UnsupportedModel(f"tensor {name} holds NaN, infinity or integers; the artifact is damaged")
