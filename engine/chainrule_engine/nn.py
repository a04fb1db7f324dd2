"""Neuron, Layer, MLP: the lecture's classes, on `Value`.

The order of every sum is the notebook's: a neuron starts at its bias and adds weight times input from left to right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from chainrule_engine.value import Value

#: What an activation does to a neuron's sum.
ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "tanh": lambda x: x.tanh(),
    "relu": lambda x: x.relu(),
    "sigmoid": lambda x: x.sigmoid(),
    "softplus": lambda x: x.softplus(),
    "linear": lambda x: x,
}
#: The lecture's.
DEFAULT_ACTIVATION = "tanh"

#: How a neuron's bias is drawn, after its weights, which are uniform(-1, 1) in every scheme.
INIT_SCHEMES: dict[str, Callable[[random.Random], float]] = {
    "lecture": lambda rng: rng.uniform(-1, 1),
    "micrograd": lambda rng: 0.0,
}
DEFAULT_SCHEME = "lecture"


#: Of one layer: a row of weights per neuron, and the biases.
LayerNumbers = tuple[list[list[float]], list[float]]


def draw_layers(inputs: int, widths: Sequence[int], scheme: str, seed: int) -> list[LayerNumbers]:
    """Draw the parameters of a network with `random.Random(seed).uniform` in the notebook's order.

    widths   one per layer
    scheme   one of INIT_SCHEMES
    """
    rng = random.Random(seed)
    layers = []
    fan_in = inputs
    for width in widths:
        drawn = [([rng.uniform(-1, 1) for _ in range(fan_in)], INIT_SCHEMES[scheme](rng)) for _ in range(width)]
        layers.append(([weights for weights, _ in drawn], [bias for _, bias in drawn]))
        fan_in = width
    return layers


class Module:
    """Something with parameters."""

    def parameters(self) -> list[Value]:
        """Every parameter, in a fixed order."""
        return []

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to zero."""
        for parameter in self.parameters():
            parameter.grad = 0.0


class Neuron(Module):
    """activation(bias + Σ weight·input)."""

    def __init__(self, weights: Sequence[float], bias: float, activation: str, name: str = "") -> None:
        self.weights = [Value(w, f"w{name}_{i}") for i, w in enumerate(weights, 1)]
        self.bias = Value(bias, f"b{name}")
        self.activation = activation

    def __call__(self, inputs: Sequence[Value]) -> Value:
        """Run on one point: one Value per weight."""
        total = self.bias
        for weight, number in zip(self.weights, inputs, strict=True):
            total = total + weight * number
        return ACTIVATIONS[self.activation](total)

    def parameters(self) -> list[Value]:
        """The weights, then the bias."""
        return [*self.weights, self.bias]


class Layer(Module):
    """Neurons side by side, all on the same inputs."""

    def __init__(self, neurons: Sequence[Neuron]) -> None:
        self.neurons = list(neurons)

    def __call__(self, inputs: Sequence[Value]) -> list[Value]:
        """Run on one point; one output per neuron."""
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        """Those of each neuron in turn."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]


class MLP(Module):
    """Layers one after the other (a multilayer perceptron)."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    @classmethod
    def draw(cls, inputs: int, widths: Sequence[int], activations: Sequence[str], scheme: str, seed: int) -> MLP:
        """Draw the parameters with `random.Random(seed).uniform` in the notebook's order.

        widths, activations   one per layer
        scheme                one of INIT_SCHEMES
        """
        return cls.of(draw_layers(inputs, widths, scheme, seed), activations)

    @classmethod
    def of(cls, layers: Sequence[LayerNumbers], activations: Sequence[str]) -> MLP:
        """Take the parameters: per layer one row of weights per neuron, and the biases."""
        return cls(
            [
                Layer(
                    [
                        Neuron(row, bias, activation, f"{number}_{place}")
                        for place, (row, bias) in enumerate(zip(weights, biases, strict=True), 1)
                    ]
                )
                for number, ((weights, biases), activation) in enumerate(zip(layers, activations, strict=True), 1)
            ]
        )

    def __call__(self, inputs: Sequence[Value]) -> list[Value]:
        """Run on one point; one Value per neuron of the last layer."""
        outputs = list(inputs)
        for layer in self.layers:
            outputs = layer(outputs)
        return outputs

    def parameters(self) -> list[Value]:
        """Those of each layer in turn."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def arrange(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Put one number per parameter, in the order of `parameters`, into the wire's form of layers."""
        remaining = iter(numbers)
        layers = []
        for layer in self.layers:
            rows = [[next(remaining) for _ in neuron.parameters()] for neuron in layer.neurons]
            layers.append({"weights": [row[:-1] for row in rows], "biases": [row[-1] for row in rows]})
        return {"layers": layers}
