"""The rows of the table, by name and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import graphs, networks, surroundings
from benchmarks.race import Effort, Figure


@dataclass(frozen=True)
class Row:
    """A piece of work that is measured; what it is stands in the docstring of `measure`.

    alone   on one core, in this process; else it starts processes of its own and chooses their cores
    """

    measure: Callable[[Effort], Iterator[Figure]]
    alone: bool = True

    @property
    def work(self) -> str:
        """What is done, in words."""
        return (self.measure.__doc__ or "").strip().rstrip(".")


ROWS = {
    "notebook": Row(networks.notebook),
    "moons": Row(networks.moons),
    "moons-tanh": Row(networks.moons_tanh),
    "digits": Row(networks.digits),
    "tape": Row(graphs.tape),
    "request": Row(graphs.request),
    "http": Row(surroundings.serving, alone=False),
    "points": Row(graphs.points),
    "hessian": Row(graphs.hessian),
    "cold": Row(surroundings.cold, alone=False),
    "memory": Row(surroundings.memory),
}
