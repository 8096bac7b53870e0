"""Rates are measured when a job succeeds, and the nearest of them foretell the next job's time."""

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from jobs.database import Sessions
from jobs.estimating.rates import KEPT, NEAREST, Rate, expected_times, rates_of, record
from jobs.finished_report import read_report
from jobs.tables import MeasuredRate

SOLVED = {"calibrating": 1000.0, "solving": 100.0}


def measured(sessions: Sessions, *, device: str = "a", method: str = "optq", scale: float = 1.0, pace: float = 1.0) -> None:
    """A job of `scale` times SOLVED that took `pace` seconds a unit of each activity."""
    work = {activity: units * scale for activity, units in SOLVED.items()}
    with sessions.begin() as session:
        record(
            session,
            [Rate(device, method if a == "solving" else "", a, units, units * pace) for a, units in work.items()],
        )


def foretold(sessions: Sessions, method: str = "optq", work: dict[str, float] | None = None) -> list[dict[str, Any]]:
    with sessions() as session:
        return [time.model_dump() for time in expected_times(session, SOLVED if work is None else work, method)]


def test_without_history_nothing_is_foretold(sessions: Sessions) -> None:
    assert foretold(sessions) == []


def test_the_same_work_takes_the_same_time(sessions: Sessions) -> None:
    measured(sessions, pace=2.0)
    assert foretold(sessions) == [{"device": "a", "expected_s": 2200.0, "low_s": 2200.0, "high_s": 2200.0, "jobs": 1}]


def test_twice_the_work_takes_twice_the_time(sessions: Sessions) -> None:
    measured(sessions)
    (time,) = foretold(sessions, work={activity: 2 * units for activity, units in SOLVED.items()})
    assert time["expected_s"] == 2200.0


def test_range_is_that_of_the_jobs_and_larger_jobs_weigh_more(sessions: Sessions) -> None:
    measured(sessions, pace=1.0, scale=3.0)
    measured(sessions, pace=5.0)
    (time,) = foretold(sessions)
    assert (time["low_s"], time["expected_s"], time["high_s"], time["jobs"]) == (1100.0, 2200.0, 5500.0, 2)


def test_solving_is_known_of_its_own_method_only(sessions: Sessions) -> None:
    measured(sessions, method="sparsegpt")
    assert foretold(sessions, "optq") == []
    assert foretold(sessions, "optq", {"calibrating": 1000.0}) != [], "calibrating is the same for all methods"


def test_every_device_has_its_own_time_the_fastest_first(sessions: Sessions) -> None:
    measured(sessions, device="slow", pace=9.0)
    measured(sessions, device="fast", pace=1.0)
    assert [time["device"] for time in foretold(sessions)] == ["fast", "slow"]


def test_work_of_another_size_by_far_tells_nothing(sessions: Sessions) -> None:
    measured(sessions, scale=1e-3)
    assert foretold(sessions) == []


def test_jobs_of_nearest_size_are_asked(sessions: Sessions) -> None:
    for _ in range(NEAREST):
        measured(sessions, pace=1.0)
    measured(sessions, pace=100.0, scale=0.01)
    (time,) = foretold(sessions)
    assert (time["high_s"], time["jobs"]) == (1100.0, NEAREST)


def test_old_rates_go(sessions: Sessions) -> None:
    for number in range(KEPT + 3):
        measured(sessions, pace=1.0 + number)
    with sessions() as session:
        kept = session.scalars(select(MeasuredRate.seconds).where(MeasuredRate.activity == "solving")).all()
        assert session.scalar(select(func.count(MeasuredRate.id))) == 2 * KEPT
    assert min(kept) == 400.0, "the three oldest went"


def test_report_that_cannot_be_read_has_no_rates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.json").write_text('{"report_version": 0}')
    with caplog.at_level(logging.WARNING):
        found = [rates_of(read_report(tmp_path / name)) for name in ("report.json", "none.json")]
        assert found == [(), ()]
    assert caplog.text.count("no rates in") == 2
