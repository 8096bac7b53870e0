"""Sweeps through the service: many recipes on one model, compared."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import quote

from client.calls import Core, call, items
from client.job_calls import Parts
from client.models import Answered, JobError
from client.steps import Flow


class Figures(Answered):
    """What one result costs and what it loses, on the first text."""

    source_bytes: int
    artifact_bytes: int
    packed_bytes: int
    bits_per_weight: float
    sparsity: float
    text: str | None = None
    perplexity: float | None = None
    perplexity_ratio: float | None = None
    kl: float | None = None
    output_error: float | None = None
    speedup: float | None = None
    outcome: str | None = None
    seconds: float


class SweepPoint(Answered):
    """One recipe or goal, which is a job like any other. `is_dominated`: another point is smaller and loses less."""

    job_id: str
    state: str
    recipe: dict[str, Any]
    goal: dict[str, Any] | None = None
    figures: Figures | None = None
    is_dominated: bool | None = None
    error: JobError | None = None


class LeftOut(Answered):
    """A combination of the grid that makes no recipe."""

    recipe: dict[str, Any]
    reason: str


class SweepSummary(Answered):
    """A sweep in a list. `jobs`: how many are in each state."""

    id: str
    model: str
    created_at: datetime
    jobs: dict[str, int]


class Sweep(SweepSummary):
    request: dict[str, Any]
    points: tuple[SweepPoint, ...]
    left_out: tuple[LeftOut, ...] = ()


class SweepCalls(Core):
    """Sweeps: ask for them, follow them, forget them."""

    @call
    def sweep(
        self,
        model: str,
        recipes: Iterable[Mapping[str, Any]] = (),
        *,
        grid: Mapping[str, Iterable[Any]] | None = None,
        goals: Iterable[Mapping[str, Any]] = (),
        **parts: Unpack[Parts],
    ) -> Flow[Sweep]:
        """Ask for a job for each recipe, each combination of the grid's values and each goal. `parts`: those of `submit`."""
        said: dict[str, Any] = {"recipes": [dict(recipe) for recipe in recipes]}
        if found := [dict(goal) for goal in goals]:
            said["goals"] = found
        if grid is not None:
            said["grid"] = {option: list(values) for option, values in grid.items()}
        return self._call(Sweep, "POST", "/v1/sweeps", json={"model": model, **said, **parts})

    @items(SweepSummary)
    def sweeps(self, *, page_size: int = 50) -> Flow[None]:
        """All sweeps, newest first, fetched page by page."""
        return self._pages(SweepSummary, "/v1/sweeps", {"limit": page_size})

    @call
    def read_sweep(self, sweep_id: str) -> Flow[Sweep]:
        """A sweep as it is now, every point with its figures as far as it is."""
        return self._call(Sweep, "GET", f"/v1/sweeps/{quote(sweep_id, safe='')}")

    @call
    def forget_sweep(self, sweep_id: str) -> Flow[None]:
        """Remove a sweep; its jobs go on."""
        yield from self._send("DELETE", f"/v1/sweeps/{quote(sweep_id, safe='')}")
