"""How many tokens a text has for a model, by the model's tokenizer.json: somebody else's file, so it is read in a cage.

Its patterns may take for ever and its tables any memory; the count is made by another process (`token_program.py`) with hard
limits and, where the kernel allows it, without network and files. Torch-free.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from compression.errors import UnsupportedModel
from compression.isolation import Reach, isolated

TOKENIZER = "tokenizer.json"
_PROGRAM = Path(__file__).with_name("token_program.py")
_START_S = 20.0  # for the interpreter, on a machine that is busy
_ENVIRONMENT = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class TokenLimits:
    """Args: seconds: of processor time, and again of waiting beyond it."""

    seconds: int = 15
    memory_bytes: int = 2 * 1024 * 1024 * 1024


def count_tokens(tokenizer: Path, text: str, limits: TokenLimits = TokenLimits()) -> int:
    """Without special tokens. Raises: UnsupportedModel: the file is no tokenizer, or exceeds a limit."""
    task = json.dumps({"tokenizer": str(tokenizer), "text": text, "limits": limits.__dict__}).encode()
    try:
        done = subprocess.run(  # noqa: S603  our own program
            isolated((sys.executable, "-I", str(_PROGRAM)), Reach(read=(tokenizer,))),
            input=task,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            timeout=_START_S + 2 * limits.seconds,
            check=False,
        )
        answer = json.loads(done.stdout)
        tokens, error = answer.get("tokens"), answer.get("error")
    except subprocess.TimeoutExpired as late:
        raise UnsupportedModel(f"{TOKENIZER} took longer than {late.timeout:g} s") from late
    except (ValueError, AttributeError, RecursionError) as broken:
        allowed = f"{limits.seconds} s of processor time, {limits.memory_bytes / 1e6:.0f} MB"
        raise UnsupportedModel(f"{TOKENIZER} cannot be used within the limits: {allowed}") from broken
    if type(tokens) is not int:
        raise UnsupportedModel(f"{TOKENIZER} cannot be used: {error}")
    return tokens
