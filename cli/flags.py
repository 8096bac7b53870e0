"""The flags that say what to do, one by one, and what they ask for; cli/groups.py has those that go together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CommandError, Exit

RECIPE, TEXTS, OUTPUT = "Recipe", "Calibration and evaluation", "Output"
GOAL = "Goal, in place of a recipe"
ACCEPTANCE = "Acceptance (a number, or `none`)"


def _recipe(name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=RECIPE, show_default=False, **more)


def _texts(name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=TEXTS, show_default=False, **more)


def _limit(name: str, words: str) -> Any:
    return typer.Option(name, help=words, rich_help_panel=ACCEPTANCE, show_default=False, metavar="LIMIT")


def _output(name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=OUTPUT, show_default=False, **more)


def _goal(name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=GOAL, show_default=False, **more)


ModelArg = Annotated[
    str, typer.Argument(metavar="MODEL", help="`demo:NAME`, `OWNER/NAME\\[@REVISION]` on the hub, or a local folder.")
]
Goal = Annotated[
    str | None,
    _goal(
        "--goal", "`bytes/2`, `bytes<=80MB`, `bits_per_weight<=4.5`, `flops/1.5`, `latency/1.5` or `perplexity_ratio<=1.05`."
    ),
]
Levels = Annotated[
    list[str] | None,
    _goal("--level", "What a matrix may get: `bits=4,group_size=32`, or `dense`; repeatable. Default: those of the format."),
]
Evaluations = Annotated[int | None, _goal("--evaluations", "Choices of levels whose loss is measured (6).", min=1)]
Stitched = Annotated[bool, _goal("--stitched", "Take the levels' weights as they are; do not solve them again.")]
RunsOn = Annotated[
    str | None,
    _goal("--runs-on", "Of latency: how the model will be run, such as batch=8,seqlen=256,dtype=bfloat16,threads=2."),
]
Uniform = Annotated[bool, _goal("--uniform", "Of latency: all blocks alike, so that any runtime loads the result.")]
MultipleOf = Annotated[
    int | None, _goal("--multiple-of", "Of latency: what numbers of feed-forward columns are rounded to (32).", min=1)
]
AdaPrunePasses = Annotated[
    int | None,
    _goal("--adaprune", "Of latency: so many passes that tune what is left as one; it takes three forwards each.", min=1),
]
RecipeFile = Annotated[
    Path | None, _recipe("--recipe", "A recipe as JSON; flags replace its fields.", exists=True, dir_okay=False)
]
Method = Annotated[str | None, _recipe("--method", "Chosen from the target when absent; see `scalpel methods`.")]
Sparsity = Annotated[float | None, _recipe("--sparsity", "Fraction of weights set to zero.")]
Pattern = Annotated[str | None, _recipe("--pattern", "`unstructured`, `n:m` (n kept of every m), or `block:s` (obc).")]
Bits = Annotated[str | None, _recipe("--bits", "Bits per weight: 2, 3, 4, 5, 6, 8 or `ternary`.")]
GroupSize = Annotated[str | None, _recipe("--group-size", "Inputs that share one scale, or `row`.")]
Symmetric = Annotated[bool | None, _recipe("--symmetric/--asymmetric", "Zero point fixed at the middle code, or not.")]
Grid = Annotated[str | None, _recipe("--grid", "`minmax`, or `mse`.")]
Offset = Annotated[str | None, _recipe("--offset", "`zero_point`, or `minimum` as GGUF's Q4_1 stores it.")]
ActOrder = Annotated[bool | None, _recipe("--act-order/--no-act-order", "Visit columns by falling importance.")]
StaticGroups = Annotated[bool | None, _recipe("--static-groups/--no-static-groups", "Fit the grids before the sweep.")]
OutlierThreshold = Annotated[float | None, _recipe("--outlier-threshold", "spqr: smaller keeps more weights in float16.")]
Damp = Annotated[float | None, _recipe("--damp", "Damping, as a fraction of the mean of diag(H).")]
BlockSize = Annotated[int | None, _recipe("--block-size", "Columns between two lazy updates.")]
Force = Annotated[bool | None, _recipe("--force", "Let obc solve matrices beyond its time limit.")]
Inputs = Annotated[
    str | None, _recipe("--inputs", "Calibrate on outputs of the `compressed` blocks (default) or the `dense` model's.")
]
TrueSequential = Annotated[
    bool | None, _recipe("--true-sequential/--no-true-sequential", "Calibrate a block's matrices in turn.")
]
AsymmetricCalibration = Annotated[
    float | None,
    _recipe("--asymmetric-calibration", "Share of what earlier compressed blocks changed to make up for, 0 to 1."),
]
Ignore = Annotated[list[str] | None, _recipe("--ignore", "Modules to leave alone, by name pattern; repeatable.")]
Override = Annotated[
    list[str] | None,
    _recipe(
        "--override",
        "Other options for some modules, such as `*.down_proj: bits=8, group_size=64`, or `none`; repeatable.",
        metavar="PATTERN: OPTIONS",
    ),
]
SkipBlock = Annotated[list[int] | None, _recipe("--skip-block", "Block to leave alone; repeatable.")]

Format = Annotated[str | None, _output("--format", "What the files are, such as `dense`; see `scalpel formats`.")]
Embeddings = Annotated[str | None, _output("--embeddings", "`keep`, or `int8`: embedding and head in 8 bits.")]

CalibrationText = Annotated[
    str | None, _texts("--calibration", "`sotu`, `wikitext2`, `c4`, `ptb`, a local file, or `hf:OWNER/NAME`.")
]
Nsamples = Annotated[int | None, _texts("--nsamples", "Calibration windows. Default 128.")]
Seqlen = Annotated[int | None, _texts("--seqlen", "Tokens in a calibration window. Default 2048.")]
Seed = Annotated[int | None, _texts("--seed", "Of the draw of calibration windows. Default 0.")]
EvalText = Annotated[
    list[str] | None, _texts("--eval", "Evaluation text; repeatable; `none` for no evaluation. Default sotu.")
]
Windows = Annotated[int | None, _texts("--windows", "Evaluation windows. Default 20; of a benchmark all.")]
MaxPerplexityRatio = Annotated[str | None, _limit("--max-perplexity-ratio", "Of compressed to dense perplexity. Default 1.1.")]
MaxKl = Annotated[str | None, _limit("--max-kl", "Mean KL to the dense model, nats per token. Default 0.1.")]
MaxKlP99 = Annotated[str | None, _limit("--max-kl-p99", "KL that 99 of 100 tokens may not exceed.")]
MinTop1Agreement = Annotated[
    str | None, _limit("--min-top1-agreement", "Fraction of tokens ranked first by both. Default 0.85.")
]
MaxOutputError = Annotated[str | None, _limit("--max-output-error", "Of an encoder: relative error of its outputs.")]
MaxAccuracyLoss = Annotated[str | None, _limit("--max-accuracy-loss", "Of a classifier on --labelled. Default 0.01.")]
MaxPerplexity = Annotated[str | None, _limit("--max-perplexity", "Of the compressed or evaluated model.")]
Reference = Annotated[str | None, typer.Option("--reference", metavar="MODEL", help="To evaluate: the model to compare with.")]
Labelled = Annotated[
    str | None, _texts("--labelled", "Of a classifier: a .jsonl file of text and label, to measure accuracy on.")
]
EvalSeqlen = Annotated[int | None, _texts("--eval-seqlen", "Tokens in an evaluation window. Default 2048.")]
Device = Annotated[
    str | None,
    typer.Option(help="`cuda`: wait for a GPU; `cpu`: for a processor. Default: `auto`, what is free first."),
]
IsEvaluation = Annotated[
    bool, typer.Option("--evaluate", help="Solve nothing: evaluate the model, with --reference against another.")
]
Label = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A word to find the job by; repeatable.")]
Watched = Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")]


def source(text: str) -> str:
    """A model or text as named; a path, told by its first sign or a slash at its end, made absolute."""
    is_path = text.startswith((".", "~", "/")) or text.endswith("/")
    return str(Path(text).expanduser().resolve()) if is_path else text


def recipe(file: Path | None, **said: Any) -> dict[str, Any]:
    """The recipe in `file`, its fields replaced by the flags that were given."""
    given = _said(said)
    for name, word in (("group_size", "row"), ("bits", "ternary")):
        if name in given and given[name] != word:
            given[name] = _whole_number(f"--{name.replace('_', '-')}", given[name], word)
    if "overrides" in given:
        given["overrides"] = _overrides(given["overrides"])
    return {**(_read(file) if file else {}), **given}


def goal(
    *,
    goal: str | None,
    level: list[str] | None,
    evaluations: int | None,
    stitched: bool,
    runs_on: str | None = None,
    uniform: bool = False,
    multiple_of: int | None = None,
    adaprune: int | None = None,
) -> dict[str, Any] | None:
    """The request's `goal`; None: a recipe is asked for.

    Raises: CommandError: flags of a goal without one, or a level that cannot be read. InvalidOptions: a goal that cannot be.
    """
    if goal is None:
        if level or evaluations or stitched or runs_on or uniform or multiple_of or adaprune:
            raise CommandError(
                "--level, --evaluations, --stitched, --runs-on, --uniform, --multiple-of and --adaprune are about a "
                "--goal; name one",
                Exit.REFUSED,
            )
        return None
    levels = [None if one == "dense" else _options("--level", one) for one in level or ()]
    from compression.goals.goal import parse_goal

    said = parse_goal(goal).model_dump(exclude_unset=True)
    more = {
        "levels": levels or None,
        "search": _said({"max_evaluations": evaluations}) or None,
        "stitched": stitched or None,
        "environment": _options("--runs-on", runs_on) if runs_on else None,
        "uniform": uniform or None,
        "multiple_of": multiple_of,
        "adaprune": {"passes": adaprune} if adaprune else None,
    }
    return said | _said(more)


def _options(flag: str, said: str) -> dict[str, Any]:
    """`bits=4,group_size=32` -> {"bits": 4, "group_size": 32}. Raises: CommandError: it cannot be read."""
    from compression.override_words import plain_value

    found: dict[str, Any] = {}
    for one in said.split(","):
        name, is_there, value = one.partition("=")
        if not is_there or not value:
            example = "batch=8" if flag == "--runs-on" else "bits=4"
            raise CommandError(f"{flag}: {one!r} is no option=value, such as {example}", Exit.REFUSED)
        found[name.strip().replace("-", "_")] = plain_value(value.strip())
    return found


def texts(
    *,
    calibration: str | None,
    nsamples: int | None,
    seqlen: int | None,
    seed: int | None,
    evaluation: list[str] | None,
    windows: int | None,
    eval_seqlen: int | None,
    labelled: str | None = None,
) -> dict[str, dict[str, Any]]:
    """The request's `calibration` and `evaluation`, with what was said and nothing else."""
    text = None if calibration is None else source(calibration)
    parts = {
        "calibration": _said({"source": text, "nsamples": nsamples, "seqlen": seqlen, "seed": seed}),
        "evaluation": _said(
            {
                "sources": list(map(source, evaluation or ())),
                "windows": windows,
                "seqlen": eval_seqlen,
                "labelled": None if labelled is None else source(labelled),
            }
        ),
    }
    if evaluation == ["none"]:
        said = parts["evaluation"]
        parts["evaluation"] = {"sources": [], **({"labelled": said["labelled"]} if labelled is not None else {})}
    return parts


def acceptance(**limits: str | None) -> dict[str, float | None]:
    """The request's `acceptance`, with what was said and nothing else; `none` switches a limit off."""
    return {name: _limit_value(name, text) for name, text in limits.items() if text is not None}


def output(**said: str | None) -> dict[str, Any]:
    """The request's `output`, with what was said and nothing else."""
    return _said(said)


def labels(pairs: list[str] | None) -> dict[str, str]:
    """`["team=search"]` -> `{"team": "search"}`."""
    for pair in pairs or ():
        if "=" not in pair:
            raise CommandError(f"--label {pair}: write it as KEY=VALUE", Exit.REFUSED)
    return dict(pair.split("=", 1) for pair in pairs or ())


def _overrides(lines: list[str]) -> dict[str, Any]:
    from compression.override_words import parse_overrides

    return parse_overrides(lines, "--override")


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}", Exit.REFUSED) from error
    if not isinstance(data, dict):
        raise CommandError(f'{file} holds no recipe: a JSON object such as {{"sparsity": 0.5}} is wanted', Exit.REFUSED)
    return data


def _limit_value(name: str, text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"--{name.replace('_', '-')} {text}: a number or `none` is wanted", Exit.REFUSED) from None


def _whole_number(flag: str, text: str, word: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CommandError(f"{flag} {text}: a whole number or `{word}` is wanted", Exit.REFUSED) from None


def _said(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that were not given; a repeatable flag that was not is an empty list or None."""
    return {name: value for name, value in flags.items() if value is not None and value != []}
