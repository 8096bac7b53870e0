"""What jobs on this host have kept for later ones: in which folder a runner may look and write, and how much may lie there.

A folder belongs to one tenant and to the very bytes of the models that its jobs read, and its name is made from those bytes,
here, where nothing untrusted runs. So whatever a runner leaves there, even one that a hostile checkpoint has taken over, meets
later jobs on that checkpoint alone.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from compression.kept_room import DATABASES_FOLDER, RESULTS_FOLDER, prune
from jobs.settings import Settings

KEPT = "kept"  # below the cache


def kept_folder(settings: Settings, tenant_id: str, models: Iterable[Path]) -> Path:
    """The folder for a tenant's jobs on these models, the first one at work on and then those beside it.

    Reads them whole, unless this process has done so already and they have not changed since.

    Raises: OSError.
    """
    digests = "\n".join(map(_digest, models))
    return settings.cache_dir / KEPT / tenant_id / hashlib.sha256(digests.encode()).hexdigest()


def prune_kept(settings: Settings) -> int:
    """Keep the results of this host within `kept_bytes`. Returns: how many files were removed."""
    cache = settings.cache_dir
    places = [cache, *cache.glob(f"{KEPT}/*/*")]
    results, databases = ([place / name for place in places] for name in (RESULTS_FOLDER, DATABASES_FOLDER))
    return prune(results, settings.kept_bytes, databases)


def _digest(model: Path) -> str:
    """SHA-256 over all files of a folder with their names, or of one file: everything that its runner may read."""
    files = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
    lines = (f"{path.relative_to(model)}:{_digest_of_file(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_of_file(path: Path) -> str:
    found = path.stat()
    return _digest_as_it_is(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=4096)
def _digest_as_it_is(path: Path, *_: int) -> str:
    """Args: _: what changes with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
