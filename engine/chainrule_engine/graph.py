"""A computation graph as data: inputs, nodes in any order, outputs.

`Graph.from_dict` reads the wire's two forms, the node list and the program text, in one pass, and says of everything
that breaks a rule where it stands. The order of evaluation is part of the contract and depends on the graph alone:
depth-first post-order from the outputs, arguments left to right; nodes that feed no output follow in the order of their
declaration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, NoReturn

from chainrule_engine.errors import MAX_PROBLEMS, GraphError, InvalidInput, LimitExceeded, Path, Problem
from chainrule_engine.nodes import BLOCK, Argument, Node, Nodes, evaluation_order
from chainrule_engine.operations import CODES, OPERATIONS
from chainrule_engine.program import parse_program
from chainrule_engine.refusals import INEXACT_INTEGER, LARGEST_EXACT_INTEGER, closest
from chainrule_engine.value import Value, apply, in_order

Numbers = float | list[float]

MAX_ID_LENGTH = 200

_GRAPH_FIELDS = frozenset({"inputs", "nodes", "program", "output"})
_NODE_FIELDS = frozenset({"id", "op", "args"})
#: By code, for `bytes.translate`: how many arguments an operation has.
_ARITIES = bytes(operation.arity for operation in OPERATIONS.values()).ljust(256)


@dataclass(frozen=True)
class Graph:
    """A valid computation graph.

    inputs   id → a number, or a list of numbers: one per point of a batch
    nodes    in the order of their declaration, in columns
    outputs  ids of inputs or nodes, at least one
    single   whether the output is one id (True) or a list of ids
    order    the positions of the nodes in the order of evaluation
    aliases  other names that a program gave to its outputs → their ids; a seed may use them
    """

    inputs: dict[str, Numbers]
    nodes: Nodes
    outputs: tuple[str, ...]
    single: bool = True
    order: Sequence[int] = field(default=(), compare=False, repr=False)
    aliases: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def points(self) -> int | None:
        """The number of points of a batch, None when every input is a plain number."""
        return next((len(value) for value in self.inputs.values() if isinstance(value, list)), None)

    @classmethod
    def from_dict(cls, data: object, *, max_nodes: int | None = None, max_points: int | None = None) -> Graph:
        """Read the wire's form of a graph (node list or program).

        Raises GraphError or ProgramError with every problem found (32 at most), LimitExceeded when there are more
        nodes or points than allowed; nodes are counted before they are looked at.
        """
        return _Reader(max_nodes, max_points).read(data)

    def to_dict(self) -> dict[str, object]:
        """Write the node-list form; `from_dict` reads back an equal graph."""
        return {
            "inputs": dict(self.inputs),
            "nodes": [{"id": node.id, "op": node.op, "args": list(node.args)} for node in self.nodes],
            "output": self.outputs[0] if self.single else list(self.outputs),
        }

    @classmethod
    def from_values(cls, outputs: Sequence[Value]) -> Graph:
        """Turn the expression below some `Value`s into a graph.

        A leaf must have a label of its own, which becomes the input's id; a node's label, where it has one, becomes
        its id. Raises GraphError when a leaf has no label, a label is used twice or an output is a literal number.
        """
        names: dict[Value, Argument] = {}
        inputs: dict[str, Numbers] = {}
        nodes: list[Node] = []
        for output in outputs:
            if output.constant:
                raise GraphError.at((), f"an output is the number {output.data!r}, which depends on nothing")
        order = in_order(outputs)
        taken = {value.label for value in order if value.label}
        generated = unnamed(taken)
        used: set[str] = set()
        for value in order:
            if value.constant:
                names[value] = value.data
                continue
            name = value.label or (next(generated) if value.op else "")
            if not name or name in used:
                raise GraphError.at((), f"a label of its own is needed by {value!r}")
            used.add(name)
            names[value] = name
            if value.op is None:
                inputs[name] = value.data
            else:
                nodes.append(Node(name, value.op.name, tuple(names[argument] for argument in value.args)))
        ids = tuple(str(names[output]) for output in outputs)
        return cls(inputs, Nodes.of(inputs, nodes), ids, len(ids) == 1, range(len(nodes)))

    def to_values(self, point: int = 0) -> dict[str, Value]:
        """Build the graph of `Value`s at one point: id → Value, every input and node."""
        values = {
            name: Value(number[point] if isinstance(number, list) else number, name)
            for name, number in self.inputs.items()
        }
        for node in map(self.nodes.__getitem__, self.order):
            arguments = [values[a] if isinstance(a, str) else a for a in node.args]
            values[node.id] = apply(node.op, *arguments).named(node.id)
        return values


def unnamed(taken: Iterable[str]) -> Iterator[str]:
    """Generate ids for nodes that nobody named: _1, _2, … without those that are taken."""
    taken = set(taken)
    count = 0
    while True:
        count += 1
        if (name := f"_{count}") not in taken:
            yield name


def is_named(name: str) -> bool:
    """Tell whether an id is a name that an answer reports; ids that begin with _ are not."""
    return not name.startswith("_")


def count_named(names: list[str]) -> int:
    """Return how many of the names an answer reports."""
    # No name holds a line's end, which is not printable, so one text holds them all: that is quick to search.
    return len(names) - ("\n" + "\n".join(names)).count("\n_")


def read_number(value: object) -> float | str:
    """Read a finite number; return what is wrong with it as a string when it is none."""
    if type(value) is float:
        return value if math.isfinite(value) else "a number must be finite"
    if type(value) is int:
        if -LARGEST_EXACT_INTEGER <= value <= LARGEST_EXACT_INTEGER:
            return float(value)
        return INEXACT_INTEGER
    return f"a number is needed here, and this is {describe(value)}"


def finite_numbers(values: list[object]) -> list[float] | None:
    """Read a list of finite numbers, quickly; None when one of them is wrong, for `wrong_numbers` to say which."""
    kinds = set(map(type, values))
    if int in kinds and kinds <= {int, float}:
        integers = [value for value in values if type(value) is int]
        if not -LARGEST_EXACT_INTEGER <= min(integers) <= max(integers) <= LARGEST_EXACT_INTEGER:
            return None
        values = list(map(float, values))  # type: ignore[arg-type]  # numbers all
    elif kinds <= {float}:
        values = values.copy()
    else:
        return None
    return values if all(map(math.isfinite, values)) else None  # type: ignore[return-value, arg-type]


def wrong_numbers(values: Iterable[object]) -> Iterator[Problem]:
    """Say what is wrong with each item of a list that is not a finite number; the path is its position."""
    for position, value in enumerate(values):
        number = read_number(value)
        if isinstance(number, str):
            yield Problem((position,), number)


def describe(value: object) -> str:
    """Name the JSON type of a value for an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", dict: "an object", list: "a list", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)


#: Stands where a node could not be read, so that the positions of the others stay right. Never leaves the reader.
_FAULTY = Node("", "", ())


class _Reader:
    """Reads one graph; collects the problems on the way."""

    def __init__(self, max_nodes: int | None, max_points: int | None) -> None:
        self.max_nodes, self.max_points = max_nodes, max_points
        self.problems: list[Problem] = []

    def read(self, data: object) -> Graph:
        if not isinstance(data, dict):
            raise GraphError.at((), f"a graph is an object with inputs and nodes, and this is {describe(data)}")
        for name in data.keys() - _GRAPH_FIELDS:
            self.problem((name,), f"unknown field: a graph has {', '.join(sorted(_GRAPH_FIELDS))}")
        inputs = self.inputs(data.get("inputs", {}))
        names: Mapping[str, Argument] = {}  # what a name of a program stands for
        result: Argument | None = None
        if "program" in data:
            if "nodes" in data:
                self.problem(("program",), "give either nodes or a program, not both")
            self.stop_if_wrong()
            nodes, names, result = self.program(data["program"], inputs)
        else:
            if "nodes" not in data:
                self.problem((), "give the nodes, as a list or as a program")
            nodes = self.nodes(data.get("nodes", []), inputs)
        self.stop_if_wrong()
        if "output" in data:
            outputs = self.outputs(data["output"], nodes, names)
        elif isinstance(result, str):
            # A program that ends with an expression alone has said what its output is.
            outputs = (result,)
        else:
            outputs = _only_sink(nodes)
        self.stop_if_wrong()
        order = evaluation_order(nodes, outputs)
        if order is None:
            _refuse_cycle(nodes, outputs)
        ids = set(outputs)
        aliases = {name: i for name, i in names.items() if isinstance(i, str) and i != name and i in ids}
        return Graph(inputs, nodes, outputs, not isinstance(data.get("output"), list), order, aliases)

    def problem(self, path: Path, detail: str) -> None:
        self.problems.append(Problem(path, detail))
        if len(self.problems) >= MAX_PROBLEMS:
            raise GraphError(self.problems)

    def stop_if_wrong(self) -> None:
        if self.problems:
            raise GraphError(self.problems)

    def name(self, name: object, path: Path) -> bool:
        if not isinstance(name, str):
            self.problem(path, f"an id is a string, and this is {describe(name)}")
        elif not 0 < len(name) <= MAX_ID_LENGTH or not name.isprintable():
            self.problem(path, f"an id has 1 to {MAX_ID_LENGTH} printable characters")
        else:
            return True
        return False

    def inputs(self, data: object) -> dict[str, Numbers]:
        if not isinstance(data, dict):
            self.problem(("inputs",), f"inputs is an object of id: number, and this is {describe(data)}")
            return {}
        inputs: dict[str, Numbers] = {}
        points: int | None = None
        for name, value in data.items():
            path = ("inputs", name)
            if not self.name(name, path):
                continue
            if not isinstance(value, list):
                number = read_number(value)
                if isinstance(number, str):
                    self.problem(path, number)
                else:
                    inputs[name] = number
                continue
            if self.max_points is not None and len(value) > self.max_points:
                raise LimitExceeded("points", self.max_points, len(value), path, "send them in several requests")
            inputs[name] = self.column(value, path)
            if not value:
                self.problem(path, "a list of points needs at least one number")
            elif points is not None and len(value) != points:
                self.problem(path, f"this list has {len(value)} numbers and one before it has {points}")
            points = points or len(value)
        return inputs

    def column(self, values: list[object], path: Path) -> list[float]:
        numbers = finite_numbers(values)
        if numbers is None:
            for problem in wrong_numbers(values):
                self.problem(path + problem.path, problem.detail)
        return numbers or []

    def program(
        self, text: object, inputs: Mapping[str, Numbers]
    ) -> tuple[Nodes, Mapping[str, Argument], Argument | None]:
        if not isinstance(text, str):
            raise GraphError.at(("program",), f"a program is a string, and this is {describe(text)}")
        try:
            program = parse_program(text, inputs.keys(), max_nodes=self.max_nodes)
        except (InvalidInput, LimitExceeded) as error:
            raise error.under("program") from None
        nodes = Nodes.of(inputs, [Node(name, operation, args) for name, operation, args in program.nodes])
        for name in (name for name in nodes.ids if len(name) > MAX_ID_LENGTH):
            self.problem(("program",), f"the name {name[:20]}… is too long: {MAX_ID_LENGTH} characters at most")
        self.stop_if_wrong()
        return nodes, {name: name for name in inputs} | program.names, program.result

    def nodes(self, data: object, inputs: Mapping[str, Numbers]) -> Nodes:
        if not isinstance(data, list):
            self.problem(("nodes",), f"nodes is a list, and this is {describe(data)}")
            return Nodes.of(inputs, [])
        if self.max_nodes is not None and len(data) > self.max_nodes:
            raise LimitExceeded("nodes", self.max_nodes, len(data), ("nodes",), "split the graph")
        if (read := _faultless(data, inputs)) is not None:
            return read
        # One by one, to say what is wrong with each.
        seen: set[str] = set(inputs)
        nodes = [self.node(item, ("nodes", position), seen) for position, item in enumerate(data)]
        self.arguments(nodes, dict.fromkeys([*inputs, *(node.id for node in nodes)]))
        self.stop_if_wrong()
        return Nodes.of(inputs, nodes)

    def node(self, item: object, path: Path, seen: set[str]) -> Node:
        """Read one node; a faulty one still counts as a name, so that its users are not reported as well."""
        if not isinstance(item, dict):
            self.problem(path, f"a node is an object with id, op and args, and this is {describe(item)}")
            return _FAULTY
        if item.keys() != _NODE_FIELDS:
            self.node_fields(item, path)
        name, op, args = item.get("id"), item.get("op"), item.get("args")
        if type(name) is not str or not name.isprintable() or not 0 < len(name) <= MAX_ID_LENGTH:
            if "id" in item:
                self.name(name, (*path, "id"))
            return _FAULTY
        if name in seen:
            self.problem((*path, "id"), f"{name!r} is the id of something before it: every id is used once")
        seen.add(name)
        operation = OPERATIONS.get(op) if isinstance(op, str) else None
        if operation is None:
            if "op" in item:
                hint = closest(op, OPERATIONS) if isinstance(op, str) else ""
                self.problem((*path, "op"), f"no operation is called {op!r:.60}{hint}: see the list of operations")
        elif not isinstance(args, list):
            if "args" in item:
                self.problem((*path, "args"), f"args is a list of ids and numbers, and this is {describe(args)}")
        elif len(args) != operation.arity:
            wanted = f"{operation.arity} argument{'' if operation.arity == 1 else 's'}"
            self.problem((*path, "args"), f"{op} takes {wanted}, and this has {len(args)}")
        else:
            return Node(name, operation.name, tuple(args))
        return Node(name, _FAULTY.op, ())

    def node_fields(self, item: dict[str, object], path: Path) -> None:
        for name in item.keys() - _NODE_FIELDS:
            self.problem((*path, name), "unknown field: a node has id, op and args")
        for name in sorted(_NODE_FIELDS - item.keys()):
            self.problem(path, f"{name} is missing: a node has id, op and args")

    def arguments(self, nodes: list[Node], scope: Mapping[str, object]) -> None:
        """Check that every argument is a known id or a number; turn whole numbers into float64."""
        for position, node in enumerate(nodes):
            changed = None
            for place, argument in enumerate(node.args):
                if type(argument) is str:
                    if argument not in scope:
                        hint = closest(argument, scope)
                        self.problem(
                            ("nodes", position, "args", place),
                            f"no input or node is called {argument!r:.220}{hint}",
                        )
                    continue
                number = read_number(argument)
                if isinstance(number, str):
                    self.problem(("nodes", position, "args", place), f"an argument is an id or a number: {number}")
                elif type(argument) is not float:
                    changed = changed or list(node.args)
                    changed[place] = number
            if changed:
                nodes[position] = Node(node.id, node.op, tuple(changed))

    def outputs(self, data: object, nodes: Nodes, names: Mapping[str, Argument]) -> tuple[str, ...]:
        if isinstance(data, str):
            given: list[tuple[Path, object]] = [(("output",), data)]
        elif isinstance(data, list) and data:
            given = [(("output", position), name) for position, name in enumerate(data)]
        else:
            what = "an empty list" if data == [] else describe(data)
            self.problem(("output",), f"output is an id or a list of ids, and this is {what}")
            return ()
        scope = names or nodes.slots
        outputs: dict[str, None] = {}  # ordered, and quick to search
        for path, name in given:
            if not isinstance(name, str):
                self.problem(path, f"an output is an id, and this is {describe(name)}")
            elif name not in scope:
                self.problem(path, f"no input or node is called {name!r:.220}{closest(name, scope)}")
            elif not isinstance(target := names.get(name, name), str):
                self.problem(path, f"{name} is the number {target!r}, which depends on nothing")
            elif target in outputs:
                self.problem(path, f"{name!r:.220} is an output already")
            else:
                outputs[target] = None
        return tuple(outputs)


def _faultless(data: list[Any], inputs: Mapping[str, Numbers]) -> Nodes | None:
    """Read a node list in which nothing is wrong, column by column; None when something is."""
    ids: list[str] = []
    codes, arities = bytearray(), bytearray()
    args: list[Any] = []
    try:
        for low in range(0, len(data), BLOCK):
            block = data[low : low + BLOCK]
            names = list(map(itemgetter("id"), block))
            lists = list(map(itemgetter("args"), block))
            if not (
                "".join(names).isprintable()
                and max(map(len, names)) <= MAX_ID_LENGTH
                and set(map(len, block)) == {len(_NODE_FIELDS)}
                and set(map(type, lists)) == {list}
            ):
                return None
            ids += names
            codes += bytes(map(CODES.__getitem__, map(itemgetter("op"), block)))
            arities += bytes(map(len, lists))
            flat = list(chain.from_iterable(lists))
            places = [place for place, argument in enumerate(flat) if type(argument) is not str]
            if places:
                numbers = finite_numbers([flat[place] for place in places])
                if numbers is None:
                    return None
                for place, number in zip(places, numbers, strict=True):
                    flat[place] = number
            args += flat
        if codes.translate(_ARITIES) != arities:
            return None
        nodes = Nodes(inputs, ids, bytes(codes), arities, args)
    except (KeyError, TypeError, ValueError):  # a field is missing, of another type or very long, or an id is unknown
        return None
    return nodes if len(nodes.slots) == len(nodes.names) and "" not in nodes.slots else None


def _only_sink(nodes: Nodes) -> tuple[str, ...]:
    """Find the output that was not named: the one node (or input, without nodes) that no other uses."""
    used = set(nodes.sources)
    candidates = range(nodes.first if nodes else 0, len(nodes.names))
    if not candidates:
        raise GraphError.at((), "there is no output: the graph has neither nodes nor inputs")
    sinks = [nodes.names[slot] for slot in candidates if slot not in used]
    if not sinks:
        # Everything is used by something, so there is a cycle.
        _refuse_cycle(nodes, ())
    if len(sinks) != 1:
        some = ", ".join(sinks[:5]) + (", …" if len(sinks) > 5 else "")
        raise GraphError.at((), f"name the output: {len(sinks)} ids are used by no other ({some})")
    return (sinks[0],)


def _refuse_cycle(nodes: Nodes, outputs: Iterable[str]) -> NoReturn:
    """Raise the GraphError that names the edge which closes a cycle: there is one."""
    new, open_, done = 0, 1, 2
    state = [new] * len(nodes)
    roots = [position for name in outputs if (position := nodes.slots[name] - nodes.first) >= 0]
    # A negative entry of the stack says that the arguments of node ~entry are complete.
    stack = [*range(len(nodes) - 1, -1, -1), *reversed(roots)]
    while True:
        entry = stack.pop()
        if entry < 0:
            state[~entry] = done
            continue
        if state[entry] != new:
            continue
        state[entry] = open_
        stack.append(~entry)
        start = nodes.starts[entry]
        for place in range(nodes.starts[entry + 1] - 1, start - 1, -1):
            argument = nodes.sources[place] - nodes.first
            if argument < 0 or state[argument] == done:
                continue
            if state[argument] == open_:
                loop = [~e for e in stack if e < 0]
                names = [nodes.names[nodes.first + position] for position in (*loop[loop.index(argument) :], argument)]
                shown = names if len(names) <= 8 else [*names[:4], "…", *names[-3:]]
                # Each of these is an argument of the one before it.
                detail = f"this makes a cycle: {' needs '.join(shown)}"
                raise GraphError.at(("nodes", entry, "args", place - start), detail)
            stack.append(argument)
