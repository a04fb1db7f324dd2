"""The compiled kernels give the bits of the plain ones and of `Value`: whatever the graph, the batch, the processor."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.engine.strategies import EDGES, any_finite, by_values, exact, graphs, plain_kernels

from chainrule_engine import acceleration, warm
from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
from chainrule_engine.operations import OPERATIONS
from chainrule_engine.tape import Tape
from chainrule_engine.training import train

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.environ["CHAINRULE_ENGINE"] == "python", reason="the plain kernels were asked for")


def answer(graph: Graph) -> Any:
    found = evaluate(graph)
    return exact(found.to_dict() | {"all": found.all_values, "gradients of all": found.all_gradients})


def plain_answer(graph: Graph) -> Any:
    with plain_kernels():
        return answer(graph)


def random_graph(count: int, points: int | None, seed: int, operations: tuple[str, ...] = tuple(OPERATIONS)) -> Graph:
    """A graph whose arguments are mostly near, some far, and now and then a number."""
    rng = random.Random(seed)

    def number() -> float:
        return rng.choice(EDGES) if rng.random() < 0.05 else rng.uniform(-2.0, 2.0)

    inputs = {f"x{i}": number() if points is None else [number() for _ in range(points)] for i in range(8)}
    known, nodes = list(inputs), []
    for i in range(count):
        op = rng.choice(operations)
        args = [
            number() if rng.random() < 0.1 else rng.choice(known[-12:] if rng.random() < 0.8 else known)
            for _ in range(OPERATIONS[op].arity)
        ]
        nodes.append({"id": f"n{i}", "op": op, "args": args})
        known.append(f"n{i}")
    return Graph.from_dict({"inputs": inputs, "nodes": nodes, "output": known[:-6:-1]})


def test_they_are_what_runs() -> None:
    assert acceleration.find(0) is not None
    assert not isinstance(Tape(random_graph(3, None, 0)).forward({f"x{i}": 1.0 for i in range(8)}, 1), list)


@settings(max_examples=300, deadline=None)
@given(graphs() | graphs(numbers=any_finite) | graphs(points=3) | graphs(points=3, numbers=any_finite))
def test_everything_that_an_evaluation_says_is_the_same(graph: Graph) -> None:
    assert answer(graph) == plain_answer(graph)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("points", [None, 1, 3, 64, 200])
def test_graphs_of_every_operation(points: int | None, seed: int) -> None:
    graph = random_graph(120, points, seed)
    assert answer(graph) == plain_answer(graph)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_graph_of_one_point(seed: int) -> None:
    """Wider than the runs in which the instructions are taken."""
    graph = random_graph(4000, None, seed)
    values, gradients = by_values(graph)
    found = evaluate(graph)
    assert exact(found.all_values) == exact(values)
    assert exact(found.all_gradients) == exact(gradients)


@pytest.mark.parametrize("seed", range(2))
def test_10_000_points_are_10_000_evaluations(seed: int) -> None:
    count = 10_000
    graph = random_graph(40, count, seed)
    found = evaluate(graph)
    for point in [*random.Random(seed).sample(range(count), 100), 0, count - 1]:
        values, gradients = by_values(graph, point)
        assert exact({name: column[point] for name, column in found.all_values.items()}) == exact(values)
        assert exact({name: column[point] for name, column in found.all_gradients.items()}) == exact(gradients)


@pytest.mark.parametrize(
    "program",
    [
        "y = exp(exp(exp(x)))",
        "z = 0 * exp(x * 1000)\ny = z * z + x",
        "y = log(x - 3) + sqrt(x - 3)",
        "a = 1 / (x - x)\ny = a * a - a",
        # The gradient breaks where the value does not, at some points and in several places.
        "y = sqrt(x * x) + abs(x) + sqrt(x)",
        "y = where(x > 0, sqrt(x), 3) + x ** 0.5",
    ],
)
@pytest.mark.parametrize("x", [[3.0, 0.0, -1.0, 1000.0, 0.0], 0.0, 3.0, -1.0, 1000.0])
def test_what_blows_up_is_told_alike(program: str, x: Any) -> None:
    graph = Graph.from_dict({"inputs": {"x": x}, "program": program})
    assert answer(graph) == plain_answer(graph)


@pytest.mark.parametrize("points", [1, 2])
def test_an_input_may_be_an_int(points: int) -> None:
    graph = Graph.from_dict({"inputs": {"x": 3.0, "y": [1.0] * points}, "program": "z = x * y + tanh(x)"})
    with plain_kernels():
        expected = Tape(graph).forward({"x": 3, "y": [1] * points}, points)
    assert list(Tape(graph).forward({"x": 3, "y": [1] * points}, points)) == expected


def test_the_first_of_several_breaks_is_told_whichever_block_it_lies_in() -> None:
    xs = [1.0] * 5000
    xs[4000] = xs[4321] = 0.0  # breaks at the root
    xs[7] = -2.0  # breaks at the quotient, which backward comes to later
    program = "s = 1e200 / (x + 2)\nq = s * 1e-200 * (x + 2)\ny = q + sqrt(x * x)"
    graph = Graph.from_dict({"inputs": {"x": xs}, "program": program})
    assert answer(graph) == plain_answer(graph)
    assert {warning["code"]: warning["points"] for warning in evaluate(graph).warnings} == {
        "non_finite_value": [7],
        "non_finite_gradient": [4000, 4321],
    }


def test_the_tape_of_a_node_takes_less_than_100_bytes() -> None:
    """The tape, and the values and gradients of one point: what stays of them, the graph not counted."""
    rng, count = random.Random(3), 100_000
    names = [name for name in OPERATIONS if OPERATIONS[name].arity < 3]
    ids = [f"n{i}" for i in range(count)]
    nodes = []
    for i in range(count):
        op = rng.choice(names)
        args = [ids[rng.randrange(i)] if i else "x" for _ in range(OPERATIONS[op].arity)]
        nodes.append({"id": ids[i], "op": op, "args": args})
    graph = Graph.from_dict({"inputs": {"x": 0.5}, "nodes": nodes, "output": ids[-1]})
    tracemalloc.start()
    try:
        tape = Tape(graph)
        columns = tape.forward(graph.inputs, 1)
        gradients = tape.backward(columns, {ids[-1]: [1.0]})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(columns) == len(gradients) == tape.size
    assert taken <= 100 * count


# -------------------------------------------------------------------------------------- other processes, other machines


def trained() -> list[Any]:
    """Train networks and a graph, whose points fill the processor's vectors and leave a rest."""
    from tests.engine.test_training_compiled import network

    momentum = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
    adam = {"name": "adam", "learning_rate": {"schedule": "cosine", "start": 0.1, "end": 0.01}}
    rng = random.Random(7)
    xs, ys = ([rng.uniform(-1.0, 1.0) for _ in range(21)] for _ in range(2))
    piecewise = {
        "model": {
            "graph": {
                "inputs": {"x": 0.0, "y": 0.0, "a": 0.4, "b": -0.3},
                "program": "z = where(x > b, a * x, tanh(x * b)) + exp(b)\nL = (z - y) ** 2",
            },
            "parameters": ["a", "b"],
            "loss": "L",
        },
        "data": {"x": xs, "y": ys},
        "optimizer": adam,
        "steps": 30,
    }
    specs = [network(3, [7, 5, 2], 21, seed=4, optimizer=adam, batch_size=13), piecewise]
    for activation in ("tanh", "relu", "sigmoid", "softplus"):
        spec = network(3, [9, 4], 21, "cross_entropy", seed=5, optimizer=momentum)
        spec["model"]["activation"] = activation
        specs.append(spec)
    return [train(spec) for spec in specs]


#: Prints everything that some evaluations and trainings say, and whether machine code said it.
PROGRAM = """
import hashlib, random, sys
if "no-numba" in sys.argv: sys.modules["numba"] = None
from chainrule_engine import acceleration
from chainrule_engine.derivatives import evaluate
from tests.engine.test_compiled import random_graph, trained
assert acceleration.load() or acceleration.choice() != "compiled" or "no-numba" in sys.argv
answers = [
    evaluate(random_graph(count, points, seed)).to_dict()
    for count, points in ((300, None), (60, 1), (60, 70), (30, 1500)) for seed in range(4)
] + trained()
print(hashlib.sha256(repr(answers).encode()).hexdigest(), acceleration.find(10**9) is not None)
"""


def run(program: str, *arguments: str, **environment: str) -> str:
    roots = os.pathsep.join(str(ROOT / name) for name in ("", "engine"))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": roots, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_bits_are_the_same_without_numba() -> None:
    digest, compiled = run(PROGRAM).split()
    assert compiled == "True"
    assert run(PROGRAM, CHAINRULE_ENGINE="python").split() == [digest, "False"]
    assert run(PROGRAM, "no-numba", CHAINRULE_ENGINE="").split() == [digest, "False"]


def instruction_sets() -> list[tuple[str, str]]:
    """Name the processors, and features, that Numba can be told to compile for and this machine can run."""
    if os.environ["CHAINRULE_ENGINE"] == "python":
        return []
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    sets = [("generic", "")]
    if has.get("avx2"):
        sets += [("generic", "+avx,+avx2"), ("generic", "+avx,+avx2,+fma")]
    if has.get("avx512f") and has.get("avx512dq"):
        sets.append(("skylake-avx512", ""))
    return sets


@pytest.mark.slow
@pytest.mark.parametrize(("name", "features"), instruction_sets())
def test_the_bits_are_the_same_with_every_instruction_set(name: str, features: str, tmp_path: Path) -> None:
    target = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    assert run(PROGRAM, **target) == run(PROGRAM)


# --------------------------------------------------------------------------------------------------- the cache on disk

SQUARES = """
from chainrule_engine import acceleration
from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
nodes = [{"id": f"n{i}", "op": "add", "args": [f"n{i - 1}", "x"]} for i in range(1, 40)]
graph = Graph.from_dict({"inputs": {"n0": 0.0, "x": [1.0, 2.0]}, "nodes": nodes, "output": "n39"})
print(evaluate(graph).value, acceleration.find(100) is not None)
"""


def engine_of_few_operations(folder: Path) -> Path:
    """Copy the engine, for all of it takes long to compile: three operations, no training. Return their table."""
    shutil.copytree(
        ROOT / "engine/chainrule_engine", folder / "chainrule_engine", ignore=shutil.ignore_patterns("__pycache__")
    )
    training = folder / "chainrule_engine/compiled/training.py"
    training.write_text(training.read_text() + "\n\ndef prepare() -> None:\n    pass\n")
    table = folder / "chainrule_engine/operations.py"
    few = [
        "",
        'OPERATIONS = {name: OPERATIONS[name] for name in ("add", "mul", "relu")}',
        "CODES = {name: code for code, name in enumerate(OPERATIONS)}",
        "",
    ]
    table.write_text(table.read_text() + "\n".join(few))
    return table


@pytest.mark.slow
def test_an_edit_of_an_operation_is_never_answered_from_the_cache(tmp_path: Path) -> None:
    table = engine_of_few_operations(tmp_path)
    few = table.read_text()
    edited = few.replace('Operation("add", operator.add', 'Operation("add", lambda x, y: x + 2.0 * y')
    assert edited != few

    def evaluated(text: str) -> tuple[str, set[str]]:
        table.write_text(text)
        said = run(SQUARES, PYTHONPATH=str(tmp_path), CHAINRULE_ENGINE="compiled", NUMBA_CACHE_DIR="")
        return said, set((table.parent / "compiled/__pycache__").rglob("*.nbc"))

    first, kept = evaluated(few)
    assert first == "[39.0, 78.0] True\n"
    second, more = evaluated(edited)
    assert second == "[78.0, 156.0] True\n"
    assert kept < more
    # Back again: the old kernels are still there, and nothing is compiled anew.
    assert evaluated(few) == (first, more)


@pytest.mark.slow
def test_what_was_not_compiled_ahead_is_left_alone(tmp_path: Path) -> None:
    program = "from chainrule_engine import acceleration as a; print(a.load(), a.load(), a.find(10**9))"
    assert run(program, CHAINRULE_ENGINE="", NUMBA_CACHE_DIR=str(tmp_path)) == "False False None\n"
    assert not list(tmp_path.rglob("*.nbc"))
    assert run(program, CHAINRULE_ENGINE="").startswith("True True")
    assert run(program, CHAINRULE_ENGINE="python") == "False False None\n"


def warming(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chainrule_engine.warm"],
        env={**os.environ, "CHAINRULE_ENGINE": "", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate()
    return process.returncode, said


@pytest.mark.slow
def test_two_may_compile_at_once_and_a_damaged_file_stops_nobody(tmp_path: Path) -> None:
    engine_of_few_operations(tmp_path)
    place = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    assert [ended(process)[0] for process in [warming(**place), warming(**place)]] == [0, 0]
    program = "import chainrule_engine.acceleration as a; a.load()" + SQUARES.replace("find(100)", "find(10**9)")

    def evaluated() -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "CHAINRULE_ENGINE": "", **place},
            capture_output=True,
            text=True,
        )
        return done.stdout, done.stderr

    assert evaluated() == ("[39.0, 78.0] True\n", "")
    kernels = min((tmp_path / "kernels").rglob("batch*forward*.nbc"))
    intact = kernels.read_bytes()
    kernels.write_bytes(intact[: len(intact) // 2])
    answer, said = evaluated()
    assert answer == "[39.0, 78.0] False\n"
    assert "cannot be used (UnpicklingError: " in said
    kernels.write_bytes(intact)
    index = min((tmp_path / "kernels").rglob("one_point*.nbi"))
    index.write_bytes(b"")
    answer, said = evaluated()
    assert answer == "[39.0, 78.0] False\n"
    assert "cannot be used (EOFError: " in said
    # Warming mends it, and takes away what stood there for other sources.
    other = kernels.parent.parent / "chainrule-0123456789abcdef-0.65.0"
    other.mkdir()
    status, said = ended(warming(**place))
    assert status == 0
    assert "compiling once more" in said
    assert not other.exists()
    assert evaluated() == ("[39.0, 78.0] True\n", "")


def test_warming_tells_why_it_does_not() -> None:
    place = {"PYTHONPATH": str(ROOT / "engine")}
    assert ended(warming(CHAINRULE_ENGINE="python", **place)) == (0, "")
    status, said = ended(warming(CHAINRULE_ENGINE="pyhton", **place))
    assert status == 1
    assert "CHAINRULE_ENGINE must be python or compiled, or not be set, and is 'pyhton'" in said
    program = "import sys; sys.modules['numba'] = None; from chainrule_engine import acceleration as a, warm; "
    assert run(program + "print(warm.main(), a.reason())", CHAINRULE_ENGINE="") == "1 numba is not installed\n"


def test_an_engine_that_there_is_not_is_refused_at_the_first_use() -> None:
    program = """
from chainrule_engine.derivatives import evaluate
from chainrule_engine.graph import Graph
try: evaluate(Graph.from_dict({"inputs": {"x": 2.0}, "program": "y = x * x"}))
except ValueError as error: print(error)
"""
    said = run(program, CHAINRULE_ENGINE="fast")
    assert said == "CHAINRULE_ENGINE must be python or compiled, or not be set, and is 'fast'\n"


def test_to_warm_what_is_warm_is_no_work() -> None:
    assert warm.main() == 0


def test_small_work_is_done_in_plain_python_and_much_of_it_loads_the_kernels() -> None:
    program = (
        "from chainrule_engine import acceleration as a; print(a.find(100) is None, a.find(a.PAYS_FROM) is None, "
        "a.find(a.WORTH_A_CALL) is None, a.find(a.WORTH_A_CALL - 1) is None)"
    )
    assert run(program, CHAINRULE_ENGINE="") == "True False False True\n"
