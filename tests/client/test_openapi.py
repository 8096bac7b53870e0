"""The client's models and errors against what the API says of itself."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import BaseModel, TypeAdapter

import client
from api.app import create_app
from api.problems import PROBLEMS, kind_of, of_status
from client import access, database_calls, job_calls, models, scalpel, sweep_calls, webhook_calls
from client.calls import _Method
from client.errors import ApiError, ServerError, api_error
from client.models import Problem
from client.steps import Open, Send, Work
from jobs.settings import Settings

Schema = dict[str, Any]

# Answers of the service -> what the client reads them as.
READ_AS: dict[str, type[BaseModel]] = {
    "ArtifactView": models.Artifact,
    "AuditView": access.AuditEntry,
    "DatabaseSummary": database_calls.DatabaseSummary,
    "DatabaseView": database_calls.Database,
    "DatasetView": models.Dataset,
    "DeliveryView": webhook_calls.Delivery,
    "Estimate": models.Estimate,
    "FormatView": models.Format,
    "JobView": client.Job,
    "KeyView": access.Key,
    "MeView": access.Me,
    "MethodView": models.Method,
    "ModelFileView": models.ModelFile,
    "ModelUploadView": models.Model,
    "ModelView": models.Model,
    "NewKeyView": access.NewKey,
    "Problem": models.Problem,
    "Readiness": models.Readiness,
    "SecretView": access.SecretStatus,
    "SecretWebhookView": webhook_calls.NewWebhook,
    "SweepSummary": sweep_calls.SweepSummary,
    "SweepView": sweep_calls.Sweep,
    "TokensView": models.Tokens,
    "WebhookView": webhook_calls.Webhook,
    "WorkerView": models.Worker,
}
NOT_READ = {"Health"}  # for whoever watches over processes; `readiness` says more
# Operations that no call begins with: parts of larger calls, and what is for others than programs.
NO_FIRST_REQUEST = {
    "GET /healthz",
    "GET /metrics",
    "GET /v1/datasets/{}/content",
    "GET /v1/jobs/{}/artifact.tar",
    "GET /v1/jobs/{}/artifacts/{}",
    "GET /v1/jobs/{}/events",
    "GET /v1/jobs/{}/sha256sums",
    "GET /v1/models/{}/files/{}",
    "GET /v1/webhooks/{}",
    "PUT /v1/models/{}/files/{}",
}


@pytest.fixture(scope="module")
def document() -> Schema:
    return create_app(Settings()).openapi()


def test_every_answer_is_read_as_something(document: Schema) -> None:
    answered = {name for answer in _answers(document) for name in _named(answer)}
    pages = {name for name in answered if name.startswith("Page_")}
    for page in pages:
        fields = document["components"]["schemas"][page]["properties"]
        assert set(fields) == set(models.Page.model_fields)
        answered |= set(_named(fields["items"]))
    assert answered - pages - NOT_READ == set(READ_AS) - {"Problem"}


@pytest.mark.parametrize("name", READ_AS)
def test_every_field_of_an_answer_is_there_with_a_type_that_holds_it(document: Schema, name: str) -> None:
    ours = TypeAdapter(READ_AS[name]).json_schema(mode="validation")
    _compare(_Side(document, {"$ref": f"#/components/schemas/{name}"}), _Side(ours, ours), name)


def test_comparison_sees_a_missing_field_and_a_narrower_type(document: Schema) -> None:
    class Narrow(BaseModel):
        name: int
        size_bytes: int

    ours = TypeAdapter(Narrow).json_schema()
    theirs = _Side(document, {"$ref": "#/components/schemas/ArtifactView"})
    with pytest.raises(AssertionError, match="ArtifactView lacks"):
        _compare(theirs, _Side(ours, ours), "ArtifactView")
    wide = {"type": "object", "properties": {"name": {"type": "string"}, "size_bytes": {"type": "integer"}}}
    with pytest.raises(AssertionError, match=r"x\.name"):
        _compare(_Side(wide, wide), _Side(ours, ours), "x")


def test_request_takes_every_field(document: Schema) -> None:
    asked = document["components"]["schemas"]["JobRequest"]["properties"]
    assert set(job_calls.Parts.__annotations__) == set(asked) - {"task", "model", "reference", "recipe"}


@pytest.mark.parametrize("error", PROBLEMS, ids=lambda error: error.__name__)
def test_every_problem_has_a_class(error: type[Exception]) -> None:
    """A failure of the service itself may be the generic one, as client/problems.py says."""
    kind = kind_of(error("x")) if error is Exception else PROBLEMS[error]
    assert kind is not None
    told = api_error(Problem(type=kind.slug, title=kind.title, status=kind.status))
    if kind.slug not in ApiError.named:
        assert (type(told), kind.status in (500, 507)) == (ServerError, True), f"{kind.slug} has no class"
    family = ApiError.of_status.get(kind.status, ServerError)
    assert isinstance(told, family), "a caller may catch by status as well"


def test_problems_of_bare_statuses_are_told_by_their_status() -> None:
    for status in (400, 401, 403, 404, 405, 409, 410, 412, 413, 422, 429, 500, 503, 507):
        problem = of_status(status)
        told = api_error(Problem(**problem.model_dump()))
        family = ApiError.of_status.get(status, ServerError if status >= 500 else ApiError)
        assert isinstance(told, family)


def test_no_class_is_of_a_problem_that_the_service_does_not_know() -> None:
    known = {kind.slug for kind in PROBLEMS.values()} | {"invalid-request"}
    assert set(ApiError.named) <= known


def test_every_operation_has_a_call_and_every_call_an_operation(document: Schema) -> None:
    """The calls are flows, so that one can see what each would send first without sending anything."""
    sent = {_first_request(flow) for side in (scalpel.Scalpel, webhook_calls.WebhookCalls) for flow in _flows(side)}
    there = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert sent <= there
    assert there - sent == NO_FIRST_REQUEST


def _flows(side: type) -> Iterator[Callable[..., Any]]:
    found = (value.flow for kind in side.__mro__ for value in vars(kind).values() if isinstance(value, _Method))
    yield from (flow for flow in found if flow.__name__ != "download_file")  # it begins on disk; `download` is the same


def _first_request(flow: Callable[..., Any]) -> str:
    stand_ins = {
        "folder": Path(__file__).parent,
        "path": Path(__file__),
        "scopes": ["read"],
    }
    wanted = list(inspect.signature(flow).parameters.values())[1:]
    needed = [one for one in wanted if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    given = [stand_ins.get(one.name, {} if "Mapping" in str(one.annotation) else "{}") for one in needed]
    steps = flow(scalpel.Scalpel("http://127.0.0.1:1"), *given)
    step = next(steps)
    while isinstance(step, Work):
        step = steps.send(step.function())
    request = step.request if isinstance(step, Open) else step
    assert isinstance(request, Send)
    steps.close()
    return f"{request.method} {unquote(request.path)}"


def _answers(document: Schema) -> Iterator[Schema]:
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if str(status).startswith("2"):
                    yield from (content.get("schema", {}) for content in answer.get("content", {}).values())


def _named(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    if "items" in schema:
        yield from _named(schema["items"])


class _Side:
    """A schema within its document."""

    def __init__(self, document: Schema, schema: Schema) -> None:
        self.document = document
        self.kinds = list(self._unfold(schema))

    def _unfold(self, schema: Schema) -> Iterator[Schema]:
        """The plain schemas that it is one of."""
        if "$ref" in schema:
            place: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                place = place[part]
            yield from self._unfold(place)
        elif choices := schema.get("anyOf") or schema.get("oneOf"):
            for choice in choices:
                yield from self._unfold(choice)
        elif isinstance(schema.get("type"), list):
            for kind in schema["type"]:
                yield {**schema, "type": kind}
        else:
            yield schema

    def of(self, kind: str) -> list[Schema]:
        return [schema for schema in self.kinds if schema.get("type") == kind]

    @property
    def is_anything(self) -> bool:
        return any("type" not in schema and "enum" not in schema and "const" not in schema for schema in self.kinds)


def _compare(theirs: _Side, ours: _Side, where: str) -> None:
    """Whatever the service may answer, the client's type holds it, field by field."""
    if ours.is_anything:
        return
    assert not theirs.is_anything, f"{where} may be anything"
    for schema in theirs.kinds:
        kind = schema.get("type", "string")
        fitting = ours.of(kind) or (ours.of("number") if kind == "integer" else [])
        assert fitting, f"{where} may be {kind}"
        if kind == "array":
            _compare(_Side(theirs.document, schema["items"]), _Side(ours.document, fitting[0]["items"]), f"{where}[]")
        if kind == "object":
            _compare_fields(theirs.document, schema, ours.document, fitting[0], where)


def _compare_fields(their_document: Schema, theirs: Schema, our_document: Schema, ours: Schema, where: str) -> None:
    fields = ours.get("properties")
    if fields is None:  # a plain mapping: whatever its values may be
        values = ours.get("additionalProperties", True)
        for name, schema in theirs.get("properties", {}).items():
            if isinstance(values, dict):
                _compare(_Side(their_document, schema), _Side(our_document, values), f"{where}.{name}")
        return
    missing = set(theirs.get("properties", {})) - set(fields)
    assert not missing, f"{where} lacks {', '.join(sorted(missing))}"
    assert set(ours.get("required", ())) <= set(theirs.get("required") or theirs["properties"]), f"{where} wants more"
    for name, schema in theirs["properties"].items():
        _compare(_Side(their_document, schema), _Side(our_document, fields[name]), f"{where}.{name}")
