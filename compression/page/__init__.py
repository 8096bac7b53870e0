"""A report as a page: one self-contained HTML file, or a part of another page, drawn from the report alone. Torch-free."""

from compression.page.render import REPORT_STYLE, AnyReport, fragment, render

__all__ = ["REPORT_STYLE", "AnyReport", "fragment", "render"]
