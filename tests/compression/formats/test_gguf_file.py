"""Reading GGUF tables that lie: a refusal that names the file, never another error, never bytes of something else."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.errors import UnsupportedModel
from compression.formats.gguf_file import open_gguf

VALUES = np.arange(-64, 64, dtype=np.float32).reshape(2, 64) / 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf")


def write(path: Path, alignment: int | None = None) -> Path:
    writer = GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_token_list(["a", "bc"])
    writer.add_token_scores([0.0, -1.0])
    writer.add_bool("flag", True)
    writer.add_tensor("norm", VALUES[0])
    writer.add_tensor("half", VALUES.astype(np.float16))
    writer.add_tensor("blocks", quantize(VALUES, Type.Q8_0), raw_dtype=Type.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [None, 256])
def test_tensors_are_found_with_their_values(alignment: int | None, tmp_path: Path) -> None:
    found = open_gguf(write(tmp_path / "tiny.gguf", alignment))
    assert list(found.tensors) == ["norm", "half", "blocks"]
    norm, half, blocks = (found.read(name) for name in found.tensors)
    assert norm is not None and half is not None and blocks is not None
    assert np.array_equal(norm, VALUES[0])
    assert half.dtype == torch.float16 and np.array_equal(half, VALUES.astype(np.float16))
    assert np.abs(blocks.numpy() - VALUES).max() <= np.abs(VALUES).max() / 127 / 2 + 1e-3
    assert found.read("no such tensor") is None


def test_every_truncation_is_refused_by_name(path: Path) -> None:
    whole = path.read_bytes()
    for kept in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:kept])
        if kept < len(whole) - 32:  # the last bytes may be padding
            with pytest.raises(UnsupportedModel, match=r"^tiny\.gguf"):
                open_gguf(path)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damaged_headers_never_give_anything_but_a_refusal(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    whole = bytearray(write(folder / "tiny.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, 420))] = data.draw(st.integers(0, 255))
    (folder / "damaged.gguf").write_bytes(whole)
    try:
        found = open_gguf(folder / "damaged.gguf")
    except UnsupportedModel as error:
        assert str(error).startswith("damaged.gguf: ")
        return
    for name in found.tensors:
        found.read(name)


def replaced(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert whole.count(old) == 1 and len(old) == len(new)
    path.write_bytes(whole.replace(old, new))


def entry(name: str, *extents: int, kind: int, begin: int) -> bytes:
    """A row of the tensor table, extents fastest first."""
    named = struct.pack("<Q", len(name)) + name.encode()
    return named + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, begin)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"GGUF", b"GGUX", "no GGUF file"),
        (struct.pack("<IQ", 3, 3), struct.pack("<IQ", 9, 3), "version 9"),
        (struct.pack("<IQ", 3, 3), struct.pack("<IQ", 3, 2**60), "dimensions|truncated"),
        (struct.pack("<IQQ", 3, 3, 4), struct.pack("<IQQ", 3, 3, 2**60), "name of|truncated|unknown type"),
        (entry("norm", 64, kind=0, begin=0), entry("norm", 2**61, kind=0, begin=0), "truncated|inside another"),
        (entry("norm", 64, kind=0, begin=0), entry("norm", 0, kind=0, begin=0), "cannot have the shape"),
        (entry("norm", 64, kind=0, begin=0), entry("norm", 64, kind=12, begin=0), "type 12"),
        (entry("norm", 64, kind=0, begin=0), entry("half", 64, kind=0, begin=0), "stands twice"),
        (entry("half", 64, 2, kind=1, begin=256), entry("half", 64, 2, kind=1, begin=128), "inside another"),
        (entry("half", 64, 2, kind=1, begin=256), entry("half", 64, 2, kind=1, begin=259), "unaligned"),
        (entry("half", 64, 2, kind=1, begin=256), entry("half", 64, 2, kind=1, begin=2**40), "truncated"),
        (entry("blocks", 64, 2, kind=8, begin=512), entry("blocks", 63, 2, kind=8, begin=512), "cannot have the shape"),
    ],
    ids=[
        "magic", "version", "tensors", "metadata", "extent", "no extent", "type", "twice", "overlap", "unaligned", "beyond",
        "no whole block",
    ],
)  # fmt: skip
def test_lies_are_refused_with_their_reason(old: bytes, new: bytes, reason: str, path: Path) -> None:
    replaced(path, old, new)
    with pytest.raises(UnsupportedModel, match=rf"^tiny\.gguf: .*({reason})"):
        open_gguf(path)


def test_alignment_of_zero_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", 64)
    replaced(path, b"general.alignment" + struct.pack("<II", 4, 64), b"general.alignment" + struct.pack("<II", 4, 0))
    with pytest.raises(UnsupportedModel, match="alignment of 0"):
        open_gguf(path)


def test_file_that_changed_is_read_again(path: Path) -> None:
    assert len(open_gguf(path).tensors) == 3
    path.write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModel):
        open_gguf(path)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no such file"):
        open_gguf(tmp_path / "absent.gguf")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(UnsupportedModel, match="empty"):
        open_gguf(tmp_path / "empty.gguf")
