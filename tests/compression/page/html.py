"""Reads a page as a browser does, as far as tests need it: elements in their order, and the text that is seen."""

from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})
BLOCK = frozenset({"h1", "h2", "h3", "p", "div", "tr", "li", "pre", "figcaption", "caption"})


class Page(HTMLParser):
    """Raises: AssertionError: an element is closed that is not open, or left open."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._text = ""
        self.feed(page)
        self.close()
        assert self._open == []

    @property
    def lines(self) -> list[str]:
        """What is read in the body, line by line."""
        return [" ".join(line.split()) for line in self._text.splitlines() if line.strip()]

    @property
    def text(self) -> str:
        return self._text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"
        self._text += "\n" if tag in BLOCK else " "

    def handle_data(self, data: str) -> None:
        if "body" in self._open:
            self._text += data if "pre" in self._open else data.replace("\n", " ")
