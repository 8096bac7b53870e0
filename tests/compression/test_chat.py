"""Chat templates: what real ones need works; what hostile ones try is refused within seconds."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from compression import chat
from compression.chat import Limits, render_chat, render_chats
from compression.errors import InvalidTemplate

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_LIKE = """{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- if strftime_now is defined %}{%- set today = strftime_now('%d') %}{%- else %}{%- set today = '26 Jul 2024' %}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{%- set ns.system = message.content %}{%- continue %}{%- endif %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == (1 if ns.system else 0)) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- generation %}{{- message | tojson }}{%- endgeneration %}
{%- endfor %}
{{- today }}"""
HELLO = [{"role": "user", "content": " Hello <there> "}, {"role": "assistant", "content": "Hi"}]
TIGHT = Limits(characters=100_000, seconds=1, memory_bytes=300_000_000)

HOSTILE = {
    "class walk": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a method": "{{ messages.append.__globals__ }}",
    "globals of a global": "{{ raise_exception.__globals__['sys'] }}",
    "self": "{{ self._TemplateReference__context.environment }}",
    "attribute filter": "{{ '' | attr('__class__') }}",
    "attribute through map": "{{ [''] | map(attribute='__class__') | list | first }}{{ 1/0 }}",
    "format string": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}{{ 1/0 }}",
    "format filter": "{{ '%999999999d' | format(1) }}",
    "changes the messages": "{{ messages.clear() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'base' %}",
    "long range": "{% for i in range(10**9) %}{{ i }}{% endfor %}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "giant string": "{{ 'a' * 10**9 }}",
    "doubling string": "{% set n = namespace(x='aa') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "giant number": "{{ 9 ** (9 ** 9) }}",
    "much output": "{% for i in range(99999) %}{{ 'abcdefghijklmnop' }}{% endfor %}",
    "endless macro": "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    "deep nesting": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "deep blocks": "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "giant width": "{{ '%*d' % (10**9, 1) }}",
    "no template": "{% for %}",
    "no such filter": "{{ 1 | xmlattr }}",
    "surrogates": "{{ '\ud800' }}{{ 1/0 }}",
    "too long": " " * (chat.MAX_TEMPLATE_CHARACTERS + 1),
}  # fmt: skip


def test_roles_and_contents_become_text() -> None:
    text = render_chat(HELLO, CHATML, variables={"add_generation_prompt": True})
    assert text == "<|im_start|>user\nHello <there><|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_what_templates_in_the_field_use_is_there_but_no_clock() -> None:
    text = render_chat([{"role": "system", "content": "S"}, *HELLO], LLAMA_LIKE, variables={"bos_token": "<s>"})
    messages = '{"role": "user", "content": " Hello <there> "}{"role": "assistant", "content": "Hi"}'
    assert text == f"<s>{messages}26 Jul 2024"


def test_many_conversations_keep_their_order() -> None:
    conversations = [[{"role": "user", "content": f"ü{number}\ud83d"}] for number in range(1000)]
    assert render_chats(conversations, "{{ messages[0].content }}") == [f"ü{number}\ud83d" for number in range(1000)]


def test_refusal_names_the_conversation_and_what_the_template_says() -> None:
    with pytest.raises(InvalidTemplate, match=r"conversation 1: .*roles must alternate"):
        render_chats([HELLO, HELLO[::-1]], LLAMA_LIKE)


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_template_is_refused_within_seconds(template: str) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidTemplate):
        render_chat(HELLO, template, limits=TIGHT)
    assert time.monotonic() - started < 30  # a busy machine; the limit is one second of processor time


def test_waiting_has_an_end_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(chat, "_PROGRAM", sleeper)
    monkeypatch.setattr(chat, "_START_S", 0.2)
    with pytest.raises(InvalidTemplate, match="took longer"):
        render_chat(HELLO, CHATML, limits=Limits(seconds=0))


@pytest.mark.parametrize("answer", ["", "[]", '{"rendered": []}', '{"rendered": [1]}', '{"rendered": "x"}', "[" * 100_000])
def test_answer_of_a_process_that_was_taken_over_is_not_believed(
    answer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text(f"print({answer!r})")
    monkeypatch.setattr(chat, "_PROGRAM", liar)
    with pytest.raises(InvalidTemplate, match="without an answer"):
        render_chat(HELLO, CHATML)


@pytest.mark.parametrize("messages", [[{"role": {1, 2}}], [{"role": b"x"}]], ids=["a set", "bytes"])
def test_messages_that_are_no_json_are_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidTemplate, match="no JSON"):
        render_chat(messages, CHATML)


def test_program_sees_nothing_of_its_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALPEL_HUB_TOKEN", "secret")
    spy = tmp_path / "spy.py"
    spy.write_text("import os, json; print(json.dumps({'rendered': [' '.join(sorted(os.environ))]}))")
    monkeypatch.setattr(chat, "_PROGRAM", spy)
    assert render_chat(HELLO, CHATML) in ("", "LC_CTYPE")


def test_module_loads_neither_torch_nor_jinja() -> None:
    program = "import compression.chat, sys; print({'torch', 'transformers', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
