"""Measures what each size of each half takes on this machine: on transformers' own blocks, really shrunk.

A stack of as many blocks as fit in some memory is timed rather than one again and again, which would find its weights in the
processor's caches, where those of a whole model are not. Shapes: B = sequences, L = tokens, D = hidden size.
"""

import hashlib
import inspect
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from compression import environment
from compression.durable import write_durably
from compression.errors import InvalidOptions
from compression.events import Note, OnEvent, ignore_events
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import BlockCall, StreamedModel
from compression.structure.shrink import Cut, Cuts, shrunk_block
from compression.structure.timing import LatencyTable, Measured, RunEnvironment, read_table
from compression.structure.units import structure_of

TABLES_FOLDER = "latency"  # in the cache
STACK_BYTES = 2**29  # of weights; what is read anew for each forward of a stack
ROUNDS, RUNS, WARM_UP = 3, 3, 1
LIBRARIES = ("torch", "transformers")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def measured_in(checkpoint: Checkpoint, wanted: RunEnvironment) -> Measured:
    """The environment that was asked for, as it is on this machine.

    Raises: InvalidOptions: a device that is not here, a phase that the model does not have, or windows beyond its positions.
    """
    device = environment.pick_device(wanted.device or "cpu")
    architecture = checkpoint.architecture
    phase = wanted.phase or ("encode" if architecture.is_encoder else "prefill")
    if (phase == "encode") != architecture.is_encoder:
        kind = "an encoder" if architecture.is_encoder else "no encoder"
        raise InvalidOptions("environment.phase", f"{phase!r} is not what {kind} does", "leave it out")
    longest = architecture.max_positions - (phase == "decode")
    if wanted.seqlen > longest:
        reason = f"{wanted.seqlen} exceeds the model's {architecture.max_positions} positions"
        raise InvalidOptions("environment.seqlen", reason, f"<= {longest}")
    config = json.dumps(checkpoint.config, sort_keys=True).encode()
    return Measured(
        device=str(device),
        device_name=environment.name_of(device),
        dtype=wanted.dtype,
        batch=wanted.batch,
        seqlen=wanted.seqlen,
        threads=wanted.threads or torch.get_num_threads(),
        phase=phase,
        model=hashlib.sha256(config).hexdigest(),
        versions={name: version(name) for name in LIBRARIES},
    )


def measure_table(
    checkpoint: Checkpoint,
    here: Measured,
    levels: tuple[Sequence[int], Sequence[int]],
    *,
    rounds: int = ROUNDS,
    runs: int = RUNS,
    on_event: OnEvent = ignore_events,
) -> LatencyTable:
    """Time every level of both halves.

    The least of all runs is taken: whatever else a machine does can only add to a time. It does so for seconds on end, so
    levels are gone through in rounds, there and back, that a slow spell falls on no level alone.

    Args: levels: units kept, of attention and feed-forward. runs: of each level in a round.
    """
    with torch.inference_mode(), threads(here.threads):
        stack = _Stack(checkpoint, here, runs)
        sizes = [(0, 0), *((kept, 0) for kept in levels[0] if kept), *((0, kept) for kept in levels[1] if kept)]
        least_s = dict.fromkeys(sizes, math.inf)
        for turn in range(rounds):
            on_event(Note(message=f"round {turn + 1} of {rounds}"))
            for size in sizes if turn % 2 == 0 else reversed(sizes):
                least_s[size] = min(least_s[size], stack.block_s(*size))
        empty_s = least_s[0, 0]
        found: list[dict[int, float]] = []
        for place, half in enumerate(structure_of(checkpoint.architecture)):
            at = [(kept, 0) if place == 0 else (0, kept) for kept in levels[place]]
            times = {size[place]: max(least_s[size] - empty_s, 0.0) for size in at}
            for kept, time_s in times.items():
                on_event(Note(message=f"{half.name} with {kept} of {half.units} units: {time_s * 1e3:.3g} ms"))
            found.append(times)
        return LatencyTable(
            environment=here,
            blocks=checkpoint.architecture.blocks,
            attention_s=found[0],
            ffn_s=found[1],
            fixed_s=stack.outside_s() + checkpoint.architecture.blocks * empty_s,
        )


def kept_table(
    checkpoint: Checkpoint,
    wanted: RunEnvironment,
    levels: tuple[Sequence[int], Sequence[int]],
    cache: Path,
    on_event: OnEvent = ignore_events,
) -> LatencyTable:
    """The times of an environment: measured once, then found in the cache.

    Raises: InvalidOptions: as `measured_in`.
    """
    here = measured_in(checkpoint, wanted)
    known = json.dumps([here.model_dump(), levels], sort_keys=True)
    path = cache / TABLES_FOLDER / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"
    if path.is_file():
        table = read_table(path)
        table.require(here, levels)
        return table
    on_event(Note(message=f"measuring what blocks take on {here.device_name}, {here.threads} threads"))
    table = measure_table(checkpoint, here, levels, on_event=on_event)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, table.model_dump_json(indent=1).encode() + b"\n")
    return table


class Past:
    """One block's cache of keys and values, as transformers' attention sees it; it never grows, so that all runs are alike.

    Args: tokens: that it holds before the one that comes.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._held: tuple[Tensor, Tensor] | None = None

    def update(self, keys_BHTE: Tensor, values_BHTE: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Those held and the new ones behind them: T = tokens, H = heads, E = their size."""
        if self._held is None:
            B, H, _T, E = keys_BHTE.shape
            self._held = keys_BHTE.new_zeros(B, H, self._tokens, E), values_BHTE.new_zeros(B, H, self._tokens, E)
        return torch.cat((self._held[0], keys_BHTE), 2), torch.cat((self._held[1], values_BHTE), 2)


class _Stack:
    """Blocks of one shape, one after the other, and the model around them."""

    def __init__(self, checkpoint: Checkpoint, here: Measured, runs: int) -> None:
        self._architecture, self._here, self._runs = checkpoint.architecture, here, runs
        self._device = torch.device(here.device)
        self._model = StreamedModel(checkpoint, self._device, DTYPES[here.dtype])
        tokens = 1 if here.phase == "decode" else here.seqlen
        self._ids_BL = torch.zeros(here.batch, tokens, dtype=torch.long)
        hidden_BLD, calls = self._model.enter(self._ids_BL)
        self._hidden_BLD: Tensor = hidden_BLD.clone()
        self._call: BlockCall = calls[0]
        self._block = self._model.load_block(0)
        size_bytes = sum(parameter.nbytes for parameter in self._block.parameters())
        self._copies = max(1, min(self._architecture.blocks, STACK_BYTES // size_bytes))

    def block_s(self, attention: int, ffn: int) -> float:
        """Of one block with so many units."""
        cuts: Cuts = (Cut(tuple(range(attention))), Cut(tuple(range(ffn))))
        blocks = [_own_memory(shrunk_block(self._block, 0, self._architecture, cuts)) for _ in range(self._copies)]

        calls = [self._call_of(block) for block in blocks]

        def forward() -> None:
            for block, call in zip(blocks, calls, strict=True):
                block(*call.args, **call.kwargs)

        return _least_s(forward, self._runs, self._device) / len(blocks)

    def _call_of(self, block: nn.Module) -> inspect.BoundArguments:
        """What the block is called with; decoding also a past of its own."""
        call = inspect.signature(block.forward).bind(self._hidden_BLD, *self._call.args, **self._call.kwargs)
        if self._here.phase == "decode":
            known = call.signature.parameters
            place = call.arguments if "past_key_values" in known else call.arguments.setdefault("kwargs", {})
            place["past_key_values"] = Past(self._here.seqlen)
        return call

    def outside_s(self) -> float:
        """Of embedding, masks, rotary tables, last norm and head."""
        options = forward_options(self._here.phase)
        return _least_s(lambda: self._model.without_blocks(self._ids_BL, **options), self._runs, self._device)


def forward_options(phase: str) -> Mapping[str, int]:
    """What a model's forward is given beside ids: of a prompt, generation needs the last token's logits alone."""
    return {} if phase == "encode" else {"logits_to_keep": 1}


def _least_s(forward: Callable[[], None], runs: int, device: torch.device) -> float:
    """The least time of some runs after a warm-up."""
    found = []
    for run in range(WARM_UP + runs):
        _wait(device)
        begin = time.perf_counter()
        forward()
        _wait(device)
        if run >= WARM_UP:
            found.append(time.perf_counter() - begin)
    return min(found)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """While inside, torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _own_memory(block: nn.Module) -> nn.Module:
    """The same block with copies of its weights. It has modules of its own already."""
    for module in block.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
    return block
