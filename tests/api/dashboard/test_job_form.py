"""The form of a new job, and text to copy from it."""

import html
import re
import shlex
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

import client
from api.dashboard import job_form
from api.dashboard.pages import checked
from api.dashboard.snippets import request_snippets
from cli.main import run
from compression.options import METHOD_OPTIONS
from jobs.request import JobRequest
from tests.api.dashboard.conftest import Visitor

REQUESTS: list[dict[str, Any]] = [
    {"model": "demo:smollm2-135m", "recipe": {"pattern": "2:4"}},
    {"model": "OWNER/NAME@main", "recipe": {"sparsity": 0.55, "block_size": 64, "damp": 0.02}},
    {"model": "demo:smollm2-135m", "recipe": {"bits": 4, "group_size": 64, "symmetric": True}, "output": {"format": "gptq"}},
    {"model": "demo:smollm2-135m", "recipe": {"bits": "ternary", "act_order": False, "skip_blocks": [0, -1]}},
    {"model": "demo:smollm2-135m", "recipe": {"method": "spqr", "bits": 3, "qq_scale_bits": 4}, "priority": 5},
    {
        "model": "/models/it's mine",
        "recipe": {"pattern": "4:8", "bits": 4, "ignore": ["*.down_proj"], "true_sequential": True},
        "calibration": {"source": "sotu", "nsamples": 8, "seqlen": 64, "seed": 3},
        "evaluation": {"sources": ["sotu", "wikitext2"], "windows": 4, "seqlen": 64},
        "acceptance": {"max_kl": None, "min_top1_agreement": 0.9},
        "limits": {"run_s": 3600.0},
        "device": "cpu",
        "labels": {"team": "search $x"},
    },
    {"model": "demo:smollm2-135m", "recipe": {"bits": 8}, "evaluation": {"sources": []}},
    {"task": "evaluate", "model": "demo:smollm2-135m"},
    {
        "task": "evaluate",
        "model": "/models/it's mine",
        "reference": "demo:smollm2-135m",
        "evaluation": {"sources": ["sotu"], "windows": 4},
        "acceptance": {"max_kl": 0.2},
        "labels": {"team": "search"},
    },
    {
        "model": "demo:smollm2-135m",
        "recipe": {
            "bits": 4,
            "overrides": {
                "*.down_proj": {"bits": 8, "symmetric": True},
                "*.v_proj": None,
                "*.o_proj": {"pattern": "2:4"},
                "a:b": {"pattern": "1:4"},
                "c:d": None,
            },
        },
    },
]


REQUESTS += [
    {"model": "demo:smollm2-135m", "goal": goal}
    for goal in (
        {"metric": "bytes", "factor": 2},
        {"metric": "bytes", "at_most": 2e8, "levels": [{"bits": 4, "group_size": 32}, None], "stitched": True},
        {
            "metric": "latency",
            "factor": 1.5,
            "environment": {"batch": 4, "seqlen": 32, "phase": "prefill"},
            "adaprune": {"passes": 4},
            "search": {"max_evaluations": 9},
        },
    )
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_request_that_fills_the_form_is_asked_for_by_it_again(request_: dict[str, Any]) -> None:
    asked = job_form.read_form(job_form.FIRST | job_form.fill_form(request_))
    assert JobRequest.model_validate(asked) == JobRequest.model_validate(request_)
    assert job_form.says_all(job_form.FIRST | job_form.fill_form(request_), request_)


def test_form_that_cannot_say_all_of_a_request_is_known_for_it() -> None:
    request = {"model": "demo:smollm2-135m", "recipe": {"bits": 4, "overrides": {"a=b": {"bits": 8}}}}  # no name has a sign
    assert not job_form.says_all(job_form.FIRST | job_form.fill_form(request), request)


def test_form_as_it_opens_asks_for_defaults_only() -> None:
    form = job_form.FIRST | {"model.demo": "demo:smollm2-135m"}
    assert job_form.read_form(form) == {"model": "demo:smollm2-135m", "recipe": {"pattern": "2:4"}}


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_every_option_of_every_method_is_a_field(method: str) -> None:
    fields = {field.path.removeprefix("recipe.") for field in job_form.recipe_fields(method)}
    assert fields == METHOD_OPTIONS[method].model_fields.keys() - job_form.TARGET


def test_every_default_is_shown_beside_its_field() -> None:
    shown = {field.path: field.default for group in job_form.GROUPS for field in group.fields}
    assert (shown["calibration.nsamples"], shown["acceptance.max_kl"], shown["evaluation.sources"]) == ("128", "0.1", "sotu")


def has_flags(request: dict[str, Any]) -> bool:
    return not {"limits", "priority"} & request.keys()


@pytest.mark.parametrize("request_", [found for found in REQUESTS if has_flags(found)], ids=str)
def test_command_line_to_copy_makes_the_same_request(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[dict[str, Any]] = []

    def submit(self: object, model: str, recipe: dict[str, Any], **parts: Any) -> None:
        sent.append({"model": model, "recipe": recipe, **parts})
        raise KeyboardInterrupt

    def evaluate(self: object, model: str, **parts: Any) -> None:
        sent.append({"task": "evaluate", "model": model, **{name: said for name, said in parts.items() if said is not None}})
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Scalpel, "submit", submit)
    monkeypatch.setattr(client.Scalpel, "evaluate", evaluate)
    monkeypatch.setenv("SCALPEL_URL", "http://127.0.0.1:1")
    (command,) = [snippet.code for snippet in request_snippets(request_, "http://x") if snippet.title == "Command line"]
    run(shlex.split(command.replace("\\\n", " "))[1:])
    (asked,) = sent
    assert JobRequest.model_validate(asked) == JobRequest.model_validate(request_)


def test_command_line_names_overrides_that_it_cannot_say() -> None:
    for overrides in ({"a=b": {"bits": 8}}, {"a": "8 bits"}):
        request = {"model": "demo:smollm2-135m", "recipe": {"bits": 4, "overrides": overrides}}
        (command,) = [found.code for found in request_snippets(request, "http://x") if found.title == "Command line"]
        assert ("--override" in command, "# without flags: recipe.overrides" in command) == (False, True)


def test_command_line_names_options_of_a_goal_that_it_cannot_say() -> None:
    goal = {"metric": "latency", "factor": 1.5, "search": {"seed": 3}, "adaprune": {"passes": 4, "learning_rate": 1e-4}}
    request = {"model": "demo:smollm2-135m", "goal": goal}
    (command,) = [found.code for found in request_snippets(request, "http://x") if found.title == "Command line"]
    assert command.endswith("# without flags: goal.search, goal.adaprune")
    assert "--adaprune" not in command


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_python_to_copy_makes_the_same_request(request_: dict[str, Any]) -> None:
    (code,) = [snippet.code for snippet in request_snippets(request_, "http://x") if snippet.title == "Python"]
    sent: list[dict[str, Any]] = []

    class Recorder:
        def submit(self, model: str, recipe: dict[str, Any] | None = None, **parts: Any) -> "Recorder":
            sent.append({"model": model, **({} if recipe is None else {"recipe": recipe}), **parts})
            return self

        def evaluate(self, model: str, **parts: Any) -> "Recorder":
            sent.append({"task": "evaluate", "model": model, **parts})
            return self

        id = "ID"

    body = code.partition("as scalpel:\n")[2].replace("    job = ", "job = ", 1)
    exec(body.partition("    print")[0], {"scalpel": Recorder()})
    assert sent == [request_]


@pytest.mark.parametrize("typed", ["*.down_proj", "*.down_proj:", "*.down_proj: 8 bits", "*.down_proj: bits=99"])
def test_overrides_that_cannot_be_read_are_refused_at_their_field(typed: str) -> None:
    form = job_form.FIRST | {"model.demo": "demo:smollm2-135m", "recipe.overrides": typed}
    with pytest.raises(RequestValidationError) as refused:
        checked(JobRequest, job_form.read_form(form))
    assert all(error["loc"][:3] == ("body", "recipe", "overrides") for error in refused.value.errors())


@pytest.mark.parametrize(
    ("field", "typed", "name"),
    [
        ("recipe.overrides", "*.v_proj: bits=8\n*.o_proj: bits=8\n*.v_proj: none", "*.v_proj"),
        ("labels", "team: search\nteam: ads", "team"),
    ],
)
def test_line_that_another_contradicts_is_refused_at_its_field_and_not_dropped(
    visitor: Visitor, field: str, typed: str, name: str
) -> None:
    form = {"goal": "prune", "recipe.pattern": "2:4", "model.kind": "demo", "model.demo": "demo:smollm2-135m", field: typed}
    place = f'id="error-{field.replace(".", "-")}"'
    for path, status in (("/new", 422), ("/new/preview", 200)):
        answer = visitor.post(path, **form)
        assert answer.status_code == status
        (slot,) = re.findall(f"<p[^>]*{place}[^>]*>([^<]*)</p>", answer.text)
        assert f"{name} stands twice" in slot
    assert "scalpel submit" not in answer.text, "a command to copy would leave one of them out"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("passes: 4", "is no JSON object"),
        ("[1]", "is no JSON object"),
        ('{"factor": 3}', "factor is said above"),
        ('{"adaprune": {"passes": 0}}', "greater than or equal to 1"),
        ('{"pases": 4}', "Extra inputs are not permitted"),
    ],
)
def test_more_of_a_goal_that_cannot_be_is_refused_and_kept_as_typed(visitor: Visitor, typed: str, said: str) -> None:
    answer = visitor.post(
        "/new",
        **{"goal": "reach", "goal.kind": "times_faster", "goal.amount": "1.5", "goal.more": typed},
        **{"model.kind": "demo", "model.demo": "demo:smollm2-135m"},
    )
    assert answer.status_code == 422
    assert said in answer.text
    assert html.escape(typed, quote=True).replace("&quot;", "&#34;") in answer.text


def test_form_of_an_evaluation_leaves_out_what_solves() -> None:
    form = job_form.FIRST | {
        "goal": "evaluate", "model.demo": "demo:smollm2-135m", "reference": " demo:minilm-l6 ", "recipe.bits": "4",
        "recipe.overrides": "*.down_proj: bits=8", "calibration.nsamples": "8", "output.format": "gptq",
        "evaluation.windows": "4",
    }  # fmt: skip
    assert job_form.read_form(form) == {
        "task": "evaluate",
        "model": "demo:smollm2-135m",
        "reference": "demo:minilm-l6",
        "evaluation": {"windows": 4},
    }
