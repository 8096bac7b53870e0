"""A shrunk model's folder: loaded in a fresh process by its own loader, by transformers where it is plain, and by us."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compression.errors import InvalidOptions, UnsupportedModel
from compression.formats import load
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.models.headers import read_folder
from compression.models.streamed import StreamedModel
from compression.structure.checkpoint import LOADER_FILE, is_plain, write_shrunk
from compression.structure.loader import SHAPES_FILE
from compression.structure.loading import dense_shapes
from compression.structure.shrink import Cut, Cuts
from compression.structure.units import BlockKept, kept_shapes, parameters, structure_of
from tests import tiny_models
from tests.compression.structure.models import FAMILIES, ids, output_of
from tests.compression.structure.test_shrink import mask, mixed_cuts

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from load_shrunk import load
import torch
from safetensors.torch import load_file, save_file
assert not any(name.partition(".")[0] == "compression" for name in sys.modules)
with torch.inference_mode():
    found = load(sys.argv[1])(input_ids=load_file(sys.argv[2])["ids"])
save_file({"output": (found.logits if hasattr(found, "logits") else found.last_hidden_state).contiguous()}, sys.argv[3])
"""


def written(tmp_path: Path, family: str, cuts: list[Cuts] | None = None, dtype: torch.dtype = torch.float32) -> Path:
    source = tiny_models.save(tmp_path / "source", family, dtype)
    checkpoint = Checkpoint(source)
    folder = tmp_path / "shrunk"
    folder.mkdir()
    chosen = cuts or mixed_cuts(checkpoint.architecture)
    write_shrunk(StreamedModel(checkpoint, torch.device("cpu"), torch.float32), chosen.__getitem__, folder)
    return folder


def masked_output(folder: Path, family: str, cuts: list[Cuts] | None = None) -> Tensor:
    """What the full-size model gives with the same units zeroed."""
    model, architecture = tiny_models.build(family).eval(), Checkpoint(folder.parent / "source").architecture
    mask(model, architecture, cuts or mixed_cuts(architecture))
    return output_of(model, ids())


def in_fresh_process(folder: Path, scratch: Path) -> Tensor:
    save_file({"ids": ids()}, scratch / "ids.safetensors")
    command = [sys.executable, "-I", "-c", PROGRAM, str(folder), str(scratch / "ids.safetensors"), str(scratch / "output")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, check=False)
    assert done.returncode == 0, done.stderr
    return load_file(scratch / "output")["output"]


@pytest.mark.parametrize("family", ["llama", "qwen3", "opt", "gpt2", "bert", "roberta-masked"])
def test_its_own_loader_gives_the_same_in_a_fresh_process(tmp_path: Path, family: str) -> None:
    folder = written(tmp_path, family)
    found = in_fresh_process(folder, tmp_path)
    torch.testing.assert_close(found, masked_output(folder, family), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_we_load_it_with_the_values_that_were_written(tmp_path: Path, family: str) -> None:
    folder = written(tmp_path, family)
    model = load(folder)
    torch.testing.assert_close(output_of(model, ids()), masked_output(folder, family), atol=1e-5, rtol=1e-5)
    assert (folder / LOADER_FILE).is_file()


@pytest.mark.parametrize(
    ("family", "attention", "columns"), [("llama", 1, 48), ("qwen2", 1, 64), ("gpt2", 4, 96), ("bert", 4, 32)]
)
def test_blocks_that_are_alike_are_a_plain_checkpoint(tmp_path: Path, family: str, attention: int, columns: int) -> None:
    architecture = Checkpoint(tiny_models.save(tmp_path / "other", family)).architecture
    first, second = structure_of(architecture)
    cuts: Cuts = (
        Cut(tuple(range(first.units - attention, first.units))),
        Cut(tuple(range(second.units - columns, second.units))),
    )
    folder = written(tmp_path, family, [cuts] * 3)
    assert not (folder / SHAPES_FILE).exists()
    model = AUTO_CLASSES[architecture.task].from_pretrained(folder).eval()
    torch.testing.assert_close(output_of(model, ids()), masked_output(folder, family, [cuts] * 3), atol=1e-5, rtol=1e-5)


def test_the_files_hold_what_the_profile_says_in_the_dtype_of_the_source(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama", dtype=torch.bfloat16)
    source = Checkpoint(tmp_path / "source")
    found = read_folder(folder)
    assert {info.dtype for info in found.values()} == {"BF16"}
    kept = json.loads((folder / SHAPES_FILE).read_text())["blocks"]
    assert [(block["attention"], block["ffn"]) for block in kept] == [(1, 22), (0, 3), (2, 0)]
    outside = sum(tensor.numel() for tensor in source.read(name for name in source.tensors if "layers" not in name).values())
    blocks = sum(
        parameters(kept_shapes(shapes, source.architecture, BlockKept(block["attention"], block["ffn"])))
        for shapes, block in zip(dense_shapes(source), kept, strict=True)
    )
    assert Checkpoint(folder).parameters == outside + blocks
    assert not is_plain(source, [BlockKept(1, 22), BlockKept(0, 3), BlockKept(2, 0)])


def test_a_dense_profile_writes_the_source_bit_for_bit(tmp_path: Path) -> None:
    architecture = Checkpoint(tiny_models.save(tmp_path / "other", "gpt2")).architecture
    first, second = structure_of(architecture)
    folder = written(tmp_path, "gpt2", [(Cut(tuple(range(first.units))), Cut(tuple(range(second.units))))] * 3, torch.float16)
    source = Checkpoint(tmp_path / "source")
    before, after = source.read(source.tensors), Checkpoint(folder).read(read_folder(folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_old_names_are_written_as_the_model_has_them(tmp_path: Path) -> None:
    """GPT-2 was published without the prefix of its head's class."""
    source = tiny_models.save(tmp_path / "source", "gpt2")
    tensors = load_file(source / "model.safetensors")
    save_file({name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, source / "model.safetensors")
    checkpoint = Checkpoint(source)
    (tmp_path / "shrunk").mkdir()
    cuts = mixed_cuts(checkpoint.architecture)
    write_shrunk(StreamedModel(checkpoint, torch.device("cpu"), torch.float32), cuts.__getitem__, tmp_path / "shrunk")
    assert all(name.startswith("transformer.") for name in read_folder(tmp_path / "shrunk"))
    torch.testing.assert_close(output_of(load(tmp_path / "shrunk"), ids()), masked_output(tmp_path / "shrunk", "gpt2"))


def change(folder: Path, **entries: object) -> None:
    document = json.loads((folder / SHAPES_FILE).read_text())
    (folder / SHAPES_FILE).write_text(json.dumps(document | entries))


def test_shapes_that_lie_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama")
    honest = json.loads((folder / SHAPES_FILE).read_text())["blocks"]
    for blocks, reason in (
        ([{**honest[0], "ffn": 21}, *honest[1:]], r"layers\.0\..*shape"),
        ([{**honest[0], "ffn": 1000}, *honest[1:]], "block 0 would have 1000 units"),
        ([{**honest[0], "set": {"self_attn.head_dim": 3}}, *honest[1:]], "does not describe"),
        ([{**honest[0], "replace": {"mlp": "zero"}}, *honest[1:]], "does not describe"),
        (honest[:2], "describes 2 blocks"),
        ([{**honest[0], "more": 1}, *honest[1:]], "more"),
    ):
        change(folder, blocks=blocks)
        with pytest.raises(UnsupportedModel, match=reason):
            load(folder)
    change(folder, blocks=honest, **{"class": "GPT2LMHeadModel"})
    with pytest.raises(UnsupportedModel, match="does not describe"):
        load(folder)
    change(folder, **{"class": "LlamaForCausalLM"})
    load(folder)


def test_a_tensor_that_is_not_finite_or_not_there_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "opt")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    file = folder / index["model.decoder.layers.0.fc1.weight"]
    tensors = load_file(file)
    save_file({**tensors, "model.decoder.layers.0.fc1.bias": torch.full((22,), torch.nan)}, file)
    with pytest.raises(UnsupportedModel, match="NaN"):
        load(folder)
    del tensors["model.decoder.layers.0.fc1.bias"]
    save_file(tensors, file)
    with pytest.raises(UnsupportedModel, match=r"fc1\.bias"):
        load(folder)


@pytest.mark.parametrize("name", ["modeling.py", LOADER_FILE, "more.so"])
def test_no_code_but_ours_may_lie_in_it(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, "llama")
    program = (folder / LOADER_FILE).read_text() + "\n"
    (folder / name).write_text(program)
    with pytest.raises(UnsupportedModel, match="is code"):
        load(folder)
    (folder / name).unlink()
    load(folder)  # which needs no code of the folder


def test_no_pattern_of_zeros_is_looked_for_in_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match="semi_structured"):
        load(written(tmp_path, "llama"), semi_structured=True)
