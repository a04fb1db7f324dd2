"""Every cell of the lecture's notebook, through the service.

    python examples/lecture.py                 a service inside this process
    python examples/lecture.py --url ADDRESS   a service somewhere

The notebook follows "The spelled-out intro to neural networks and backpropagation: building micrograd". Each
function below is the counterpart of one of its cells: it prints what the cell shows and returns what it computed.
"""

import argparse
import math
import struct
from pathlib import Path
from typing import Any

from chainrule import Client, Drawing, Evaluation, Expression, op, variable, variables
from chainrule.nn import MLP, Module
from chainrule.plots import loss_curve, sparkline

#: The bias that makes the lecture's neuron come out at tanh(n) = √½, where the slope of tanh is ½.
BIAS = 6.8813735870195432
#: The cell "training": four points and the outputs that are wanted for them.
XS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
YS = [1.0, -1.0, -1.0, 1.0]


def empty_module(client: Client) -> list[Expression]:
    """Cell "from nn import Module": a module without parameters."""
    parameters = Module().parameters()
    print(parameters)
    return parameters


def parabola(client: Client) -> Evaluation:
    """Cell "def f(x)": f(3), and f from -5 to 5 as one batch of 40 points, with every slope for nothing."""

    def f(x: Expression) -> Expression:
        return 3 * x**2 - 4 * x + 5

    print(client.evaluate(f(variable("x", 3.0))).value)
    curve = client.evaluate(f(variable("x", [-5 + 0.25 * k for k in range(40)])))
    print(sparkline(curve.value, 40))
    return curve


def value_class(client: Client) -> dict[str, Evaluation]:
    """Cell "class Value": each of the class's methods is an operation of the service, and so are others."""
    a, b = variables(a=2.0, b=3.0)
    methods = {
        "a + b": a + b,
        "1 + a": 1 + a,
        "-a": -a,
        "a - b": a - b,
        "1 - a": 1 - a,
        "a * b": a * b,
        "2 * a": 2 * a,
        "a / b": a / b,
        "1 / a": 1 / a,
        "abs(a)": abs(a),
        "a ** b": a**b,
        "2 ** a": 2**a,
        "a.tanh()": a.tanh(),
        "a.exp()": a.exp(),
    }
    answers = client.evaluate_batch(list(methods.values()))
    results = {text: answer for text, answer in zip(methods, answers, strict=True) if isinstance(answer, Evaluation)}
    for text, answer in results.items():
        print(f"{text:9} = {answer.value:<20.17g} gradients {answer.gradients}")
    print("operations:", ", ".join(operation.name for operation in client.operations()))
    return results


def first_graph(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "L = f * d": a graph of named parts, drawn."""
    a, b, c, f = variables(a=2.0, b=-3.0, c=10.0, f=-2.0)
    e = (a * b).named("e")
    d = (e + c).named("d")
    loss = (f * d).named("L")
    return show(client, loss)


def neuron(x1: float = 2.0, x2: float = 0.0, bias: float = BIAS) -> Expression:
    """Return the lecture's neuron up to `n`, before tanh."""
    x1_, x2_, w1, w2, b = (
        variable(name, value) for name, value in {"x1": x1, "x2": x2, "w1": -3.0, "w2": 1.0, "b": bias}.items()
    )
    x1w1 = (x1_ * w1).named("x1*w1")
    x2w2 = (x2_ * w2).named("x2*w2")
    x1w1x2w2 = (x1w1 + x2w2).named("x1*w1 + x2*w2")
    return (x1w1x2w2 + b).named("n")


def neuron_by_hand(client: Client) -> tuple[dict[str, float], Evaluation]:
    """Cell "o.grad = 1, n.grad = 1 - o.data ** 2, ...": the gradients worked out by hand from the values."""
    answer = client.evaluate(neuron().tanh().named("o"))
    v = answer.values
    grad = {"o": 1.0}
    grad["n"] = 1 - v["o"] ** 2
    grad["b"] = grad["x1*w1 + x2*w2"] = grad["x1*w1"] = grad["x2*w2"] = grad["n"]
    grad["x1"] = v["w1"] * grad["n"]
    grad["x2"] = v["w2"] * grad["n"]
    grad["w1"] = v["x1"] * grad["n"]
    grad["w2"] = v["x2"] * grad["n"]
    for name, by_hand in grad.items():
        print(f"{name:13} by hand {by_hand:< 22.17g} by the service {answer.gradients[name]:< 22.17g}")
    return grad, answer


def neuron_step_by_step(client: Client) -> tuple[dict[str, float], Evaluation]:
    """Cell "o._backward(), n._backward(), ...": the backward pass one addition after another."""
    answer = client.evaluate(neuron().tanh().named("o"), trace=True)
    grad = {"o": 1.0}
    for step in answer.steps or ():
        if step.target is None:
            continue
        grad[step.target] = grad.get(step.target, 0.0) + step.upstream * step.local
        print(f"{step.source:>13} -> {step.target:13} {step.op:4} += {step.upstream:.6g} * {step.local:.6g}")
    return grad, answer


def neuron_backward(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "o.backward()": all gradients at once, drawn."""
    return show(client, neuron().tanh().named("o"))


def a_plus_a(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "b = a + a": both uses of `a` count."""
    (a,) = variables(a=3.0)
    return show(client, (a + a).named("b"))


def product_of_sum(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "f = d * e": two ways lead from `f` to each input."""
    a, b = variables(a=-2.0, b=3.0)
    d = (a * b).named("d")
    e = (a + b).named("e")
    return show(client, (d * e).named("f"))


def tanh_broken_down(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "o = (e - 1) / (e + 1)": tanh from exp gives the same gradients."""
    e = (2 * neuron()).exp().named("e")
    return show(client, ((e - 1) / (e + 1)).named("o"))


def torch_neuron(client: Client) -> tuple[dict[str, float], dict[str, float]]:
    """Cell "PyTorch": the same neuron there; its `torch.Tensor` rounds the bias to 32 bits, so we do as well."""
    try:
        import torch
    except ModuleNotFoundError:
        # What PyTorch prints.
        theirs = {
            "o": 0.7071066904050358,
            "x2": 0.5000001283844369,
            "w2": 0.0,
            "x1": -1.5000003851533106,
            "w1": 1.0000002567688737,
        }
    else:
        numbers = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": BIAS}
        t = {name: torch.Tensor([number]).double().requires_grad_() for name, number in numbers.items()}
        o = torch.tanh(t["x1"] * t["w1"] + t["x2"] * t["w2"] + t["b"])
        o.backward()
        theirs = {"o": o.item(), **{name: t[name].grad.item() for name in ("x2", "w2", "x1", "w1")}}
    (rounded,) = struct.unpack("f", struct.pack("f", BIAS))
    answer = client.evaluate(neuron(bias=rounded).tanh().named("o"))
    ours = {"o": answer.value, **{name: answer.gradients[name] for name in ("x2", "w2", "x1", "w1")}}
    for name, number in theirs.items():
        print(f"{name:2}  PyTorch {number!r:22} chainrule {ours[name]!r}")
    return ours, theirs


def network_classes(client: Client) -> dict[str, int]:
    """Cell "class Module, Neuron, Layer, MLP": they are in chainrule.nn; one of each, counted."""
    network = MLP(3, [4, 4, 1], seed=0)
    layer = network.layers[0]
    counts = {
        "Neuron": len(layer.neurons[0].parameters()),
        "Layer": len(layer.parameters()),
        "MLP": len(network.parameters()),
    }
    print("parameters:", counts)
    return counts


def network_output(client: Client) -> Evaluation:
    """Cell "n(x)": an MLP(3, [4, 4, 1]) of random numbers at one point, and the gradients of all 41 of them."""
    answer = client.evaluate(MLP(3, [4, 4, 1], seed=0)([2.0, 3.0, -1.0]))
    print(answer.value)
    return answer


def training(client: Client) -> Any:
    """Cell "for k in range(1000)": the training, as one job."""
    result = client.train(
        model={
            "inputs": 3,
            "layers": [4, 4, 1],
            "activation": "tanh",
            "init": {"scheme": "lecture", "seed": 0},
        },
        data={"inputs": XS, "targets": YS},
        loss={"name": "squared_error", "reduction": "sum"},
        optimizer={"name": "sgd", "learning_rate": 0.001},
        steps=1000,
    )
    print(f"Initial loss : {result.loss_history[0]}")
    print(f"Final loss : {result.loss_history[-1]}")
    print(sparkline(result.loss_history), loss_curve(result.loss_history, title="Lecture: loss at each step"))
    return result


def power(client: Client) -> tuple[Evaluation, Drawing]:
    """Cell "c = abs(a) ** b": a value to the power of a value, differentiated by both."""
    a, b = variables(a=-2.0, b=3.0)
    return show(client, (abs(a) ** b).named("c"))


def torch_power(client: Client) -> tuple[Evaluation, dict[str, float]]:
    """Cell "a_torch ** b_torch": to a negative base the exponent has no gradient, there and here."""
    try:
        import torch
    except ModuleNotFoundError:
        theirs = {"c": -8.0, "a": 12.0, "b": math.nan}  # what PyTorch prints
    else:
        a_, b_ = torch.tensor(-2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
        c_ = a_**b_
        c_.backward()
        theirs = {"c": c_.item(), "a": a_.grad.item(), "b": b_.grad.item()}
    a, b = variables(a=-2.0, b=3.0)
    answer = client.evaluate((a**b).named("c"))
    print(f"PyTorch   {theirs}")
    print(f"chainrule {{'c': {answer.value}, 'a': {answer.gradients['a']}, 'b': {answer.gradients['b']}}}")
    for warning in answer.warnings:
        print(f"warning: {warning.node}: {warning.detail}")
    return answer, theirs


def nudge(client: Client) -> tuple[Evaluation, Evaluation]:
    """Cell "b_torch.data += 0.01 * b_torch.grad": a small step along the gradient makes the output grow."""
    a, b = variables(a=-2.0, b=3.0)
    c = (abs(a) ** b).named("c")
    before = client.evaluate(c)
    after = client.evaluate(c, inputs={"b": 3.0 + 0.01 * before.gradients["b"]})
    print(f"b = {before.values['b']}: c = {before.value};  b = {after.values['b']}: c = {after.value}")
    return before, after


def nudge_all(client: Client) -> tuple[Evaluation, Evaluation]:
    """From the lecture itself: every leaf of L is moved along its gradient at once, and L goes from -8 to -7.29."""
    a, b, c, f = variables(a=2.0, b=-3.0, c=10.0, f=-2.0)
    loss = ((a * b + c) * f).named("L")
    before = client.evaluate(loss)
    moved = {name: before.values[name] + 0.01 * before.gradients[name] for name in "abcf"}
    after = client.evaluate(loss, inputs=moved)
    print(f"L = {before.value} -> {after.value}")
    return before, after


def choices(client: Client) -> Evaluation:
    """The cell "training" chooses with Python's `if`; inside a graph, `where` does, and says so at a kink."""
    (d,) = variables(d=[-2.0, 0.0, 3.0])
    answer = client.evaluate(op.where(d > 0, d, -d).named("distance"))
    print(answer.values["distance"], answer.gradients["d"])
    for warning in answer.warnings:
        print(f"warning: {warning.node}: {warning.detail}")
    return answer


CELLS = (
    empty_module,
    parabola,
    value_class,
    first_graph,
    neuron_by_hand,
    neuron_step_by_step,
    neuron_backward,
    a_plus_a,
    product_of_sum,
    tanh_broken_down,
    torch_neuron,
    network_classes,
    network_output,
    training,
    choices,
    power,
    torch_power,
    nudge,
    nudge_all,
)


def show(client: Client, output: Expression) -> tuple[Evaluation, Drawing]:
    """Evaluate and draw: the notebook's `backward()` and `draw_dot`."""
    answer, drawing = client.evaluate(output), client.draw(output)
    for name, value in answer.values.items():
        print(f"{name:13} | data {value:< 12.6g} | grad {answer.gradients[name]:< .6g}")
    return answer, drawing


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Run the lecture's notebook through the service.")
    parser.add_argument("--url", help="address of a running service (default: one inside this process)")
    parser.add_argument("--out", type=Path, help="folder for the drawings, one for each cell that draws")
    options = parser.parse_args(arguments)
    with Client(options.url) if options.url else Client.local() as client:
        for cell in CELLS:
            print(f"\n# {(cell.__doc__ or '').splitlines()[0]}")
            result = cell(client)
            if options.out and isinstance(result, tuple) and isinstance(result[-1], Drawing):
                options.out.mkdir(parents=True, exist_ok=True)
                result[-1].save(options.out / f"{cell.__name__}.svg")


if __name__ == "__main__":
    main()
