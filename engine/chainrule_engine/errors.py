"""What the engine refuses, and where.

    EngineError
    ├── InvalidInput          something in the input breaks a rule; `problems` says what and where
    │   ├── GraphError            the graph
    │   ├── ProgramError          the program text
    │   ├── EvaluationError       what is asked of a graph (seeds, derivative, trace)
    │   ├── TrainingError         the specification of a training
    │   └── DrawingError          what is asked of a drawing
    └── LimitExceeded         well-formed, but larger than is allowed

A path names the place as keys and positions into the object that was given, e.g. `("nodes", 3, "args", 1)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]

#: A page of errors helps nobody: only so many are collected.
MAX_PROBLEMS = 32


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `detail` is a sentence that says what to do, `path` the place."""

    path: Path
    detail: str

    def __str__(self) -> str:
        place = "/".join(map(str, self.path))
        return f"{place}: {self.detail}" if place else self.detail


class EngineError(Exception):
    """The base of everything that the engine raises on purpose."""


class InvalidInput(EngineError):
    """Something in the input breaks a rule; `problems` holds at most `MAX_PROBLEMS` of them, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)[:MAX_PROBLEMS]
        super().__init__("; ".join(map(str, self.problems)))

    @classmethod
    def at(cls, path: Path, detail: str) -> InvalidInput:
        """An error with one problem."""
        return cls([Problem(path, detail)])

    def under(self, *path: str | int) -> InvalidInput:
        """The same error, seen from an object that holds the faulty one at `path`."""
        return type(self)(replace(problem, path=path + problem.path) for problem in self.problems)

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class GraphError(InvalidInput):
    """The graph breaks a rule."""


class ProgramError(InvalidInput):
    """The program text cannot be read."""


class EvaluationError(InvalidInput):
    """What is asked of a graph does not fit the graph."""


class TrainingError(InvalidInput):
    """The specification of a training contradicts itself."""


class DrawingError(InvalidInput):
    """What is asked of a drawing does not fit the graph."""


class LimitExceeded(EngineError):
    """Well-formed, but larger than is allowed: `requested` exceeds the `maximum` of `limit`."""

    def __init__(self, limit: str, maximum: float, requested: float, path: Path = (), advice: str = "") -> None:
        self.limit, self.maximum, self.requested, self.path, self.advice = (
            limit, maximum, requested, path, advice,
        )  # fmt: skip
        text = f"{limit} is limited to {maximum:,}, and this has {requested:,}"
        super().__init__(f"{text}: {advice}" if advice else text)

    def under(self, *path: str | int) -> LimitExceeded:
        """The same error, seen from an object that holds the large one at `path`."""
        return LimitExceeded(self.limit, self.maximum, self.requested, path + self.path, self.advice)

    def __reduce__(self) -> tuple[type[LimitExceeded], tuple[str, float, float, Path, str]]:
        return type(self), (self.limit, self.maximum, self.requested, self.path, self.advice)
