"""Global AdaPrune: what is left of a model, tuned as one until its blocks and its predictions are those of the dense model.

Layers are solved one by one, each on what it reads at the time; what is off in the end, nobody has looked at. Here the smaller
model runs on its own hidden states, and all matrices that units were cut out of, or could have been, follow the gradient
together. Which units are left does not change.

Source: SPDY, arXiv:2201.13096, "global AdaPrune": the sum over layers of the relative squared error of their outputs, by Adam.
What differs: outputs are those of blocks; every token counts relative to itself, since some have hidden states a thousand
times as large as the others; for models that predict tokens KL(dense || tuned) is added; the step rises over the first tenth
of the way and falls to nothing; and the best pass is kept, as windows tell that were not tuned on.

Shapes: W = windows, B = windows of a step, L = window, T = tokens at a time, D = hidden size, V = vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compression.budgets import CHUNK_LOGITS
from compression.durable import sync_and_rename
from compression.errors import InvalidOptions, NumericalError
from compression.events import ActivityStarted, Note, OnEvent
from compression.families.structure import Half
from compression.goals.goal import AdaPruneOptions
from compression.memory import available_bytes
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.structure.loader import put
from compression.structure.shrink import Cut, Cuts, shrunk_block
from compression.structure.units import structure_of

STEP_TOKENS = 1024  # at least so many make a step: a window, or several short ones
HELD_OUT_SHARE = 1 / 8  # of the windows
WARM_UP_SHARE = 0.1  # of the steps
STATE_FILE = "adaprune.pt"
TINY = 1e-12
# Of a tuned number, in float32: itself, its gradient, Adam's two moments, and the best so far.
COPIES = 5
# Of a token in a block what the way back needs, in numbers: of the hidden size, and of the feed-forward's columns.
KEPT_HIDDEN, KEPT_COLUMNS = 16, 5


@dataclass(frozen=True)
class Tuned:
    """Args: cuts: of every block, with tuned weights. losses: on windows held out, before and after each pass. best: pass."""

    cuts: tuple[Cuts, ...]
    losses: tuple[float, ...]
    best: int


class AdaPrune:
    """One tuning.

    Args:
        model: dense; all of its blocks are held in memory, in float32.
        cuts: of every block, as solved.
        ids_WL: token ids of the calibration windows; two at least.
        state_path: where an interrupted tuning continues from; it is there after every pass.
        key: what the state belongs to, options and windows included.
    """

    def __init__(
        self,
        model: StreamedModel,
        cuts: Sequence[Cuts],
        ids_WL: Tensor,
        options: AdaPruneOptions,
        compute_dtype: torch.dtype,
        state_path: Path,
        key: str,
        on_event: OnEvent,
    ) -> None:
        self._model, self._cuts, self._options = model, cuts, options
        self._compute_dtype, self._state_path, self._key, self._on_event = compute_dtype, state_path, key, on_event
        self._architecture = model.checkpoint.architecture
        held_out = max(1, round(HELD_OUT_SHARE * len(ids_WL)))
        self._judged_WL, self._tuned_WL = ids_WL[:held_out], ids_WL[held_out:]
        self._batch = _batch(ids_WL)
        self._dense = [model.load_block(index) for index in range(self._architecture.blocks)]
        self._left = [shrunk_block(block, index, self._architecture, cuts[index]) for index, block in enumerate(self._dense)]
        self._parameters = [
            _trainable(block, tunable(block, structure_of(self._architecture), cut))
            for block, cut in zip(self._left, cuts, strict=True)
        ]

    def run(self) -> Tuned:
        """Whatever `on_event` raises ends it between two steps, finished passes kept.

        Raises: NumericalError: what the model says is not finite from the start.
        """
        options, tuned = self._options, self._all()
        optimiser = torch.optim.Adam(tuned, lr=options.learning_rate)
        losses, best, kept = self._restored(optimiser) or self._begin()
        steps = math.ceil(len(self._tuned_WL) / self._batch)
        for number in range(len(losses) - 1, options.passes):
            for step, ids_BL in enumerate(self._order(number)):
                self._on_event(ActivityStarted(activity="solving", block=0, blocks=self._architecture.blocks))
                pace = _pace(number * steps + step, options.passes * steps)
                optimiser.param_groups[0]["lr"] = options.learning_rate * pace
                optimiser.zero_grad(set_to_none=True)
                self._loss(ids_BL, is_tuning=True)
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            loss = self._judged()
            if not math.isfinite(loss):
                said = f"AdaPrune ends with pass {number + 1}, after which nothing finite was said; try a lower learning rate"
                self._on_event(Note(level="warning", message=said))
                break
            losses.append(loss)
            if losses[-1] < losses[best]:
                best, kept = number + 1, [parameter.detach().clone() for parameter in tuned]
            self._save(optimiser, losses, best, kept)
            said = f"AdaPrune: loss {losses[-1]:.4g} on windows held out after pass {number + 1} of {options.passes}"
            self._on_event(Note(message=f"{said} (before {losses[0]:.4g})"))
        return Tuned(tuple(self._tuned_cuts(kept)), tuple(losses), best)

    def _begin(self) -> tuple[list[float], int, list[Tensor]]:
        loss = self._judged()
        if not math.isfinite(loss):
            raise NumericalError("head", "the model to be tuned says nothing finite")
        return [loss], 0, [parameter.detach().clone() for parameter in self._all()]

    def _all(self) -> list[nn.Parameter]:
        return [parameter for found in self._parameters for parameter in found.values()]

    def _order(self, number: int) -> Iterator[Tensor]:
        """The windows of a pass, shuffled by its number, so that a restarted pass is the same."""
        order = torch.randperm(len(self._tuned_WL), generator=torch.Generator().manual_seed(number))
        for indices in order.split(self._batch):
            yield self._tuned_WL[indices]

    def _judged(self) -> float:
        """Mean loss on the windows held out."""
        batches = self._judged_WL.split(self._batch)
        with torch.no_grad():
            return sum(self._loss(ids_BL, is_tuning=False) * len(ids_BL) for ids_BL in batches) / len(self._judged_WL)

    def _loss(self, ids_BL: Tensor, *, is_tuning: bool) -> float:
        """Of these windows. Args: is_tuning: gradients are left in the parameters."""
        with torch.no_grad():
            dense_BLD, calls = self._model.enter(ids_BL)
        left_BLD, errors = dense_BLD, []
        with torch.autocast(self._model.device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
            for dense, left, call in zip(self._dense, self._left, calls, strict=True):
                with torch.no_grad():
                    dense_BLD = call.hidden(dense, dense_BLD)
                left_BLD = call.hidden(left, left_BLD)
                errors.append(relative_error(left_BLD, dense_BLD))
        error = torch.stack(errors).mean()
        if self._architecture.is_encoder:
            if is_tuning:
                error.backward()
            return float(error.detach())
        said_BLD = left_BLD.detach().requires_grad_(is_tuning)
        divergence = self._divergence(said_BLD, dense_BLD, is_tuning=is_tuning)
        if is_tuning:
            torch.autograd.backward([left_BLD, error], [said_BLD.grad, None])
        return float(error.detach()) + divergence

    def _divergence(self, left_BLD: Tensor, dense_BLD: Tensor, *, is_tuning: bool) -> float:
        """KL(dense || left), mean over tokens, in nats; a few tokens at a time, since vocabularies are large."""
        B, L, _ = left_BLD.shape
        tokens = max(1, CHUNK_LOGITS // (B * self._architecture.vocab_size))
        total = torch.zeros((), device=left_BLD.device)
        for left_BTD, chunk_BTD in zip(left_BLD.split(tokens, 1), dense_BLD.split(tokens, 1), strict=True):
            with torch.no_grad():
                dense_BTV = self._model.logits(chunk_BTD).float().log_softmax(-1)
            left_BTV = self._model.logits(left_BTD).float().log_softmax(-1)
            divergence = nn.functional.kl_div(left_BTV, dense_BTV, log_target=True, reduction="sum") / (B * L)
            if is_tuning:
                divergence.backward()
            total += divergence.detach()
        return float(total)

    def _tuned_cuts(self, kept: Sequence[Tensor]) -> Iterator[Cuts]:
        """The cuts with these weights, after the round trip through the dtypes that the source stores them in."""
        values = iter(kept)
        checkpoint, structure = self._model.checkpoint, structure_of(self._architecture)
        for index, (cuts, parameters) in enumerate(zip(self._cuts, self._parameters, strict=True)):
            found: dict[str, Tensor] = {}
            for name, parameter in parameters.items():
                stored = checkpoint.stored_name(f"{self._architecture.block_path}.{index}.{name}")
                assert stored is not None, "it has been read"
                found[name] = next(values).to(checkpoint.dtype_of(stored)).to("cpu", parameter.dtype)
            yield tuple(  # type: ignore[misc]
                Cut(cut.kept, None, {name: found[name] for name in found if name.rpartition(".")[0] in modules_of(half)})
                for half, cut in zip(structure, cuts, strict=True)
            )

    def _save(self, optimiser: torch.optim.Optimizer, losses: list[float], best: int, kept: list[Tensor]) -> None:
        state = {
            "key": self._key,
            "losses": losses,
            "best": best,
            "kept": kept,
            "parameters": [parameter.detach() for parameter in self._all()],
            "optimiser": optimiser.state_dict(),
        }
        partial = self._state_path.with_suffix(".partial")
        torch.save(state, partial)
        sync_and_rename(partial, self._state_path)

    def _restored(self, optimiser: torch.optim.Optimizer) -> tuple[list[float], int, list[Tensor]] | None:
        """What a pass before an interruption left; None: nothing, or something of another tuning."""
        if not self._state_path.is_file():
            return None
        state: dict[str, Any] = torch.load(self._state_path, map_location=self._model.device, weights_only=True)
        if state["key"] != self._key:
            return None
        for parameter, value in zip(self._all(), state["parameters"], strict=True):
            parameter.data.copy_(value)
        optimiser.load_state_dict(state["optimiser"])
        self._on_event(Note(message=f"AdaPrune continues after pass {len(state['losses']) - 1}"))
        return state["losses"], state["best"], state["kept"]


def check_adaprune(checkpoint: Checkpoint, ids_WL: Tensor, device: torch.device) -> None:
    """Refuse what cannot be tuned here. Raises: InvalidOptions: too few windows, or too little memory."""
    if len(ids_WL) < 2:
        raise InvalidOptions("calibration.nsamples", "one window cannot be tuned on and judged by", ">= 2 with goal.adaprune")
    attention, ffn = structure_of(checkpoint.architecture)
    numbers = sum(math.prod(info.shape) for info in checkpoint.tensors.values())
    of_token = KEPT_HIDDEN * attention.units * attention.width + KEPT_COLUMNS * ffn.units
    tokens = _batch(ids_WL) * ids_WL.shape[1] * checkpoint.architecture.blocks
    needed = torch.float32.itemsize * (numbers * (1 + COPIES) + tokens * of_token)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    if needed > free:
        reason = f"tuning the whole model takes about {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
        raise InvalidOptions("goal.adaprune", reason, "shorter calibration windows, more memory, or no adaprune")


def relative_error(left_BLD: Tensor, dense_BLD: Tensor) -> Tensor:
    """Mean over tokens of ||left - dense||^2 / ||dense||^2."""
    dense_BLD = dense_BLD.float()
    return ((left_BLD.float() - dense_BLD).square().sum(-1) / dense_BLD.square().sum(-1).clamp_min(TINY)).mean()


def _batch(ids_WL: Tensor) -> int:
    """Windows of a step."""
    return max(1, math.ceil(STEP_TOKENS / ids_WL.shape[1]))


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate: Adam's first steps know nothing of how large gradients are."""
    return min((step + 1) / max(1.0, WARM_UP_SHARE * steps), 1 - step / steps)


def modules_of(half: Half) -> set[str]:
    """The matrices of a half, by their names in the block."""
    return {half.output, *(feed.module for feed in half.feeds)}


def tunable(block: nn.Module, structure: Sequence[Half], cuts: Cuts) -> list[str]:
    """Names of the weights and biases of all matrices that a shrunk block has left."""
    names = {name for half, cut in zip(structure, cuts, strict=True) if cut.kept for name in modules_of(half)}
    return [name for name, _ in block.named_parameters() if name.rpartition(".")[0] in names]


def _trainable(block: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Give a shrunk block tensors of its own under these names: what is not cut it shares with the dense one."""
    for name in names:
        put(block, name, block.get_parameter(name).detach().float().clone())
    return {name: block.get_parameter(name) for name in names}
