"""The interface against its own OpenAPI document: thousands of requests, good ones and bad ones, alone and in sequences.

    python -m benchmarks.conformance --json conformance.json

Protocol: `scalpel api` as a process on SQLite with the local user's key and no rate limits; schemathesis makes the requests
from the document (its examples, the edges of every field, random ones, and sequences that use what earlier answers named) with
a fixed seed. Every answer must have a documented status and media type, hold to its schema and be no failure of the server's.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import schemathesis
import torch
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from benchmarks.results import Row, print_table, write_json
from compression import environment
from jobs.settings import Settings
from tests.stack import Stack

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "unsupported_method", "ignored_auth",
)  # fmt: skip
PHASES = ("examples", "coverage", "fuzzing", "stateful")
TIMEOUT_S = 30.0
ANOTHER_ID = "0" * 26
SPARED: set[str] = set()  # ids of the keys that runs of this process come with
LINES = ["application/jsonl", "application/x-ndjson"]  # which are texts to schemathesis


@dataclass
class Found:
    """What came of it. Attributes: failures: title and operation -> what the first of them said."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    declared: int = 0
    checks: int = 0
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, other: "Found") -> None:
        self.cases += other.cases
        self.statuses += other.statuses
        self.operations |= other.operations
        self.checks += other.checks
        self.failures = {**other.failures, **self.failures}


def examine(url: str, key: str, examples: int, steps: int, seed: int = 0, phases: Sequence[str] = PHASES) -> Found:
    """Args: examples: of each operation, and sequences. steps: of one sequence. phases: of those that schemathesis has."""
    load_all_checks()
    schemathesis.serializer.alias(LINES, "text/plain")
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "headers": {"Authorization": f"Bearer {key}"},
            "request-timeout": TIMEOUT_S,
            "max-stream-events": 1,  # the first of an event stream, which may stay open for as long as its job runs
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "no-shrink": True, "deterministic": True, "database": "none"},
            "checks": {"enabled": False, **{check: {"enabled": True} for check in CHECKS}},
            "phases": {phase: {"enabled": phase in phases} for phase in PHASES},
        }
    )
    config.projects.default.phases.stateful.max_steps = steps
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as web:
        own = web.get("/v1/me").json()["key_id"]
        SPARED.add(own)
        found = _execute(schema)
        if web.get("/v1/jobs").status_code != httpx.codes.OK:
            found.failures["The key was lost", "all"] = "what came after it was answered with 401 and shows nothing"
    return found


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Sequences find the key that they come with, and would revoke it; all later answers would be 401."""
    if SPARED & set(map(str, case.path_parameters.values())):
        case.path_parameters = dict.fromkeys(case.path_parameters, ANOTHER_ID)


def _execute(schema: schemathesis.BaseSchema) -> Found:
    found = Found(declared=schema.statistic.operations.total)
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _count(found, event)
            case events.NonFatalError():
                found.failures[type(event.value).__name__, event.label] = str(event.value)
            case events.FatalError():
                raise event.exception
    return found


def _count(found: Found, event: events.ScenarioFinished) -> None:
    for case_id, node in event.recorder.cases.items():
        label = node.value.operation.label
        if (interaction := event.recorder.interactions.get(case_id)) is None:
            continue
        found.cases[event.phase.value] += 1
        found.operations.add(label)
        if interaction.response is not None:
            found.statuses[interaction.response.status_code] += 1
        for check in event.recorder.checks.get(case_id, ()):
            found.checks += 1
            if check.failure_info is not None:
                failure = check.failure_info.failure
                said = f"{failure.message}\n{check.failure_info.code_sample}"
                found.failures.setdefault((failure.title, label), said)


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="scalpel-conformance-") as made:
        folder = Path(made)
        own: dict[str, Any] = {"hub_endpoint": "http://127.0.0.1:1", "failed_keys_per_minute": 0}
        with Stack(folder / "stack", Settings(data_dir=folder), folder, workers=0, maintains=False, **own) as stack:
            key = stack.settings.local_key_file.read_text().strip()
            found = examine(stack.url, key, args.examples, args.steps, args.seed, PHASES[:3])
            found.add(examine(stack.url, key, args.sequences, args.steps, args.seed, PHASES[3:]))
    rows = [
        Row("cases", "all", found.cases.total(), "requests"),
        *(Row("cases", phase, count, "requests") for phase, count in sorted(found.cases.items())),
        Row("cases", "checks", found.checks, "checks"),
        Row("operations", "covered", len(found.operations), "operations", found.declared, "the document"),
        *(Row("answers", str(status), count, "answers") for status, count in sorted(found.statuses.items())),
        Row("failures", "distinct", len(found.failures), "failures"),
    ]
    print_table(rows)
    for (title, label), said in sorted(found.failures.items()):
        print(f"\nFAILURE {title} in {label}\n{said}")
    if args.json:
        machine = environment.describe(torch.device("cpu"), torch.float32).model_dump()
        write_json(
            args.json,
            "conformance",
            {**machine, "seed": args.seed, "examples": args.examples, "sequences": args.sequences},
            rows,
        )
    sys.exit(1 if found.failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few examples")
    parser.add_argument("--examples", type=int, default=250, help="of each operation")
    parser.add_argument("--sequences", type=int, default=250)
    parser.add_argument("--steps", type=int, default=8, help="requests in a sequence, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.examples, args.sequences, args.steps = 3, 3, 4
    return args


if __name__ == "__main__":
    main()
