"""Writes the table of settings in docs/operations.md from jobs/settings.py: run it after changing a setting.

python scripts/settings_table.py
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.settings import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- settings: made by scripts/settings_table.py -->\n", "<!-- settings end -->\n"


def table() -> str:
    """Every setting, its default and what it means."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description or ''} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows]) + "\n"


def page(text: str) -> str:
    """The page with the table as it must be now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "in the data folder"
    return _written(field.default)


def _written(value: Any) -> str:
    if value is None or value == () or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
