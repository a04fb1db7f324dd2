"""The compiled kernels train as plain Python does, with the same bits."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.engine.strategies import EDGES, OPTIMIZERS, exact, graphs

from chainrule_engine import acceleration, models
from chainrule_engine.graph import Graph
from chainrule_engine.losses import LOSSES
from chainrule_engine.nn import ACTIVATIONS
from chainrule_engine.operations import CODES, OPERATIONS
from chainrule_engine.schedule import LANES
from chainrule_engine.training import Training, TrainingState, train

pytestmark = pytest.mark.skipif(not acceleration.load(compiling=True), reason="needs Numba")

RATES: list[Any] = [
    0.01,
    {"schedule": "linear", "start": 0.1, "end": 0.01},
    {"schedule": "linear", "start": 0.1, "end": 0.01, "steps": 7},
    {"schedule": "step", "start": 0.1, "factor": 0.7, "every": 3},
    {"schedule": "exponential", "start": 0.1, "factor": 0.99},
    {"schedule": "cosine", "start": 0.1, "end": 0.0},
]


def target(loss: str, width: int, rng: random.Random) -> Any:
    if loss == "cross_entropy":
        return rng.randrange(width)
    if loss == "hinge":
        return [rng.choice([-1.0, 1.0]) for _ in range(width)]
    if loss == "binary_cross_entropy":
        return [rng.choice([0.0, 1.0, rng.random()]) for _ in range(width)]
    return [rng.uniform(-1, 1) for _ in range(width)]


def network(
    inputs: int, layers: list[int], points: int, kind: str = "squared_error", seed: int = 1, **changes: Any
) -> dict[str, Any]:
    rng = random.Random(seed)
    return {
        "model": {"inputs": inputs, "layers": layers, "init": {"scheme": "lecture", "seed": seed}},
        "data": {
            "inputs": [[rng.uniform(-1, 1) for _ in range(inputs)] for _ in range(points)],
            "targets": [target(kind, layers[-1], rng) for _ in range(points)],
        },
        "loss": {"name": kind},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": 20,
        "metrics": ["accuracy"],
        **changes,
    }


def outcome(spec: dict[str, Any], *, plain: bool, stops: Sequence[int] = ()) -> Any:
    """Everything that a training leaves: the result, the state and the records."""
    training = Training(spec, plain=plain)
    state = training.start()
    for stop in [*sorted(stops), spec["steps"]]:
        training.advance(state, stop - state.step)
        state = TrainingState.from_dict(json.loads(json.dumps(state.to_dict())), state.records)
    records = [list(record) for record in state.records]
    return exact([training.result(state), state.to_dict(), records])


def assert_same(spec: dict[str, Any], stops: Sequence[int] = ()) -> None:
    assert outcome(spec, plain=False, stops=stops) == outcome(spec, plain=True)


def combination(loss: str, activation: str, optimizer: dict[str, Any], turn: int) -> dict[str, Any]:
    return network(
        2,
        [3, 2],
        3,
        loss,
        seed=turn,
        model={
            "inputs": 2,
            "layers": [3, 2],
            "activation": activation,
            "output_activation": [None, "linear"][turn % 2],
            "init": {"scheme": "lecture", "seed": turn},
        },
        loss={"name": loss, "reduction": ["sum", "mean"][turn // 2 % 2], "l2": [0.0, 0.001][turn // 3 % 2]},
        optimizer={**optimizer, "learning_rate": RATES[turn % len(RATES)]},
        steps=1000,
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("loss", LOSSES)
def test_a_thousand_steps_of_every_loss_optimiser_and_activation(loss: str, optimizer: dict[str, Any]) -> None:
    turn = list(LOSSES).index(loss) + OPTIMIZERS.index(optimizer)
    for number, activation in enumerate(ACTIVATIONS, turn):
        assert_same(combination(loss, activation, optimizer, number))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_every_loss_activation_and_reduction(loss: str, activation: str, reduction: str) -> None:
    model = {"inputs": 3, "layers": [5, 4, 3], "activation": activation, "init": {"scheme": "lecture", "seed": 2}}
    assert_same(network(3, [5, 4, 3], 7, loss, model=model, loss={"name": loss, "reduction": reduction, "l2": 0.01}))


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_every_optimiser_schedule_and_batch(optimizer: dict[str, Any], rate: Any, batch_size: int | None) -> None:
    spec = network(2, [3, 1], 5, optimizer={**optimizer, "learning_rate": rate}, batch_size=batch_size, batch_seed=3)
    assert_same(spec, stops=[1, 7])


@pytest.mark.parametrize("points", [1, 3, 8, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("loss", ["cross_entropy", "absolute_error"])
def test_any_number_of_points_makes_the_same_sums(points: int, loss: str) -> None:
    assert_same(network(3, [9, 2], points, loss, steps=3))


@pytest.mark.parametrize("batch_size", [1, 3, 64, 65, 150])
def test_minibatches_of_every_size(batch_size: int) -> None:
    assert_same(network(2, [4, 1], 150, batch_size=batch_size, steps=40), stops=[0, 3, 17, 18])


@pytest.mark.parametrize("layers", [[1], [2], [16], [1, 1, 1], [8, 8], [17, 3], [2, 9, 1], [40, 5]])
@pytest.mark.parametrize("inputs", [1, 2, 8, 11])
def test_layers_of_every_shape(inputs: int, layers: list[int]) -> None:
    assert_same(network(inputs, layers, 10, steps=4))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=5), st.sampled_from(OPTIMIZERS), st.sampled_from([None, 1, 4, 6]))
def test_a_training_may_stop_and_go_on_anywhere(
    stops: list[int], optimizer: dict[str, Any], batch_size: int | None
) -> None:
    spec = network(2, [3, 1], 6, steps=30, batch_size=batch_size, optimizer={**optimizer, "learning_rate": 0.05})
    assert_same(spec, stops=stops)


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("activation", ["relu", "linear", "softplus"])
def test_a_training_that_diverges(activation: str, loss: str, batch_size: int | None) -> None:
    model = {"inputs": 2, "layers": [4, 3], "activation": activation, "init": {"scheme": "lecture", "seed": 1}}
    optimizer = {"name": "sgd", "learning_rate": 1e30, "momentum": 0.5}
    spec = network(2, [4, 3], 5, loss, model=model, optimizer=optimizer, batch_size=batch_size, steps=100)
    training = Training(spec)
    state = training.start()
    training.advance(state, 100)
    if loss == "squared_error" and activation == "linear":
        assert state.stop_reason == "diverged"
    assert_same(spec, stops=[1, 2])


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_training_that_reaches_its_target(batch_size: int | None) -> None:
    spec = network(2, [4, 1], 6, steps=40, batch_size=batch_size)
    losses = train(spec)["loss_history"]
    result = train({**spec, "target_loss": min(losses[:10])})
    assert result["stop_reason"] == "target_loss"
    assert result["loss_history"] == losses[: losses.index(min(losses[:10])) + 1]
    assert_same({**spec, "target_loss": min(losses[:10])}, stops=[5])


def test_a_target_that_is_reached_before_any_update() -> None:
    assert_same(network(2, [4, 1], 6, target_loss=1e9))


def of_graph(
    program: str,
    parameters: Sequence[str],
    data: dict[str, list[float]],
    inputs: dict[str, float] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    start = {name: 0.25 + 0.5 * place for place, name in enumerate(parameters)}
    numbers = {**dict.fromkeys(data, 0.0), **start, **(inputs or {})}
    return {
        "model": {"graph": {"inputs": numbers, "program": program}, "parameters": list(parameters), "loss": "L"},
        "data": data,
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "steps": 12,
        **rest,
    }


DATA = {"x": [0.5, -1.0, 2.0, 0.0, -0.25], "y": [1.0, -0.5, 0.25, 2.0, 0.0], "z": [0.1, 0.2, -0.3, 1.0, -1.0]}
PROGRAMS = {
    "a literal weight and a fixed input": ("h = tanh(b + 0.5*x + c*y)\nL = (h - y)**2", ["b"]),
    "weights in either order": ("h = tanh(x*a + (b*y + c))\nL = (h - z)**2", ["a", "b", "c"]),
    "no bias": ("h = a*x + b*y\nk = c*x + d*y\nL = (h*k - z)**2", ["a", "b", "c", "d"]),
    "a shared weight": ("h = a + b*x + c*y\nk = a + b*y + c*x\nL = (h - k*z)**2 + a*a", ["a", "b", "c"]),
    "two layers with a skip": (
        "h = tanh(a + b*x + c*y)\nk = tanh(d + e*x + f*y)\nL = (g*h + i*k + j - z)**2 + h*k + abs(h)",
        ["a", "b", "c", "d", "e", "f", "g", "i", "j"],
    ),
    "a unit inside of another": ("h = a + b*x + c*y\nk = d + e*h + f*x\nL = (k - z)**2 * h", list("abcdef")),
    "one x twice": ("h = a + b*x + c*x\nL = (h - y)**2", ["a", "b", "c"]),
    "sums that cross": (
        "h = exp(a*x)\nk = tanh(b*y)\np = c + d*h + e*k\nq = f + g*k + i*h\nL = (p*q - z)**2",
        list("abcdefgi"),
    ),
    "a branch at each point": ("h = a*x + b\nL = where(h > 0, h*h - y, exp(c*h) + log(a*y))", ["a", "b", "c"]),
    "a branch that nothing may pass": (
        "h = where(x > 0, log(a*x), b*y)\nL = (h - z)**2 + where(y > 9, a, b)",
        ["a", "b"],
    ),
    "a stopped gradient": ("h = tanh(a*x + b)\nL = (h - stop_gradient(a*h) - y)**2", ["a", "b"]),
    "a parameter that nothing uses": ("L = (a*x - y)**2", ["a", "b"]),
    "powers of parameters": ("L = (abs(x) + a)**b + a**2 - b/a", ["a", "b"]),
    "minus zero": ("h = a*x + b*y\nL = 1/(h*0 + 1) + h*h", ["a", "b"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_graphs_that_are_fused_in_part(name: str, batch_size: int | None) -> None:
    program, parameters = PROGRAMS[name]
    used = {key: column for key, column in DATA.items() if f"{key}" in program}
    assert_same(of_graph(program, parameters, used, {"c": -0.5}, loss={"l2": 0.01}, batch_size=batch_size))
    assert_same(of_graph(program, parameters, used, {"c": -0.5}, loss={"reduction": "sum"}, batch_size=batch_size))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(("points", "batch_size"), [(1, None), (12, None), (68, None), (129, None), (200, 130)])
def test_graphs_at_numbers_of_points_that_fill_no_vector(name: str, points: int, batch_size: int | None) -> None:
    program, parameters = PROGRAMS[name]
    rng = random.Random(points)
    used = {key: [rng.uniform(0.1, 1.0) for _ in range(points)] for key in DATA if key in program}
    spec = of_graph(program, parameters, used, {"c": -0.5}, loss={"l2": 0.01}, batch_size=batch_size)
    assert_same({**spec, "steps": 3})


@pytest.mark.parametrize("points", [1, 3, 12, 28, 36, 60, 129])
@pytest.mark.parametrize(("inputs", "layers"), [(1, [1]), (3, [4, 1]), (7, [8, 3]), (8, [9, 5, 2])])
def test_networks_at_numbers_of_points_that_fill_no_vector(inputs: int, layers: list[int], points: int) -> None:
    spec = network(inputs, layers, points, steps=3)
    for activation in ("softplus", "tanh", "relu"):
        assert_same({**spec, "model": {**spec["model"], "activation": activation}})


def test_a_prediction_is_reported_for_every_point() -> None:
    spec = of_graph("h = a + b*x\nk = tanh(h)\nL = (h - y)**2", ["a", "b"], {"x": DATA["x"], "y": DATA["y"]})
    spec["model"]["prediction"] = "k"
    assert_same(spec)
    assert_same({**spec, "batch_size": 2})


@pytest.mark.parametrize("activation", ["abs", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "relu", "softplus"])
@pytest.mark.parametrize("prediction", ["k", "h"])
def test_operations_whose_derivative_takes_the_place_of_a_sum(activation: str, prediction: str) -> None:
    program = f"h = a + b*x\ng = c + d*x\nk = {activation}(h)\nL = (k*{activation}(g) - y)**2"
    spec = of_graph(program, ["a", "b", "c", "d"], {"x": [0.5, -0.25, 2.0, 3e9], "y": DATA["y"][:4]}, loss={"l2": 0.01})
    spec["model"]["prediction"] = prediction
    spec["optimizer"]["learning_rate"] = 1e-20
    assert_same(spec)
    assert_same({**spec, "batch_size": 2})


@cache
def computed_together() -> tuple[Any, Any]:
    """Return the codes, and what computes values from x on to z, and derivatives to x."""
    import numba  # the tests run without it too

    from chainrule_engine.compiled import lanes, table

    run_both, pointer = table.run_both, lanes.pointer

    @numba.njit
    def both(code: int, x: Any, z: Any, by_lanes: int) -> None:
        run_both(code, pointer(x), pointer(z), by_lanes, x.size)

    return table.COMPUTED_TOGETHER, both


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats() | st.floats(-30.0, 30.0), max_size=40))
def test_a_value_and_its_derivative_computed_together_are_those_of_the_table(numbers: list[float]) -> None:
    codes, both = computed_together()
    numbers += EDGES
    assert CODES["tanh"] in codes
    for code in codes:
        operation = list(OPERATIONS.values())[code]
        x = np.array(numbers)
        z = np.empty_like(x)
        both(code, x, z, x.size // LANES * LANES)
        values = [operation.value(number) for number in numbers]
        assert exact(z.tolist()) == exact(values)
        partials = [operation.partials[0](*pair) for pair in zip(numbers, values, strict=True)]
        assert exact(x.tolist()) == exact(partials)


def test_threads_that_share_a_training_have_their_own_numbers() -> None:
    training = Training(network(3, [4, 4, 1], 4, steps=20_000))

    def run(_: int) -> Any:
        state = training.start()
        training.advance(state, 20_000)
        return exact(training.result(state))

    alone = run(0)
    with ThreadPoolExecutor(4) as threads:
        assert all(found == alone for found in threads.map(run, range(12)))


def test_a_loss_that_is_an_input_is_left_to_plain_python() -> None:
    graph = {"inputs": {"w": 1.0}, "nodes": []}
    optimizer = {"name": "sgd", "learning_rate": 0.1}
    assert_same({"model": {"graph": graph, "parameters": ["w"], "loss": "w"}, "optimizer": optimizer, "steps": 5})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(graphs(points=3, numbers=st.floats(-2.0, 2.0)), st.data())
def test_any_graph_is_trained_with_the_same_bits(graph: Graph, data: st.DataObject) -> None:
    plain = [name for name, value in graph.inputs.items() if not isinstance(value, list)]
    assume(plain)
    names = data.draw(st.lists(st.sampled_from(plain), min_size=1, unique=True))
    assert_same(
        {
            "model": {"graph": graph.to_dict(), "parameters": names, "loss": graph.outputs[0]},
            "loss": {
                "reduction": data.draw(st.sampled_from(["sum", "mean"])),
                "l2": data.draw(st.sampled_from([0.0, 0.1])),
            },
            "data": {name: value for name, value in graph.inputs.items() if isinstance(value, list)},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "steps": 3,
        }
    )


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("inputs", "layers", "points", "steps"),
    [(3, [4, 4, 1], 4, 20_000), (2, [16, 16, 1], 100, 2), (24, [16, 5], 200, 2), (2, [4, 1], 2_000, 2)],
)
def test_the_memory_is_estimated_before_the_start(
    inputs: int, layers: list[int], points: int, steps: int, plain: bool
) -> None:
    steps = 2 if plain else steps
    assert_memory(network(inputs, layers, points, "absolute_error", steps=steps), plain=plain)


@pytest.mark.parametrize(
    ("points", "batch_size", "steps"), [(100_000, 50_000, 20), (50_000, 1, 100), (2_000, 2_000, 500)]
)
def test_the_memory_of_batches_drawn_ahead(points: int, batch_size: int, steps: int) -> None:
    spec = network(1, [1], 1, steps=steps, batch_size=batch_size)
    spec["data"] = {"inputs": [[0.5]] * points, "targets": [0.25] * points}
    assert_memory(spec, plain=False)


def test_the_memory_of_single_targets() -> None:
    spec = network(1, [1], 1, steps=2)
    spec["data"] = {"inputs": [[0.5]] * 50_000, "targets": [0.25] * 50_000}
    assert_memory(spec, plain=False)


def test_classes_that_no_point_is_of_take_no_room() -> None:
    spec = network(1, [2_000], 1, "cross_entropy", steps=1)
    Training(spec)  # the shape is remembered from now on
    tracemalloc.start()
    try:
        Training(spec)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000 * 2_000


@pytest.mark.parametrize("start", ["STANDING", "ZERO", "GIVEN"])
@pytest.mark.parametrize("size", [4, 8, 12, 20, 24, 28, 36])
def test_sums_of_products_in_rows_of_whole_and_half_vectors(start: str, size: int) -> None:
    from chainrule_engine.compiled import products

    add_products = products.on_arrays(products.add_products)
    rng = np.random.default_rng(size)
    for rows in range(1, 10):
        count = 5
        c, a, b = (rng.uniform(-1, 1, shape) for shape in ((rows, size + 3), (rows, count + 1), (count, size)))
        wanted = c.copy()
        first = {"STANDING": c[:, :size], "ZERO": 0.0, "GIVEN": a[:, count:]}[start]
        wanted[:, :size] = first
        for k in range(count):
            wanted[:, :size] = wanted[:, :size] + a[:, k : k + 1] * b[k]
        flat = a.reshape(-1)
        add_products(
            getattr(products, start), flat[count:], c.reshape(-1), size + 3, rows, flat, count + 1, 1,
            b.reshape(-1), size, count, size,
        )  # fmt: skip
        assert c.tolist() == wanted.tolist()


def test_data_is_read_as_numbers_whatever_python_calls_them() -> None:
    from chainrule_engine.compiled.training import columns_of

    read = columns_of([[[1, 2.5], [True, -0.0]], [[3], [2**60]]])
    assert [[x.hex() for x in column] for column in read.tolist()] == [
        [x.hex() for x in column] for column in ([1.0, 1.0], [2.5, -0.0], [3.0, 2.0**60])
    ]


def assert_memory(spec: dict[str, Any], *, plain: bool) -> None:
    """Check the estimate of a training's memory against the peak."""
    steps = spec["steps"]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        training = Training(spec, plain=plain)
        estimate = training.memory
        state = training.start()
        training.advance(state, steps)
        training.result(state)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < estimate < 6 * peak + 1_000_000


def test_slots_are_known_by_their_names() -> None:
    spec = network(2, [3, 1], 5, optimizer={"name": "adam", "learning_rate": 0.05})
    training = Training(spec)
    state = training.start()
    training.advance(state, 5)
    saved = state.to_dict()
    turned = TrainingState.from_dict({**saved, "slots": dict(reversed(saved["slots"].items()))})
    for each in (state, turned):
        training.advance(each, 5)
    assert exact(turned.to_dict()) == exact(state.to_dict())


def test_networks_of_one_shape_share_what_the_kernels_read() -> None:
    first, second = (Training(network(2, [3, 1], points)) for points in (4, 5))
    for training in (first, second):
        training.advance(training.start(), 1)
    assert first.model.structure.program is second.model.structure.program is not None


def test_what_the_kernels_read_of_a_graph_goes_with_it() -> None:
    training = Training(of_graph("L = (a*x - y)**2", ["a"], {"x": [0.5], "y": [1.0]}))
    training.advance(training.start(), 1)
    program = weakref.ref(training.model.structure.program)
    del training
    gc.collect()
    assert program() is None


def test_networks_are_remembered_up_to_a_number_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_REMEMBERED_PARAMETERS", 3 * 41)

    def structure(inputs: int) -> weakref.ref[Any]:
        return weakref.ref(Training(network(inputs, [40 // inputs], 1)).model.structure)

    old = [structure(inputs) for inputs in (4, 5, 8)]  # 50, 48, 45 parameters
    gc.collect()
    assert [each() is not None for each in old] == [False, True, True]
    again = structure(5)
    new = structure(10)
    gc.collect()
    assert again() is old[1]() is not None
    assert [old[2]() is not None, new() is not None] == [False, True]
