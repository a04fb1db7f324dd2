"""The lecture's neural network, as expressions: `Module`, `Neuron`, `Layer` and `MLP`, and a trained
`Network`.

Weights and biases are variables (whose gradients the answer then holds) or plain numbers (which only
compute).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ._expression import Expression, op, variable

Term = Expression | float
LINEAR = "linear"


class Module:
    """Something with parameters."""

    def parameters(self) -> list[Expression]:
        """Return the variables that a training may change, in the order in which they were drawn."""
        return []


class Neuron(Module):
    """`activation(bias + w0*x0 + w1*x1 + ...)`, summed from the left."""

    def __init__(self, weights: Sequence[Term], bias: Term, activation: str = "tanh") -> None:
        self.weights = list(weights)
        self.bias = bias
        self.activation = activation

    def __call__(self, inputs: Sequence[Term]) -> Term:
        """Return the neuron's output for as many inputs as it has weights."""
        if len(inputs) != len(self.weights):
            raise ValueError(f"this neuron has {len(self.weights)} weights and was given {len(inputs)} inputs")
        act = self.bias
        for weight, value in zip(self.weights, inputs, strict=True):
            act = act + weight * value
        return act if self.activation == LINEAR else op(self.activation, act)

    def parameters(self) -> list[Expression]:
        """Return the weights, then the bias."""
        return [term for term in [*self.weights, self.bias] if isinstance(term, Expression)]


class Layer(Module):
    """Neurons that share their inputs."""

    def __init__(self, neurons: Iterable[Neuron]) -> None:
        self.neurons = list(neurons)

    def __call__(self, inputs: Sequence[Term]) -> list[Term]:
        """Return the output of each neuron."""
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Expression]:
        """Return the parameters of each neuron in turn."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]


class Network(Module):
    """Layers, each fed with the outputs of the one before."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)

    @classmethod
    def from_model(cls, model: Mapping[str, Any], parameters: Mapping[str, Any]) -> Network:
        """Return the network of a training's `model` with these `parameters`, as plain numbers.

        `model` gives `activation` (one name, or one for each layer) and `output_activation`; `parameters` is
        `{"layers": [{"weights": [[...], ...], "biases": [...]}, ...]}`, one row of weights for each neuron.
        """
        layers = parameters["layers"]
        names = activations(len(layers), model.get("activation", "tanh"), model.get("output_activation"))
        return cls(
            Layer(Neuron(row, bias, name) for row, bias in zip(layer["weights"], layer["biases"], strict=True))
            for layer, name in zip(layers, names, strict=True)
        )

    def __call__(self, *inputs: Term | Sequence[Term]) -> Any:
        """Return the network's output, or a list if it has several, for its inputs (or one list of them)."""
        first = inputs[0] if len(inputs) == 1 else inputs
        values: list[Any] = list(first) if isinstance(first, Sequence) else [first]
        for layer in self.layers:
            values = layer(values)
        return values[0] if len(values) == 1 else values

    def parameters(self) -> list[Expression]:
        """Return the parameters of each layer in turn."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def parameter_values(self) -> dict[str, Any]:
        """Return the weights and biases as a training's `model.parameters` takes them."""
        return {
            "layers": [
                {
                    "weights": [[_number(weight) for weight in neuron.weights] for neuron in layer.neurons],
                    "biases": [_number(neuron.bias) for neuron in layer.neurons],
                }
                for layer in self.layers
            ]
        }


class MLP(Network):
    """A network as the lecture's `MLP(3, [4, 4, 1])` makes it, its numbers drawn from uniform(-1, 1).

    Neuron by neuron the weights are drawn, then the bias, from `rng` (default: `random.Random(seed)`), so
    that after `random.seed(0)` in the lecture's notebook `MLP(3, [4, 4, 1], seed=0)` has the same numbers.
    Weight i of neuron n in layer l is the variable `w{l}_{n}_{i}`, its bias `b{l}_{n}`, counted from 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: Sequence[int],
        activation: str | Sequence[str] = "tanh",
        *,
        seed: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        draw = (rng or random.Random(seed)).uniform
        sizes = [inputs, *outputs]
        names = activations(len(outputs), activation)
        layers = []
        for depth, (fan_in, size) in enumerate(pairwise(sizes), 1):
            neurons = []
            for position in range(1, size + 1):
                weights = [variable(f"w{depth}_{position}_{i}", draw(-1, 1)) for i in range(1, fan_in + 1)]
                bias = variable(f"b{depth}_{position}", draw(-1, 1))
                neurons.append(Neuron(weights, bias, names[depth - 1]))
            layers.append(Layer(neurons))
        super().__init__(layers)


def activations(layers: int, activation: str | Sequence[str], output_activation: str | None = None) -> list[str]:
    """Return one activation for each layer; a single name is for all, `output_activation` for the last."""
    names = [activation] * layers if isinstance(activation, str) else list(activation)
    if len(names) != layers:
        raise ValueError(f"there are {layers} layers and {len(names)} activations: give one for each, or one for all")
    if output_activation is not None and names:
        names[-1] = output_activation
    return names


def _number(term: Term) -> float:
    value = term.value if isinstance(term, Expression) else term
    if not isinstance(value, float | int):
        raise ValueError(f"{term!r} is not one number, so it is not a parameter that can be written down")
    return float(value)
