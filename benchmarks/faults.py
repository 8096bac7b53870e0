"""Random SIGKILLs to every process of a running service: nothing may be lost, doubled or left lying about.

    nice python -m benchmarks.faults --json faults.json
    nice python -m benchmarks.faults --broker-away 120 --jobs 8

Protocol: PostgreSQL, an S3 server and Valkey as processes, one interface, one housekeeper and two workers (each with work
folders of its own), every one started again 0.2 s after it has died. The same requests run twice, on a new database and a new
bucket each: undisturbed, then with `--kills` SIGKILLs at random moments, spread over as long as the undisturbed run took.
Where all jobs end before the last kill, all are asked for once more. A client submits, asks again where the interface was
away, and watches the events of every job. Then database, store and disk are read themselves. Kills cost attempts, so that
`max_attempts` is 1000 here: with the service's own default of 3 a job that is killed three times fails, as it should.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.disturbances import KINDS, BrokerOutage, Killer
from benchmarks.fault_audit import JobFacts, facts, garbage, violations
from benchmarks.fault_requests import Asked, requests
from benchmarks.fault_run import Run, run
from benchmarks.results import Row, print_table, write_json
from compression import environment
from tests.stack import Stack, real_servers
from tests.waiting import wait_until

WORKERS = 2
UNDISTURBED_TIMEOUT_S = 1800.0


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="scalpel-faults-") as made:
        folder = args.keep or Path(made)
        asked = requests(args.jobs, folder / "models", args.nsamples)
        rows, found = measure(folder, asked, args.kills, args.seed, args.broker_away)
    print_table(rows)
    for sentence in found:
        print("VIOLATION", sentence)
    if args.json:
        machine = environment.describe(torch.device("cpu"), torch.float32).model_dump()
        write_json(args.json, "faults", {**machine, **_conditions(args), "violations": found}, rows)
    sys.exit(1 if found else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 jobs and 5 kills, one of each kind")
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--broker-away", type=float, metavar="SECONDS", help="instead of kills: the broker, for so long")
    parser.add_argument("--nsamples", type=int, default=96, help="calibration windows of 64 tokens in each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for everything that is made, logs included; default: removed")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.jobs, args.kills, args.nsamples = 3, len(KINDS), 16
    return args


def _conditions(args: argparse.Namespace) -> dict[str, Any]:
    return {"jobs": args.jobs, "kills": args.kills, "broker_away_s": args.broker_away, "seed": args.seed, "workers": WORKERS}


def measure(folder: Path, asked: Sequence[Asked], kills: int, seed: int, away_s: float | None) -> tuple[list[Row], list[str]]:
    """Both runs. Args: away_s: of the broker; None: there are kills instead. Returns: the figures, and what does not hold."""
    models = folder / "models"
    with real_servers(folder / "calm-servers") as settings, Stack(folder / "calm", settings, models, WORKERS) as stack:
        calm = run(stack, asked, UNDISTURBED_TIMEOUT_S)
        expected, found = facts(stack, calm), [f"undisturbed: {each}" for each in violations(stack, calm)]
    print(f"undisturbed: {calm.wall_s:.1f} s", flush=True)
    with real_servers(folder / "servers") as settings, Stack(folder / "killed", settings, models, WORKERS) as stack:
        killer = Killer(stack, seed, kills, calm.wall_s / kills)
        disturbance = killer if away_s is None else BrokerOutage(stack, away_s)
        disturbed = run(stack, asked, 10 * calm.wall_s + 600, disturbance)
        actual = facts(stack, disturbed)
        found += violations(stack, disturbed)
        found += _differences(expected, actual, len(asked))
        wait_until(stack.is_whole, 10)  # the last kill may have been just now
        starts = sum(kept.starts for kept in stack.kept.values())
        unreferenced = garbage(stack)
        found += _left(stack)
    if away_s is None and disturbed.kills.total() < kills:
        found.append(f"the jobs ended after {disturbed.kills.total()} of {kills} kills")
    return [*_rows(calm, disturbed, actual), Row("store", "files without a row", unreferenced, "files"),
            Row("processes", "started", starts, "times"), Row("audit", "violations", len(found), "")], found  # fmt: skip


def _differences(expected: dict[int, JobFacts], actual: dict[int, JobFacts], count: int) -> list[str]:
    """Args: expected: of the `count` requests. actual: of the same, asked as often as it took until the last kill."""
    found = [f"request {index}: no report" for index in range(count) if index not in actual]
    for index, each in sorted(actual.items()):
        alike = expected.get(index % count)
        if alike is None or each.digest != alike.digest:
            found.append(f"request {index}: another payload digest than undisturbed")
    return found


def _left(stack: Stack) -> list[str]:
    """Stop in order, start the workers again, which tidy up, stop: neither process nor work folder may be left."""
    found = [f"{name} ended with {code} on SIGTERM" for name, code in stack.stop().items() if code != 0]
    found += [f"still running: {command}" for command in stack.left_behind()]
    for number in range(WORKERS):
        stack.start(f"worker-{number}")
    try:
        wait_until(lambda: not stack.scratch(), 90)
    except AssertionError:
        found += [f"work folder left: {path}" for path in stack.scratch()]
    return found


def _rows(calm: Run, disturbed: Run, actual: dict[int, JobFacts]) -> list[Row]:
    attempts, rounds = [each.attempts for each in actual.values()], len(disturbed.ids) // len(calm.ids)
    kills = [Row("kills", kind, disturbed.kills[kind], "SIGKILL") for kind in KINDS]
    return [
        Row("wall time", "undisturbed", calm.wall_s, "s"),
        Row("wall time", "disturbed", disturbed.wall_s, "s", calm.wall_s * rounds, "undisturbed"),
        *kills,
        Row("kills", "all", disturbed.kills.total(), "SIGKILL"),
        Row("jobs", "asked", len(disturbed.ids), "jobs"),
        Row("jobs", "succeeded", len(actual), "jobs"),
        Row("jobs", "attempts, mean", statistics.fmean(attempts), ""),
        Row("jobs", "attempts, most", max(attempts), ""),
        Row("jobs", "attempts, all", sum(attempts), ""),
        Row("jobs", "blocks replayed", sum(each.replayed_blocks for each in actual.values()), "blocks"),
        Row("events", "seen by watchers", sum(map(len, disturbed.seen.values())), "events"),
    ]


if __name__ == "__main__":
    main()
