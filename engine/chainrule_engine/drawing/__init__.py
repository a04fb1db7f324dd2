"""Drawings of a computation graph, in the style of the lecture's `draw_dot`: DOT text and a self-contained SVG.

No program is started: Graphviz takes minutes over some small graphs that anybody could send.
"""

from chainrule_engine.drawing.boxes import DEFAULT_DEPTH, Box, boxes, caption
from chainrule_engine.drawing.dot import to_dot
from chainrule_engine.drawing.layout import MAX_LINES, MAX_VALUES
from chainrule_engine.drawing.svg import to_svg

__all__ = ["DEFAULT_DEPTH", "MAX_LINES", "MAX_VALUES", "Box", "boxes", "caption", "to_dot", "to_svg"]
