"""`scalpel doctor`: is everything here that the command, a service and its workers need?"""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cli.exits import Exit
from cli.listing import Json, print_json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url

if TYPE_CHECKING:
    from cli.checkup import Finding


def doctor(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> int:
    """Check this installation: Python, libraries, loaders, devices, memory, disk, ports, the bundled queue, the service.

    Each line is ok, warn or fail, with the cure. Exits 1 when one failed.
    """
    from cli.checkup import examine

    findings = []
    for finding in examine(url, data_dir):
        findings.append(finding)
        if not is_json:
            typer.echo(_line(finding))
    if is_json:
        print_json([asdict(finding) for finding in findings])
    else:
        counts = Counter(finding.state for finding in findings)
        typer.echo(", ".join(f"{counts[state]} {state}" for state in ("ok", "warn", "fail")))
    return Exit.FAILED if any(finding.state == "fail" for finding in findings) else Exit.OK


def _line(finding: "Finding") -> str:
    return f"{finding.state:<5} {finding.what:<12} {finding.detail}" + (f"; {finding.cure}" if finding.cure else "")
