"""`scalpel evaluate`: a model's figures, alone or against a reference; nothing is solved, and no service is needed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import flags
from cli.compress import part
from cli.exits import CommandError, Exit
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from compression.evaluation_report import EvaluationReport
    from compression.protocol import Acceptance, Evaluation

TASKS = "Tasks of lm-eval (the extra `lm-eval`)"


def evaluate(
    model: flags.ModelArg,
    reference: flags.Reference = None,
    evaluation: flags.EvalText = None,
    windows: flags.Windows = None,
    eval_seqlen: flags.EvalSeqlen = None,
    max_perplexity_ratio: flags.MaxPerplexityRatio = None,
    max_kl: flags.MaxKl = None,
    max_kl_p99: flags.MaxKlP99 = None,
    min_top1_agreement: flags.MinTop1Agreement = None,
    max_perplexity: flags.MaxPerplexity = None,
    task: Annotated[list[str] | None, typer.Option(help="A task; repeatable.", rich_help_panel=TASKS)] = None,
    task_folder: Annotated[
        Path | None, typer.Option(help="With further tasks as .yaml.", exists=True, file_okay=False, rich_help_panel=TASKS)
    ] = None,
    task_limit: Annotated[
        int | None, typer.Option(min=1, help="Examples of each task at most, to try out.", rich_help_panel=TASKS)
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for report.json; must not exist yet.")] = None,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    is_json: Annotated[bool, typer.Option("--json", help="Print the report as it is stored.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Evaluate a model, dense or packed, right here.

    Example: scalpel evaluate ./smollm2-4bit --reference demo:smollm2-135m --eval wikitext2
    """
    from compression.protocol import Acceptance, Evaluation

    texts = flags.texts(
        calibration=None, nsamples=None, seqlen=None, seed=None,
        evaluation=evaluation, windows=windows, eval_seqlen=eval_seqlen,
    )  # fmt: skip
    limits = flags.acceptance(
        max_perplexity_ratio=max_perplexity_ratio, max_kl=max_kl, max_kl_p99=max_kl_p99,
        min_top1_agreement=min_top1_agreement, max_perplexity=max_perplexity,
    )  # fmt: skip
    evaluated, accepted = part(Evaluation, texts["evaluation"]), part(Acceptance, limits)
    tasks = {"names": tuple(task), "folder": task_folder, "limit": task_limit} if task else None
    against = flags.source(reference) if reference else None
    try:
        with display() as shown:
            report = _evaluate(flags.source(model), against, evaluated, accepted, tasks, output, device, data_dir, shown)
    except KeyboardInterrupt:
        raise CommandError("interrupted", Exit.INTERRUPTED) from None
    if is_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    from cli.evaluation_text import headlines

    for words in headlines(report):
        typer.echo(words)
    if output is not None:
        typer.echo(f"next: scalpel report {output}")


def _evaluate(
    model: str,
    reference: str | None,
    evaluation: "Evaluation",
    acceptance: "Acceptance",
    tasks: dict[str, Any] | None,
    output: Path | None,
    device: str,
    data_dir: Path,
    shown: Display,
) -> "EvaluationReport":
    from compression.corpora import text_uses
    from compression.evaluable import causal_class
    from compression.verdict import check_acceptance
    from jobs.kept import prune_kept
    from jobs.settings import Settings
    from jobs.sourcing.fetch import fetch_model, fetch_texts

    if output is not None and output.exists():  # a refusal is due before the download and before torch is loaded
        raise CommandError(f"{output} exists already, and nothing is overwritten; name another folder with -o", Exit.REFUSED)
    check_acceptance(acceptance, has_reference=reference is not None)
    settings = Settings.from_mapping({**os.environ, "SCALPEL_DATA_DIR": str(data_dir)})

    def note(message: str) -> None:
        shown.show("note", {"message": message})

    shown.show("stage", {"stage": "fetching"})
    source, *others = (
        fetch_model(name, settings, note, any_path=True, check=causal_class) for name in (model, reference) if name
    )
    texts = fetch_texts(text_uses(None, evaluation.sources), settings, note, any_path=True)

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in cli/compress.py, and before torch is loaded
    from compression.evaluate import evaluate as run
    from compression.lm_eval_tasks import TaskOptions

    report = run(
        source,
        reference=others[0] if others else None,
        evaluation=evaluation,
        acceptance=acceptance,
        tasks=TaskOptions(**tasks) if tasks else None,
        out=output,
        texts=texts,
        cache=settings.cache_dir,
        device=device,
        on_event=lambda event: shown.show(event.type, event.model_dump(mode="json")),
    )
    prune_kept(settings)
    return report
