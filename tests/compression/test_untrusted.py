"""The gate before every loader: what may not be in a model folder, whoever brings it."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig

from compression.errors import UnsupportedModel
from compression.evaluate import evaluate
from compression.formats import load
from compression.models import untrusted
from compression.models.footprint import check_footprint
from compression.models.headers import TensorInfo
from compression.models.refusing import refusing
from compression.models.source import ModelSource
from compression.models.untrusted import check_model_path, parse_object
from compression.preparation import open_checkpoint
from tests.compression.examples import many
from tests.tiny_models import CONFIGS, save

REMOTE_CODE = "code from a checkpoint is never run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "roots" / "model"
    made.mkdir(parents=True)
    write(made / "config.json", {"model_type": "llama", "num_hidden_layers": 2, "attn_implementation": "sdpa"})
    write(made / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30})
    return made


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def refused(folder: Path, reason: str, **options: Any) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        check_model_path(folder, **options)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_folders_that_transformers_writes_pass(family: str, tmp_path: Path) -> None:
    check_model_path(save(tmp_path / "model", family), ())


@pytest.mark.parametrize("name", ["modeling_evil.py", "deep/er/x.py", "evil.so", "__pycache__/x.pyc"])
def test_code_is_refused(name: str, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("")
    refused(folder, REMOTE_CODE)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, REMOTE_CODE),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}}, REMOTE_CODE),
        ("generation_config.json", {"auto_map": {"x": "y"}}, REMOTE_CODE),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, REMOTE_CODE),
        ("preprocessor_config.json", {"auto_map": {"AutoProcessor": "evil.P"}}, REMOTE_CODE),
        ("config.json", {"trust_remote_code": True}, REMOTE_CODE),
        ("config.json", {"custom_pipelines": {"x": {"impl": "evil.P"}}}, REMOTE_CODE),
        ("config.json", {"attn_implementation": "kernels-community/flash-attn"}, "take it out"),
        ("config.json", {"_attn_implementation_internal": "evil/kernel@main:f"}, "take it out"),
        ("config.json", {"attn_implementation": {"": "evil/kernel"}}, "take it out"),
        ("config.json", {"text_config": {"_experts_implementation": "evil/kernel"}}, "take it out"),
        ("config.json", {"kernel_config": {"x": "y"}}, "take it out"),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "other|usual"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, "usual"),
        ("config.json", {"transformers_weights": "../other.bin"}, "usual"),
        ("config.json", {"tokenizer_class": "Trainer"}, "no tokenizer"),
        ("tokenizer_config.json", {"tokenizer_class": "AutoModel"}, "no tokenizer"),
        ("tokenizer_config.json", {"tokenizer_class": ["BertTokenizer"]}, "no tokenizer"),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, "names the path"),
        ("tokenizer_config.json", {"vocab": "../other/vocab.txt"}, "names the path"),
        ("special_tokens_map.json", {"merges_file": "/etc/passwd"}, "names the path"),
        ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}, "no checkpoint may give"),
        ("config.json", {"num_hidden_layers": 10**9}, "beyond"),
        ("config.json", {"n_layer": 10**9}, "beyond"),
        ("config.json", {"vocab_size": 10**12}, "beyond"),
        ("config.json", {"vision_config": {"hidden_size": 1e300}}, "beyond"),
        ("config.json", {"hidden_size": float("nan")}, "beyond"),
        ("config.json", {"intermediate_size": -(10**12)}, "beyond"),
        ("adapter_config.json", {"base_model_name_or_path": "/etc"}, "merge it"),
    ],
)
def test_dangerous_fields_are_refused(name: str, content: Any, reason: str, folder: Path) -> None:
    write(folder / name, content)
    refused(folder, reason)


def test_leftovers_of_training_are_no_danger(folder: Path) -> None:
    write(folder / "config.json", {"model_type": "falcon", "auto_map": {"AutoModel": "x.Y"}, "_name_or_path": "/home/x"})
    leftovers = {"special_tokens_map_file": "/scratch/x.json", "tokenizer_file": None, "vocab_file": "vocab.json"}
    write(folder / "tokenizer_config.json", leftovers)
    check_model_path(folder)


class TestFiles:
    def test_a_link_out_of_the_allowed_folders_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("{}")
        (folder / "tokenizer.json").symlink_to(tmp_path / "secret")
        refused(folder, "link out of", links_within=(folder.parent,))
        refused(folder, "link out of", links_within=())
        check_model_path(folder, (tmp_path,))
        check_model_path(folder)

    def test_links_to_folders_count_too(self, folder: Path, tmp_path: Path) -> None:
        (folder / "additional_chat_templates").symlink_to(tmp_path)
        refused(folder, "link out of", links_within=(folder.parent,))

    def test_links_within_the_roots_are_as_good_as_files(self, folder: Path) -> None:
        (folder.parent / "blob").write_text("{}")
        (folder / "tokenizer.json").symlink_to("../blob")
        check_model_path(folder, (folder.parent,))

    @pytest.mark.parametrize("target", ["nowhere", "tokenizer.json"], ids=["broken", "loop"])
    def test_links_that_lead_nowhere_are_refused(self, target: str, folder: Path) -> None:
        (folder / "tokenizer.json").symlink_to(target)
        refused(folder, "leads nowhere")

    def test_pipes_sockets_and_devices_are_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(folder / "model.safetensors")
        refused(folder, "neither a regular file")
        (folder / "model.safetensors").unlink()
        monkeypatch.chdir(folder)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("tokenizer.json")
            refused(folder, "neither a regular file")
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer.json").symlink_to("/dev/zero")
        refused(folder, "neither a regular file")

    def test_a_model_file_is_a_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "model.gguf")
        refused(tmp_path / "model.gguf", "neither a folder nor a regular file")

    @pytest.mark.parametrize(
        ("name", "size"),
        [("config.json", untrusted.MAX_CONFIG_BYTES), ("tokenizer.json", untrusted.MAX_VOCABULARY_BYTES)],
    )
    def test_long_files_are_refused_unread(self, name: str, size: int, folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size + 1)
        refused(folder, str(size))

    def test_a_folder_of_too_many_files_is_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(untrusted, "MAX_ENTRIES", 1)
        refused(folder, "more than 1 files")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000,
    ],
    ids=["empty", "list", "open", "bytes", "deep", "too deep", "half a pair", "endless number"],
)
def test_what_is_no_plain_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedModel):
        parse_object(data, "config.json")


NESTED = st.recursive(st.none() | st.text(), lambda inside: st.dictionaries(st.text(), inside))


@many
@given(st.binary(max_size=200) | NESTED.map(json.dumps).map(str.encode))
def test_no_bytes_do_worse_than_be_refused(data: bytes) -> None:
    with suppress(UnsupportedModel):
        assert isinstance(parse_object(data, "config.json"), dict)


@pytest.mark.parametrize("entry", ["compress", "evaluate", "load"])
def test_every_entry_of_the_library_has_the_gate(entry: str, tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    (model / "modeling.py").write_text("")
    with pytest.raises(UnsupportedModel, match=REMOTE_CODE):
        match entry:
            case "compress":  # and export, which opens its model by the same function
                open_checkpoint(ModelSource(model, "x"), tmp_path / "cache")
            case "evaluate":
                evaluate(model)
            case "load":
                load(model)


STORED = {"x": TensorInfo("x", Path("x"), "F32", (100, 100), 40_000)}


class TestFootprint:
    def test_a_model_of_the_stored_size_passes(self) -> None:
        check_footprint(LlamaConfig(**CONFIGS["llama"][1]), AutoModelForCausalLM, STORED)

    @pytest.mark.parametrize("field", ["vocab_size", "intermediate_size"])
    def test_a_model_far_larger_than_what_is_stored_is_refused_unallocated(self, field: str) -> None:
        config = LlamaConfig(**(CONFIGS["llama"][1] | {field: 2**24}))
        with pytest.raises(UnsupportedModel, match="the checkpoint holds 10000"):
            check_footprint(config, AutoModelForCausalLM, STORED)


class TestRefusing:
    @pytest.mark.parametrize("error", [RuntimeError("x"), OSError("x"), RecursionError("x"), ArithmeticError("\ud800")])
    def test_whatever_a_parser_raises_is_a_refusal(self, error: Exception) -> None:
        with pytest.raises(UnsupportedModel, match="the words: "), refusing("the words"):
            raise error

    def test_panics_of_the_tokenizers_library_are_refusals(self) -> None:
        panic = type("PanicException", (BaseException,), {})
        with pytest.raises(UnsupportedModel, match="PanicException"), refusing("the words"):
            raise panic("index out of bounds")

    def test_an_interrupt_and_a_lack_of_memory_are_not(self) -> None:
        for error in (KeyboardInterrupt, MemoryError):
            with pytest.raises(error), refusing("the words"):
                raise error
