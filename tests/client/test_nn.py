"""The lecture's classes as expressions."""

import random

import pytest

from chainrule import Expression, to_graph, variables
from chainrule.nn import MLP, Layer, Module, Network, Neuron, activations


def test_a_neuron_sums_from_its_bias_to_the_right():
    x, y = variables(x=1.0, y=2.0)
    graph = to_graph(Neuron([3.0, 4.0], 5.0, "relu")([x, y]))
    assert [(node["op"], node["args"]) for node in graph["nodes"]] == [
        ("mul", [3.0, "x"]),
        ("add", [5.0, "_1"]),
        ("mul", [4.0, "y"]),
        ("add", ["_2", "_3"]),
        ("relu", ["_4"]),
    ]


def test_a_linear_neuron_applies_nothing():
    (x,) = variables(x=1.0)
    assert to_graph(Neuron([2.0], 0.0, "linear")([x]))["nodes"][-1]["op"] == "add"
    assert Neuron([2.0], 1.0, "linear")([3.0]) == 7.0


def test_numbers_are_drawn_in_the_notebooks_order():
    network = MLP(3, [4, 4, 1], seed=7)
    draw = random.Random(7)
    expected = []
    for fan_in, size in ((3, 4), (4, 4), (4, 1)):
        for _ in range(size):
            expected += [draw.uniform(-1, 1) for _ in range(fan_in + 1)]
    assert [to_graph(p)["inputs"][p.name] for p in network.parameters()] == expected
    assert [p.name for p in network.parameters()][:5] == ["w1_1_1", "w1_1_2", "w1_1_3", "b1_1", "w1_2_1"]
    assert len({p.name for p in network.parameters()}) == 41
    assert MLP(3, [4, 4, 1], rng=random.Random(7)).parameter_values() == network.parameter_values()


def test_parameters_survive_the_way_over_the_wire():
    values = MLP(2, [3, 1], seed=1).parameter_values()
    assert [len(layer["biases"]) for layer in values["layers"]] == [3, 1]
    network = Network.from_model({"activation": "tanh"}, values)
    assert network.parameter_values() == values
    assert network.parameters() == []


def test_a_network_takes_its_inputs_one_by_one_or_as_a_list():
    network = MLP(2, [3, 1], seed=1)
    x, y = variables(x=1.0, y=2.0)
    assert to_graph(network(x, y)) == to_graph(network([x, y]))
    assert isinstance(network(1.0, 2.0), Expression)
    assert len(MLP(2, [3, 2])(x, y)) == 2


def test_a_single_layer_of_one_input():
    assert Network([Layer([Neuron([2.0], 1.0, "linear")])])(3.0) == 7.0
    assert Module().parameters() == []


def test_activations_for_all_for_each_and_for_the_last():
    assert activations(3, "relu") == ["relu"] * 3
    assert activations(3, "relu", "linear") == ["relu", "relu", "linear"]
    assert activations(2, ["tanh", "relu"]) == ["tanh", "relu"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 weights and was given 3 inputs"):
        MLP(2, [1])(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="there are 2 layers and 1 activations"):
        MLP(2, [3, 1], ["tanh"])
    x, y = variables(x=1.0, y=[1.0, 2.0])
    with pytest.raises(ValueError, match="is not one number"):
        Network([Layer([Neuron([y], x)])]).parameter_values()
    with pytest.raises(ValueError, match="is not one number"):
        Network([Layer([Neuron([x + 1], x)])]).parameter_values()
