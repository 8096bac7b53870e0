"""SVG elements as strings that are safe to put into a page: whatever is not an element already is escaped."""

import math

from markupsafe import Markup, escape

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they would show a text in another order


def clean(text: str) -> str:
    """A text without what no page may hold, and what would disturb the text around it; line breaks stay."""
    return "".join("\ufffd" if _disturbs(sign) else sign for sign in text)


def _disturbs(sign: str) -> bool:
    code = ord(sign)
    is_control = (code < 32 and sign not in "\n\t") or 127 <= code < 160 or code in (0x2028, 0x2029)
    return is_control or sign in _TURNING or 0xD800 <= code < 0xE000


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Underscores in the names of attributes become hyphens; `class_` is `class`."""
    given = "".join(f' {_attribute(key)}="{_escaped(value)}"' for key, value in attributes.items())
    inside = "".join(map(_escaped, children))
    return Markup(f"<{name}{given}>{inside}</{name}>" if children else f"<{name}{given}/>")  # noqa: S704  escaped above


def drawing(width: float, height: float, title: str, description: str, *children: object) -> Markup:
    """A whole image with its accessible name; it shrinks with the page."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=number(width),
        height=number(height),
        role="img",
        aria_label=title,
    )


def words(x: float, y: float, text: object, anchor: str = "start", class_: str = "") -> Markup:
    attributes = {"class_": class_} if class_ else {}
    return element("text", text, x=number(x), y=number(y), text_anchor=anchor, **attributes)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str = "axis") -> Markup:
    return element("line", x1=number(x1), y1=number(y1), x2=number(x2), y2=number(y2), class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> Markup:
    """A rectangle, with what a pointer on it is told."""
    inside = (element("title", title),) if title else ()
    return element(
        "rect", *inside, x=number(x), y=number(y), width=number(max(width, 0.0)), height=number(height), class_=class_
    )


def is_drawable(value: float) -> bool:
    """Whether a value has a length: it is positive, and no more extreme than anything real. Others have words alone."""
    return 1e-100 < value < 1e100


def ticks(highest: float, wanted: int = 5) -> list[float]:
    """Round numbers from 0 to at least `highest`; up to 1 where that is nothing to draw."""
    if not is_drawable(highest):
        highest = 1.0
    raw = highest / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [step * index for index in range(math.ceil(highest / step * 0.999) + 1)]


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _attribute(key: str) -> str:
    return "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _escaped(value: object) -> str:
    return str(value if isinstance(value, Markup) else escape(clean(str(value))))
