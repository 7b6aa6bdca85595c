"""A page of text, tables and figures: Markdown beside its figures, or one HTML file with them inside."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xcarbon.core.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 150
_STYLE = """
body { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1f2328; margin: 0; }
main { max-width: 1100px; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .8rem; padding-top: .9rem; border-top: 1px solid #d8dee4; }
p { max-width: 78ch; }
p.lead { font-size: 1.12rem; }
p.note { border-left: 4px solid #d55e00; background: #fff6f0; padding: .6rem .9rem; }
figure { margin: 1.4rem 0; }
figure img { max-width: 100%; }
figcaption, caption { color: #57606a; font-size: .92rem; text-align: left; padding-top: .5rem; }
caption { caption-side: bottom; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th { border-bottom: 2px solid #57606a; vertical-align: bottom; }
th, td { padding: .28rem .7rem; text-align: right; }
table:not(.text) td { white-space: nowrap; }
th:first-child, td:first-child { white-space: nowrap; }
th:first-child, td:first-child, table.text th, table.text td { text-align: left; }
table.text td { vertical-align: top; }
tbody tr:nth-child(even) { background: #f6f8fa; }
tr.total td { border-top: 1px solid #57606a; font-weight: 500; }
.interval { color: #6e7781; font-size: .86em; font-weight: 400; white-space: nowrap; }
table:not(.text) .interval { display: block; line-height: 1.1; }
"""


@dataclass(frozen=True)
class _Text:
    text: str
    kind: str = ""

    def markdown(self, _folder: Path) -> str:
        return f"> {self.text}" if self.kind == "note" else self.text

    def html(self) -> str:
        kind = f' class="{self.kind}"' if self.kind else ""
        return f"<p{kind}>{_inline(self.text)}</p>"


@dataclass(frozen=True)
class _Heading:
    text: str
    level: int

    def markdown(self, _folder: Path) -> str:
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        return f"<h{self.level}>{_inline(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class _Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    is_text: bool

    def markdown(self, _folder: Path) -> str:
        align = ["---"] + ["---" if self.is_text else "---:"] * (len(self.header) - 1)
        lines = [self.header, align, *self.rows]
        text = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        return f"{text}\n\n{self.caption}" if self.caption else text

    def html(self) -> str:
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in self.header)
        body = "".join(self._row(row) for row in self.rows)
        caption = f"<caption>{_inline(self.caption)}</caption>" if self.caption else ""
        kind = ' class="text"' if self.is_text else ""
        return (
            f'<div class="scroll"><table{kind}>{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    @staticmethod
    def _row(row: Sequence[str]) -> str:
        total = ' class="total"' if row[0] == "all" else ""
        return f"<tr{total}>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>"


@dataclass(frozen=True)
class _Figure:
    name: str
    png: bytes
    caption: str

    def markdown(self, folder: Path) -> str:
        with replacing(folder / "figures" / f"{self.name}.png") as path:
            path.write_bytes(self.png)
        return f"![{self.caption}](figures/{self.name}.png)\n\n*{self.caption}*"

    def html(self) -> str:
        data = base64.b64encode(self.png).decode()
        caption = _inline(self.caption)
        image = f'<img alt="{html.escape(self.caption)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


@dataclass
class Page:
    """Text, tables and figures in their order.

    Parameters
    ----------
    title : str
        Title of the page.

    Notes
    -----
    Text may have ``**bold**`` words; all else is as it stands.

    Examples
    --------
    >>> page = Page("Scores")
    >>> page.table(["class", "NSE"], [["ENF", "0.61"]])
    >>> print(page.markdown(Path()))
    # Scores
    <BLANKLINE>
    | class | NSE |
    | --- | ---: |
    | ENF | 0.61 |
    """

    title: str
    _blocks: list[_Text | _Heading | _Table | _Figure] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._blocks.append(_Heading(text, 2))

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph, a ``"lead"`` or a ``"note"``."""
        self._blocks.append(_Text(text, kind))

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str = "",
        *,
        is_text: bool = False,
    ) -> None:
        """Add a table of numbers, or of text; a row that begins with "all" is a total."""
        self._blocks.append(_Table(header, rows, caption, is_text))

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure; ``name`` is that of its file."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        self._blocks.append(_Figure(name, buffer.getvalue(), caption))

    def markdown(self, folder: Path) -> str:
        """Write the figures to a folder, and give the text that shows them."""
        blocks = [_Heading(self.title, 1), *self._blocks]
        return "\n\n".join(block.markdown(folder) for block in blocks)

    def html(self) -> str:
        """Give one file that needs no other."""
        body = "\n".join(block.html() for block in [_Heading(self.title, 1), *self._blocks])
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title>"
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
            f"<body><main>\n{body}\n</main></body></html>\n"
        )

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``figures`` and ``report.html``, each atomically."""
        for name, content in {"report.md": self.markdown(folder) + "\n", "report.html": self.html()}.items():
            with replacing(folder / name) as path:
                path.write_text(content)


def _inline(text: str) -> str:
    """Text as HTML, with bold words, and intervals in the background."""
    escaped = html.escape(text, quote=False)
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    return re.sub(r"(\[[^\[\]]*\d, [^\[\]]*\])", r'<span class="interval">\1</span>', strong)
