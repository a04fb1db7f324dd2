"""CasADi: scalar symbols (SX), derivatives by its own algorithms, run by its virtual machine."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import casadi

from benchmarks.graphs import Program


def hessian(program: Program) -> Callable[[], list[float]]:
    """Build value, gradient and Hessian as one function, and return its evaluation at the program's point."""
    x, f = _expression(program)
    second, first = casadi.hessian(f, x)
    function = casadi.Function("hessian", [x], [f, first, casadi.densify(second)])
    point = [column[0] for column in program.inputs]

    def run() -> list[float]:
        return [float(number) for matrix in function(point) for number in matrix.full().ravel()]

    return run


def gradient(program: Program) -> Callable[[], list[float]]:
    """Build value and gradient as one function, and return its evaluation at the program's point."""
    x, f = _expression(program)
    function = casadi.Function("gradient", [x], [f, casadi.densify(casadi.gradient(f, x))])
    point = [column[0] for column in program.inputs]

    def run() -> list[float]:
        return [float(number) for matrix in function(point) for number in matrix.full().ravel()]

    return run


def _expression(program: Program) -> tuple[Any, Any]:
    operations: dict[str, Callable[..., Any]] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
    operations["relu"] = lambda x: casadi.fmax(x, 0.0)
    operations |= {name: getattr(casadi, name) for name in program.operations if name not in operations}
    x = casadi.SX.sym("x", len(program.inputs))
    slots = [x[place] for place in range(len(program.inputs))]
    for name, args in program.nodes:
        slots.append(operations[name](*[slots[a] for a in args]))
    return x, slots[-1]
