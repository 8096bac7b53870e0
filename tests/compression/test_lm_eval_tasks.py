"""lm-eval's results in the report; the real thing runs where it is installed, on tasks and data of this test."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from compression.errors import InvalidOptions
from compression.evaluate import evaluate
from compression.evaluation_report import TaskResult
from compression.lm_eval_tasks import TaskOptions, run_tasks, task_results
from compression.protocol import Evaluation
from tests import tiny_models

CPU = torch.device("cpu")
HAS_LM_EVAL = find_spec("lm_eval") is not None

RAW = {  # as lm-eval 0.4.13 answers
    "results": {
        "words": {
            "name": "words", "alias": "words", "sample_len": 3,
            "word_perplexity,none": 34.5, "word_perplexity_stderr,none": "N/A",
            "byte_perplexity,none": 2.5, "byte_perplexity_stderr,none": "N/A",
        },
        "choices": {"alias": "choices", "acc,none": 0.5, "acc_stderr,none": 0.25, "exact_match,strict-match": 0.75},
    },
    "n-samples": {"words": {"original": 3, "effective": 2}},
}  # fmt: skip


def test_each_metric_becomes_one_result_and_says_what_it_counts() -> None:
    assert list(task_results(RAW)) == [
        TaskResult(task="words", metric="word_perplexity", value=34.5, standard_error=None, samples=2, unit="word-level"),
        TaskResult(task="words", metric="byte_perplexity", value=2.5, standard_error=None, samples=2, unit="byte-level"),
        TaskResult(task="choices", metric="acc", value=0.5, standard_error=0.25, samples=None),
        TaskResult(task="choices", metric="exact_match", filter="strict-match", value=0.75, standard_error=None, samples=None),
    ]


@pytest.mark.skipif(HAS_LM_EVAL, reason="lm-eval is installed")
def test_without_the_package_the_error_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match=r"tasks: the package lm-eval is not installed.*scalpel\[lm-eval\]"):
        run_tasks(tmp_path, TaskOptions(("piqa",)), CPU)


@pytest.mark.skipif(HAS_LM_EVAL, reason="lm-eval is installed")
def test_missing_package_is_told_before_any_work(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "model")
    with pytest.raises(InvalidOptions, match="lm-eval is not installed"):
        evaluate(model, evaluation=Evaluation(sources=("/no/such/text.txt",)), tasks=TaskOptions(("piqa",)), device="cpu")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with two tasks whose data lie beside them."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    pages = [{"page": tiny_models.text(300 + n)} for n in range(3)]
    questions = [{"question": f"what is {n}", "choices": ["one", "two"], "answer": n % 2} for n in range(6)]
    for name, rows in (("pages", pages), ("questions", questions)):
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))
    task = "task: {}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {}\noutput_type: {}\ntest_split: test\n"
    (folder / "words.yaml").write_text(
        task.format("tiny_words", folder / "pages.json", "loglikelihood_rolling")
        + 'doc_to_text: ""\ndoc_to_target: "{{page}}"\n'
        + "metric_list:\n  - metric: word_perplexity\n  - metric: byte_perplexity\n"
    )
    (folder / "choices.yaml").write_text(
        task.format("tiny_choices", folder / "questions.json", "multiple_choice")
        + 'doc_to_text: "{{question}}"\ndoc_to_choice: choices\ndoc_to_target: answer\nmetric_list:\n  - metric: acc\n'
    )
    return folder


@pytest.mark.skipif(not HAS_LM_EVAL, reason="needs the extra lm-eval")
@pytest.mark.filterwarnings("ignore")
def test_real_tasks_run_on_a_model_folder(tasks: Path, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "model")
    options = TaskOptions(("tiny_words", "tiny_choices"), folder=tasks, limit=4)
    report = evaluate(model, evaluation=Evaluation(sources=()), tasks=options, device="cpu")
    assert report.tasks is not None
    found = {(result.task, result.metric): result for result in report.tasks.results}
    assert found["tiny_words", "word_perplexity"].unit == "word-level"
    # a random model of 256 byte tokens is about as good as guessing
    assert found["tiny_words", "byte_perplexity"].value == pytest.approx(256, rel=0.05)
    assert 0 <= found["tiny_choices", "acc"].value <= 1
    assert found["tiny_choices", "acc"].samples == 4


@pytest.mark.skipif(not HAS_LM_EVAL, reason="needs the extra lm-eval")
@pytest.mark.filterwarnings("ignore")
def test_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match="no task 'nobody_wrote_it'"):
        run_tasks(tiny_models.save(tmp_path / "model"), TaskOptions(("nobody_wrote_it",)), CPU)
