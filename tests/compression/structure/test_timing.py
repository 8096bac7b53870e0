"""Tables of times: what they add up to, where they hold, and that they are made of what they say."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from compression.errors import InvalidOptions
from compression.models.checkpoint import Checkpoint
from compression.structure import latency
from compression.structure.latency import measure_table, measured_in
from compression.structure.race import race
from compression.structure.timing import LatencyTable, Measured, Phase, RunEnvironment, check_reach, read_table
from compression.structure.units import levels_of, structure_of
from tests import tiny_models
from tests.compression.structure.models import DECODERS
from tests.compression.structure.test_checkpoint import written

HERE = Measured(
    device="cpu",
    device_name="a machine",
    dtype="float32",
    batch=1,
    seqlen=16,
    threads=1,
    phase="prefill",
    model="0" * 64,
    versions={"torch": "2"},
)
TABLE = LatencyTable(
    environment=HERE,
    blocks=2,
    attention_s={2: 3.0, 1: 2.0, 0: 0.0},
    ffn_s={64: 4.0, 32: 2.0, 0: 0.0},
    fixed_s=1.0,
)


def test_times_add_up() -> None:
    assert TABLE.dense_s == 15
    assert TABLE.fastest_s == 1
    assert TABLE.highest_speedup == 15
    assert TABLE.predicted_s([(2, 32), (0, 64)]) == 10


@pytest.mark.parametrize(
    "other",
    [
        {"batch": 2},
        {"seqlen": 8},
        {"dtype": "bfloat16"},
        {"threads": 2},
        {"device_name": "another"},
        {"versions": {"torch": "3"}},
    ],
    ids=str,
)
def test_a_table_of_elsewhere_is_refused(other: dict[str, Any]) -> None:
    TABLE.require(HERE, ((2, 1, 0), (64, 0)))
    with pytest.raises(InvalidOptions, match=next(iter(other))):
        TABLE.require(HERE.model_copy(update=other), ((2, 1, 0), (64, 0)))


def test_a_table_without_a_level_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="no time for 48 units"):
        TABLE.require(HERE, ((2, 1, 0), (64, 48, 0)))


def test_a_table_survives_the_way_through_its_file(tmp_path: Path) -> None:
    (tmp_path / "latency.json").write_text(TABLE.model_dump_json())
    assert read_table(tmp_path / "latency.json") == TABLE
    (tmp_path / "latency.json").write_text("{}")
    for path in (tmp_path / "latency.json", tmp_path / "nowhere"):
        with pytest.raises(InvalidOptions, match="no table"):
            read_table(path)


def test_what_is_out_of_reach_is_refused_with_what_is_not() -> None:
    for speedup in (1, 14.9, 15):
        check_reach(TABLE, speedup)
    with pytest.raises(InvalidOptions, match=r"16 times as fast is out of reach.*<= 15"):
        check_reach(TABLE, 16)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bert"])
def test_every_level_is_timed(tmp_path: Path, family: str) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", family))
    attention, ffn = structure_of(checkpoint.architecture)
    levels = levels_of(attention), levels_of(ffn)
    here = measured_in(checkpoint, RunEnvironment(batch=2, seqlen=8, threads=1))
    assert here.phase == ("encode" if family == "bert" else "prefill")
    table = measure_table(checkpoint, here, levels, runs=2)
    assert (tuple(table.attention_s), tuple(table.ffn_s)) == levels
    assert table.attention_s[0] == table.ffn_s[0] == 0
    assert table.fixed_s > 0
    assert table.dense_s > table.fixed_s


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoded_token_attends_to_what_is_in_the_cache(tmp_path: Path, family: str) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", family))
    here = measured_in(checkpoint, RunEnvironment(batch=2, seqlen=5, threads=1, phase="decode"))
    with torch.inference_mode():
        stack = latency._Stack(checkpoint, here, 1)
        call = stack._call_of(stack._block)
        assert stack._hidden_BLD.shape[:2] == (2, 1)
        ours = stack._block(*call.args, **call.kwargs)
        held = find_past(call)._held
        assert held is not None and held[0].shape[2] == 5
        cache = DynamicCache()
        cache.update(*held, 0)
        place = call.arguments if "past_key_values" in call.arguments else call.arguments["kwargs"]
        place["past_key_values"] = cache
        theirs = stack._block(*call.args, **call.kwargs)
    assert cache.get_seq_length() == 6
    for one, other in zip(ours, theirs, strict=True):
        assert other is None or torch.equal(one, other)


def find_past(call: inspect.BoundArguments) -> latency.Past:
    (found,) = (value for value in (*call.args, *call.kwargs.values()) if isinstance(value, latency.Past))
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_every_level_is_timed_decoding(tmp_path: Path, family: str) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", family))
    attention, ffn = structure_of(checkpoint.architecture)
    levels = levels_of(attention), levels_of(ffn)
    here = measured_in(checkpoint, RunEnvironment(batch=2, seqlen=8, threads=1, phase="decode"))
    table = measure_table(checkpoint, here, levels, rounds=1, runs=2)
    assert (tuple(table.attention_s), tuple(table.ffn_s)) == levels
    assert table.attention_s[0] == table.ffn_s[0] == 0 and table.dense_s > table.fixed_s > 0


@pytest.mark.parametrize(
    ("family", "wanted", "field"),
    [
        ("llama", {"phase": "encode"}, "phase"),
        ("bert", {"phase": "prefill"}, "phase"),
        ("bert", {"phase": "decode"}, "phase"),
        ("llama", {"seqlen": 65}, "seqlen"),
        ("llama", {"seqlen": 64, "phase": "decode"}, "<= 63"),
        ("llama", {"device": "cuda:77"}, "device"),
    ],
)
def test_what_a_model_or_machine_cannot_do_is_refused(tmp_path: Path, family: str, wanted: dict[str, Any], field: str) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", family))
    with pytest.raises(InvalidOptions, match=field):
        measured_in(checkpoint, RunEnvironment(**({"seqlen": 8} | wanted)))


@pytest.mark.parametrize(
    ("family", "phase"), [("llama", None), ("llama", "decode"), ("gpt2", "decode"), ("opt", "decode"), ("bert", None)]
)
def test_both_models_run_in_a_fresh_process(tmp_path: Path, family: str, phase: Phase | None) -> None:
    folder = written(tmp_path, family)
    here = measured_in(Checkpoint(tmp_path / "source"), RunEnvironment(batch=2, seqlen=8, threads=1, phase=phase))
    found = race(tmp_path / "source", folder, here, runs=3)
    assert found.runs == 3
    assert found.speedup == found.dense_s / found.shrunk_s > 0
