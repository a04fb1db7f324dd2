"""A small scalar engine as students write it, and each mistake that they make in it, by name.

It is the judge of the diagnosis and shares nothing with it or with the engine: one class with closures, in the manner
of the lecture's. A `Student` says which mistakes are made in it, which operations are put together from others, and
whether a node keeps its children in a list or in a set, which gives them in an order of its own.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: By name: the operations at one of which the mistake shows; none where it is a mistake of the whole backward pass.
MISTAKES: dict[str, tuple[str, ...]] = {
    "assign": (),
    "swap_add_mul": ("add", "mul"),
    "add_no_up": ("add",),
    "sub_sign": ("sub",),
    "sub_both_neg": ("sub",),
    "neg_sign": ("neg",),
    "mul_own": ("mul",),
    "mul_self_twice": ("mul",),
    "mul_no_up": ("mul",),
    "div_sign": ("div",),
    "div_den1": ("div",),
    "div_no_num": ("div",),
    "div_const_den": ("div",),
    "pow_no_dec": ("pow",),
    "pow_no_coef": ("pow",),
    "pow_dec_coef": ("pow",),
    "pow_no_up": ("pow",),
    "tanh_input": ("tanh",),
    "tanh_plus": ("tanh",),
    "tanh_nosq": ("tanh",),
    "tanh_double": ("tanh",),
    "tanh_paren": ("tanh",),
    "tanh_no_up": ("tanh",),
    "exp_input": ("exp",),
    "exp_powerrule": ("exp",),
    "exp_no_up": ("exp",),
    "log_out": ("log",),
    "log_self": ("log",),
    "log_no_up": ("log",),
    "sin_sign": ("sin",),
    "sin_no_up": ("sin",),
    "relu_ge": ("relu",),
    "relu_wrongside": ("relu",),
    "relu_pass": ("relu",),
    "relu_value": ("relu",),
    "relu_on_grad": ("relu",),
    "relu_gate_up": ("relu",),
    "sig_input": ("sigmoid",),
    "sig_double": ("sigmoid",),
    "sig_plus": ("sigmoid",),
    "no_seed": (),
    "no_topo_dfs": (),
    "bfs_once": (),
    "dfs_preorder": (),
    "not_reversed": (),
    "twice": (),
}

#: Another way through the graph takes the place of the topological order, so that no two of these are made at once.
WAYS_THROUGH = frozenset({"no_topo_dfs", "bfs_once", "dfs_preorder", "not_reversed"})

#: A student whose program runs the rules of more nodes than this waits for ever.
_PATIENCE = 20_000

#: What can be an operation of its own (else: put together from others).
PRIMITIVES = frozenset({"sub", "neg", "div", "tanh"})


class NoAnswer(Exception):
    """The student's program raises, or does not come to an end."""


@dataclass(frozen=True)
class Student:
    """Whose class it is.

    mistakes    the names of those that are made in it
    primitives  which of sub, neg, div, tanh have a rule of their own; without, they are a + (-b), a * -1, a * b**-1
                and (exp(2a) - 1) / (exp(2a) + 1)
    order       None: a node's children are in a list; else in a set, and this number decides in which order it has them
    """

    mistakes: frozenset[str] = frozenset()
    primitives: frozenset[str] = PRIMITIVES
    order: int | None = None


class Value:
    """A number of the student's graph."""

    def __init__(self, classroom: _Classroom, data: float, _children: Iterable[Value] = (), _op: str = "") -> None:
        self.classroom = classroom
        self.data = data
        self.grad = 0.0
        self._backward: Callable[[], None] = lambda: None
        self._op = _op
        self._prev = classroom.kept(list(_children))

    def _wrong(self, mistake: str) -> bool:
        return mistake in self.classroom.student.mistakes

    def _primitive(self, operation: str) -> bool:
        return operation in self.classroom.student.primitives

    def _other(self, other: Value | float) -> Value:
        return other if isinstance(other, Value) else Value(self.classroom, other)

    def _receives(self, contribution: float) -> None:
        if self._wrong("assign"):
            self.grad = contribution
        else:
            self.grad += contribution

    def __add__(self, other: Value | float) -> Value:
        other = self._other(other)
        out = Value(self.classroom, self.data + other.data, (self, other), "+")

        def _backward() -> None:
            if self._wrong("swap_add_mul"):
                self._receives(other.data * out.grad)
                other._receives(self.data * out.grad)
            elif self._wrong("add_no_up"):
                self._receives(1.0)
                other._receives(1.0)
            else:
                self._receives(out.grad)
                other._receives(out.grad)

        out._backward = _backward
        return out

    def __radd__(self, other: float) -> Value:
        return self + other

    def __mul__(self, other: Value | float) -> Value:
        other = self._other(other)
        out = Value(self.classroom, self.data * other.data, (self, other), "*")

        def _backward() -> None:
            if self._wrong("swap_add_mul"):
                self._receives(out.grad)
                other._receives(out.grad)
            elif self._wrong("mul_own"):
                self._receives(self.data * out.grad)
                other._receives(other.data * out.grad)
            elif self._wrong("mul_self_twice"):
                self._receives(other.data * out.grad)
                self._receives(self.data * out.grad)
            elif self._wrong("mul_no_up"):
                self._receives(other.data)
                other._receives(self.data)
            else:
                self._receives(other.data * out.grad)
                other._receives(self.data * out.grad)

        out._backward = _backward
        return out

    def __rmul__(self, other: float) -> Value:
        return self * other

    def __neg__(self) -> Value:
        if not self._primitive("neg"):
            return self * -1.0
        out = Value(self.classroom, -self.data, (self,), "neg")

        def _backward() -> None:
            self._receives(out.grad if self._wrong("neg_sign") else -out.grad)

        out._backward = _backward
        return out

    def __sub__(self, other: Value | float) -> Value:
        if not self._primitive("sub"):
            return self + (-other)
        other = self._other(other)
        out = Value(self.classroom, self.data - other.data, (self, other), "-")

        def _backward() -> None:
            self._receives(-out.grad if self._wrong("sub_both_neg") else out.grad)
            other._receives(out.grad if self._wrong("sub_sign") else -out.grad)

        out._backward = _backward
        return out

    def __rsub__(self, other: float) -> Value:
        if not self._primitive("sub"):
            return other + (-self)
        return self._other(other) - self

    def __truediv__(self, other: Value | float) -> Value:
        if not self._primitive("div"):
            return self * other**-1.0
        other = self._other(other)
        out = Value(self.classroom, self.data / other.data, (self, other), "/")

        def _backward() -> None:
            a, b, g = self.data, other.data, out.grad
            self._receives(g / b)
            if self._wrong("div_sign"):
                other._receives(a / b**2 * g)
            elif self._wrong("div_den1"):
                other._receives(-a / b * g)
            elif self._wrong("div_no_num"):
                other._receives(-1.0 / b**2 * g)
            elif not self._wrong("div_const_den"):
                other._receives(-a / b**2 * g)

        out._backward = _backward
        return out

    def __rtruediv__(self, other: float) -> Value:
        if not self._primitive("div"):
            return other * self**-1.0
        return self._other(other) / self

    def __pow__(self, n: float) -> Value:
        if isinstance(n, Value):
            raise NotImplementedError("an exponent is a plain number")
        x = self.data
        out = Value(self.classroom, x**n, (self,), f"**{n}")

        def _backward() -> None:
            if self._wrong("pow_no_dec"):
                self._receives(n * x**n * out.grad)
            elif self._wrong("pow_no_coef"):
                self._receives(x ** (n - 1) * out.grad)
            elif self._wrong("pow_dec_coef"):
                self._receives((n - 1) * x ** (n - 1) * out.grad)
            elif self._wrong("pow_no_up"):
                self._receives(n * x ** (n - 1))
            else:
                self._receives(n * x ** (n - 1) * out.grad)

        out._backward = _backward
        return out

    def _unary(self, data: float, name: str, grad: Callable[[float, float, float], float]) -> Value:
        """Return f(self), where `grad` is what self receives: a function of x, y and the gradient of y."""
        out = Value(self.classroom, data, (self,), name)

        def _backward() -> None:
            self._receives(grad(self.data, out.data, out.grad))

        out._backward = _backward
        return out

    def tanh(self) -> Value:
        if not self._primitive("tanh"):
            e = (2.0 * self).exp()
            return (e - 1.0) / (e + 1.0)

        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("tanh_input"):
                return (1 - x**2) * g
            if self._wrong("tanh_plus"):
                return (1 + y**2) * g
            if self._wrong("tanh_nosq"):
                return (1 - y) * g
            if self._wrong("tanh_double"):
                return (1 - math.tanh(y) ** 2) * g
            if self._wrong("tanh_paren"):
                return 1 - y**2 * g
            if self._wrong("tanh_no_up"):
                return 1 - y**2
            return (1 - y**2) * g

        return self._unary(math.tanh(self.data), "tanh", grad)

    def exp(self) -> Value:
        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("exp_input"):
                return x * g
            if self._wrong("exp_powerrule"):
                return x * math.exp(x - 1) * g
            if self._wrong("exp_no_up"):
                return y
            return y * g

        return self._unary(math.exp(self.data), "exp", grad)

    def log(self) -> Value:
        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("log_out"):
                return g / y if y else 0.0
            if self._wrong("log_self"):
                return y * g
            if self._wrong("log_no_up"):
                return 1 / x
            return g / x

        return self._unary(math.log(self.data), "log", grad)

    def sin(self) -> Value:
        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("sin_sign"):
                return -math.cos(x) * g
            if self._wrong("sin_no_up"):
                return math.cos(x)
            return math.cos(x) * g

        return self._unary(math.sin(self.data), "sin", grad)

    def relu(self) -> Value:
        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("relu_ge"):
                return g if x >= 0 else 0.0
            if self._wrong("relu_wrongside"):
                return g if x < 0 else 0.0
            if self._wrong("relu_pass"):
                return g
            if self._wrong("relu_value"):
                return y * g
            if self._wrong("relu_on_grad"):
                return g if self.grad > 0 else 0.0
            if self._wrong("relu_gate_up"):
                return g if g > 0 else 0.0
            return g if x > 0 else 0.0

        return self._unary(self.data if self.data > 0 else 0.0, "relu", grad)

    def sigmoid(self) -> Value:
        def s(x: float) -> float:
            return 1 / (1 + math.exp(-x))

        def grad(x: float, y: float, g: float) -> float:
            if self._wrong("sig_input"):
                return x * (1 - x) * g
            if self._wrong("sig_double"):
                return s(y) * (1 - s(y)) * g
            if self._wrong("sig_plus"):
                return y * (1 + y) * g
            return y * (1 - y) * g

        return self._unary(s(self.data), "sigmoid", grad)

    def cos(self) -> Value:
        return self._unary(math.cos(self.data), "cos", lambda x, y, g: -math.sin(x) * g)

    def sqrt(self) -> Value:
        return self._unary(math.sqrt(self.data), "sqrt", lambda x, y, g: g / (2 * y))

    def __abs__(self) -> Value:
        return self._unary(abs(self.data), "abs", lambda x, y, g: math.copysign(g, g * x) if x else 0.0)

    def backward(self) -> None:
        if not self._wrong("no_seed"):
            self.grad = 1.0
        for node in self._way_through():
            self.classroom.rules_run += 1
            if self.classroom.rules_run > _PATIENCE:
                raise NoAnswer("the student does not wait so long")
            node._backward()

    def _way_through(self) -> Iterator[Value]:
        """Yield the nodes in the order in which their rules are run; a rule has run before the next is asked for."""
        if self._wrong("no_topo_dfs"):
            yield from self._over_and_over()
        elif self._wrong("bfs_once"):
            queue, seen = [self], {self}
            while queue:
                node = queue.pop(0)
                yield node
                for child in node._prev:
                    if child not in seen:
                        seen.add(child)
                        queue.append(child)
        elif self._wrong("dfs_preorder"):
            yield from self._on_the_way_down(set())
        else:
            topo: list[Value] = []
            self._build_topo(topo, set())
            yield from topo if self._wrong("not_reversed") else reversed(topo)

    def _build_topo(self, topo: list[Value], visited: set[Value]) -> None:
        if self not in visited:
            visited.add(self)
            for child in self._prev:
                child._build_topo(topo, visited)
            topo.append(self)

    def _on_the_way_down(self, visited: set[Value]) -> Iterator[Value]:
        if self not in visited:
            visited.add(self)
            yield self
            for child in self._prev:
                yield from child._on_the_way_down(visited)

    def _over_and_over(self) -> Iterator[Value]:
        yield self
        for child in dict.fromkeys(self._prev):  # distinct ones
            yield from child._over_and_over()


class _Classroom:
    """What the values of one graph share."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.rules_run = 0
        self._random = None if student.order is None else random.Random(student.order)

    def kept(self, children: list[Value]) -> list[Value]:
        """Return the children of a node as it keeps them."""
        if self._random is None:
            return children
        distinct = list(dict.fromkeys(children))
        self._random.shuffle(distinct)  # a set of objects goes by where they are in memory
        return distinct


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "pow": operator.pow,
    "abs": abs,
    **{name: operator.methodcaller(name) for name in ("exp", "log", "sin", "cos", "tanh", "relu", "sigmoid", "sqrt")},
}


def hand_in(graph: Mapping[str, Any], student: Student) -> dict[str, float]:
    """Return what the student's program gives: value, values.<id> and gradients.<id> of every input and node.

    graph  the wire's form: each node after its arguments, inputs plain numbers, one output; an argument that is a
           number stays a plain number, as in `2 * x`

    Raises NoAnswer where the program raises an error, does not end or comes to a number that is none.
    """
    classroom = _Classroom(student)
    values = {name: Value(classroom, float(number)) for name, number in graph["inputs"].items()}
    try:
        for node in graph["nodes"]:
            arguments = (values[a] if isinstance(a, str) else a for a in node["args"])
            values[node["id"]] = _OPERATIONS[node["op"]](*arguments)
        root = values[graph["output"]]
        for _ in range(2 if "twice" in student.mistakes else 1):
            root.backward()
    except (ArithmeticError, RecursionError) as error:
        raise NoAnswer(str(error)) from error
    numbers = {"value": root.data}
    numbers |= {f"values.{name}": value.data for name, value in values.items()}
    numbers |= {f"gradients.{name}": value.grad for name, value in values.items()}
    if not all(isinstance(number, float) and math.isfinite(number) for number in numbers.values()):
        raise NoAnswer("not a number")
    return numbers


def can_be(mistakes: Iterable[str], primitives: frozenset[str]) -> bool:
    """Tell whether somebody with these operations of their own can make all these mistakes: the rule must be there."""
    return all(PRIMITIVES.intersection(MISTAKES[mistake]) <= primitives for mistake in mistakes)
