"""Checkpoint folders damaged on purpose: every way that a careless writer or a hostile one may take, drawn by a seed."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        7,
        2**31,
        2**63,
        10**9,
        10**30,
        0.5,
        1e300,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\ud800",
    ),
    *(
        "A" * 100_000,
        "../../etc/passwd",
        "/etc/passwd",
        "\x00",
        "llama",
        "bert",
        "gpt2",
        "t5",
        "mamba",
        "float8",
        "int8",
        "None",
    ),
    *([], {}, [[]], {"": ""}, [None], [-1], [10**9] * 3, ["evil.Model"], {"a": {"b": []}}, list(range(1000))),
)
DANGEROUS: dict[str, Any] = {
    "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    "attn_implementation": "evil/kernel",
    "_attn_implementation_internal": "evil/kernel",
    "trust_remote_code": True,
    "transformers_weights": "../x.bin",
    "tokenizer_class": "AutoModel",
    "vocab_file": "/etc/passwd",
    "tokenizer_file": "/etc/passwd",
    "quantization_config": {"quant_method": "torchao", "quant_type": "int4"},
    "rope_scaling": {"rope_type": "dynamic", "factor": 1e9},
    "rope_parameters": {"rope_type": "longrope", "short_factor": [1] * 9},
    "num_hidden_layers": 10**9,
    "text_config": {"model_type": "llama", "vocab_size": 2**24},
    "dtype": "float128",
    "architectures": ["EvilForCausalLM"],
    "pad_token_id": 10**6,
}


def mutate(folder: Path, draw: random.Random) -> str:
    """Damage one file of a folder, or the folder itself. Returns: what was damaged, for the table."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    path = draw.choice([*files, *(file for file in files if "config" in file.name or file.suffix == ".safetensors")])
    if draw.random() < 0.05:
        draw.choice(_FILES)(path, draw)
        return "folder"
    if path.suffix == ".safetensors":
        _header(path, draw)
        return "header"
    for _ in range(draw.randint(1, 3)):
        _text(path, draw)
    if path.name.endswith(".index.json"):
        return "index"
    return "tokenizer" if "token" in path.name or path.suffix != ".json" else "config"


def _text(path: Path, draw: random.Random) -> None:
    """By structure most of the time, by bytes now and then."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict) or draw.random() < 0.2:
        path.write_bytes(_bytes(path.read_bytes(), draw))
    else:
        path.write_text(json.dumps(_changed(found, draw)))


def _header(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    raw, tensors = data[8 : 8 + length], data[8 + length :]
    match draw.randrange(5):
        case 0:
            path.write_bytes(data[: draw.randrange(len(data))])
        case 1:
            path.write_bytes(draw.choice((0, 1, 2**63, 2**64 - 1, length - 1, length + 8)).to_bytes(8, "little") + data[8:])
        case 2:
            path.write_bytes(data[:8] + _bytes(raw, draw) + tensors)
        case 3:
            path.write_bytes(data[: 8 + length] + _bytes(tensors, draw))
        case _:
            try:
                changed = json.dumps(_changed(json.loads(raw), draw)).encode()
            except ValueError:
                changed = raw
            path.write_bytes(len(changed).to_bytes(8, "little") + changed + tensors)


def _bytes(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, a piece cut out, or doubled."""
    if not data:
        return draw.randbytes(8)
    changed = bytearray(data)
    at = draw.randrange(len(data))
    match draw.randrange(3):
        case 0:
            for _ in range(draw.randint(1, 8)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
        case 1:
            del changed[at : at + draw.randint(1, 64)]
        case _:
            changed[at:at] = changed[at : at + draw.randint(1, 64)]
    return bytes(changed)


def _changed(value: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Walk down to some place and put something else there."""
    place: Any = value
    while True:
        inside = [child for child in (place.values() if isinstance(place, dict) else place) if child and _is_container(child)]
        if not inside or draw.random() < 0.4:
            break
        place = draw.choice(inside)
    if isinstance(place, list):
        place[draw.randrange(len(place))] = draw.choice(HOSTILE)
        return value
    keys = list(place)
    match draw.randrange(5) if keys else 4:
        case 0:
            del place[draw.choice(keys)]
        case 1:
            place[draw.choice(("x", "", "../x", "\x00", *keys))] = place.pop(draw.choice(keys))
        case 2 | 3:
            place[draw.choice(keys)] = draw.choice(HOSTILE)
        case _:
            name = draw.choice(tuple(DANGEROUS))
            place[name] = DANGEROUS[name]
    return value


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)


def _removed(path: Path, _: random.Random) -> None:
    path.unlink()


def _emptied(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(draw.choice(("/etc/passwd", "/dev/zero", path.name, "nowhere", "/proc/self/environ", "..")))


def _code(path: Path, _: random.Random) -> None:
    path.with_name("modeling_evil.py").write_text("raise SystemExit('executed')\n")


def _pickled(path: Path, _: random.Random) -> None:
    for shard in path.parent.glob("*.safetensors*"):
        shard.rename(shard.with_suffix(".bin"))


_FILES: tuple[Callable[[Path, random.Random], None], ...] = (_removed, _emptied, _folder, _pipe, _link, _code, _pickled)
