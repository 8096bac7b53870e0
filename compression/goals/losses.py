"""Losses that were measured once, so that an interrupted search continues and the next goal pays for new profiles alone."""

import json
from collections.abc import Callable
from pathlib import Path

from compression.goals.search import Profile


class LossBook:
    """A file of a line a loss, beside the database that the profiles are of.

    Args: key: what the losses depend on besides database and profile: the windows.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._known = dict(self._read())

    def or_measured(self, profile: Profile, measure: Callable[[Profile], float]) -> float:
        """The loss of a profile, from the file or by `measure`."""
        if profile not in self._known:
            self._known[profile] = measure(profile)
            line = json.dumps({"key": self._key, "profile": profile, "loss": self._known[profile]})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")  # on a line of its own, whatever a killed process has left
        return self._known[profile]

    def _read(self) -> list[tuple[Profile, float]]:
        """What was written to the end; the last line of a killed process may not have been."""
        found: list[tuple[Profile, float]] = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    if entry["key"] == self._key:
                        found.append((tuple(map(int, entry["profile"])), float(entry["loss"])))
                except (ValueError, KeyError, TypeError):
                    continue
        return found
