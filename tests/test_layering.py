"""Imports point one way: compression <- jobs <- {api, worker}; client stands alone; cli may see all, inside its commands."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = frozenset({"compression", "jobs", "api", "worker", "client", "cli", "migrations"})
WEB = frozenset({"fastapi", "starlette", "uvicorn"})
SERVICE = WEB | {
    "sqlalchemy",
    "alembic",
    "celery",
    "kombu",
    "redis",
    "obstore",
    "httpx",
    "httpx_sse",
    "huggingface_hub",
    "datasets",
}
SHELL = frozenset({"typer", "rich"})
HEAVY = frozenset({"torch", "transformers"})

FORBIDDEN: dict[str, frozenset[str]] = {
    "compression": (ROOMS - {"compression"}) | SERVICE | SHELL,
    "jobs": (ROOMS - {"jobs", "compression"}) | WEB | SHELL | HEAVY,
    "api": (ROOMS - {"api", "jobs", "compression"}) | SHELL | HEAVY,
    "worker": (ROOMS - {"worker", "jobs", "compression"}) | WEB | SHELL | HEAVY,
    "client": (ROOMS - {"client"}) | (SERVICE - {"httpx", "httpx_sse"}) | SHELL | HEAVY,
    "migrations": (ROOMS - {"migrations", "jobs"}) | WEB | SHELL | HEAVY,
}

# The API validates and estimates with these, so they must do without torch, directly or not.
TORCH_FREE = (
    "compression", "compression.errors", "compression.options", "compression.recipe", "compression.protocol",
    "compression.plan", "compression.report", "compression.events", "compression.families", "compression.models.source",
    "compression.corpora", "compression.verdict", "compression.evaluation_report",
    "compression.formats", "compression.formats.catalog",
    "compression.models.headers", "compression.formats.sizes", "compression.labels",
    "compression.block_files", "compression.token_count",
    "compression.budgets", "compression.estimate", "compression.estimated",
    "compression.evaluation_estimate", "compression.text_load", "compression.work", "compression.formats.rough_sizes",
    "compression.chat", "compression.models.untrusted", "compression.isolation",
    "compression.page", "compression.model_card", "compression.formats.snippets", "compression.memory_series",
    "compression.models.licenses", "compression.figures", "compression.pareto", "compression.recipe_grid",
    "compression.sweep_report", "compression.goals.goal", "compression.goals.levels", "compression.goals.costs",
    "compression.goals.result", "compression.override_words", "compression.families.structure", "compression.structure.units",
)  # fmt: skip

# Each process reads it once, at its entry; settings are passed down.
READS_ENVIRONMENT = {
    "worker/app.py",
    "cli/checkup.py",
    "cli/evaluate.py",
    "cli/local.py",
    "cli/serve.py",
    "cli/service.py",
    "cli/environment.py",
    "cli/worker.py",
    "cli/operator.py",
}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path, *, at_top: bool = False) -> Iterator[str]:
    """Every module that a file imports, by its full name; with `at_top`, only what importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{path} imports relatively"
            yield node.module


def loaded_after(program: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after running `program`."""
    lines = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    )


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_imports_only_what_lies_below_it(room: str) -> None:
    assert sources(room)
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(room)
        for name in imported(path)
        if name.partition(".")[0] in FORBIDDEN[room]
    ]
    assert found == []


def test_migrations_know_nothing_of_the_jobs_but_their_tables() -> None:
    seen = {name for path in sources("migrations") for name in imported(path) if name.partition(".")[0] == "jobs"}
    assert seen <= {"jobs.tables"}


def test_command_line_opens_the_rooms_inside_its_commands() -> None:
    """At their top, files of cli/ import each other; only those behind `serve`, `report` and `compare` may show rooms."""
    opened_by_commands = {
        "stack.py",
        "embedded.py",
        "operator.py",
        "report_text.py",
        "compare_text.py",
        "evaluation_text.py",
        "verdict_text.py",
        "encoder_text.py",
        "report_pictures.py",
    }
    allowed = {"cli", "compression.errors", "compression.words"}  # the latter two import nothing
    found = [
        f"{path.name} imports {name}"
        for path in sources("cli")
        if path.name not in opened_by_commands
        for name in imported(path, at_top=True)
        if name.partition(".")[0] in ROOMS and name.partition(".")[0] not in allowed and name not in allowed
    ]
    assert found == []


def test_help_of_the_command_loads_no_room_and_no_framework() -> None:
    assert not loaded_after("import cli.main") & (SERVICE | HEAVY | {"jobs", "api", "worker", "client"})


def test_torch_free_part_of_the_library_loads_without_torch() -> None:
    assert not loaded_after("\n".join(f"import {module}" for module in TORCH_FREE)) & HEAVY


@pytest.mark.parametrize(
    "modules", ["api.app", "jobs.sourcing.fetch, jobs.housekeeping.maintain", "worker.tasks"], ids=["api", "jobs", "worker"]
)
def test_room_never_loads_torch_not_even_through_others(modules: str) -> None:
    assert not loaded_after(f"import {modules}") & HEAVY


def test_environment_is_read_at_the_entries_only() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in sources(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert readers == READS_ENVIRONMENT
