"""A picture as text, shown by notebooks and saved to files."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """A picture: `text` is SVG or Graphviz DOT, as `format` ("svg" or "dot") says. Notebooks show an SVG by
    itself.
    """

    text: str
    format: str = "svg"

    @property
    def svg(self) -> str:
        """The SVG text.

        Raises:
            ValueError: this drawing is DOT text.
        """
        if self.format != "svg":
            raise ValueError(f"this drawing is {self.format} text: ask for format='svg' to get SVG")
        return self.text

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the text to the file `path` and return its path; the folder must exist."""
        target = Path(path)
        target.write_text(self.text, encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return f"<drawing: {len(self.text):,} characters of {self.format}>"

    def _repr_svg_(self) -> str | None:
        return self.text if self.format == "svg" else None
