"""Headers of honest files are read as safetensors reads them; lying and damaged ones are refused, whatever their bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from compression.errors import UnsupportedModel
from compression.models.headers import INDEX_FILE, SINGLE_FILE, read_folder, read_header
from tests.compression.examples import many

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
in_one_folder = settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture])


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(folder: Path, header: Any, data: bytes = bytes(8), *, length: int | None = None, name: str = SINGLE_FILE) -> Path:
    """Args: header: JSON, or the raw bytes in its place; length: what the file claims for it."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / name
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_written_by_safetensors_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    tensors = {name: torch.ones(3, 2, dtype=dtype) for name, dtype in DTYPES.items()}
    tensors |= {"scalar": torch.tensor(1.0), "empty": torch.empty(0, 4)}
    path = tmp_path / SINGLE_FILE
    save_file(tensors, path, {"format": "pt"})
    found = {info.name: info for info in read_header(path)}
    with safe_open(path, framework="pt") as file:
        assert found.keys() == set(file.keys())
        for name, info in found.items():
            assert info.shape == tuple(file.get_slice(name).get_shape()) == tuple(tensors[name].shape)
            assert info.dtype == file.get_slice(name).get_dtype()
            assert info.size_bytes == tensors[name].nbytes
            assert info.file == path


def test_folder_of_one_file_and_folder_of_shards_hold_the_same_tensors(tmp_path: Path) -> None:
    one, many_files = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many_files.mkdir()
    a, b = {"a": torch.ones(2)}, {"b": torch.ones(3)}
    save_file(a | b, one / SINGLE_FILE)
    save_file(a, many_files / "x.safetensors")
    save_file(b, many_files / "y.safetensors")
    write_index(many_files, {"a": "x.safetensors", "b": "y.safetensors"})
    read = [
        {name: (i.shape, i.dtype, i.size_bytes) for name, i in read_folder(folder).items()} for folder in (one, many_files)
    ]
    assert read[0] == read[1] == {"a": ((2,), "F32", 8), "b": ((3,), "F32", 12)}


def test_file_without_tensors_is_empty_not_damaged(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, {"__metadata__": {"a": "b"}}, b"")) == []


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry()}, 7),
        ({"a": entry()}, 9),
        ({"a": entry()}, 0),
        ({"a": entry(offsets=(4, 12))}, 12),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, 20),
        ({"a": entry(), "b": entry(offsets=(4, 12))}, 12),
        ({"a": entry(), "b": entry()}, 8),
        ({"a": entry(offsets=(0, 4))}, 4),
        ({"a": entry(offsets=(0, 16))}, 16),
        ({"a": entry(offsets=(8, 0))}, 8),
        ({"a": entry(offsets=(-8, 0))}, 8),
        ({"a": entry(shape=(-2,), offsets=(8, 0))}, 8),
        ({"a": entry(shape=(-1, -2))}, 8),
        ({"a": entry(shape=(2**62, 2**62))}, 8),
        ({"a": entry(shape=(10**4000, 10**4000))}, 8),
        ({"a": entry(shape=(2.0,))}, 8),
        ({"a": entry(shape=(True, 2))}, 8),
        ({"a": entry(shape="2")}, 8),
        ({"a": entry(shape=(float("inf"),))}, 8),
        ({"a": entry(shape=None)}, 8),
        ({"a": entry(shape={"2": 2})}, 8),
        ({"a": entry(offsets=(0,))}, 8),
        ({"a": entry(offsets=(0, 8, 8))}, 8),
        ({"a": entry(offsets="08")}, 8),
        ({"a": entry(offsets=(0, "8"))}, 8),
        ({"a": entry(dtype="F8_E4M3")}, 2),
        ({"a": entry(dtype="f32")}, 8),
        ({"a": entry(dtype=None)}, 8),
        ({"a": entry(dtype=["F32"])}, 8),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8),
        ({"a": {}}, 8),
        ({"a": 5}, 8),
        ({"a": None}, 8),
        ([], 8),
        (5, 8),
        (None, 8),
        (b'{"a": ', 8),
        (b"\xff\xfe\x00", 8),
        (b"[" * 100_000, 0),
        (b'{"a":' * 50_000, 0),
    ],
    ids=lambda value: str(value)[:60],
)
def test_lying_or_damaged_header_is_refused(tmp_path: Path, header: Any, data: int) -> None:
    path = write(tmp_path, header, bytes(data))
    with pytest.raises(UnsupportedModel, match=r"^model\.safetensors: "):
        read_header(path)


def test_name_that_stands_twice_in_one_header_is_refused(tmp_path: Path) -> None:
    twice = b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    with pytest.raises(UnsupportedModel, match="twice"):
        read_header(write(tmp_path, twice))


@pytest.mark.parametrize("length", [0, 1, 54, 2**40, 2**64 - 1])
def test_header_length_that_does_not_fit_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(UnsupportedModel, match=rf"header length {length} does not fit|damaged"):
        read_header(write(tmp_path, {"a": entry()}, b"", length=length))


@pytest.mark.parametrize("size", range(9))
def test_file_shorter_than_a_header_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / SINGLE_FILE
    path.write_bytes(b"\x02" + bytes(7) + b"{}"[: max(0, size - 8)] if size >= 8 else bytes(size))
    with pytest.raises(UnsupportedModel, match="does not fit a file of"):
        read_header(path)


def test_every_truncation_of_an_honest_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / SINGLE_FILE
    save_file({"a": torch.ones(3), "b": torch.ones(2, dtype=torch.float16)}, path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UnsupportedModel):
            read_header(path)


@in_one_folder
@given(raw=st.binary(max_size=200), length=st.integers(0, 255) | st.none())
def test_no_bytes_do_worse_than_be_refused(tmp_path: Path, raw: bytes, length: int | None) -> None:
    try:
        read_header(write(tmp_path, raw, b"", length=length))
    except UnsupportedModel:
        return


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["F32", "BF16"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@in_one_folder
@given(header=json_values | st.dictionaries(st.text(max_size=3), json_values, max_size=3), data=st.binary(max_size=16))
def test_no_json_does_worse_than_be_refused_and_what_passes_tiles_the_file(tmp_path: Path, header: Any, data: bytes) -> None:
    try:
        found = read_header(write(tmp_path, header, data))
    except UnsupportedModel:
        return
    assert sum(info.size_bytes for info in found) == len(data)


@in_one_folder
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_no_changed_byte_of_an_honest_file_does_worse_than_be_refused(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / SINGLE_FILE
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, path, {"format": "pt"})
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        found = read_header(path)
    except UnsupportedModel:
        return
    assert sum(info.size_bytes for info in found) == 32


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "sub\\x.safetensors", "sub/../.."])
def test_index_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        write(place, {"a": entry()}, name="x.safetensors")
    write_index(folder, {"a": name})
    with pytest.raises(UnsupportedModel, match="outside the model folder"):
        read_folder(folder)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "sub",
        "./x.safetensors",
        "x.safetensors/",
        "x.safetensors\0",
        "\ud800",
        "y" * 300,
        5,
        None,
        ["x.safetensors"],
    ],
    ids=ascii,
)
def test_index_that_names_no_file_of_the_folder_is_refused(tmp_path: Path, name: Any) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, {"a": entry()}, name="x.safetensors")
    write_index(tmp_path, {"a": name})
    with pytest.raises(UnsupportedModel, match=r"outside the model folder|is not there|damaged") as caught:
        read_folder(tmp_path)
    str(caught.value).encode()  # a lone surrogate in a message would break whoever writes it down


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", "{}", '{"weight_map": []}', '{"weight_map": 5}', '{"weight_map": {}}', "[" * 100_000, "\ud800"],
    ids=lambda content: ascii(content)[:30],
)
def test_damaged_or_empty_index_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path, {"a": entry()})
    (tmp_path / INDEX_FILE).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnsupportedModel, match=INDEX_FILE):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "weight_map", [{"a": "x.safetensors", "b": "x.safetensors"}, {"a": "x.safetensors", "c": "y.safetensors"}]
)
def test_tensor_that_is_not_where_the_index_says_is_refused(tmp_path: Path, weight_map: dict[str, str]) -> None:
    write(tmp_path, {"a": entry()}, name="x.safetensors")
    write(tmp_path, {"b": entry()}, name="y.safetensors")
    write_index(tmp_path, weight_map)
    with pytest.raises(UnsupportedModel, match="does not hold it"):
        read_folder(tmp_path)


def test_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a": entry()}, name="x.safetensors")
    write(tmp_path, {"a": entry(), "b": entry(offsets=(8, 16))}, bytes(16), name="y.safetensors")
    write_index(tmp_path, {"a": "x.safetensors", "b": "y.safetensors"})
    with pytest.raises(UnsupportedModel, match=r"'a' is in both x\.safetensors and y\.safetensors"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl"])
def test_pickled_weights_alone_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UnsupportedModel, match=rf"only pickled weights \({name}\), which can run code"):
        read_folder(tmp_path)


def test_pickled_weights_beside_safetensors_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    write(tmp_path, {"a": entry()})
    assert read_folder(tmp_path).keys() == {"a"}


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        read_folder(tmp_path)
