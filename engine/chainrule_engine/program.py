"""Program text: a graph as lines of `name = expression` in Python's syntax, parsed and never executed.

    x1w1 = x1*w1
    n = x1w1 + b
    o = tanh(n)          # or n.tanh()

- A statement is `name = expression` or `name += expression` (also `-=`, `*=`, `/=`, `**=`). The last one may
  be an expression alone: the result. A newline outside brackets or a semicolon ends a statement.
- An expression has numbers, names, `+ - * / **`, one comparison, `a if c else b` (which is `where(c, a, b)`:
  both sides are computed), and calls of operations, `tanh(x)` or `x.tanh()`. Precedence and grouping are
  Python's.
- A name for a number (`k = 2.0`) and a second name for a node (`y = x`) make no node. A minus before a
  constant is part of it. Nothing else is folded or shared: order and rounding are the writer's.
- A name may be that of an operation. As in Python, it then is no function any more; `x.exp()` still is one.
- Names are compared letter by letter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

from chainrule_engine.errors import LimitExceeded
from chainrule_engine.expression import BINARY, NAME, SPACE, ExpressionReader, Operand
from chainrule_engine.refusals import KEYWORDS, closest, error_at, quote, refuse_letters

_TARGET = re.compile(rf"(?P<name>{NAME}){SPACE}(?P<operator>\*\*|[-+*/])?=(?!=)")
_BLANK = re.compile(r"(?:[ \t\f\n]++|\\\n|\#[^\n]*+)*+")


@dataclass(frozen=True, slots=True)
class Program:
    """What a program text says.

    nodes   (id, operation, arguments) in the order of computation; an argument is an id or a number
    names   every name at the end of the program, inputs included: the id or number that it stands for
    result  the id that the final expression stands for, where the program ends with one that has no name
    """

    nodes: tuple[tuple[str, str, tuple[str | float, ...]], ...]
    names: dict[str, str | float]
    result: str | None = None


def parse_program(text: str, inputs: Collection[str], *, max_nodes: int | None = None) -> Program:
    """Read a program.

    Ids: the node that a name stands for at the end has the name as its id; those made for the name before are
    `name.1`, `name.2`, … in order, but for one that another name still stands for at the end: it has that as its
    id. An input keeps its name, so no node has it.
    Unnamed parts of expressions are `_1`, `_2`, … in the order of computation. A number that would repeat an
    id is left out.

    Args:
        text: the program
        inputs: the names of the inputs
        max_nodes: how many nodes the program may make; None for any number

    Raises:
        ProgramError: the text cannot be read; the detail begins with "line L, column C: " (both from 1)
        LimitExceeded: `nodes`, as soon as there is one too many
    """
    return _Parser(text, inputs, max_nodes).program()


class _Parser:
    def __init__(self, text: str, inputs: Collection[str], max_nodes: int | None) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.inputs = frozenset(inputs)
        self.max_nodes = max_nodes
        self.scope: dict[str, Operand] = {name: name for name in inputs if name not in KEYWORDS}
        self.nodes: list[tuple[str, tuple[Operand, ...]]] = []
        self.bound: defaultdict[str, list[int]] = defaultdict(list)  # name → the nodes made for it, in order

    def program(self) -> Program:
        reader = ExpressionReader(self.text, self.scope, self.emit)
        indent: str | None = None
        result: Operand | None = None
        unnamed = -1  # where an expression without a name is
        position = 0
        while (start := self.skip_blank(position)) < len(self.text):
            if unnamed >= 0:
                error_at(self.text, unnamed, "this expression has no effect: put name = before it, or remove it")
            line = self.text.rfind("\n", position, start) + 1
            if line or position == 0:
                if indent is None:
                    indent = self.text[line:start]
                if indent != self.text[line:start]:
                    error_at(self.text, start, "unexpected indent: begin every line in the same column")
            target = _TARGET.match(self.text, start)
            if target:
                position = self.assign(target, reader)
            else:
                unnamed = start
                result, position = reader.read(start)
            if self.text.startswith(";", position):
                position += 1
        if not isinstance(result, float):
            return self.finish(result)
        error_at(self.text, unnamed, "a number alone has no effect: put name = before it, or remove it")

    def skip_blank(self, position: int) -> int:
        blank = _BLANK.match(self.text, position)
        return blank.end() if blank else position

    def assign(self, target: re.Match[str], reader: ExpressionReader) -> int:
        """Read one assignment; answers with the position of its end."""
        name, operator = target["name"], target["operator"]
        if name in KEYWORDS:
            error_at(self.text, target.start(), f"{quote(name)} is a keyword of Python: choose another name")
        if not name.isidentifier():
            refuse_letters(self.text, target.start(), name)
        if operator and name not in self.scope:
            error_at(self.text, target.start(), f"{quote(name)} is not defined{closest(name, self.scope)}")
        before = len(self.nodes)
        value, end = reader.read(target.end())
        if operator:
            value = self.emit(BINARY[operator][0], (self.scope[name], value))
        if len(self.nodes) > before:
            self.bound[name].append(len(self.nodes) - 1)
        self.scope[name] = value
        return end

    def emit(self, operation: str, operands: tuple[Operand, ...]) -> int:
        position = len(self.nodes)
        if position == self.max_nodes:
            advice = "the program makes more nodes than that, so make it shorter"
            raise LimitExceeded("nodes", position, position + 1, advice=advice)
        self.nodes.append((operation, operands))
        return position

    def finish(self, result: int | str | None) -> Program:
        ids = self.ids()
        nodes = tuple(
            [
                (name, operation, tuple([ids[o] if isinstance(o, int) else o for o in operands]))
                for name, (operation, operands) in zip(ids, self.nodes, strict=True)
            ]
        )
        names = {name: ids[value] if isinstance(value, int) else value for name, value in self.scope.items()}
        return Program(nodes, names, ids[result] if isinstance(result, int) else result)

    def ids(self) -> list[str]:
        """The id of each node, known only now that the last binding of each name is."""
        taken = self.inputs | self.scope.keys()
        ids = [""] * len(self.nodes)
        final = [(n, p) for n, p in self.scope.items() if isinstance(p, int) and n not in self.inputs]
        made_for = {position: name for name, positions in self.bound.items() for position in positions}
        # The name that a node was made for goes first, then any other that is still its own.
        for name, position in sorted(final, key=lambda item: made_for[item[1]] != item[0]):
            ids[position] = ids[position] or name
        for name, positions in self.bound.items():
            numbered = (i for n in count(1) if (i := f"{name}.{n}") not in taken)
            for position in positions:
                ids[position] = ids[position] or next(numbered)
        unnamed = (i for n in count(1) if (i := f"_{n}") not in taken)
        return [i or next(unnamed) for i in ids]
