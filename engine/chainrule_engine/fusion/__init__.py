"""From a tape to a schedule for training: few wide operations over rows of numbers, in place of many narrow ones.

What is fused:

- *dense*: sums b₁ + Σ w₁ᵢ·xᵢ, b₂ + Σ w₂ᵢ·xᵢ, … over the same xs, with weights and biases that are the same at every
  point: a layer, wherever it was found in the graph (`sums`);
- *wide*: the same operation on consecutive rows: a layer's activation.

Fusion changes the order in which independent things are computed, and no rounding. A gradient is a sum, whose order is
the contract's: from the last use of a number to the first. So of two uses of one number the later one comes later in
the schedule too; where fused operations cannot be put in such an order, they are taken apart again (`grouping`). What
came of that gets rows and places, and is written down (`writing`).
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule_engine.fusion.grouping import Grouping
from chainrule_engine.fusion.sums import Program
from chainrule_engine.fusion.writing import Writer
from chainrule_engine.schedule import Schedule
from chainrule_engine.tape import Tape


def schedule(tape: Tape, parameters: Sequence[int], data: Sequence[int], outputs: Sequence[int]) -> Schedule:
    """Make the schedule of a graph.

    parameters, data   slots of inputs: those that are trained, and those that differ from point to point
    outputs   slots of nodes: the loss of a point, then the predictions
    """
    program = Program(tape, parameters, data, tuple(dict.fromkeys(outputs)))
    groups, order = Grouping(program).run()
    return Writer(program).run(groups, order, outputs)
