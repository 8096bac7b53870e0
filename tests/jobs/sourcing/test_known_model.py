"""What is refused and foretold while a request waits: from config and headers, never from weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compression.errors import InvalidOptions, UnsupportedModel
from compression.models.headers import INDEX_FILE, read_folder
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import parse_recipe, resolve
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.known_model import KnownModel, check_against_model, known_model
from tests import tiny_models
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub
from tests.jobs.sourcing.test_fetch_models import CONFIG, NEW, model_files

DEMO = "demo:smollm2-135m"


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.models["owner/name"] = [Repository(model_files(), NEW)]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", hub_endpoint=hub.url, model_roots=(tmp_path / "models",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "models" / "tiny")


def check(known: KnownModel | None, recipe: dict[str, Any], **parts: Any) -> Any:
    assert known is not None
    return check_against_model(known, resolve(parse_recipe(recipe)), Output(), **parts)


class TestDemoModel:
    def test_group_that_does_not_divide_is_refused_with_the_matrices_and_what_fits(self, settings: Settings) -> None:
        with pytest.raises(InvalidOptions) as caught:
            check(known_model(DEMO, settings), {"bits": 4, "group_size": 128})
        assert caught.value.field == "recipe.group_size"
        attention = [f"self_attn.{name}_proj" for name in "qkvo"]
        named = ", ".join(f"model.layers.*.{name}" for name in (*attention, "mlp.gate_proj", "mlp.up_proj"))
        assert caught.value.reason == f"128 does not divide the 576 inputs of {named}"
        assert caught.value.allowed == "sizes that fit every targeted matrix: 16, 32, 64, row"

    def test_its_size_is_foretold(self, settings: Settings) -> None:
        found = check(known_model(DEMO, settings), {"sparsity": 0.5})
        assert found.source_bytes == 538_060_032  # of the real de-quantised checkpoint
        assert "no smaller than its source" in found.note

    def test_no_network_is_asked(self, settings: Settings, hub: LocalHub) -> None:
        known_model(DEMO, settings)
        assert hub.requests == []


class TestLocalModel:
    def test_headers_and_config_are_read(self, settings: Settings, folder: Path) -> None:
        known = known_model(str(folder), settings)
        assert known is not None and known.tensors == read_folder(folder)
        assert check(known, {"sparsity": 0.5}).source_bytes == sum(info.size_bytes for info in read_folder(folder).values())

    @pytest.mark.parametrize(
        ("recipe", "parts", "field"),
        [
            ({"bits": 4, "group_size": 48}, {}, "recipe.group_size"),
            ({"pattern": "2:5"}, {}, "recipe.pattern"),
            ({"bits": 4, "ignore": ["*.nothing"]}, {}, "recipe.ignore"),
            ({"bits": 4, "skip_blocks": [7]}, {}, "recipe.skip_blocks"),
            ({"bits": 4}, {"calibration": Calibration(seqlen=65)}, "calibration.seqlen"),
            ({"bits": 4}, {"evaluation": Evaluation(seqlen=65)}, "evaluation.seqlen"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_the_model_rules_out_is_refused(
        self, settings: Settings, folder: Path, recipe: dict[str, Any], parts: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidOptions) as caught:
            check(known_model(str(folder), settings), recipe, **parts)
        assert caught.value.field == field

    def test_truncated_weights_are_refused(self, settings: Settings, folder: Path) -> None:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
        with pytest.raises(UnsupportedModel, match=r"model\.safetensors.*truncated"):
            known_model(str(folder), settings)

    def test_index_that_leads_out_of_the_folder_is_refused(self, settings: Settings, folder: Path) -> None:
        (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors"}}))
        with pytest.raises(UnsupportedModel, match="outside the model folder"):
            known_model(str(folder), settings)

    def test_weights_that_cannot_be_read_are_refused(self, settings: Settings, folder: Path) -> None:
        (folder / "config.json").unlink()
        (folder / "config.json").mkdir()
        with pytest.raises(SourceError):
            known_model(str(folder), settings)

    def test_path_outside_the_roots_is_refused_and_not_opened(self, settings: Settings, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="outside the folders"):
            known_model(str(tmp_path), settings)

    def test_process_without_roots_leaves_it_to_the_worker(self, settings: Settings, folder: Path) -> None:
        assert known_model(str(folder), settings.model_copy(update={"model_roots": ()})) is None

    def test_gguf_file_is_left_to_the_worker(self, settings: Settings, folder: Path) -> None:
        (folder / "model.gguf").write_bytes(b"GGUF")
        assert known_model(str(folder / "model.gguf"), settings) is None

    def test_labelled_texts_want_a_classifier(self, settings: Settings, folder: Path) -> None:
        evaluation = Evaluation(labelled="/models/labelled.jsonl")
        with pytest.raises(InvalidOptions, match=r"evaluation\.labelled: LlamaForCausalLM gives no labels"):
            check(known_model(str(folder), settings), {"sparsity": 0.5}, evaluation=evaluation)
        classifier = tiny_models.save(folder.with_name("classifier"), "bert-labels")
        assert check(known_model(str(classifier), settings), {"sparsity": 0.5}, evaluation=evaluation) is not None


class TestHubModel:
    def test_config_and_headers_alone_are_fetched(self, settings: Settings, hub: LocalHub, folder: Path) -> None:
        hub.models["owner/name"] = [Repository({path.name: path.read_bytes() for path in folder.iterdir()}, NEW)]
        known = known_model("owner/name", settings)
        assert known is not None and known.tensors is not None
        assert hub.fetched() == ["config.json", "model.safetensors"]
        assert known.tensors.keys() == read_folder(folder).keys()
        assert check(known, {"sparsity": 0.5}) == check(known_model(str(folder), settings), {"sparsity": 0.5})

    def test_headers_that_do_not_come_leave_the_config(self, settings: Settings, hub: LocalHub) -> None:
        hub.broken.add("model.safetensors")
        hub.honours_ranges = False
        known = known_model("owner/name", settings)
        assert known is not None and known.tensors is None and "broke off" in (known.unknown or "")
        assert check(known, {"sparsity": 0.5}) is None
        with pytest.raises(InvalidOptions, match="3 does not divide the 64 inputs"):
            check(known, {"pattern": "1:3"})

    def test_unsupported_architecture_is_refused(self, settings: Settings, hub: LocalHub) -> None:
        hub.models["owner/name"] = [Repository(model_files(model_type="unheard-of"), NEW)]
        with pytest.raises(UnsupportedModel, match="unheard-of"):
            known_model("owner/name", settings)

    def test_repository_that_is_not_there_is_refused(self, settings: Settings) -> None:
        with pytest.raises(SourceError, match="no such repository"):
            known_model("owner/other", settings)

    def test_config_without_end_is_refused(self, settings: Settings, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.sourcing.hub_models.MAX_CONFIG_BYTES", len(json.dumps(CONFIG)) - 1)
        with pytest.raises(UnsupportedModel, match="longer than"):
            known_model("owner/name", settings)

    def test_hub_that_fails_leaves_it_to_the_worker(self, settings: Settings, hub: LocalHub) -> None:
        hub.status = 503
        assert known_model("owner/name", settings) is None
        assert len(hub.requests) == 1, "the user waits: no second try"

    def test_hub_out_of_reach_leaves_it_to_the_worker(self, settings: Settings) -> None:
        unreachable = settings.model_copy(update={"hub_endpoint": "http://127.0.0.1:1"})
        assert known_model("owner/name", unreachable) is None
