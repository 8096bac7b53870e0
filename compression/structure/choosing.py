"""From a requested speed-up to what each block keeps: times, database, what each half matters, races, search."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from compression import environment
from compression.calibration import digest_of
from compression.errors import InvalidOptions
from compression.events import Note, OnEvent, StageStarted
from compression.goals.goal import Goal, SearchOptions
from compression.goals.loss import ProfileLoss
from compression.goals.losses import LossBook
from compression.goals.result import CurvePoint, DatabaseUse, SearchResult
from compression.goals.search import Profile, Step, search
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.kept_room import DATABASES_FOLDER
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.preparation import Texts
from compression.structure.checkpoint import is_plain
from compression.structure.correction import RACES, corrected
from compression.structure.database import Building, Structures, build_structures, read_info
from compression.structure.latency import kept_table
from compression.structure.mattering import harms_of
from compression.structure.profiles import Levels, Profiles
from compression.structure.race import raced
from compression.structure.shrinking import Shrinking
from compression.structure.timing import LatencyTable, RunEnvironment, check_reach
from compression.structure.units import BlockKept, levels_of, structure_of

LOSSES_FILE = "losses.jsonl"  # in a database
ROUNDING = 1e-9  # of sums of times
SEARCHES = 3  # at most: each is followed by a race
AGAIN_SHARE = 0.25  # of a search's evaluations, for one that begins where another has ended, for nearly the same time
SEARCH = SearchOptions(inits=0, patience=8, neighbourhood=0.05, max_evaluations=40)

LossOf = Callable[[Profile], float]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Chosen:
    """What a choice came to. Args: requested: speed-up."""

    profile: Profile
    profiles: Profiles
    requested: float
    structures: Structures
    search: SearchResult
    database: DatabaseUse


@dataclass(frozen=True)
class Choosing:
    """Everything that a choice is made from. Attributes: seconds: what its parts took."""

    checkpoint: Checkpoint
    model_digest: str
    goal: Goal
    texts: Texts
    work: Path
    cache: Path
    device: torch.device
    compute_dtype: torch.dtype
    meter: MemoryMeter
    on_event: OnEvent
    spill: Spill
    seconds: dict[str, float] = field(default_factory=dict)

    def choose(self) -> Chosen:
        """Raises: InvalidOptions: the speed-up is out of reach, with what is not."""
        attention, ffn = structure_of(self.checkpoint.architecture)
        levels = levels_of(attention), levels_of(ffn, self.goal.multiple_of)
        table = self._timed("latency table", lambda: self._table(levels))
        requested = self.goal.factor or table.dense_s / (self.goal.at_most or math.inf)
        if requested <= 1:
            reason = f"the model takes {table.dense_s * 1e3:.3g} ms as it is"
            raise InvalidOptions("goal.at_most", reason, f"less than {table.dense_s:.3g} (seconds)")
        check_reach(table, requested)
        blocks = self.checkpoint.architecture.blocks
        unknown = (tuple(0.0 for _ in levels[0]), tuple(0.0 for _ in levels[1])) * blocks
        self._plain(Profiles(table, levels, unknown), table.dense_s / requested)  # refuses what has no profile
        structures, use = self._timed("database", lambda: self._database(levels))
        options = self.goal.search if "search" in self.goal.model_fields_set else SEARCH
        loss_of = self._losses(structures, options)
        self.on_event(StageStarted(stage="evaluating"))
        self.on_event(Note(message="measuring how much each half of each block matters"))
        harms = self._timed("what matters", lambda: harms_of(structures.errors(), levels * blocks, loss_of))
        profiles = Profiles(table, levels, harms)

        def plain(within_s: float) -> Profile:
            return self._plain(profiles, within_s)

        plain_s = self._timed("races", lambda: self._corrected(profiles, requested, RACES, plain))
        searches: dict[float, tuple[Profile, SearchResult]] = {}
        weights: tuple[float, ...] | None = None

        def searched(within_s: float) -> Profile:
            nonlocal weights
            profile, result, weights = self._searched(profiles, within_s, options, loss_of, weights)
            searches[within_s] = profile, result
            return profile

        # What the search finds may be off by something else than the plain allocation was.
        within_s = self._timed("search", lambda: self._corrected(profiles, requested, SEARCHES, searched, plain_s))
        profile, found = searches[within_s]
        return Chosen(profile, profiles, requested, structures, found, use)

    def _table(self, levels: Levels) -> LatencyTable:
        wanted = (self.goal.environment or RunEnvironment()).on(str(self.device))
        return kept_table(self.checkpoint, wanted, levels, self.cache, self.on_event)

    def _database(self, levels: Levels) -> tuple[Structures, DatabaseUse]:
        ids_WL = self.texts.calibration.ids_WL
        key = {
            "kind": "structures",
            "model": self.model_digest,
            "calibration": digest_of(ids_WL),
            "levels": json.dumps(levels),
            "device": f"{self.device.type} ({environment.name_of(self.device)})",
            **environment.circumstances(self.device, self.compute_dtype),
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        folder = self.cache / DATABASES_FOLDER / name
        was_there = read_info(folder) is not None
        self.on_event(Note(message=f"database of structures {name[:8]}: {'found' if was_there else 'to be built'}"))
        self.on_event(StageStarted(stage="compressing"))
        building = Building(
            model=StreamedModel(self.checkpoint, self.device, torch.float32),
            levels=levels,
            key=key,
            # kept by the database, and so nowhere else
            hessians=KeptHessians(Kept(), self.model_digest, ids_WL, self.device, self.compute_dtype),
            compute_dtype=self.compute_dtype,
            spill=self.spill,
            meter=self.meter,
            on_event=self.on_event,
        )
        structures = build_structures(building, folder)
        info = read_info(folder)
        assert info is not None, "it has been built"
        use = DatabaseUse(
            key=name, levels=sum(map(len, levels)), size_bytes=info.size_bytes, seconds=info.seconds, was_there=was_there
        )
        return structures, use

    def _losses(self, structures: Structures, options: SearchOptions) -> LossOf:
        """The loss of a profile, measured once and kept with the database."""
        windows_WL = self.texts.calibration.ids_WL[: options.windows, : options.tokens]
        model = StreamedModel(self.checkpoint, self.device, torch.float32)
        judge = ProfileLoss(model, Shrinking(structures), windows_WL, self.spill, self.compute_dtype, self.on_event)
        book = LossBook(structures.folder / LOSSES_FILE, digest_of(windows_WL))
        return lambda profile: book.or_measured(profile, judge)

    def _corrected(
        self,
        profiles: Profiles,
        requested: float,
        races: int,
        chosen: Callable[[float], Profile],
        first_s: float | None = None,
    ) -> float:
        """Seconds to ask of the table, so that what is chosen within them is as fast as requested. Args: first_s: a guess."""

        def speedup_within(within_s: float) -> float:
            kept = profiles.kept(chosen(within_s))
            found = raced(self.checkpoint, kept, self.work, profiles.table.environment).speedup
            by_table = profiles.table.dense_s / within_s
            self.on_event(Note(message=f"by the table {by_table:.3f} times as fast, in a race {found:.3f}"))
            return found

        within_s = first_s or profiles.table.dense_s / requested
        return corrected(within_s, self._least_s(profiles), requested, speedup_within, races)

    def _least_s(self, profiles: Profiles) -> float:
        """Seconds by the table below which there is no profile."""
        if not self.goal.uniform:
            return profiles.table.fastest_s * (1 + ROUNDING)
        return profiles.least_uniform_s(self._heads(profiles.levels)) * (1 + ROUNDING)

    def _plain(self, profiles: Profiles, within_s: float) -> Profile:
        """The least expected harm. Raises: InvalidOptions: nothing is so fast."""
        if self.goal.uniform:
            found = min(self._uniform(profiles, within_s), key=profiles.harm, default=None)
        else:
            found = profiles.best(within_s)
        if found is None:
            kind = "a uniform model" if self.goal.uniform else "a model"
            raise InvalidOptions("goal", f"{kind} of {within_s * 1e3:.3g} ms is out of reach", "a smaller speed-up")
        return found

    def _uniform(self, profiles: Profiles, within_s: float) -> list[Profile]:
        """Those that all blocks share."""
        return profiles.uniform(within_s, self._heads(profiles.levels))

    def _heads(self, levels: Levels) -> tuple[int, ...]:
        """How many heads they may have; where such a model is asked for, those that a plain config.json describes."""
        blocks, columns = self.checkpoint.architecture.blocks, levels[1][0]
        return tuple(
            heads
            for heads in levels[0]
            if heads and (not self.goal.uniform or is_plain(self.checkpoint, [BlockKept(heads, columns)] * blocks))
        )

    def _searched(
        self, profiles: Profiles, within_s: float, options: SearchOptions, loss_of: LossOf, start: tuple[float, ...] | None
    ) -> tuple[Profile, SearchResult, tuple[float, ...] | None]:
        """The best profile found; never worse than the plain allocation, or than the best one that all blocks share.

        Args: start: weights that an earlier search ended with. Returns: also those that this one did.
        """

        def with_weights(weights: Sequence[float]) -> Profile:
            found = profiles.best(within_s, weights)
            assert found is not None, "no less than the least time is asked for"
            return found

        def tell(step: Step) -> None:
            self.on_event(Note(message=f"search: loss {step.loss:.4g} after {step.evaluation} profiles"))

        uniform = min(((loss_of(one), one) for one in self._uniform(profiles, within_s)), default=None)
        if self.goal.uniform:
            assert uniform is not None, "no less than the least time is asked for"
            loss, profile = uniform
            return profile, _result(options, profiles, uniform, loss, loss, (Step(1, loss),), 1), None
        most = options.max_evaluations if start is None else math.ceil(AGAIN_SHARE * options.max_evaluations)
        found = search(
            with_weights,
            loss_of,
            len(profiles.harms),
            inits=options.inits,
            patience=options.patience,
            neighbourhood=options.neighbourhood,
            max_evaluations=most,
            seed=options.seed,
            start=start,
            on_best=tell,
        )
        best = (found.loss, found.profile) if uniform is None else min((found.loss, found.profile), uniform)
        result = _result(
            options, profiles, uniform, best[0], found.plain_loss, found.curve, found.evaluations, found.candidates
        )
        return best[1], result, found.weights

    def _timed(self, what: str, work: Callable[[], Found]) -> Found:
        begin = time.perf_counter()
        found = work()
        self.seconds[what] = round(time.perf_counter() - begin, 3)
        return found


def _result(
    options: SearchOptions,
    profiles: Profiles,
    uniform: tuple[float, Profile] | None,
    loss: float,
    plain_loss: float,
    curve: Sequence[Step],
    evaluations: int,
    candidates: int = 1,
) -> SearchResult:
    words = None
    if uniform is not None:
        heads, columns = profiles.kept(uniform[1])[0]
        words = f"{heads} units of attention and {columns} columns"
    return SearchResult(
        options=options,
        evaluations=evaluations,
        candidates=candidates,
        loss=loss,
        plain_loss=plain_loss,
        uniform_level=words,
        uniform_loss=None if uniform is None else uniform[0],
        curve=tuple(CurvePoint(evaluation=step.evaluation, loss=step.loss) for step in curve),
    )
