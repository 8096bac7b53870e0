"""The user's own settings of the command: a service's address and key, in `config.toml`."""

import json
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.exits import CommandError, Exit

NAMES = ("url", "api_key", "key_file")


@dataclass(frozen=True)
class Config:
    """What the file says; None for what it does not. Args: path: of the file, which need not be there."""

    path: Path
    url: str | None = None
    api_key: str | None = None
    key_file: str | None = None

    def key(self) -> str | None:
        """The key itself, from wherever it is kept. Raises: CommandError: the key file cannot be read."""
        if self.api_key or not self.key_file:
            return self.api_key
        file = self._key_path()
        try:
            return file.read_text(encoding="ascii").strip() or None
        except (OSError, ValueError) as error:
            raise CommandError(f"{self.path} names the key file {file}, which cannot be read", Exit.REFUSED) from error

    def exposed(self) -> Path | None:
        """The file that holds the key, if others on this machine can read it."""
        file = self.path if self.api_key else self._key_path() if self.key_file else None
        if file is None or not file.exists():
            return None
        return file if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) else None

    def _key_path(self) -> Path:
        return self.path.parent / Path(self.key_file or "").expanduser()


def config_path(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "scalpel" / "config.toml"


def read_config(path: Path) -> Config:
    """Raises: CommandError: the file is not one of ours; nothing of it is shown, as it may hold a key."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read as TOML", Exit.REFUSED) from error
    unknown = sorted(set(said) - set(NAMES))
    if unknown or not all(isinstance(value, str) for value in said.values()):
        raise CommandError(f"{path} may hold the texts {', '.join(NAMES)} and nothing else", Exit.REFUSED)
    return Config(path, **said)


def write_config(config: Config) -> None:
    """In one step, readable by its owner alone."""
    lines = [f"{name} = {_quoted(value)}\n" for name in NAMES if (value := getattr(config, name)) is not None]
    config.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = config.path.with_name(f".{config.path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(config.path)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # what JSON escapes, TOML reads as JSON does
