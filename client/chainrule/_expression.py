"""Expressions: a graph written with Python's operators, computed by the service.

Nothing is calculated here. An `Expression` remembers an operation's name and its arguments; `to_graph` writes
what it was built from in the service's wire format. The client holds no list of operations: `n.tanh()`,
`op.tanh(n)` and `op("tanh", n)` are the same for any name, and a name that the service does not know is
refused by the service.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

Number = float | int
Numbers = Number | Sequence[Number]


class Expression:
    """A variable, or an operation on expressions and numbers; made by `variables`, operators and `op`.

    Two expressions are equal only if they are the same object, so they can be kept in sets and dictionaries;
    use `a.eq(b)` and `a.ne(b)` for the operations of those names. `>`, `>=`, `<` and `<=` make expressions,
    for `op.where(a > 0, a, 0)`.
    """

    __slots__ = ("_args", "_name", "_op", "_value")
    # NumPy numbers on the left of an operator then leave the operation to the expression.
    __array_ufunc__ = None

    def __init__(
        self,
        op: str | None,
        args: tuple[Expression | float, ...] = (),
        *,
        name: str | None = None,
        value: float | list[float] | None = None,
    ) -> None:
        self._op, self._args, self._name, self._value = op, args, name, value

    @property
    def name(self) -> str | None:
        """The name under which the answer gives its value and gradient, or None."""
        return self._name

    @property
    def value(self) -> float | list[float] | None:
        """The number or numbers of a variable; None for an operation, whose value the service works out."""
        return self._value

    def named(self, name: str) -> Expression:
        """Give this expression a name and return it: the answer holds the values and gradients of what has
        one.
        """
        self._name = _checked_name(name)
        return self

    def __repr__(self) -> str:
        if self._op is None:
            return f"<variable {self._name} = {self._value!r}>"
        args = ", ".join(arg._short() if isinstance(arg, Expression) else repr(arg) for arg in self._args)
        return f"<{self._name + ' = ' if self._name else ''}{self._op}({args})>"

    def _short(self) -> str:
        return self._name or f"{self._op}(...)"

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        # Private and dunder names are questions from Python and notebooks (copy, pickle, _repr_html_), not
        # operations.
        if name.startswith("_"):
            raise AttributeError(f"an expression has no attribute {name!r}")

        def method(*args: Expression | Number) -> Expression:
            return _apply(name, self, *args)

        method.__name__ = name
        return method

    def __add__(self, other: Expression | Number) -> Expression:
        return _operator("add", self, other)

    def __radd__(self, other: Number) -> Expression:
        return _operator("add", other, self)

    def __sub__(self, other: Expression | Number) -> Expression:
        return _operator("sub", self, other)

    def __rsub__(self, other: Number) -> Expression:
        return _operator("sub", other, self)

    def __mul__(self, other: Expression | Number) -> Expression:
        return _operator("mul", self, other)

    def __rmul__(self, other: Number) -> Expression:
        return _operator("mul", other, self)

    def __truediv__(self, other: Expression | Number) -> Expression:
        return _operator("div", self, other)

    def __rtruediv__(self, other: Number) -> Expression:
        return _operator("div", other, self)

    def __pow__(self, other: Expression | Number) -> Expression:
        return _operator("pow", self, other)

    def __rpow__(self, other: Number) -> Expression:
        return _operator("pow", other, self)

    def __neg__(self) -> Expression:
        return _apply("neg", self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return _apply("abs", self)

    def __gt__(self, other: Expression | Number) -> Expression:
        return _operator("gt", self, other)

    def __ge__(self, other: Expression | Number) -> Expression:
        return _operator("ge", self, other)

    def __lt__(self, other: Expression | Number) -> Expression:
        return _operator("lt", self, other)

    def __le__(self, other: Expression | Number) -> Expression:
        return _operator("le", self, other)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "an expression has no truth value before the service has evaluated it: choose with "
            "op.where(condition, a, b), and take the larger or smaller with op.max(a, b) or op.min(a, b)"
        )

    def __float__(self) -> NoReturn:
        raise TypeError("an expression is not a number yet: client.evaluate(expression).value is one")


class Operations:
    """Any operation of the service by name: `op.where(a > 0, a, 0)`, or `op("where", a > 0, a, 0)`."""

    def __call__(self, name: str, /, *args: Expression | Number) -> Expression:
        """Return the expression that applies the operation `name` to expressions and numbers."""
        return _apply(name, *args)

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        if name.startswith("_"):
            raise AttributeError(f"no operation has a name such as {name!r}")

        def function(*args: Expression | Number) -> Expression:
            return _apply(name, *args)

        function.__name__ = name
        return function

    def __repr__(self) -> str:
        return "<operations by name>"


op = Operations()


def variable(name: str, value: Numbers) -> Expression:
    """Return an input of a graph: a number, or a list of numbers for as many points at once."""
    checked = _checked_name(name)
    given: Any = value
    if isinstance(given, str | bytes) or not (_is_number(given) or hasattr(given, "__iter__")):
        raise TypeError(f"the value of {name!r} must be a number or a list of numbers, not {given!r}")
    if _is_number(given):
        return Expression(None, name=checked, value=_finite(given, f"the value of {name!r}"))
    points = [_finite(item, f"value {position} of {name!r}") for position, item in enumerate(given)]
    return Expression(None, name=checked, value=points)


def variables(**values: Numbers) -> tuple[Expression, ...]:
    """Return one input for each keyword, in order, e.g. `x, w` from `x=2.0, w=-3.0`."""
    return tuple(variable(name, value) for name, value in values.items())


def to_graph(outputs: Expression | Sequence[Expression]) -> dict[str, Any]:
    """Return the graph of an expression, or of several, in the wire format.

    Each expression becomes one node however often it is used. Parts without a name get the ids `_1`, `_2`,
    ... in the order of evaluation (arguments first, left to right); the service leaves those out of its
    answer.

    Raises:
        TypeError: something other than expressions was given.
        ValueError: two different parts have one name, or there is no output.
    """
    single = isinstance(outputs, Expression)
    wanted: list[Any] = [outputs] if isinstance(outputs, Expression) else list(outputs)
    if not wanted:
        raise ValueError("a graph needs at least one output")
    strange = [item for item in wanted if not isinstance(item, Expression)]
    if strange:
        raise TypeError(f"an output must be an expression, not {strange[0]!r}")

    order = _evaluation_order(wanted)
    ids = _ids(order)
    inputs: dict[str, float | list[float] | None] = {}
    nodes: list[dict[str, Any]] = []
    for item in order:
        if item._op is None:
            inputs[ids[item]] = item._value
        else:
            args = [ids[arg] if isinstance(arg, Expression) else arg for arg in item._args]
            nodes.append({"id": ids[item], "op": item._op, "args": args})
    return {
        "inputs": inputs,
        "nodes": nodes,
        "output": ids[wanted[0]] if single else [ids[item] for item in wanted],
    }


def _evaluation_order(wanted: list[Expression]) -> list[Expression]:
    """Depth-first, arguments before their node; with a stack of its own, since graphs may be very deep."""
    order: list[Expression] = []
    done: set[Expression] = set()
    stack = [(item, False) for item in reversed(wanted)]
    while stack:
        item, arguments_done = stack.pop()
        if item in done:
            continue
        if arguments_done:
            done.add(item)
            order.append(item)
            continue
        stack.append((item, True))
        stack.extend((arg, False) for arg in reversed(item._args) if isinstance(arg, Expression) and arg not in done)
    return order


def _ids(order: list[Expression]) -> dict[Expression, str]:
    ids: dict[Expression, str] = {}
    owners: dict[str, Expression] = {}
    unnamed = 0
    for item in order:
        if item._name is None:
            unnamed += 1
            ids[item] = f"_{unnamed}"
            continue
        owner = owners.setdefault(item._name, item)
        if owner is not item:
            raise ValueError(f"two different parts of the graph are named {item._name!r}: {owner!r} and {item!r}")
        ids[item] = item._name
    return ids


def _apply(name: str, *args: Expression | Number) -> Expression:
    for position, arg in enumerate(args):
        if not (isinstance(arg, Expression) or _is_number(arg)):
            raise TypeError(f"argument {position + 1} of {name} must be an expression or a number, not {arg!r}")
    return Expression(
        name,
        tuple(
            arg if isinstance(arg, Expression) else _finite(arg, f"argument {position + 1} of {name}")
            for position, arg in enumerate(args)
        ),
    )


def _operator(name: str, left: Expression | Number, right: Expression | Number) -> Expression:
    # NotImplemented lets another type's reflected operator try before Python raises its own TypeError.
    for arg in (left, right):
        if not (isinstance(arg, Expression) or _is_number(arg)):
            return NotImplemented  # type: ignore[no-any-return]
    return _apply(name, left, right)


def _is_number(value: object) -> bool:
    # NumPy's numbers are registered as Real; True and False are, too, but are no numbers on the wire.
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _finite(value: Any, what: str) -> float:
    if not _is_number(value):
        raise TypeError(f"{what} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, and {number} is not one")
    return number


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name must be text, not {name!r}")
    if not name or name.startswith("_"):
        raise ValueError(f"{name!r} cannot be a name: a name is not empty, and '_' leads only the ids of unnamed parts")
    return name
