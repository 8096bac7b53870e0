"""One run of benchmarks/faults.py: submit everything, watch every job's events, kill meanwhile, wait for the last end."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import func, select

from benchmarks.disturbances import Disturbance
from benchmarks.fault_requests import Asked, later
from client.errors import ServiceUnreachable
from client.scalpel import Scalpel
from jobs.housekeeping.chores import MAX_BACKOFF_S
from jobs.states import FINAL, State
from jobs.tables import Job, Ring
from tests.stack import Stack
from tests.waiting import wait_until

LABEL = "request"
TICK_S = 0.2


@dataclass
class Run:
    """What happened. Attributes: ids: request -> job. seen: request -> numbers of the events that its watcher was given."""

    ids: dict[int, str] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    seen: dict[int, list[int]] = field(default_factory=dict)
    wall_s: float = 0.0


def run(stack: Stack, asked: Sequence[Asked], timeout_s: float, disturbance: Disturbance | None = None) -> Run:
    """Returns once every job has ended and the disturbance has run its course; for as long as it has not, all is asked again.

    Raises: TimeoutError: a job has not ended in `timeout_s`.
    """
    result, started, once = Run(), time.monotonic(), asked
    watchers: list[threading.Thread] = []
    with stack.client() as client:
        while True:
            for index in sorted(_submit_what_can_be(client, asked, result.ids, _states(stack))):
                watcher = threading.Thread(target=_watch, args=(stack, result, index), daemon=True)
                watchers.append(watcher)
                watcher.start()
            if disturbance is not None and len(result.ids) + sum(each.parent is not None for each in asked) >= len(asked):
                disturbance.begin()
            states = _states(stack)
            if len(result.ids) == len(asked) and all(states[job_id] in FINAL for job_id in result.ids.values()):
                if disturbance is None or disturbance.is_over():
                    break
                asked = [*asked, *later(once, len(asked))]
            if time.monotonic() - started > timeout_s:
                raise TimeoutError(f"after {timeout_s:.0f} s jobs are {Counter(map(str, states.values()))}")
            time.sleep(TICK_S)
    result.wall_s = time.monotonic() - started
    if disturbance is not None:
        result.kills = disturbance.end()
    for watcher in watchers:
        watcher.join(60)
    with suppress(AssertionError):  # what is left then, the audit says
        wait_until(lambda: not _rings(stack), 2 * MAX_BACKOFF_S)
    return result


def _submit_what_can_be(client: Scalpel, asked: Sequence[Asked], ids: dict[int, str], states: dict[str, State]) -> set[int]:
    """Submit what is not yet, exports once their parent has succeeded; an interface that is away is asked again later.

    Returns: the requests that are jobs now and were none before.
    """
    new = set()
    for index, each in enumerate(asked):
        if index in ids or (each.parent is not None and states.get(ids.get(each.parent, "")) is not State.SUCCEEDED):
            continue
        with suppress(ServiceUnreachable):
            labels = {LABEL: str(index)}
            # An answer may have been lost with its process: what is there already is not asked for twice.
            found = next(iter(client.jobs(label=f"{LABEL}:{index}")), None)
            if found is None and each.parent is not None:
                found = client.export(ids[each.parent], each.body["output"], labels=labels)
            elif found is None:
                found = client.submit(**each.body, labels=labels)
            assert found is not None
            ids[index] = found.id
            new.add(index)
    return new


def _watch(stack: Stack, result: Run, index: int) -> None:
    seen = result.seen.setdefault(index, [])
    with stack.client() as client:
        while True:
            with suppress(ServiceUnreachable):
                for event in client.events(result.ids[index], after=seen[-1] if seen else 0):
                    seen.append(event.seq)
                return
            time.sleep(TICK_S)


def _rings(stack: Stack) -> int:
    """Not published yet: a housekeeper that has failed a few times waits a while before it tries again."""
    with stack.sessions() as session:
        return session.scalar(select(func.count()).select_from(Ring)) or 0


def _states(stack: Stack) -> dict[str, State]:
    with stack.sessions() as session:
        return {row.id: row.state for row in session.execute(select(Job.id, Job.state))}
