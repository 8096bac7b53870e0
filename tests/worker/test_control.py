import os
import subprocess
import sys

import pytest
from pydantic import BaseModel

from compression.errors import Cancelled
from compression.events import ActivityStarted, BlockFinished, Stage, StageStarted
from tests.waiting import wait_until
from worker.control import SUPERVISOR_IS_GONE, Command, Control

BLOCKS = 3


def stage(name: Stage) -> StageStarted:
    return StageStarted(stage=name)


def at_work(block: int) -> ActivityStarted:
    return ActivityStarted(activity="solving", block=block, blocks=BLOCKS)


def finished(block: int) -> BlockFinished:
    return BlockFinished(
        block=block, blocks=BLOCKS, fraction=block / BLOCKS, eta_s=None, mean_relative_error=None, host_memory_bytes=0,
        device_memory_bytes=None, is_replayed=False,
    )  # fmt: skip


def events_until_stopped(command: Command | None, *events: BaseModel) -> int:
    """How many of these events come through, where the command was heard before the first."""
    reading, writing = os.pipe()
    os.write(writing, b"the spec\n" + (command.to_line() if command else b""))
    os.close(writing)
    control = Control(reading)
    assert control.read_line() == b"the spec"
    if command:
        control._commands.add(control.read_line().decode())
    sent: list[BaseModel] = []
    obeyed = control.obeyed(sent.append)
    try:
        for event in events:
            obeyed(event)
    except Cancelled:
        pass
    os.close(reading)
    return len(sent)


PASS = (
    stage("compressing"), at_work(1), at_work(1), finished(1), at_work(2), finished(2), at_work(3), finished(3), at_work(0),
    stage("exporting"), stage("verifying"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("command", "events", "count"),
    [
        (None, PASS, len(PASS)),
        (Command.STOP, PASS[1:], 1),
        (Command.DRAIN, PASS, 1),
        (Command.DRAIN, (at_work(0), *PASS[1:]), 1),
        (Command.STOP, PASS[-1:], 1),
    ],
    ids=["nothing-said", "stop-in-a-block", "drain-before-the-first-block", "drain-while-loading", "stop-while-verifying"],
)
def test_commands_are_obeyed_at_the_next_event_that_allows_it(
    command: Command | None, events: tuple[BaseModel, ...], count: int
) -> None:
    assert events_until_stopped(command, *events) == count


def test_draining_ends_with_the_block_and_after_the_last_one_with_the_job() -> None:
    control = Control()
    obeyed = control.obeyed(lambda _: None)
    for begun in PASS[:2]:
        obeyed(begun)
    control._commands.add(Command.DRAIN)
    obeyed(PASS[2])
    with pytest.raises(Cancelled):
        obeyed(PASS[3])
    for later in PASS[6:]:
        obeyed(later)


def test_draining_lets_an_evaluation_end_since_nothing_of_it_is_kept() -> None:
    control = Control()
    obeyed = control.obeyed(lambda _: None)
    obeyed(stage("evaluating"))
    control._commands.add(Command.DRAIN)
    for block in (1, 2):
        obeyed(at_work(block))
        obeyed(finished(block))


def test_commands_that_follow_the_spec_closely_are_heard_and_the_end_ends_the_process() -> None:
    program = """
import time
from compression.errors import Cancelled
from worker.control import Control
control = Control()
print(control.read_line().decode(), flush=True)
control.listen()
while True:
    time.sleep(0.01)
    try:
        control.check()
    except Cancelled:
        break
print("told", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"spec\ndrain\n")
        process.stdin.flush()
        assert [process.stdout.readline(), process.stdout.readline()] == [b"spec\n", b"told\n"]
        process.stdin.close()
        wait_until(lambda: process.poll() == SUPERVISOR_IS_GONE)
