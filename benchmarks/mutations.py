"""Thousands of damaged checkpoints, each opened as a runner would: what became of them, by what was damaged.

    python -m benchmarks.mutations [--cases 2000] [--seed 0] [--quick] [--json FILE] [--keep FOLDER]

Every case must end in success (the damage did not matter) or in a typed refusal. Another exception, a crash, a hang, or a file
outside the case's own folder is a fault; faults are printed with their traces, and the exit code is 1.
"""

import argparse
import json
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.mutated import mutate
from benchmarks.results import Row, print_table, write_json
from compression import environment
from compression.compress import compress
from compression.isolation import PACKAGES, Reach, isolated
from compression.protocol import Calibration, Evaluation, Output
from worker.environment import child_environment

TEXT = "The quick brown fox jumps over the lazy dog. " * 40
HANG_S = 60.0
START_S = 180.0
QUICK = 100
GOOD = ("success", "UnsupportedModel", "InvalidOptions", "CalibrationError", "NumericalError")


def main() -> None:
    args = _arguments()
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        bases = _bases(Path(scratch) / "bases", with_packed=not args.quick)
        runner = Runner(Path(scratch) / "cases")
        for number in range(QUICK if args.quick else args.cases):
            draw = random.Random(f"{args.seed}/{number}")
            case = _case(Path(scratch) / "cases", draw.choice(bases))
            kind = mutate(case / "model", draw)
            before = _listing(case)
            found = runner.open(case)
            outside = _listing(case) ^ before
            outcome = "left a file" if outside else found["outcome"]
            counts[kind, outcome] += 1
            if outcome not in GOOD:
                faults.append(f"case {args.seed}/{number}, {kind}: {outcome}: {found['detail']} {sorted(outside)}")
                if args.keep:
                    shutil.copytree(case, args.keep / str(number), symlinks=True, ignore_dangling_symlinks=True)
            shutil.rmtree(case)
        runner.close()
    rows = [Row(kind, outcome, count, "cases") for (kind, outcome), count in sorted(counts.items())]
    rows.append(Row("all", "faults", len(faults), "cases"))
    print_table(rows)
    print(*faults, sep="\n\n")
    if args.json:
        machine = environment.describe(torch.device("cpu"), torch.float32).model_dump()
        write_json(args.json, "mutations", {**machine, "seed": args.seed}, rows)
    sys.exit(bool(faults))


class Runner:
    """The process that opens the cases, isolated as runners are; a new one after each that died or hung."""

    def __init__(self, cases: Path) -> None:
        cases.mkdir()
        self._cases, self._home = cases, cases.with_name("home")
        self._home.mkdir()
        self._process: subprocess.Popen[str] | None = None

    def open(self, case: Path) -> dict[str, Any]:
        if self._process is None:
            self._process = self._start()
            self._answer(self._process, START_S)
        process = self._process
        assert process.stdin is not None
        process.stdin.write(f"{case}\n")
        process.stdin.flush()
        return self._answer(process, HANG_S)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _answer(self, process: "subprocess.Popen[str]", timeout_s: float) -> dict[str, Any]:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            heard = process.stdout.readline() if selector.select(timeout_s) else None
        if heard:
            answer: dict[str, Any] = json.loads(heard)
            return answer
        self.close()
        return {"outcome": "hung" if heard is None else "crashed", "detail": f"exit code {process.returncode}"}

    def _start(self) -> "subprocess.Popen[str]":
        own = PACKAGES / "benchmarks"
        command = isolated((sys.executable, "-m", "benchmarks.mutation_runner"), Reach((own,), (self._cases, self._home)))
        return subprocess.Popen(
            ("/bin/sh", "-c", 'ulimit -v 8000000; exec "$@"', "sh", *command),  # what is far too large must fail here, too
            env=child_environment({"PATH": "/usr/bin:/bin"}, self._home, 1),
            cwd=self._home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def _listing(case: Path) -> set[Path]:
    """Everything but what a case may write: its output, its scratch, its cache."""
    own = [case / name for name in ("out", "work", "cache")]
    return {path for path in case.parent.rglob("*") if not any(path.is_relative_to(folder) for folder in own)}


def _case(cases: Path, base: Path) -> Path:
    case = cases / "case"
    case.mkdir()
    shutil.copytree(base, case / "model")
    (case / "text.txt").write_text(TEXT)
    return case


def _bases(folder: Path, *, with_packed: bool) -> list[Path]:
    """Healthy folders: one file, shards with an index, and a packed artifact of ours, which takes a while."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model, tokenizer = LlamaForCausalLM(config), _tokenizer()
    saves: tuple[Callable[[Path], Any], ...] = (
        lambda path: model.save_pretrained(path),
        lambda path: model.save_pretrained(path, max_shard_size="40KB"),
    )
    found = [folder / "single", folder / "sharded"]
    for path, save in zip(found, saves, strict=True):
        save(path)
        tokenizer.save_pretrained(path)
    if not with_packed:
        return found
    packed, text = folder / "packed", folder / "text.txt"
    text.write_text(TEXT)
    compress(
        found[0],
        {"method": "magnitude", "sparsity": 0.5},
        packed,
        calibration=Calibration(source=str(text), nsamples=1, seqlen=16),
        evaluation=Evaluation(sources=()),
        output=Output(format="sparse-packed"),
        device="cpu",
    )
    return [*found, packed]


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="!", eos_token="!")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} cases, of dense checkpoints")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="where faulty folders are copied to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
