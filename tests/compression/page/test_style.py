"""Colours can be read in both schemes, and in print: WCAG 2.2, 1.4.3 (text 4.5 : 1) and 1.4.11 (bars and lines 3 : 1)."""

import re
from pathlib import Path

import pytest

import compression.page

FOLDER = Path(compression.page.__file__).parent
STYLE = (FOLDER / "style.css").read_text("utf-8") + (FOLDER / "report.css").read_text("utf-8")
HEX = "(#[0-9a-f]{6})"
PAIRS = {name: colours for name, *colours in re.findall(rf"--(\w+): light-dark\({HEX}, {HEX}\);", STYLE)}
LIGHT, DARK = ({name: colours[number] for name, colours in PAIRS.items()} for number in (0, 1))
SCHEMES = {"light": LIGHT, "dark": DARK, "print": LIGHT | dict(re.findall(rf"--(\w+): {HEX};", STYLE))}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_have_contrast(scheme: str) -> None:
    colours = SCHEMES[scheme]
    pairs = [(text, ground, 4.5) for text in ("text", "quiet", "good", "bad", "open") for ground in ("ground", "raised")]
    pairs += [(mark, "ground", 3.0) for mark in ("before", "after", "p0", "p1", "p2", "p3")]
    pairs += [("low", f"h{step}", 4.5) for step in range(4)] + [("middle", "h4", 4.5)]
    pairs += [("high", f"h{step}", 4.5) for step in range(5, 8)]
    found = {(one, other): round(contrast(colours[one], colours[other]), 2) for one, other, _ in pairs}
    assert {pair: found[pair] for pair in found if found[pair] < next(x for a, b, x in pairs if (a, b) == pair)} == {}
