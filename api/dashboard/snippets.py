"""Text to copy: how to load an artifact, and a request as curl, command line and Python."""

import json
import pprint
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compression.formats.snippets import FOLDER, snippets
from compression.override_words import can_be_typed, option_words, override_lines
from compression.page import AnyReport
from compression.report import Report
from jobs.view import JobView


@dataclass(frozen=True)
class Snippet:
    title: str
    code: str


def loading_snippets(job: JobView, report: AnyReport | None) -> tuple[Snippet, ...]:
    """How to use what a job gave, with each software that its format is made for."""
    if not isinstance(report, Report):
        return ()
    folder = f"./{job.id}"
    readers = snippets(report.output.format, report.model.architecture)
    return (
        Snippet("Download", f"scalpel download {job.id} -o {folder}"),
        *(Snippet(found.software, found.code.replace(FOLDER, folder)) for found in readers),
    )


def request_snippets(request: Mapping[str, Any], url: str) -> tuple[Snippet, ...]:
    """The same job asked for in other ways. Args: url: of this server."""
    return (
        Snippet("curl", _curl(request, url)),
        Snippet("Command line", _command(request)),
        Snippet("Python", _python(request, url)),
    )


def _curl(request: Mapping[str, Any], url: str) -> str:
    body = json.dumps(request, indent=2, ensure_ascii=False)
    return (
        f'curl {shlex.quote(url + "/v1/jobs")} \\\n  -H "Authorization: Bearer $SCALPEL_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )


def _python(request: Mapping[str, Any], url: str) -> str:
    is_evaluation = request.get("task") == "evaluate"
    first = [f"    {request.get('model', '')!r},"]
    if "recipe" in request:
        first.append(f"    {dict(request.get('recipe', {}))!r},")
    others = [
        f"    {name}={pprint.pformat(value, sort_dicts=False)},"
        for name, value in request.items()
        if name not in ("model", "recipe", "task")
    ]
    return "\n".join(
        [
            "import os",
            "from client import Scalpel",
            "",
            f'with Scalpel({url!r}, api_key=os.environ["SCALPEL_API_KEY"]) as scalpel:',
            f"    job = scalpel.{'evaluate' if is_evaluation else 'submit'}(",
            *("    " + line for line in (*first, *others)),
            "    )",
            "    print(job.id)",
        ]
    )


# Where a flag is not named as its field is. Fields without a flag are left out, and the text says so.
_FLAGS = {
    "calibration.source": "--calibration", "calibration.nsamples": "--nsamples", "calibration.seqlen": "--seqlen",
    "calibration.seed": "--seed", "evaluation.sources": "--eval", "evaluation.windows": "--windows",
    "evaluation.seqlen": "--eval-seqlen", "evaluation.labelled": "--labelled", "output.format": "--format",
    "output.embeddings": "--embeddings", "device": "--device", "labels": "--label", "recipe.skip_blocks": "--skip-block",
}  # fmt: skip
_NO_FLAG = ("recipe.qq_group_size", "recipe.qq_scale_bits", "recipe.qq_zero_bits", "limits", "priority")
_ONE_OPTION = {"search": ("max_evaluations", "--evaluations"), "adaprune": ("passes", "--adaprune")}  # of a goal, with flags


def _command(request: Mapping[str, Any]) -> str:
    lines = [f"scalpel submit {shlex.quote(str(request.get('model', '')))}"]
    if request.get("task") == "evaluate":
        lines.append("  --evaluate")
    left_out = []
    if goal := request.get("goal"):
        lines.append(f"  --goal {shlex.quote(goal_line(goal))}")
        for name, value in goal.items():
            if name not in ("metric", "at_most", "factor"):
                flags = _goal_flags(name, value)
                lines += [f"  {flag}" for flag in flags or ()]
                left_out += [f"goal.{name}"] if flags is None else []
    for path, value in _leaves({name: value for name, value in request.items() if name != "goal"}):
        if path in ("model", "task"):
            continue
        if path.startswith(_NO_FLAG) or (path == "recipe.overrides" and not can_be_typed(value)):
            left_out.append(path)
            continue
        lines += [f"  {flag}" for flag in _flag(path, value)]
    lines.append("  --watch")
    command = " \\\n".join(lines)
    return command + (f"\n# without flags: {', '.join(left_out)}" if left_out else "")


def goal_line(goal: Mapping[str, Any]) -> str:
    """As `--goal` takes it, whatever was typed."""
    limit, sign = (goal.get("at_most"), "<=") if goal.get("factor") is None else (goal["factor"], "/")
    return f"{goal.get('metric', '')}{sign}{limit}"


def _goal_flags(name: str, value: Any) -> list[str] | None:
    """How `submit` is told an option of a goal; None: no flag says it."""
    flag = f"--{name.replace('_', '-')}"
    if name == "levels" and isinstance(value, list) and all(level is None or _is_flat(level) for level in value):
        return [f"--level {shlex.quote('dense' if level is None else option_words(level))}" for level in value]
    if name == "environment" and _is_flat(value):
        return [f"--runs-on {shlex.quote(option_words(value))}"]
    if name in _ONE_OPTION and isinstance(value, Mapping):
        option, flag = _ONE_OPTION[name]
        return [f"{flag} {value[option]}"] if value.keys() == {option} and isinstance(value[option], int) else None
    if name in ("stitched", "uniform"):
        return [flag] if value is True else None
    return [f"{flag} {value}"] if name == "multiple_of" and isinstance(value, int) else None


def _is_flat(options: Any) -> bool:
    return isinstance(options, Mapping) and all(isinstance(value, str | int | float) for value in options.values())


def _flag(path: str, value: Any) -> Iterator[str]:
    group, _, name = path.partition(".")
    if group == "recipe" and name == "symmetric":
        yield "--symmetric" if value else "--asymmetric"
        return
    flag = _FLAGS.get(path) or f"--{(name or group).replace('_', '-')}"
    if group == "labels":
        yield from (f"--label {shlex.quote(f'{key}={word}')}" for key, word in value.items())
    elif path == "recipe.overrides":
        yield from (f"--override {shlex.quote(line)}" for line in override_lines(value))
    elif isinstance(value, bool):
        yield flag if value else f"--no-{flag[2:]}"
    elif isinstance(value, list):
        yield from (f"{flag} {shlex.quote(str(item))}" for item in value) if value else (f"{flag} none",)
    else:
        yield f"{flag} {shlex.quote('none' if value is None else str(value))}"


def _leaves(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted path; labels stay together."""
    for name, value in request.items():
        if isinstance(value, Mapping) and name != "labels":
            yield from ((f"{name}.{inner}", found) for inner, found in value.items())
        else:
            yield name, value
