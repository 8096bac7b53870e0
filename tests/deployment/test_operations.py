"""docs/operations.md says what is."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from cli.main import app
from jobs.settings import PREFIX, Settings
from tests.deployment.composition import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def script() -> ModuleType:
    path: Path = ROOT / "scripts" / "settings_table.py"
    spec = importlib.util.spec_from_file_location("settings_table", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_settings_is_the_one_of_the_code() -> None:
    assert script().page(PAGE) == PAGE, "run scripts/settings_table.py"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description and description.endswith(".") and "|" not in description


def test_no_setting_is_named_that_does_not_exist() -> None:
    named = set(re.findall(rf"`{PREFIX}([A-Z0-9_]+)`", PAGE)) - {"TEST_POSTGRESQL_URL"}
    assert {name.lower() for name in named} == set(Settings.model_fields)


def test_commands_are_those_of_the_command_line() -> None:
    named = set(re.findall(r"`scalpel ([a-z]+)", PAGE))
    assert named and named <= set(get_command(app).commands)  # type: ignore[attr-defined]  # a group


def test_sections_of_the_outline_are_there() -> None:
    outline = set(re.findall(r"\[[^]]+\]\(#([a-z-]+)\)", PAGE))
    sections = {
        title.lower().replace(",", "").replace(" ", "-") for title in re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    }
    assert outline == sections
