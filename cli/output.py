"""How commands print: results on stdout, progress on stderr, no colours where nobody looks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(*, is_error: bool = False) -> "Console":
    """A console that never reads markup into a user's text, and does not fold lines that a program will read."""
    from rich.console import Console

    made = Console(stderr=is_error, markup=False, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = 200
    return made


def plain_table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
