"""Every parser of what users give, on whatever there is: the answer is a value or the typed error, never anything else."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.ranges import parse_range
from compression.documents import documents
from compression.errors import CalibrationError, InvalidOptions, UnsupportedModel
from compression.evaluable import causal_class
from compression.families import known_model_types, read_architecture
from compression.formats.catalog import check_model
from compression.labelled import read_labelled
from compression.labels import label_names
from compression.plan import plan
from compression.protocol import Output
from compression.recipe import parse_recipe, resolve
from jobs.cursor import decode_cursor, encode_cursor
from jobs.errors import InvalidCursor, SourceError
from jobs.request import JobRequest, check_request
from jobs.settings import Settings
from jobs.sourcing.sources import parse_model_source, parse_text_source, resolve_local
from tests.compression.examples import many
from tests.tiny_models import CONFIGS, byte_tokenizer

often = settings(many, max_examples=80)
in_one_place = settings(often, suppress_health_check=[HealthCheck.function_scoped_fixture])

ANY_TEXT = st.text(st.characters(codec=None), max_size=80)  # half surrogates, too
PIECES = (
    "demo:",
    "hf:",
    "sotu",
    "c4",
    "/",
    "//",
    "..",
    "~",
    "a",
    "B-1",
    "@",
    "main",
    ":",
    "\\",
    "\x00",
    "é",
    ".txt",
    ".jsonl",
    " ",
)
SOURCES = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join) | ANY_TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=10), inside, max_size=4),
    max_leaves=8,
)
NUMBERS = st.sampled_from([0, 1, -1, 2**24, 2**24 + 1, 2**63, 10**400, 0.5, 1e308, float("nan"), "2:4", "32:33", "0:0", "x"])
RECIPE_FIELDS = st.sampled_from(sorted(JobRequest.model_fields["recipe"].annotation.model_fields)) | st.text(max_size=8)  # type: ignore[union-attr]
RECIPES = st.dictionaries(RECIPE_FIELDS, NUMBERS | JSON, max_size=5)
DEEP = st.just(100_000).map(lambda depth: "[" * depth)


@often
@given(SOURCES)
def test_sources_of_models_and_texts(text: str) -> None:
    for parse in (parse_model_source, parse_text_source):
        with suppress(SourceError):
            parse(text)


@in_one_place
@given(st.lists(st.sampled_from(("..", ".", "a", "link", "", "x" * 300, "é")) | st.text(max_size=5), max_size=6))
def test_local_paths_stay_below_their_roots(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True, exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("/")
    with suppress(SourceError):
        assert resolve_local(Path(f"{root}/{'/'.join(parts)}"), (root,)).is_relative_to(root)


def encoded(value: str) -> str:
    return urlsafe_b64encode(value.encode(errors="replace")).decode().rstrip("=")


@often
@given(ANY_TEXT | ANY_TEXT.map(encoded) | JSON.map(json.dumps).map(encoded) | DEEP.map(encoded))
def test_cursors(cursor: str) -> None:
    with suppress(InvalidCursor):
        position = decode_cursor(cursor, (datetime, str))
        assert decode_cursor(encode_cursor(position), (datetime, str)) == position


@often
@given(ANY_TEXT | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), st.integers(0, 2**63))
def test_ranges_lie_within_the_file(header: str, size: int) -> None:
    with suppress(HTTPException):
        found = parse_range(header, size)
        assert found is None or 0 <= found[0] < found[1] <= size


@often
@given(RECIPES)
def test_recipes(data: dict[str, Any]) -> None:
    with suppress(InvalidOptions):
        resolve(parse_recipe(data))


@often
@given(
    st.fixed_dictionaries({"model": SOURCES}, optional={"recipe": RECIPES, "labels": JSON, "task": JSON, "evaluation": JSON})
)
def test_requests(data: dict[str, Any]) -> None:
    with suppress(ValidationError, InvalidOptions, SourceError):
        check_request(JobRequest.model_validate(data))


CONFIG_FIELDS = sorted({name for _, config in CONFIGS.values() for name in config})


@often
@given(
    st.sampled_from(sorted(CONFIGS)),
    st.dictionaries(st.sampled_from(CONFIG_FIELDS) | st.text(max_size=5), NUMBERS | JSON, max_size=3),
    st.sampled_from(known_model_types()),
    st.sampled_from(["XForCausalLM", "BertModel", "BertForMaskedLM", "BertForSequenceClassification", ""]),
)
def test_configs(family: str, changes: Mapping[str, Any], model_type: str, class_name: str) -> None:
    config = {"model_type": model_type, "architectures": [class_name], **CONFIGS[family][1], **changes}
    with suppress(UnsupportedModel):
        causal_class(config)
    with suppress(UnsupportedModel, InvalidOptions):
        label_names(config)
    with suppress(UnsupportedModel, InvalidOptions):
        check_model(Output(), config)
        plan(resolve(parse_recipe({"sparsity": 0.5})), read_architecture(config))


LINES = st.lists(st.binary(max_size=30) | JSON.map(json.dumps).map(str.encode) | DEEP.map(str.encode), max_size=4)
LABELLED = st.lists(st.fixed_dictionaries({"text": JSON, "label": JSON}).map(json.dumps).map(str.encode), max_size=4)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(documents(path, "text")),
        lambda path: read_labelled(path, "text", byte_tokenizer(), ["no", "yes"], 16),
    ],
    ids=["documents", "labelled"],
)
@in_one_place
@given(lines=LINES | LABELLED)
def test_lines_of_texts(read: Callable[[Path], object], tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "text.jsonl"
    path.write_bytes(b"\n".join(lines))
    with suppress(CalibrationError):
        read(path)


NAMES = st.sampled_from([f"SCALPEL_{name.upper()}" for name in Settings.model_fields])
VALUES = ANY_TEXT | st.sampled_from(
    ["~nobody-of-this-name/x", "~", "-1", "nan", "inf", "1e999", "\x00", "::", "postgresql://", "yes"]
)


@often
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_settings(mapping: dict[str, str]) -> None:
    with suppress(ValidationError):
        Settings.from_mapping(mapping)
