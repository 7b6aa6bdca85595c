"""A page of text, tables and figures, written as Markdown with figure files and as one HTML file."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from xcarbon.core.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Page:
    """Text, tables and figures in the order of their addition; ``**bold**`` is the only markup in text."""

    title: str
    _blocks: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Add the heading of a section."""
        self._blocks.append({"type": "heading", "text": text})

    def text(self, text: str, style: str = "") -> None:
        """Add a paragraph, optionally with the style ``"lead"`` or ``"note"``."""
        self._blocks.append({"type": "text", "text": text, "style": style})

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str = "",
        *,
        is_text: bool = False,
    ) -> None:
        """Add a table of numbers or of text; a row that begins with "all" is a total."""
        table = {"header": header, "rows": rows, "caption": caption, "is_text": is_text}
        self._blocks.append({"type": "table", **table})

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure; ``name`` is the name of its file."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        self._blocks.append({"type": "figure", "name": name, "png": buffer.getvalue(), "caption": caption})

    def write(self, folder: Path) -> None:
        """Write ``report.md`` with its ``figures``, and ``report.html``, which embeds them, atomically."""
        files = {f"figures/{b['name']}.png": b["png"] for b in self._blocks if b["type"] == "figure"}
        templates = _templates()
        for name in ("report.md", "report.html"):
            text = templates.get_template(name).render(title=self.title, blocks=self._blocks)
            files[name] = text.encode()
        for name, content in files.items():
            with replacing(folder / name) as path:
                path.write_bytes(content)


def _templates() -> jinja2.Environment:
    """Return the templates of this package; those of HTML escape their values."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xcarbon.reports"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"base64": lambda data: base64.b64encode(data).decode(), "marked": _marked}
    return environment


def _marked(text: str) -> str:
    """Convert text to HTML with bold words, and mark intervals, which are printed smaller."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text, quote=False))
    return re.sub(r"(\[[^\[\]]*\d, [^\[\]]*\])", r'<span class="interval">\1</span>', strong)
