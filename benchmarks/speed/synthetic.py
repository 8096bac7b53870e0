"""Models of any shape with random weights, and a layer-wise pass over one: no download, no tokenizer, no text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from benchmarks.speed.stages import Clock, Stages
from compression.finished_blocks import FinishedBlocks
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.memory import MemoryMeter
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.pipeline import LayerwisePass
from compression.plan import plan
from compression.probe import probe_windows
from compression.recipe import parse_recipe, resolve
from compression.report import Memory
from compression.stopwatch import Stopwatch

SPREAD = 0.02  # of random weights, as models are initialised


@dataclass(frozen=True)
class Passed:
    """What a pass took. Args: block_s: seconds by stage of every block, in order; around_s: outside blocks."""

    block_s: list[dict[str, float]]
    around_s: dict[str, float]
    memory: Memory

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, over everything."""
        return {stage: sum(part[stage] for part in (self.around_s, *self.block_s)) for stage in self.around_s}


def write_model(folder: Path, model_type: str, config: dict[str, object], dtype: torch.dtype, device: torch.device) -> None:
    """A checkpoint of random weights, one file a block, made tensor by tensor: no more than a block is in memory."""
    folder.mkdir(parents=True)
    described = AutoConfig.for_model(model_type, **config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(described, dtype=dtype)
    described.architectures = [type(model).__name__]
    described.save_pretrained(folder)
    generator = torch.Generator(device).manual_seed(0)
    where: dict[str, str] = {}
    for file, names in _files(model, described).items():
        tensors = {name: _random(name, model.get_parameter(name), generator) for name in names}
        save_file(tensors, folder / file, {"format": "pt"})
        where |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _files(model: torch.nn.Module, config: PretrainedConfig) -> dict[str, list[str]]:
    """Names of parameters by file; the first number in a name is its block."""
    files: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        block = next((part for part in name.split(".") if part.isdigit()), "ends")
        files.setdefault(f"model-{block}.safetensors", []).append(name)
    return files


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    if like.ndim == 1:
        return torch.full(like.shape, 0.0 if name.endswith("bias") else 1.0, dtype=like.dtype)
    made = torch.randn(like.shape, generator=generator, device=generator.device)
    return made.mul_(SPREAD).to(like.dtype).cpu()


def run_pass(
    folder: Path,
    work: Path,
    recipe: Mapping[str, object],
    nsamples: int,
    seqlen: int,
    device: torch.device,
    compute_dtype: torch.dtype,
) -> Passed:
    """The product's own pass with random calibration tokens and nothing evaluated. Args: work: of finished blocks."""
    checkpoint, stages = Checkpoint(folder), Stages(Clock(device))
    generator = torch.Generator().manual_seed(0)
    ids_WL = torch.randint(checkpoint.architecture.vocab_size, (nsamples, seqlen), generator=generator)
    with MemoryMeter(device) as meter, stages.listening():
        LayerwisePass(
            StreamedModel(checkpoint, device, torch.float32),
            plan(resolve(parse_recipe(recipe), "dense"), checkpoint.architecture),
            ids_WL,
            ids_WL[:0],
            probe_windows(ids_WL),
            FinishedBlocks(work, {}),
            hessians=KeptHessians(Kept(), "", ids_WL, device, compute_dtype),
            compute_dtype=compute_dtype,
            meter=meter,
            watch=Stopwatch(),
            on_event=stages,
        ).run()
        memory = meter.peak()
    blocks = range(1, checkpoint.architecture.blocks + 1)
    return Passed([stages.of_block(block) for block in blocks], stages.of_block(0), memory)
