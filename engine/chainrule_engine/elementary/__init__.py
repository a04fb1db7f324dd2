"""Elementary functions on float64, written from IEEE 754's basic operations alone.

Addition, subtraction, multiplication and division are rounded alike on every machine, and so is each function here: the
C library is not asked. Plain Python, compiled scalar code and vectorised loops run this same source, and give the same
bits.

All are total, with the results of IEEE 754 and of C's Annex F: an infinity or a NaN where Python's `math` would raise.
Nothing here may be reassociated or contracted.

Three ways of writing recur.

- A value is carried as *head and tail*, an unevaluated sum whose tail is what the rounding of the head took away:
  `s = a + b; t = b - (s - a)` is exact where |a| >= |b| or a = 0 (Dekker 1971). With it a function rounds once at its
  end, and the rest of its error is a few hundredths of an ulp.
- `t = SPLIT * a; a1 = t - (t - a)` keeps the upper 26 bits of a (Veltkamp), so that products of such parts are exact.
- Adding and subtracting `ROUND` rounds a number below 2**51 to the nearest integer, as a float.

Both sides of a choice are cheap and cannot trap, so that a compiler may compute both and select.

Where constants come from: π/2 in parts of 33 bits and the digits of 2/π follow the layout of fdlibm's `rem_pio2`, and
the coefficients of sine and cosine are fdlibm's (`k_sin.c`, `k_cos.c`). The polynomials of exp, log and power were
found by Remez exchange in 300-bit arithmetic; the parts of ln 2, ln 1.5 and 2/3 are those numbers cut at the bit named.
"""

from chainrule_engine.elementary.basic import INF, NAN, divide, sqrt
from chainrule_engine.elementary.circular import cos, sin
from chainrule_engine.elementary.exponential import (
    exp,
    log,
    sigmoid,
    sigmoid_derivative,
    softplus,
    tanh,
    tanh_derivative,
)
from chainrule_engine.elementary.powers import (
    divide_derivative,
    power,
    power_base_derivative,
    power_exponent_derivative,
)

__all__ = [
    "INF",
    "NAN",
    "cos",
    "divide",
    "divide_derivative",
    "exp",
    "log",
    "power",
    "power_base_derivative",
    "power_exponent_derivative",
    "sigmoid",
    "sigmoid_derivative",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
    "tanh_derivative",
]
