"""The operations of the engine's table in autograd's words: an independent engine to compare gradients with."""

from __future__ import annotations

import autograd.numpy as anp
from autograd.extend import defvjp, primitive

stop = primitive(lambda x: x)
defvjp(stop, lambda ans, x: lambda g: 0.0 * g)

#: The operation of the same meaning in the words of autograd (HIPS).
HIPS = {
    "add": anp.add,
    "sub": anp.subtract,
    "mul": anp.multiply,
    "div": anp.true_divide,
    "neg": anp.negative,
    "pow": anp.power,
    "abs": anp.abs,
    "exp": anp.exp,
    "log": anp.log,
    "sqrt": anp.sqrt,
    "sin": anp.sin,
    "cos": anp.cos,
    "tanh": anp.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + anp.exp(-x)),
    "relu": lambda x: anp.maximum(x, 0.0),
    "softplus": lambda x: anp.logaddexp(0.0, x),
    "max": anp.maximum,
    "min": anp.minimum,
    "where": lambda c, x, y: anp.where(c, x, y),
    "stop_gradient": stop,
    "gt": lambda x, y: 1.0 * anp.greater(x, y),
    "ge": lambda x, y: 1.0 * anp.greater_equal(x, y),
    "lt": lambda x, y: 1.0 * anp.less(x, y),
    "le": lambda x, y: 1.0 * anp.less_equal(x, y),
    "eq": lambda x, y: 1.0 * anp.equal(x, y),
    "ne": lambda x, y: 1.0 * anp.not_equal(x, y),
}
