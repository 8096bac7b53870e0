"""Tasks of lm-eval, the field's evaluation harness, on a model folder. Needs the extra `lm-eval`; nothing else imports it."""

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from compression.errors import CalibrationError, InvalidOptions
from compression.evaluation_report import TaskResult, Tasks
from compression.models.quiet import quiet_transformers

UNITS = {"word_perplexity": "word-level", "byte_perplexity": "byte-level"}
NO_METRIC = ("alias", "name", "sample_len", "samples")


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks to run, and how.

    Args:
        names: of lm-eval's own tasks, or of those in `folder`.
        folder: with further tasks as .yaml files.
        limit: examples of each task at most; None: all. Figures on a part are for trying out.
        few_shots: solved examples before each question; None: as the task has it.
    """

    names: tuple[str, ...]
    folder: Path | None = None
    limit: int | None = None
    few_shots: int | None = None
    batch_size: int = 1


def run_tasks(model: Path, options: TaskOptions, device: torch.device) -> Tasks:
    """Run tasks in float32 on a model that transformers loads.

    Raises: InvalidOptions: lm-eval is not installed, or has no such task. CalibrationError: a task's data cannot be had.
    """
    require_lm_eval()
    from lm_eval import __version__, simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with quiet_transformers(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        manager = TaskManager(include_path=str(options.folder) if options.folder else None)
        for name in options.names:
            if not manager.match_tasks([name]):
                raise InvalidOptions("tasks", f"lm-eval {__version__} has no task {name!r}", "see `lm_eval ls tasks`")
        runner = HFLM(pretrained=str(model), dtype="float32", device=str(device), batch_size=options.batch_size)
        try:
            raw = simple_evaluate(
                model=runner,
                tasks=list(options.names),
                task_manager=manager,
                num_fewshot=options.few_shots,
                limit=options.limit,
                log_samples=False,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # what loading a data set may raise
            raise CalibrationError(
                f"lm-eval could not run {', '.join(options.names)}: {error}; most of its tasks fetch their data from the hub"
            ) from error
    return Tasks(version=__version__, results=tuple(task_results(raw)))


def require_lm_eval() -> None:
    """Raises: InvalidOptions: it is not installed."""
    if find_spec("lm_eval") is None:
        raise InvalidOptions("tasks", "the package lm-eval is not installed", "pip install 'scalpel[lm-eval]', or no tasks")


def task_results(raw: Mapping[str, Any]) -> Iterator[TaskResult]:
    """lm-eval's `{"task": {"metric,filter": value, "metric_stderr,filter": error}}`, one entry a metric."""
    for task, figures in raw["results"].items():
        samples = raw.get("n-samples", {}).get(task, {}).get("effective")
        for key, value in figures.items():
            metric, _, kind = key.partition(",")
            if key in NO_METRIC or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = figures.get(f"{metric}_stderr,{kind}")
            yield TaskResult(
                task=task,
                metric=metric,
                filter=None if kind in ("", "none") else kind,
                value=value,
                standard_error=error if isinstance(error, int | float) else None,
                samples=samples,
                unit=UNITS.get(metric, ""),
            )
