"""Models of a hub, fetched over real HTTP from a hub that runs in this process."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from compression.errors import UnsupportedModel
from compression.evaluable import causal_class
from jobs.errors import SourceError
from jobs.settings import Settings
from jobs.sourcing.fetch import RetryableFetchError, fetch_model
from jobs.sourcing.hub_models import files_to_fetch
from tests.jobs.sourcing.local_hub import LocalHub, Repository, running_hub

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
OLD, NEW = "1" * 40, "2" * 40


def model_files(**config: object) -> dict[str, bytes]:
    return {
        "config.json": json.dumps({**CONFIG, **config}).encode(),
        "tokenizer.json": b"{}",
        "generation_config.json": b"{}",
        "model.safetensors": b"weights" * 1000,
        "README.md": b"# a model",
        "logo.png": b"",
    }


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        hub.models["owner/name"] = [Repository(model_files(), NEW)]
        yield hub


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, hub_endpoint=hub.url)


def weights_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*.safetensors") if path.exists()]


def test_fetched_folder_holds_exactly_what_a_pass_reads(settings: Settings) -> None:
    fetched = fetch_model("owner/name", settings)
    assert {path.name: path.read_bytes() for path in fetched.path.iterdir()} == {
        name: data for name, data in model_files().items() if name != "logo.png"
    }
    assert (fetched.name, fetched.revision, fetched.notes) == ("owner/name", NEW, ())


def test_branch_is_pinned_to_the_commit_it_stands_for_now(hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"] = [Repository(model_files(), OLD, names=("v1",)), Repository(model_files(), NEW)]
    assert fetch_model("owner/name@v1", settings).revision == OLD
    assert not [line for line in hub.requests if "/resolve/" in line and f"/{OLD}/" not in line]


def test_second_fetch_transfers_nothing(hub: LocalHub, settings: Settings) -> None:
    first = fetch_model("owner/name", settings)
    hub.requests.clear()
    assert fetch_model("owner/name", settings) == first
    assert hub.fetched() == []


def test_cached_commit_needs_no_hub(hub: LocalHub, settings: Settings) -> None:
    first = fetch_model(f"owner/name@{NEW}", settings)
    hub.requests.clear()
    hub.status = 503
    assert fetch_model(f"owner/name@{NEW}", settings) == first
    assert hub.requests == []


def test_each_file_is_announced_before_it_comes(settings: Settings) -> None:
    notes: list[str] = []
    fetch_model("owner/name", settings, notes.append)
    assert notes[-1] == "fetching model.safetensors (0.0 MB), file 4 of 4"


def test_shards_come_with_their_index(hub: LocalHub, settings: Settings) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = model_files()
    del files["model.safetensors"]
    files |= {
        "model.safetensors.index.json": json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode(),
        shards[0]: b"a" * 100,
        shards[1]: b"b" * 100,
    }
    hub.models["owner/name"] = [Repository(files, NEW)]
    fetched = fetch_model(f"owner/name@{NEW}", settings)
    assert {path.name for path in fetched.path.glob("*.safetensors")} == set(shards)
    hub.status = 503
    (fetched.path / shards[1]).unlink()
    with pytest.raises(RetryableFetchError):  # a commit that is not complete does not count as cached
        fetch_model(f"owner/name@{NEW}", settings)


def test_gated_model_names_the_cure(hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"][0].gated_for = "secret-token"
    with pytest.raises(SourceError, match=r"accept its licence.*SCALPEL_HUB_TOKEN"):
        fetch_model("owner/name", settings)
    wrong = settings.model_copy(update={"hub_token": SecretStr("other-token")})
    with pytest.raises(SourceError, match=r"accept its licence"):
        fetch_model("owner/name", wrong)
    assert hub.fetched() == []


def test_token_of_the_settings_opens_a_gated_model(hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"][0].gated_for = "secret-token"
    fetched = fetch_model("owner/name", settings.model_copy(update={"hub_token": SecretStr("secret-token")}))
    assert (fetched.path / "model.safetensors").is_file()


def test_no_token_is_sent_that_the_settings_do_not_hold(
    hub: LocalHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "of-whoever-is-logged-in")
    fetch_model("owner/name", settings)
    assert hub.tokens == {None}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("owner/missing", "no such repository"),
        ("owner/name@no-branch", "no such revision"),
        ("nonsense", "a model is demo:NAME"),
    ],
)
def test_missing_source_is_refused_for_good(source: str, reason: str, settings: Settings) -> None:
    with pytest.raises(SourceError, match=reason) as refusal:
        fetch_model(source, settings)
    assert refusal.value.source == source


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_no_matter_of_time(status: int, hub: LocalHub, settings: Settings) -> None:
    hub.status = status
    with pytest.raises(SourceError, match="SCALPEL_HUB_TOKEN"):
        fetch_model("owner/name", settings)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failing_hub_is_a_matter_of_time(status: int, hub: LocalHub, settings: Settings) -> None:
    hub.status = status
    with pytest.raises(RetryableFetchError, match=f"status {status}"):
        fetch_model("owner/name", settings)


def test_unreachable_hub_is_a_matter_of_time(hub: LocalHub, tmp_path: Path) -> None:
    closed_port = Settings(data_dir=tmp_path, hub_endpoint="http://127.0.0.1:9")
    with pytest.raises(RetryableFetchError, match="could not be reached"):
        fetch_model("owner/name", closed_port)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "dragon"}, "dragon"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}, "remote code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantised"),
        ({"attn_implementation": "evil/kernel"}, "attn_implementation"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ],
    ids=["unknown architecture", "remote code", "already quantised", "kernel", "layers"],
)
def test_unfit_config_is_refused_before_any_weights(
    config: dict[str, object], reason: str, hub: LocalHub, settings: Settings
) -> None:
    hub.models["owner/name"] = [Repository(model_files(**config), NEW)]
    with pytest.raises(UnsupportedModel, match=reason):
        fetch_model("owner/name", settings)
    assert hub.fetched() == ["config.json"]


def test_remote_code_of_a_tokenizer_is_refused_whether_fresh_or_cached(hub: LocalHub, settings: Settings) -> None:
    evil = json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}).encode()
    hub.models["owner/name"] = [Repository(model_files() | {"tokenizer_config.json": evil}, NEW)]
    for source in ("owner/name", f"owner/name@{NEW}"):
        with pytest.raises(UnsupportedModel, match="remote code"):
            fetch_model(source, settings)


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff\xfe"], ids=["cut off", "a list", "no text"])
def test_damaged_config_is_refused(config: bytes, hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"] = [Repository(model_files() | {"config.json": config}, NEW)]
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        fetch_model("owner/name", settings)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json", "pytorch_model.bin"}, r"only pytorch_model\.bin; pickles are never opened"),
        ({"config.json", "onnx/model.safetensors"}, "no safetensors"),
        ({"config.json", "model-00001-of-00002.safetensors"}, "no safetensors"),
        ({"model.Q4_1.gguf"}, r"no config\.json, only model\.Q4_1\.gguf"),
        ({"adapter_config.json", "adapter_model.safetensors"}, r"no config\.json"),
    ],
    ids=["pickles only", "in a folder only", "shards without index", "gguf only", "adapter only"],
)
def test_repository_without_safetensors_is_refused_by_its_list(files: set[str], reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        files_to_fetch(files)


def test_code_pickles_and_copies_are_never_fetched() -> None:
    copies = {
        "model.py",
        "pytorch_model.bin",
        "model.fp16.safetensors",
        "consolidated.safetensors",
        "tf_model.h5",
        "a/model.safetensors",
    }
    assert files_to_fetch({"config.json", "model.safetensors", *copies}) == ("config.json", "model.safetensors")


def test_model_larger_than_the_disk_is_refused_before_any_weights(hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"][0].sizes["model.safetensors"] = 10**18
    with pytest.raises(SourceError, match=r"needs 1000000000\.0 GB"):
        fetch_model("owner/name", settings)
    assert hub.fetched() == ["config.json"]


def test_broken_download_leaves_nothing_that_looks_finished(hub: LocalHub, settings: Settings) -> None:
    hub.broken.add("model.safetensors")
    with pytest.raises(RetryableFetchError, match="status 500"):
        fetch_model(f"owner/name@{NEW}", settings)
    assert weights_in(settings.cache_dir) == []
    hub.broken.clear()
    fetched = fetch_model(f"owner/name@{NEW}", settings)
    assert (fetched.path / "model.safetensors").read_bytes() == model_files()["model.safetensors"]


PACKED = {"quantization_config": {"quant_method": "compressed-tensors"}}


def test_packed_model_comes_to_be_evaluated_and_not_to_be_compressed(hub: LocalHub, settings: Settings) -> None:
    hub.models["owner/name"] = [Repository(model_files(**PACKED), NEW)]
    with pytest.raises(UnsupportedModel, match="already quantised"):
        fetch_model("owner/name", settings)
    assert weights_in(settings.cache_dir) == []
    assert len(weights_in(fetch_model("owner/name", settings, check=causal_class).path)) == 1


@pytest.mark.parametrize("config", [{"auto_map": {"AutoModel": "evil.Model"}}, {"architectures": ["BertModel"]}])
def test_model_that_cannot_be_evaluated_is_refused_before_its_weights_come(
    config: dict[str, object], hub: LocalHub, settings: Settings
) -> None:
    hub.models["owner/name"] = [Repository(model_files(**PACKED, **config), NEW)]
    with pytest.raises(UnsupportedModel):
        fetch_model("owner/name", settings, check=causal_class)
    assert weights_in(settings.cache_dir) == []
