"""Headers of a hub model over real HTTP: few bytes, all checks, and no patience with a slow or lying hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from compression.errors import UnsupportedModel
from compression.models.headers import INDEX_FILE, TensorInfo, read_folder
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing import hub_headers
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.sourcing.hub_headers import fetch_hub_tensors
from jobs.sourcing.sources import HubModel
from tests import tiny_models
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub

SOURCE, MODEL = "owner/name", HubModel("owner/name", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "tiny")


@pytest.fixture
def hub(folder: Path) -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.models[SOURCE] = [Repository({path.name: path.read_bytes() for path in folder.iterdir()})]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", hub_endpoint=hub.url)


def shapes(tensors: dict[str, TensorInfo]) -> dict[str, tuple[str, tuple[int, ...], int]]:
    return {name: (info.dtype, info.shape, info.size_bytes) for name, info in tensors.items()}


def test_they_are_those_of_the_folder(settings: Settings, folder: Path) -> None:
    assert shapes(fetch_hub_tensors(SOURCE, MODEL, settings)) == shapes(read_folder(folder))


def test_no_more_is_read_than_the_header(
    settings: Settings, hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_headers, "FIRST_BYTES", 64)
    file = folder / "model.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    assert shapes(fetch_hub_tensors(SOURCE, MODEL, settings)) == shapes(read_folder(folder))
    assert hub.sent_bytes == 8 + length < file.stat().st_size / 2


def test_server_that_ignores_ranges_is_cut_off(settings: Settings, hub: LocalHub, folder: Path) -> None:
    hub.honours_ranges = False
    assert shapes(fetch_hub_tensors(SOURCE, MODEL, settings)) == shapes(read_folder(folder))


def sharded(hub: LocalHub, **weight_map: str) -> None:
    """The same weights in a file of another name, and an index."""
    files = hub.models[SOURCE][0].files
    files["model-00001-of-00001.safetensors"] = files.pop("model.safetensors")
    files[INDEX_FILE] = json.dumps({"weight_map": weight_map}).encode()


def test_shards_are_found_by_the_index(settings: Settings, hub: LocalHub, folder: Path) -> None:
    expected = shapes(read_folder(folder))
    sharded(hub, **dict.fromkeys(expected, "model-00001-of-00001.safetensors"))
    assert shapes(fetch_hub_tensors(SOURCE, MODEL, settings)) == expected


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "../../etc/passwd"}, "outside the model folder"),
        ({"a": "model-00001-of-00001.safetensors"}, "which does not hold it"),
        ({"a": "model-00002-of-00002.safetensors"}, "which is not there"),
        ({f"t{n}": f"model-{n:05d}.safetensors" for n in range(401)}, "more than 400"),
        ({}, "names no tensors"),
    ],
    ids=["leads out", "lies", "missing", "too many", "empty"],
)
def test_index_that_lies_is_refused(settings: Settings, hub: LocalHub, weight_map: dict[str, str], words: str) -> None:
    sharded(hub, **weight_map)
    with pytest.raises(UnsupportedModel, match=words):
        fetch_hub_tensors(SOURCE, MODEL, settings)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}" * 40, (2).to_bytes(8, "little") + b"[]"], ids=str
)
def test_damaged_header_is_refused(settings: Settings, hub: LocalHub, data: bytes) -> None:
    hub.models[SOURCE][0].files["model.safetensors"] = data
    with pytest.raises((UnsupportedModel, RetryableFetchError)):
        fetch_hub_tensors(SOURCE, MODEL, settings)


def test_repository_without_safetensors_is_refused(settings: Settings, hub: LocalHub) -> None:
    del hub.models[SOURCE][0].files["model.safetensors"]
    with pytest.raises(UnsupportedModel, match=r"neither model\.safetensors nor"):
        fetch_hub_tensors(SOURCE, MODEL, settings)


def test_gated_model_needs_the_token(settings: Settings, hub: LocalHub) -> None:
    hub.models[SOURCE][0].gated_for = "hf_secret"
    with pytest.raises(SourceError, match="SCALPEL_HUB_TOKEN"):
        fetch_hub_tensors(SOURCE, MODEL, settings)
    assert fetch_hub_tensors(SOURCE, MODEL, settings.model_copy(update={"hub_token": SecretStr("hf_secret")}))


def test_failing_or_unreachable_hub_is_a_fault_that_time_may_cure(settings: Settings, hub: LocalHub) -> None:
    hub.status = 503
    with pytest.raises(RetryableFetchError):
        fetch_hub_tensors(SOURCE, MODEL, settings)
    with pytest.raises(RetryableFetchError):
        fetch_hub_tensors(SOURCE, MODEL, settings.model_copy(update={"hub_endpoint": "http://127.0.0.1:1"}))


def test_deadline_is_one_for_all_files(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_headers, "DEADLINE_S", -1.0)
    with pytest.raises(RetryableFetchError, match="did not give all headers"):
        fetch_hub_tensors(SOURCE, MODEL, settings)
