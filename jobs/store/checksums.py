"""Digests of files as text that `sha256sum -c` reads."""

from collections.abc import Iterable

from jobs.tables import Artifact

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})


def sha256sums(files: Iterable[Artifact]) -> str:
    return "".join(_line(file.sha256, file.name) for file in files)


def _line(sha256: str, name: str) -> str:
    """A name that does not fit on a line is escaped, and the line then begins with a backslash."""
    escaped = name.translate(_ESCAPES)
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"
