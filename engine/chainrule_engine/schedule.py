"""A schedule: what a training computes for a block of points, as few wide operations over rows of numbers.

A row holds one number for each point of the block, and rows with consecutive numbers stand side by side. `fusion` makes
schedules, and the compiled kernels run them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

#: Numbers side by side that a processor handles at once: eight float64 are one vector of AVX-512, two of AVX2.
LANES = 8
#: A row of numbers is whole vectors, and perhaps half of one.
HALF = LANES // 2
#: The compiled kernels take no more points together.
LONGEST_BLOCK = 128


def padded(count: int) -> int:
    """Return the least multiple of HALF that is not below a count."""
    return (count + HALF - 1) // HALF * HALF


class Wide(NamedTuple):
    """Forward: `operation` of `rows` consecutive rows each, into as many.

    private   of one argument: nothing but this operation and its `Pull` reads the argument's rows
    """

    operation: str
    rows: int
    target: int
    args: tuple[int, ...]
    private: bool = False


class Dense(NamedTuple):
    """Forward: rows target… = bias + Σ weight·row over the rows x…; see `Weights` for where weight and bias stand."""

    weights: int
    target: int
    x: int


class Copied(NamedTuple):
    """Forward: a row's numbers (backward: its gradient) into another row."""

    source: int
    target: int


class Pull(NamedTuple):
    """Backward: to `rows` rows of gradients from `to` on, add the gradients from `source` on, times the partial.

    operation, place   whose partial, and in which argument
    operands   the first rows of (*arguments, result), of which the partial may need any
    first      whether nothing was added before, so that the sum begins with 0.0
    private    as in `Wide`
    """

    operation: str
    place: int
    rows: int
    source: int
    to: int
    operands: tuple[int, ...]
    first: bool
    private: bool = False


class PullWeights(NamedTuple):
    """Backward: the gradients of a dense operation's weights and biases."""

    dense: Dense


class PullInputs(NamedTuple):
    """Backward: add to the gradients of the rows x… of a dense operation."""

    dense: Dense
    first: bool


class Cleared(NamedTuple):
    """Backward: a row of gradients is 0.0 from now on."""

    row: int


Forward = Wide | Dense | Copied
Backward = Pull | PullWeights | PullInputs | Cleared | Copied


@dataclass(frozen=True)
class Weights:
    """Where the weights of a dense operation stand among the numbers of a `Schedule`.

    Weight i of unit u is at first + u·per_unit + i·per_input; the bias is that of i = inputs. One of the two distances
    is 1, and the other is a multiple of HALF, so that a row of weight gradients is whole vectors.
    """

    units: int
    inputs: int
    first: int
    per_unit: int
    per_input: int

    def place(self, unit: int, i: int) -> int:
        """Return where a weight stands."""
        return self.first + unit * self.per_unit + i * self.per_input


@dataclass(eq=False)
class Schedule:
    """How a graph's loss and its gradient are computed for a block of points.

    data         slots of the inputs that differ from point to point: the rows from `rows` on
    rows         the number of the other rows, which the operations write, and `spread`
    spread       row → the place, among the numbers, of the number that fills it
    size         how many numbers there are that are the same for every point: parameters, and literals beside them
    parameters   the place of each parameter among them, in the order of the model
    literals     place → number, or the slot of an input that is neither trained nor data
    forward, backward   the operations, in order
    weights      of the dense operations
    loss, predictions   rows
    shares       (row, place) for each use of a number that is not a dense operation's weight: there, in the rows of
                 gradients from rows + len(data) on, stands what a point adds to its gradient; in the order of addition
    masked       whether it differs from point to point where gradients flow. Then -0.0 in a row of gradients says that
                 none has come: a sum that begins with 0.0 is never -0.0
    """

    data: list[int]
    rows: int = 0
    spread: dict[int, int] = field(default_factory=dict)
    size: int = 0
    parameters: list[int] = field(default_factory=list)
    literals: dict[int, float | int] = field(default_factory=dict)
    forward: list[Forward] = field(default_factory=list)
    backward: list[Backward] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    loss: int = -1
    predictions: list[int] = field(default_factory=list)
    shares: list[tuple[int, int]] = field(default_factory=list)
    masked: bool = False
