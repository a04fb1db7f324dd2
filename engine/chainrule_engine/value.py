"""`Value`: a number that remembers how it was made, and can say how it depends on everything below it.

This is the specification that a student can read; the tape runs the same graph faster, with the same bits. It grew
from the `Value` class of the lecture's notebook and keeps its vocabulary: `data`, `grad`, `label`, `backward`.

>>> a, b = Value(-2.0, label="a"), Value(3.0, label="b")
>>> f = (a * b) * (a + b)
>>> f.backward()
>>> a.grad, b.grad
(-3.0, -8.0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chainrule_engine.operations import OPERATIONS, Operation

Number = float | int


class Value:
    """A node of a computation graph over float64.

    data    the number (settable on a leaf: that is how a parameter is updated)
    grad    d(output)/d(this) after `backward`; on a leaf it accumulates from pass to pass until `zero_grad`
    label   a name for drawings and for graphs
    op      the operation that made it, None for a leaf
    args    its arguments, in order and with multiplicity
    constant  a literal number of an expression: it receives no gradient
    """

    __slots__ = ("__weakref__", "_saved", "args", "constant", "data", "grad", "label", "op")

    def __init__(self, data: Number, label: str = "", *, constant: bool = False) -> None:
        """Make a leaf. Raises TypeError for anything but a number, bool included."""
        if type(data) is not float and (isinstance(data, bool) or not isinstance(data, (int, float))):
            raise TypeError(f"a Value holds a number, and {data!r} is not one")
        self.data = float(data)
        self.grad = 0.0
        self.label = label
        self.op: Operation | None = None
        self.args: tuple[Value, ...] = ()
        self.constant = constant
        # The numbers of the forward pass: (*arguments, result). The derivatives read these and not the live data,
        # so that updating a leaf between the two passes cannot mix old numbers with new ones.
        self._saved: tuple[float, ...] = ()

    def __repr__(self) -> str:
        name = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{name})"

    # Operators. Each is one row of the table of operations.

    def __add__(self, other: Value | Number) -> Value:
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Value:
        return apply("add", other, self)

    def __sub__(self, other: Value | Number) -> Value:
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Value:
        return apply("sub", other, self)

    def __mul__(self, other: Value | Number) -> Value:
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Value:
        return apply("mul", other, self)

    def __truediv__(self, other: Value | Number) -> Value:
        return apply("div", self, other)

    def __rtruediv__(self, other: Number) -> Value:
        return apply("div", other, self)

    def __pow__(self, other: Value | Number) -> Value:
        return apply("pow", self, other)

    def __rpow__(self, other: Number) -> Value:
        return apply("pow", other, self)

    def __neg__(self) -> Value:
        return apply("neg", self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return apply("abs", self)

    # Comparisons are operations too, for `where`; == stays identity, so that a Value can be a key.

    def __gt__(self, other: Value | Number) -> Value:
        return apply("gt", self, other)

    def __ge__(self, other: Value | Number) -> Value:
        return apply("ge", self, other)

    def __lt__(self, other: Value | Number) -> Value:
        return apply("lt", self, other)

    def __le__(self, other: Value | Number) -> Value:
        return apply("le", self, other)

    def __float__(self) -> float:
        return self.data

    def __bool__(self) -> bool:
        return self.data != 0.0

    def __getattr__(self, name: str) -> Callable[..., Value]:
        """Give every operation of the table as a method: `x.tanh()`, `c.where(x, y)`."""
        if name not in OPERATIONS:
            raise AttributeError(f"a Value has no operation {name!r}; there are {', '.join(OPERATIONS)}")
        return lambda *others: apply(name, self, *others)

    def named(self, label: str) -> Value:
        """Set the label and return the same node, so that naming fits into an expression."""
        self.label = label
        return self

    def backward(self, seed: Number = 1.0) -> None:
        """Set `grad` of every node below to d(self)/d(node)·seed; leaves add to what they had."""
        backward([self], [float(seed)])

    def zero_grad(self) -> None:
        """Set the gradient of this node and of everything below it to zero."""
        for node in in_order([self]):
            node.grad = 0.0


def apply(name: str, *arguments: Value | Number) -> Value:
    """Compute operation `name` of the arguments and remember them; plain numbers become constants.

    Raises TypeError when the number of arguments is not the operation's arity, or one of them is no number.
    """
    operation = OPERATIONS[name]
    if len(arguments) != operation.arity:
        raise TypeError(f"{name} has arity {operation.arity}, and was given {len(arguments)}")
    args = tuple(a if isinstance(a, Value) else Value(a, constant=True) for a in arguments)
    numbers = [a.data for a in args]
    out = Value(operation.value(*numbers))
    out.op = operation
    out.args = args
    out._saved = (*numbers, out.data)
    return out


def in_order(outputs: Iterable[Value]) -> list[Value]:
    """Every node below the outputs, arguments before results.

    The order is the contract's: depth-first post-order from each output, arguments left to right, each node once.
    Iterative, so a chain of any length will do.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    stack: list[tuple[Value, bool]] = [(output, False) for output in reversed(list(outputs))]
    while stack:
        node, complete = stack.pop()
        if complete:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((argument, False) for argument in reversed(node.args) if argument not in seen)
    return order


def backward(outputs: Sequence[Value], seeds: Sequence[float]) -> None:
    """Run the chain rule from the outputs, each with its cotangent (its seed), to every leaf.

    Why this order: when a node's turn comes, every node that uses it has already added its share, so its gradient is
    complete and can be passed on. Each pass starts with the gradients of the nodes between at zero; only leaves
    accumulate over passes.
    """
    order = in_order(outputs)
    for node in order:
        if node.op is not None:
            node.grad = 0.0
    # A node that no gradient reached must not run its rule: 0·inf would make a NaN on a branch that was not taken.
    reached = set(outputs)
    for output, seed in zip(outputs, seeds, strict=True):
        output.grad += seed
    for node in reversed(order):
        if node.op is None or node not in reached:
            continue
        for argument, partial in zip(node.args, node.op.partials, strict=True):
            if argument.constant:
                continue
            local = partial(*node._saved)
            if node.op.selective and local == 0.0:
                continue
            argument.grad += node.grad * local
            reached.add(argument)
