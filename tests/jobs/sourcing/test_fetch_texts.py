"""Text data sets of a hub, fetched over real HTTP from a hub that runs in this process."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing import hub_texts
from jobs.sourcing.fetch import RetryableFetchError, fetch_text
from jobs.sourcing.hub_texts import CONVERTED, places
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub

MAIN, COPY = "3" * 40, "4" * 40


def parquet(texts: list[str | None], column: str = "text") -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(texts))), column: texts}), file)
    return file.getvalue()


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        files = {
            "raw/train-00000-of-00002.parquet": parquet(["one", "", "zwölf"]),
            "raw/train-00001-of-00002.parquet": parquet(["four", None]),
            "raw/test-00000-of-00001.parquet": parquet(["judged"]),
            "README.md": b"# a data set",
        }
        hub.datasets["owner/words"] = [Repository(files, MAIN)]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, hub_endpoint=hub.url)


def texts_of(path: Path | None) -> list[str]:
    assert path is not None
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def test_split_becomes_one_line_a_row_in_order_without_nulls(settings: Settings) -> None:
    assert texts_of(fetch_text("hf:owner/words/raw:train", settings)) == ["one", "", "zwölf", "four"]


def test_train_is_the_default_split_and_the_only_configuration_is_found(settings: Settings) -> None:
    assert texts_of(fetch_text("hf:owner/words", settings)) == ["one", "", "zwölf", "four"]


def test_file_name_pins_the_commit_and_nothing_else_is_left(settings: Settings) -> None:
    path = fetch_text("hf:owner/words/raw:test", settings)
    assert path is not None
    assert [entry.name for entry in path.parent.iterdir()] == [f"owner--words--raw--test@{MAIN}.jsonl"]


def test_second_fetch_transfers_nothing(hub: LocalHub, settings: Settings) -> None:
    first = fetch_text("hf:owner/words", settings)
    hub.requests.clear()
    assert fetch_text("hf:owner/words", settings) == first
    assert hub.fetched() == []


def test_other_formats_are_read_from_the_hubs_own_parquet_copy(hub: LocalHub, settings: Settings) -> None:
    copy = Repository({"en/partial-train/0000.parquet": parquet(["copied"], "content")}, COPY, names=(CONVERTED,))
    hub.datasets["owner/words"] = [Repository({"en/train.json.gz": b""}, MAIN), copy]
    path = fetch_text("hf:owner/words/en", settings)
    assert texts_of(path) == ["copied"]
    assert path is not None and COPY in path.name


def test_reading_stops_at_the_limit_and_says_so(hub: LocalHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_texts, "TEXT_LIMIT_BYTES", 20)
    notes: list[str] = []
    assert texts_of(fetch_text("hf:owner/words", settings, notes.append)) == ["one", ""]
    assert hub.fetched() == ["train-00000-of-00002.parquet"]
    assert notes[-1].startswith("the text was cut off")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("hf:owner/missing", "no such repository"),
        ("hf:owner/words/raw:validation", "there are: raw:test, raw:train"),
        ("hf:owner/words/cooked", "there are: raw:test, raw:train"),
    ],
    ids=["data set", "split", "configuration"],
)
def test_what_is_missing_is_refused_with_what_is_there(source: str, reason: str, settings: Settings) -> None:
    with pytest.raises(SourceError, match=reason):
        fetch_text(source, settings)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(parquet(["x"], "prose"), "no text column.* id, prose"), (b"PAR1 but not really PAR1", "cannot be read as parquet")],
    ids=["no text column", "damaged"],
)
def test_unreadable_table_is_refused(data: bytes, reason: str, hub: LocalHub, settings: Settings) -> None:
    hub.datasets["owner/words"] = [Repository({"data/train-00000-of-00001.parquet": data}, MAIN)]
    with pytest.raises(SourceError, match=reason):
        fetch_text("hf:owner/words", settings)


def test_gated_data_set_names_the_cure(hub: LocalHub, settings: Settings) -> None:
    hub.datasets["owner/words"][0].gated_for = "secret-token"
    with pytest.raises(SourceError, match="SCALPEL_HUB_TOKEN"):
        fetch_text("hf:owner/words", settings)


def test_broken_download_leaves_nothing(hub: LocalHub, settings: Settings) -> None:
    hub.broken.add("train-00001-of-00002.parquet")
    with pytest.raises(RetryableFetchError):
        fetch_text("hf:owner/words", settings)
    assert list((settings.cache_dir / "texts").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("data/train-00000-of-00002.parquet", ("default", "train")),
        ("train.parquet", ("default", "train")),
        ("wikitext-2-raw-v1/test-00000-of-00001.parquet", ("wikitext-2-raw-v1", "test")),
        ("default/train/0000.parquet", ("default", "train")),
        ("en/partial-train/0123.parquet", ("en", "train")),
        ("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", ("default", "train")),
    ],
)
def test_path_of_a_parquet_file_tells_configuration_and_split(name: str, place: tuple[str, str]) -> None:
    assert places([name, "README.md"]) == {place: [name]}
