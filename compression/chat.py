"""Chat messages -> text, by the template that a model or a user brings: a program of somebody else's, so it runs in a cage.

Jinja's sandbox keeps a template from Python's insides, but a loop or a string of any size is legal in it. The template is
therefore rendered by another process (`chat_program.py`) with nothing in its environment and hard limits on time, memory,
output and files, which the kernel holds, and where it can without network and files. Torch-free.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from compression.errors import InvalidTemplate
from compression.isolation import Reach, isolated

Conversation = Sequence[Mapping[str, Any]]  # messages, such as {"role": "user", "content": "..."}

MAX_TEMPLATE_CHARACTERS = 256 * 1024  # the longest ones in the field have some 30,000
MAX_INPUT_BYTES = 64 * 1024 * 1024
_PROGRAM = Path(__file__).with_name("chat_program.py")
_START_S = 20.0  # for the interpreter, on a machine that is busy


@dataclass(frozen=True)
class Limits:
    """Of one call. Args: characters: of all rendered texts; seconds: of processor time, and again of waiting beyond it."""

    characters: int = 64 * 1024 * 1024
    seconds: int = 30
    memory_bytes: int = 1024 * 1024 * 1024


def render_chat(
    messages: Conversation, template: str, *, variables: Mapping[str, Any] | None = None, limits: Limits = Limits()
) -> str:
    """One conversation as text. As `render_chats`, which costs no more for many."""
    return render_chats([messages], template, variables=variables, limits=limits)[0]


def render_chats(
    conversations: Sequence[Conversation],
    template: str,
    *,
    variables: Mapping[str, Any] | None = None,
    limits: Limits = Limits(),
) -> list[str]:
    """Conversations as text, in one process that takes some 0.1 s to start.

    Args:
        template: Jinja, as in `chat_template` of tokenizer_config.json. It sees `messages`, the variables, `range`,
            `namespace`, `dict`, `raise_exception`, common filters, and no clock: the same messages always give the same text.
        variables: what else it sees, such as `bos_token`, `eos_token` or `add_generation_prompt`.
    Raises: InvalidTemplate: it is no template, refuses the messages, reaches for what it may not, or exceeds a limit.
    """
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise InvalidTemplate(f"the chat template has {len(template)} characters, more than {MAX_TEMPLATE_CHARACTERS}")
    task = {
        "template": template,
        "conversations": [[dict(message) for message in messages] for messages in conversations],
        "variables": {"add_generation_prompt": False, "tools": None, "documents": None, **(variables or {})},
        "limits": limits.__dict__,
    }
    try:
        line = json.dumps(task).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTemplate(f"the messages are no JSON: {error}") from error
    if len(line) > MAX_INPUT_BYTES:
        raise InvalidTemplate(
            f"template and messages have {len(line)} bytes, more than {MAX_INPUT_BYTES}; give fewer at a time"
        )
    with tempfile.TemporaryFile() as output:
        _run(line, output, limits)
        return _read(output, len(conversations))


def _run(line: bytes, output: IO[bytes], limits: Limits) -> None:
    """Its answer goes into a file, which the kernel keeps from growing; its complaints go nowhere."""
    command = isolated((sys.executable, "-I", str(_PROGRAM)), Reach())
    try:
        done = subprocess.run(  # noqa: S603  our own program
            command,
            input=line,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            timeout=_START_S + 2 * limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidTemplate(f"rendering the chat template took longer than {error.timeout:g} s") from error
    if done.returncode != 0:
        allowed = f"{limits.seconds} s of processor time, {limits.memory_bytes / 1e6:.0f} MB, {limits.characters} characters"
        raise InvalidTemplate(f"rendering the chat template was ended ({_ending(done.returncode)}) at its limits: {allowed}")


def _read(output: IO[bytes], count: int) -> list[str]:
    """What the program answered, believed no further than its shape: a template that broke out would write here, too."""
    output.seek(0)
    try:
        answer = json.loads(output.read())
        error, rendered, index = answer.get("error"), answer.get("rendered"), answer.get("conversation")
    except (ValueError, AttributeError, RecursionError) as broken:
        raise InvalidTemplate("rendering the chat template ended without an answer") from broken
    if error is not None:
        where = f", conversation {index}" if isinstance(index, int) and count > 1 else ""
        raise InvalidTemplate(f"the chat template cannot be used{where}: {error}")
    if not isinstance(rendered, list) or len(rendered) != count or any(not isinstance(text, str) for text in rendered):
        raise InvalidTemplate("rendering the chat template ended without an answer")
    return rendered


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
