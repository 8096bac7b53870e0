"""How fast this server's workers are: measured in every compression that succeeds, asked for every estimate.

A rate belongs to a device, an activity and, in solving, a method. What is foretold comes from the few jobs whose work was
nearest in size, since small work is mostly overhead; the range is that of their rates.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from compression.report import Report
from compression.work import BY_METHOD
from jobs import transitions
from jobs.tables import MeasuredRate

KEPT = 50  # of a kind; older ones go
NEAREST = 8
FAR = 300.0  # times smaller or larger than any measured work: nothing is foretold from that
SPARED = ("preparing", "evaluating")  # by what earlier jobs had kept; an estimate counts on nothing of it
NO_HISTORY = "no job of this kind and size has run here yet"


@dataclass(frozen=True)
class Rate:
    """One activity of one job. Args: method: empty where it makes no difference."""

    device: str
    method: str
    activity: str
    work: float
    seconds: float


class TimeEstimate(BaseModel):
    """How long a job would take on one kind of device, once a worker has it and its inputs."""

    model_config = ConfigDict(frozen=True)

    device: str = Field(examples=["AMD EPYC x 2"])
    expected_s: float
    low_s: float = Field(description="With the best rate of each activity among the jobs compared.")
    high_s: float = Field(description="With the worst.")
    jobs: int = Field(description="Earlier jobs of the kind that this rests on.")


def rates_of(report: Report | None) -> tuple[Rate, ...]:
    """The rates that a report tells; none where an earlier attempt did a part of the work, or nothing was estimated."""
    if report is None or report.estimated is None or report.resumed_blocks:
        return ()
    device, method = report.environment.device_name, report.estimated.method
    return tuple(
        Rate(device[:255], _method(activity, method), activity, work, report.seconds[activity])
        for activity, work in report.estimated.work.items()
        if work > 0 and report.seconds.get(activity, 0) > 0 and not (report.reused and activity in SPARED)
    )


def record(session: Session, rates: Iterable[Rate]) -> None:
    """Keep what a job has measured, and of each kind no more than the newest `KEPT`."""
    for rate in rates:
        session.add(MeasuredRate(**vars(rate), created_at=transitions.now()))
        session.flush()
        kind = (
            MeasuredRate.device == rate.device,
            MeasuredRate.activity == rate.activity,
            MeasuredRate.method == rate.method,
        )
        oldest = select(MeasuredRate.id).where(*kind).order_by(MeasuredRate.id.desc()).offset(KEPT).limit(1)
        last = session.scalar(oldest)
        if last is not None:
            session.execute(delete(MeasuredRate).where(*kind, MeasuredRate.id <= last))


def expected_times(session: Session, work: Mapping[str, float], method: str) -> tuple[TimeEstimate, ...]:
    """One entry for each kind of device that has done all of these activities at about this size, the fastest first."""
    needed = {activity: units for activity, units in work.items() if units > 0}
    measured = {activity: _measured(session, activity, _method(activity, method)) for activity in needed}
    devices = set.intersection(*(set(by_device) for by_device in measured.values())) if measured else set()
    found = (_foretell(device, needed, {a: by_device[device] for a, by_device in measured.items()}) for device in devices)
    return tuple(sorted((time for time in found if time is not None), key=lambda time: (time.expected_s, time.device)))


def _method(activity: str, method: str) -> str:
    return method if activity == BY_METHOD else ""


def _measured(session: Session, activity: str, method: str) -> dict[str, list[MeasuredRate]]:
    query = select(MeasuredRate).where(MeasuredRate.activity == activity, MeasuredRate.method == method)
    by_device: dict[str, list[MeasuredRate]] = {}
    for rate in session.scalars(query):
        by_device.setdefault(rate.device, []).append(rate)
    return by_device


def _foretell(device: str, work: Mapping[str, float], measured: Mapping[str, Sequence[MeasuredRate]]) -> TimeEstimate | None:
    expected = low = high = 0.0
    jobs = []
    for activity, units in work.items():
        near = _nearest(measured[activity], units)
        if not near:
            return None
        expected += units * sum(rate.seconds for rate in near) / sum(rate.work for rate in near)
        low += units * min(rate.seconds / rate.work for rate in near)
        high += units * max(rate.seconds / rate.work for rate in near)
        jobs.append(len(near))
    return TimeEstimate(
        device=device, expected_s=round(expected, 1), low_s=round(low, 1), high_s=round(high, 1), jobs=min(jobs)
    )


def _nearest(rates: Sequence[MeasuredRate], units: float) -> list[MeasuredRate]:
    """Those of the most alike work, of two alike ones the newer."""

    def distance(rate: MeasuredRate) -> float:
        return abs(math.log(rate.work / units))

    near = [rate for rate in rates if distance(rate) <= math.log(FAR)]
    return sorted(near, key=lambda rate: (distance(rate), -rate.id))[:NEAREST]
