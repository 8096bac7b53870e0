"""Counts the tokens of a text by a tokenizer.json, in a process that has nothing to lose. Run as a file by `token_count`.

Standard input: one JSON object {"tokenizer": path, "text", "limits"}. Standard output: one JSON object, {"tokens": ...} or
{"error": ...}. Imports nothing of ours.
"""

import json
import resource
import sys
from contextlib import suppress

from tokenizers import Tokenizer

MAX_SAID = 500


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    limits = task["limits"]
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 65536),
    ):
        with suppress(ValueError):  # macOS knows no limit of memory
            resource.setrlimit(kind, (amount, amount))
    json.dump(_answer(task["tokenizer"], task["text"]), sys.stdout)


def _answer(path: str, text: str) -> dict[str, object]:
    try:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return {"tokens": len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)}
    except Exception as error:  # the library raises bare ones
        return {"error": str(error)[:MAX_SAID]}


if __name__ == "__main__":
    main()
