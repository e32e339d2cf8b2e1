"""A document of paragraphs, tables and figures, written as Markdown and as HTML, with figures and numbers beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, final

from scalenet_gp.serialization import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Document", "Numbers"]

_STYLE = """body { font: 15px/1.5 sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
figcaption, .note { color: #555; }
code { background: #f4f4f4; }"""

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """A table of numbers, as it is written to CSV.

    Attributes:
        head: names of the columns.
        rows: the rows; None is an empty field.

    Example:
        >>> print(Numbers(("model", "dice"), [("unet", 0.5), ("fpn", None)]).to_csv(), end="")
        model,dice
        unet,0.5
        fpn,
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def to_csv(self) -> str:
        """Return the table as CSV; numbers have all of their digits."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return stream.getvalue()


@final
@dataclass
class Document:
    """Collects the parts of a report, and writes each figure and each table of numbers at once.

    Attributes:
        folder: the folder of the report, which exists.
        title: the title.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     document = Document(Path(folder), "A report")
        ...     document.section("Scores")
        ...     document.table(("model", "Dice"), [("unet", "0.50")])
        ...     document.write().read_text().splitlines()[-3:]
        ['| model | Dice |', '|---|--:|', '| unet | 0.50 |']
    """

    folder: Path
    title: str
    _markdown: list[str] = field(default_factory=list)
    _html: list[str] = field(default_factory=list)

    def section(self, title: str) -> None:
        """Begin a section."""
        self._markdown.append(f"## {title}")
        self._html.append(f"<h2>{escape(title)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._markdown.append(_escaped(text))
        self._html.append(f"<p>{escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table of texts; all columns but the first are aligned at the right."""
        rule = "|---|" + "--:|" * (len(head) - 1)
        lines = [f"| {' | '.join(map(_escaped, row))} |" for row in (head, *rows)]
        self._markdown.append("\n".join([lines[0], rule, *lines[1:]]))
        columns = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._html.append(f"<table>\n<tr>{columns}</tr>\n{body}\n</table>")

    def numbers(self, name: str, numbers: Numbers) -> None:
        """Write a table of numbers to ``NAME.csv``, and add a link to it."""
        with atomic_write(self.folder / f"{name}.csv") as beside:
            beside.write_text(numbers.to_csv(), encoding="utf-8")
        self._markdown.append(f"[{name}.csv]({name}.csv)")
        self._html.append(f'<p class="note"><a href="{name}.csv">{name}.csv</a></p>')

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Write a figure to ``NAME.png`` and ``NAME.svg``, the same bytes for the same figure, and show it."""
        import matplotlib as mpl

        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
            figure.draw_without_rendering()  # lays it out, once for both files
            figure.set_layout_engine("none")
            figure.savefig(self.folder / f"{name}.png", dpi=130)
            figure.savefig(self.folder / f"{name}.svg", metadata={"Date": None})
        self._markdown.append(f"![{_escaped(caption)}]({name}.png)\n\n{_escaped(caption)} ([SVG]({name}.svg))")
        self._html.append(
            f'<figure><a href="{name}.svg"><img src="{name}.png" alt="{escape(caption)}"></a>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def write(self) -> Path:
        """Write ``report.md`` and ``report.html``; return the former."""
        head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
        page = "\n".join([f"{head}<style>{_STYLE}</style></head><body>", f"<h1>{escape(self.title)}</h1>", *self._html])
        text = "\n\n".join([f"# {_escaped(self.title)}", *self._markdown])
        for name, content in (("report.html", f"{page}\n</body></html>"), ("report.md", text)):
            with atomic_write(self.folder / name) as beside:
                beside.write_text(f"{content}\n", encoding="utf-8")
        return self.folder / "report.md"


def _escaped(text: str) -> str:
    """Return a text with the signs escaped that Markdown would take for its own."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|" else sign for sign in text)
