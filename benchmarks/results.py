"""What every benchmark prints: a table for people, one JSON document for machines."""

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compression.environment import processor


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Args:
        reference: the figure that it is held against, if there is one.
        source: whose reference that is.
    """

    case: str
    metric: str
    value: float
    unit: str
    reference: float | None = None
    source: str | None = None


def print_table(rows: list[Row]) -> None:
    """One line a figure, with the ratio to its reference."""
    width = max(len(row.case) for row in rows)
    for row in rows:
        line = f"{row.case:{width}}  {row.metric:28} {row.value:12.4g} {row.unit:10}"
        if row.reference is not None:
            line += f" reference {row.reference:g} ({row.source})"
            line += f", ratio {row.value / row.reference:.3f}" if row.reference else ""
        print(line)


def write_json(path: Path, benchmark: str, environment: dict[str, Any], rows: list[Row]) -> None:
    """The document of the design page: benchmark, commit, date, environment, rows."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    document = {
        "benchmark": benchmark,
        "commit": commit or None,
        "date": datetime.now(UTC).date().isoformat(),
        "environment": {"processor": processor(), **environment},
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
