"""What benchmarks/faults.py does to a running service."""

import random
import threading
from collections import Counter
from contextlib import suppress
from typing import Protocol

import psutil

from tests.stack import Stack

KINDS = {"runner": 20, "worker": 12, "maintain": 6, "api": 6, "broker": 6}  # kind of process -> weight
OUTAGE_AFTER_S = 10.0  # by then jobs run and others wait


class Disturbance(Protocol):
    """Begins, perhaps several times, once all jobs are queued; ends when they have ended."""

    def begin(self) -> None: ...
    def is_over(self) -> bool:
        """Whether all has been done that was planned."""

    def end(self) -> Counter[str]:
        """Returns: SIGKILLs by kind of process."""


class Killer:
    """SIGKILLs at random moments to random processes, the same ones for the same seed as far as time allows.

    Args: gap_s: between two kills, on average.
    """

    def __init__(self, stack: Stack, seed: int, kills: int, gap_s: float) -> None:
        draw = random.Random(seed)
        plan = list(KINDS)[:kills]  # each kind at least once
        plan += draw.choices(list(KINDS), list(KINDS.values()), k=kills - len(plan))
        draw.shuffle(plan)
        self._plan = [(kind, draw.uniform(0.5, 1.5) * gap_s, draw.random()) for kind in plan]
        self._stack, self._done, self._over = stack, Counter[str](), threading.Event()
        self._thread = threading.Thread(target=self._kill_all, name="killer", daemon=True)

    def begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def is_over(self) -> bool:
        return self._done.total() == len(self._plan)

    def end(self) -> Counter[str]:
        """Returns: kills by kind."""
        self._over.set()
        self._thread.join()
        return self._done

    def _kill_all(self) -> None:
        for kind, wait_s, chance in self._plan:
            if self._over.wait(wait_s):
                return
            while not self._kill(kind, chance):
                if self._over.wait(0.05):
                    return
            self._done[kind] += 1

    def _kill(self, kind: str, chance: float) -> bool:
        """Returns: whether there was one to kill."""
        if kind == "broker":
            is_there = self._stack.broker.process.poll() is None
            self._stack.broker.process.kill()
            return is_there
        if kind == "runner":
            runners = self._stack.runners()
            with suppress(psutil.NoSuchProcess):
                if runners:
                    runners[int(chance * len(runners))].kill()
                    return True
            return False
        kept = [each for name, each in self._stack.kept.items() if name.startswith(kind) and each.process.poll() is None]
        if kept:
            kept[int(chance * len(kept))].process.kill()
        return bool(kept)


class BrokerOutage:
    """The broker is killed while jobs run, and is not there again before `away_s` seconds have passed."""

    def __init__(self, stack: Stack, away_s: float) -> None:
        self._stack, self._away_s = stack, away_s
        self._thread = threading.Thread(target=self._be_away, name="outage", daemon=True)

    def begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def is_over(self) -> bool:
        return True  # `end` waits for the broker

    def end(self) -> Counter[str]:
        self._thread.join()
        return Counter(broker=1)

    def _be_away(self) -> None:
        wait = threading.Event().wait
        wait(OUTAGE_AFTER_S)
        self._stack.is_broker_away = True
        self._stack.broker.kill()
        wait(self._away_s)
        self._stack.is_broker_away = False
