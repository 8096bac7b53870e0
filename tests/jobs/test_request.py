import pytest
from pydantic import ValidationError

from compression.errors import InvalidOptions
from jobs.errors import SourceError
from jobs.request import EXAMPLES, JobRequest, check_request

SHORT = {"model": "demo:smollm2-135m", "recipe": {"sparsity": 0.5}}


def test_everything_but_model_and_recipe_has_a_default() -> None:
    request = JobRequest.model_validate(SHORT)
    assert (request.calibration.nsamples, request.calibration.source, request.evaluation.windows) == (128, "sotu", None)
    resolved = check_request(request)
    assert resolved is not None and resolved.options.method == "sparsegpt"


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"output": {"format": "gguf"}, "recipe": {"bits": 3}}, "output.format"),
        ({"output": {"format": "dense", "embeddings": "int8"}}, "output.embeddings"),
    ],
    ids=["3 bits as gguf", "rounded embeddings as dense"],
)
def test_what_the_format_cannot_hold_is_refused_when_it_is_submitted(fields: dict[str, object], at_fault: str) -> None:
    with pytest.raises(InvalidOptions) as refused:
        check_request(JobRequest.model_validate({**SHORT, **fields}))
    assert refused.value.field == at_fault


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_published_example_is_accepted(example: object) -> None:
    check_request(JobRequest.model_validate(example))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        JobRequest.model_validate({**SHORT, "colour": "red"})


@pytest.mark.parametrize(
    "labels",
    [{"": "x"}, {"with space": "x"}, {"k": "x" * 256}, {"k": "\0"}, {f"k{n}": "" for n in range(33)}],
    ids=["empty-key", "space-in-key", "long-value", "control-sign-in-value", "too-many"],
)
def test_labels_outside_their_bounds_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="labels"):
        JobRequest.model_validate({**SHORT, "labels": labels})


def test_a_contradictory_recipe_is_refused_with_its_field() -> None:
    with pytest.raises(InvalidOptions) as refusal:
        check_request(JobRequest.model_validate({**SHORT, "recipe": {"sparsity": 0.3, "pattern": "2:4"}}))
    assert refusal.value.field == "recipe.sparsity"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "demo:unheard-of"},
        {"model": "../somewhere"},
        {"calibration": {"source": "sotu2"}},
        {"evaluation": {"sources": ["sotu", "file:///etc/passwd"]}},
    ],
    ids=["demo", "path", "calibration", "evaluation"],
)
def test_a_source_outside_the_grammar_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(SourceError):
        check_request(JobRequest.model_validate({**SHORT, **fields}))


def test_each_text_is_named_once() -> None:
    request = JobRequest.model_validate({**SHORT, "evaluation": {"sources": ["sotu", "hf:a/b", "sotu"]}})
    assert [use.key for use in request.text_uses] == ["sotu", "hf:a/b"]


def test_labelled_texts_are_a_file_of_the_job_and_no_evaluations() -> None:
    fields = {"evaluation": {"sources": ["sotu"], "labelled": "/models/labelled.jsonl"}}
    request = JobRequest.model_validate({**SHORT, **fields})
    check_request(request)
    assert [use.key for use in request.text_uses] == ["sotu", "/models/labelled.jsonl"]
    with pytest.raises(InvalidOptions) as refused:
        check_request(JobRequest.model_validate({"task": "evaluate", "model": "demo:minilm-l6", **fields}))
    assert refused.value.field == "evaluation.labelled"
    with pytest.raises(ValidationError, match="labelled"):
        JobRequest.model_validate({**SHORT, "evaluation": {"labelled": "/models/labelled.csv"}})


def test_a_benchmark_has_other_rows_for_each_role() -> None:
    request = JobRequest.model_validate({**SHORT, "calibration": {"source": "c4"}, "evaluation": {"sources": ["c4", "ptb"]}})
    check_request(request)
    assert [use.key for use in request.text_uses] == ["c4:calibration", "c4:evaluation", "ptb:evaluation"]


EVALUATION = {"task": "evaluate", "model": "demo:smollm2-135m"}


def test_an_evaluation_needs_a_model_alone() -> None:
    request = JobRequest.model_validate(EVALUATION)
    assert check_request(request) is None
    assert [use.key for use in request.text_uses] == ["sotu"]


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"recipe": {"sparsity": 0.5}}, "recipe"),
        ({"recipe": {}}, "recipe"),
        ({"calibration": {}}, "calibration"),
        ({"output": {"format": "dense"}}, "output"),
        ({"evaluation": {"sources": []}}, "evaluation.sources"),
        ({"acceptance": {"max_kl": 0.1}}, "acceptance.max_kl"),
        ({"task": "compress"}, "recipe"),
        ({"task": "compress", "recipe": {"sparsity": 0.5}, "reference": "a/b"}, "reference"),
    ],
)
def test_a_field_that_does_not_belong_to_the_task_is_named(fields: dict[str, object], at_fault: str) -> None:
    with pytest.raises(InvalidOptions) as refusal:
        check_request(JobRequest.model_validate({**EVALUATION, **fields}))
    assert refusal.value.field == at_fault


def test_limits_that_can_be_checked_are_taken() -> None:
    check_request(JobRequest.model_validate({**EVALUATION, "acceptance": {"max_perplexity": 20.0}}))
    check_request(JobRequest.model_validate({**EVALUATION, "acceptance": {"max_kl": None}}))
    check_request(JobRequest.model_validate({**EVALUATION, "reference": "a/b", "acceptance": {"max_kl": 0.1}}))


def test_a_reference_outside_the_grammar_is_refused() -> None:
    with pytest.raises(SourceError):
        check_request(JobRequest.model_validate({**EVALUATION, "reference": "../x"}))


def test_a_goal_stands_in_place_of_a_recipe() -> None:
    goal = {"metric": "bytes", "factor": 2}
    request = JobRequest.model_validate(
        {"model": "demo:smollm2-135m", "goal": goal, "recipe": {"ignore": ["*.v_proj"]}, "output": {"format": "gptq"}}
    )
    resolved = check_request(request)
    assert resolved is not None
    assert (resolved.inputs, resolved.ignore) == ("dense", ("*.v_proj",))
    again = JobRequest.model_validate(request.model_dump(mode="json", exclude_unset=True))
    assert again == request


def test_a_goal_of_latency_is_for_dense_weights_and_needs_no_recipe() -> None:
    goal = {"metric": "latency", "factor": 1.5, "environment": {"batch": 8}, "uniform": True}
    request = JobRequest.model_validate({"model": "demo:smollm2-135m", "goal": goal})
    resolved = check_request(request)
    assert resolved is not None and resolved.inputs == "dense"
    assert JobRequest.model_validate(request.model_dump(mode="json", exclude_unset=True)) == request


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"goal": {"metric": "bytes", "factor": 2}}, "output.format"),
        ({"goal": {"metric": "latency", "factor": 2}, "output": {"format": "gptq"}}, "output.format"),
        ({"goal": {"metric": "latency", "factor": 2}, "recipe": {"ignore": ["*.v_proj"]}}, "recipe.ignore"),
        ({"goal": {"metric": "latency", "factor": 2, "levels": [{"bits": 4}]}}, "goal"),
        ({"goal": {"metric": "bytes", "factor": 2, "uniform": True}}, "goal"),
        ({"goal": {"metric": "flops", "factor": 2}, "recipe": {"bits": 4}}, "recipe.bits"),
        ({"goal": {"metric": "flops", "factor": 2, "levels": [{"method": "rtn", "sparsity": 0.5}, None]}}, "goal.levels.0"),
        ({"goal": {"metric": "flops", "factor": 2}, "task": "evaluate"}, "goal"),
    ],
    ids=["dense", "packed", "ignore", "levels of latency", "uniform bytes", "recipe", "level", "evaluation"],
)
def test_a_goal_that_no_model_can_give_is_refused_with_its_field(fields: dict[str, object], at_fault: str) -> None:
    with pytest.raises((InvalidOptions, ValidationError)) as refused:
        check_request(JobRequest.model_validate({"model": "demo:smollm2-135m", **fields}))
    error = refused.value
    found = str(error.errors()[0]["loc"][0]) if isinstance(error, ValidationError) else getattr(error, "field", "")
    assert found.startswith(at_fault)
