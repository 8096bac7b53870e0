"""Which service a command talks to, and with which key."""

import json
import stat
from io import StringIO
from pathlib import Path

import pytest

from cli.config_file import Config, read_config, write_config
from cli.exits import CommandError, Exit
from cli.service import address_file
from tests.api.serving import Served
from tests.cli.conftest import Scalpel

ELSEWHERE = "https://scalpel.example.com"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "scalpel" / "config.toml"


def found(scalpel: Scalpel, *flags: object) -> tuple[str, str, str | None]:
    told = json.loads(scalpel("config", "show", "--json", *flags).out)
    return told["url"], told["url_from"], told["key_from"]


def test_service_and_key_are_found_by_flag_then_environment_then_file_then_note(
    scalpel: Scalpel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(scalpel) == ("http://127.0.0.1:8321", "default", None)
    data = tmp_path / "data"
    data.mkdir()
    (data / "local.key").write_text("scalpel_local")
    address_file(data).write_text(json.dumps({"url": "http://127.0.0.1:9999"}))
    assert found(scalpel) == ("http://127.0.0.1:9999", f"noted in {address_file(data)}", str(data / "local.key"))
    write_config(Config(file, url=ELSEWHERE, api_key="scalpel_file"))
    assert found(scalpel) == (ELSEWHERE, str(file), str(file))
    monkeypatch.setenv("SCALPEL_API_KEY", "scalpel_environment")
    assert found(scalpel)[2] == "SCALPEL_API_KEY"
    monkeypatch.setenv("SCALPEL_URL", "http://127.0.0.1:9998")
    assert found(scalpel)[0] == "http://127.0.0.1:9998"
    assert found(scalpel, "--url", "http://127.0.0.1:9997")[0] == "http://127.0.0.1:9997"


def test_key_is_shown_to_no_other_service(scalpel: Scalpel, file: Path, tmp_path: Path) -> None:
    write_config(Config(file, url=ELSEWHERE, api_key="scalpel_file"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "local.key").write_text("scalpel_local")
    assert found(scalpel, "--url", "https://other.example.com")[2] is None
    assert found(scalpel, "--url", f"{ELSEWHERE}/")[2] == str(file)


def test_service_of_the_file_is_asked(
    scalpel: Scalpel, service: Served, file: Path, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCALPEL_URL")
    monkeypatch.delenv("SCALPEL_API_KEY")
    (file.parent).mkdir(parents=True)
    (file.parent / "key").write_text(f"{api_key}\n")
    (file.parent / "key").chmod(0o600)
    assert scalpel("config", "set", "url", service.url).code == Exit.OK
    assert scalpel("config", "set", "key_file", "key").code == Exit.OK
    ran = scalpel("jobs")
    assert (ran.out, ran.err) == ("no jobs\n", "")
    (file.parent / "key").chmod(0o644)
    warned = scalpel("jobs")
    assert (warned.code, "others can read the key" in warned.error_line) == (Exit.OK, True)


def test_settings_are_written_for_their_owner_alone(scalpel: Scalpel, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO('scalpel_"quoted"\\\n'))
    assert scalpel("config", "set", "api_key").code == Exit.OK
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_config(file).api_key == 'scalpel_"quoted"\\'
    assert scalpel("config", "unset", "api_key").code == Exit.OK
    assert read_config(file) == Config(file)
    assert scalpel("config", "set", "colour", "blue").code == Exit.REFUSED


@pytest.mark.parametrize("content", ["url = 3", "colour = 'blue'", "url", "\x00"], ids=repr)
def test_file_that_is_not_ours_is_refused_in_one_line(scalpel: Scalpel, file: Path, content: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(content)
    ran = scalpel("jobs")
    assert (ran.code, str(file) in ran.error_line) == (Exit.REFUSED, True)


def test_key_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(CommandError, match="key file"):
        Config(file, key_file="nowhere").key()
