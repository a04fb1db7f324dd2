"""Expressions in Python's syntax, read from text into operations. Nothing is ever executed.

One regular expression cuts tokens, and an operator-precedence parser with a stack of its own puts them
together. Neither recurses, so what bounds an expression is the length of the text, `MAX_NESTING` for brackets
in brackets, and whoever takes the operations and may refuse one too many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from chainrule_engine.operations import OPERATIONS
from chainrule_engine.refusals import (
    INEXACT_INTEGER,
    LARGEST_EXACT_INTEGER,
    error_at,
    quote,
    refuse_function,
    refuse_name,
    refuse_operator,
    refuse_value,
)

#: Brackets in brackets, calls included. CPython's own parser stops at the same depth.
MAX_NESTING = 200

#: A node's position in the order of creation (int), a constant (always float), or an input's name (str).
Operand = int | float | str

NAME = r"[^\W\d]\w*+"
#: What may stand before any token: blanks, a continued line, a comment.
SPACE = r"(?:[ \t\f]++|\\\n|\#[^\n]*+)*+"
_DIGITS = r"[0-9](?:_?[0-9])*+"
TOKEN = re.compile(
    rf"""{SPACE}(?:
      (?P<name>{NAME})(?P<call>[ \t\f]*+\()?
    | (?P<number>(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?)(?P<suffix>\w++)?
    | \.[ \t\f]*+(?P<attribute>{NAME})(?P<method>[ \t\f]*+\()?
    | (?P<sign>\*\*|//|<<|>>|&&|\|\||[<>=!:]=|[^\w\n;])
    | (?P<line_end>[\n;])
    | (?P<end>\Z)
    | (?P<other>.)
    )""",
    re.VERBOSE,
)

# How tightly that binds which waits for its right side. A bracket binds nothing: it ends every reduction.
_BRACKET, _CONDITIONAL, _COMPARISON, _SUM, _PRODUCT, _UNARY, _POWER = range(7)
# Sign → operation, how tightly it binds, and how tightly what is complete to its left binds at least. A power
# groups to the right, so it completes no power; a comparison leaves one for the check of chains to find.
BINARY = {
    "**": ("pow", _POWER, _POWER + 1),
    "*": ("mul", _PRODUCT, _PRODUCT),
    "/": ("div", _PRODUCT, _PRODUCT),
    "+": ("add", _SUM, _SUM),
    "-": ("sub", _SUM, _SUM),
    ">": ("gt", _COMPARISON, _COMPARISON + 1),
    ">=": ("ge", _COMPARISON, _COMPARISON + 1),
    "<": ("lt", _COMPARISON, _COMPARISON + 1),
    "<=": ("le", _COMPARISON, _COMPARISON + 1),
    "==": ("eq", _COMPARISON, _COMPARISON + 1),
    "!=": ("ne", _COMPARISON, _COMPARISON + 1),
}
#: What is neither an operation nor a call, among what waits.
_IF, _ELSE, _GROUP = "if", "else", "("

# What waits for its right side: how tightly it binds, what it is (an operation's name or one of the three
# above), where it stands in the text, and, of a call, where its arguments begin among the operands.
_Waiting = tuple[int, str, int, int]


class ExpressionReader:
    r"""Reads expressions out of a text.

    text     the whole text; a line ends with "\n"
    scope    the names that can be read, and what each stands for; it may change between expressions
    emit     takes the name of an operation and its operands, in the order in which Python would compute them,
             and answers with the operand that stands for the result
    """

    def __init__(
        self,
        text: str,
        scope: Mapping[str, Operand],
        emit: Callable[[str, tuple[Operand, ...]], Operand],
    ) -> None:
        self._text, self._scope, self._emit = text, scope, emit
        self._operands: list[Operand] = []
        self._waiting: list[_Waiting] = []
        self._depth = 0
        self._position = 0

    def read(self, position: int) -> tuple[Operand, int]:
        """Read one expression.

        Args:
            position: where it begins

        Returns:
            what it stands for, and the position of what ends it: a newline, a semicolon or the text's end

        Raises:
            ProgramError: it is no expression of this language; the detail says where, and what to do
        """
        self._operands.clear()
        self._waiting.clear()
        self._depth, self._position = 0, position
        value_next = True  # otherwise an operator
        while True:
            match = TOKEN.match(self._text, self._position)
            assert match is not None  # one of the last three alternatives fits anything
            self._position = match.end()
            kind = match.lastgroup
            if kind == "line_end" or kind == "end":
                if self._depth and match["line_end"] == "\n":
                    continue
                return self._finish(match.start(kind), value_next)
            value_next = self._read_value(match, kind) if value_next else self._read_operator(match)

    def _finish(self, end: int, value_next: bool) -> tuple[Operand, int]:
        if value_next:
            self._refuse(end, "a value is missing here: the expression is not complete")
        if self._waiting:
            self._reduce(_CONDITIONAL)
            if self._waiting:
                self._refuse(self._waiting[-1][2], "this bracket is never closed: add )")
        return self._operands[0], end

    # The two that follow take the next token, and say whether a value must come after it.

    def _read_value(self, match: re.Match[str], kind: str | None) -> bool:
        if kind == "name":
            value = self._scope.get(match["name"])
            if value is None:
                refuse_name(self._text, match, self._scope, nested=self._depth > 0)
            self._operands.append(value)
            return False
        if kind == "number":
            self._operands.append(self._number(match["number"], match.start("number")))
            return False
        sign = match["sign"]
        if kind == "call":
            name, start = match["name"], match.start("name")
            if name not in OPERATIONS or name in self._scope:
                refuse_function(self._text, start, name, self._scope)
            self._open(name, start, len(self._operands))
        elif sign == "(":
            self._open(_GROUP, match.start("sign"))
        elif sign == "-":
            self._waiting.append((_UNARY, "neg", match.start("sign"), 0))
        elif sign == ")" and self._in_call():  # no argument at all, or none after the last comma
            self._close(match.start("sign"))
            return False
        elif sign != "+":
            refuse_value(self._text, match)
        return True

    def _read_operator(self, match: re.Match[str]) -> bool:
        sign = match["sign"]
        if sign in BINARY:
            operation, precedence, complete = BINARY[sign]
            waiting = self._waiting
            if waiting:
                if waiting[-1][0] >= complete:
                    self._reduce(complete)
                if precedence == _COMPARISON and waiting and waiting[-1][0] == _COMPARISON:
                    self._refuse(match.start("sign"), "comparisons cannot be chained: write (a < b) * (b < c)")
            waiting.append((precedence, operation, match.start("sign"), 0))
            return True
        if sign == ")":
            self._reduce(_CONDITIONAL)
            self._close(match.start("sign"))
            return False
        if sign == ",":
            self._reduce(_CONDITIONAL)
            if self._in_call():
                return True
        elif match.lastgroup == "method" and match["attribute"] in OPERATIONS:
            self._open(match["attribute"], match.start("attribute"), len(self._operands) - 1)
            return True
        elif match["name"] in (_IF, _ELSE):
            self._conditional(match["name"], match.start("name"))
            self._position = match.end("name")  # a bracket after it is no call
            return True
        refuse_operator(self._text, match, nested=self._depth > 0)

    def _conditional(self, word: str, start: int) -> None:
        self._reduce(_COMPARISON)
        after_if = bool(self._waiting) and self._waiting[-1][1] == _IF
        if word == _IF:
            if after_if:
                self._refuse(start, "a conditional in a condition needs brackets: a if (b if c else d) else e")
        elif after_if:
            self._waiting.pop()
        else:
            self._refuse(start, "'else' has no 'if' before it: write a if c else b")
        self._waiting.append((_CONDITIONAL, word, start, 0))

    def _reduce(self, precedence: int) -> None:
        """Complete what waits at the end and binds at least so tightly."""
        operands, waiting = self._operands, self._waiting
        while waiting and waiting[-1][0] >= precedence:
            _, what, start, _ = waiting.pop()
            right = operands.pop()
            if what == "neg":
                # The sign of a constant is part of it: no operation and no rounding. Nothing else is folded.
                operands.append(-right if isinstance(right, float) else self._emit("neg", (right,)))
            elif what == _ELSE:
                condition = operands.pop()
                operands.append(self._emit("where", (condition, operands.pop(), right)))
            elif what == _IF:
                self._refuse(start, "this 'if' has no 'else': write a if c else b")
            else:
                operands.append(self._emit(what, (operands.pop(), right)))

    def _open(self, what: str, start: int, first: int = 0) -> None:
        if self._depth == MAX_NESTING:
            advice = "name the inner parts in lines of their own"
            self._refuse(start, f"brackets are nested more than {MAX_NESTING} deep: {advice}")
        self._depth += 1
        self._waiting.append((_BRACKET, what, start, first))

    def _in_call(self) -> bool:
        return bool(self._waiting) and self._waiting[-1][0] == _BRACKET and self._waiting[-1][1] != _GROUP

    def _close(self, position: int) -> None:
        if not self._waiting:
            self._refuse(position, "this bracket was never opened: remove it")
        self._depth -= 1
        _, name, start, first = self._waiting.pop()
        if name == _GROUP:
            return
        arguments = self._operands[first:]
        arity, folds, given = OPERATIONS[name].arity, OPERATIONS[name].folds, len(arguments)
        if given < arity or (given > arity and not folds):
            takes = f"{arity} argument{'s' * (arity > 1)}{' or more' * folds}"
            self._refuse(start, f"{name} takes {takes}, and here it has {given} (a value before the dot counts)")
        result = self._emit(name, tuple(arguments[:arity]))
        for argument in arguments[arity:]:
            result = self._emit(name, (result, argument))
        self._operands[first:] = [result]

    def _number(self, text: str, start: int) -> float:
        value = float(text)
        if text[0] != "0" and value < LARGEST_EXACT_INTEGER:
            return value
        digits = text.replace("_", "")
        if digits.isdigit():
            significant = digits.lstrip("0")
            if significant and significant != digits:
                self._refuse(start, f"the number {quote(text)} begins with 0: write {quote(significant)}")
            # The length first: Python refuses to read integers of thousands of digits.
            if len(significant) > 16 or int(digits) > LARGEST_EXACT_INTEGER:
                self._refuse(start, INEXACT_INTEGER)
        if value == float("inf"):
            self._refuse(start, f"the number {quote(text)} is larger than any float64 (about 1.8e308)")
        return value

    def _refuse(self, start: int, message: str) -> NoReturn:
        error_at(self._text, start, message)
