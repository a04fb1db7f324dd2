"""DOT text in the style of the lecture's `draw_dot`, for those who have Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chainrule_engine.drawing.boxes import Box
from chainrule_engine.drawing.text import shorten

_HEADER = """\
digraph computation {
  graph [rankdir="LR"];
  node [fontname="monospace" fontsize=11];
  edge [fontname="monospace" fontsize=9 color="#5f6b76"];
"""

# Shape and border tell the roles apart without colour too.
_STYLES = {
    "input": 'style="filled,rounded" fillcolor="#e3f1fb" color="#0072b2"',
    "constant": 'style="rounded,dashed" color="#757575"',
    "node": 'color="#333333"',
    "output": 'style="filled" fillcolor="#fff3d6" color="#b36b00" penwidth=2.5',
}

# What means something inside any label (`&` begins an entity), and what does inside a record's.
_LABEL = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;"})
_RECORD = _LABEL | str.maketrans({character: f"\\{character}" for character in "{}|<>"})


def to_dot(boxes: Sequence[Box], *, title: str | None = None) -> str:
    """Write the boxes as DOT: a record for each value, and before it a bubble for its operation.

    An argument that is used twice has two edges. Where the arguments may not be exchanged, each edge carries its
    argument's position, counted from 1, as its head label. Statements are named after positions in `boxes`.
    """
    place = {box.id: position for position, box in enumerate(boxes)}
    lines = [] if title is None else [f'label="{shorten(title, 200).translate(_LABEL)}" labelloc="t";']
    for position, box in enumerate(boxes):
        cells = " | ".join(text.translate(_RECORD) for _, text in box.cells)
        lines.append(f'v{position} [shape=record label="{{ {cells} }}" {_STYLES[box.role]}];')
        if box.symbol is not None:
            symbol = box.symbol.translate(_LABEL)
            lines.append(f'op{position} [label="{symbol}" margin="0.05,0.05" width=0.4 height=0.4];')
            lines.extend(_edges(position, box, place))
            lines.append(f"op{position} -> v{position};")
    return _HEADER + "".join(f"  {line}\n" for line in lines) + "}\n"


def _edges(position: int, box: Box, place: dict[str, int]) -> Iterator[str]:
    for number, arg in enumerate(box.args, start=1):
        attributes = [f'headlabel="{number}"'] if box.ordered else []
        if arg in place:
            source = f"v{place[arg]}"
        else:
            source = f"outside{position}_{number}"
            attributes.append("style=dashed")
            yield f'{source} [shape=plaintext label="…"];'
        yield f"{source} -> op{position}{' [' + ' '.join(attributes) + ']' if attributes else ''};"
