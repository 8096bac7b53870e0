"""The licence is what the model's card names, and nothing that only looks like it."""

from pathlib import Path

import pytest

from compression.models.licenses import MAX_CARD_BYTES, named_license


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("# A model\nlicense: mit\n", None),
        ("---\nlicense:\n  - mit\n---\n", None),
        ("---\nlicense: mit <script>\n---\n", None),
        ("---\nlicense: mit", None),
        ("---\n" + "x" * MAX_CARD_BYTES + "\nlicense: mit\n---\n", None),
    ],
    ids=["plain", "quoted", "after the metadata", "without metadata", "a list", "no identifier", "cut", "far too long"],
)
def test_license_of_a_card(tmp_path: Path, card: str, found: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert named_license(tmp_path) == found


def test_no_card_no_license(tmp_path: Path) -> None:
    assert named_license(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\n\xff\xfe\n---")
    assert named_license(tmp_path) is None
    assert named_license(tmp_path / "README.md") is None  # a single file is no folder
