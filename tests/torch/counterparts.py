"""The operations of the engine's table in PyTorch's words, and a graph run by its autograd."""

from __future__ import annotations

#: The operation of the same meaning in PyTorch. The fixture's module comes as `t`.
PYTORCH = {
    "add": lambda t, x, y: x + y,
    "sub": lambda t, x, y: x - y,
    "mul": lambda t, x, y: x * y,
    "div": lambda t, x, y: x / y,
    "neg": lambda t, x: -x,
    "pow": lambda t, x, y: t.pow(x, y),
    "abs": lambda t, x: t.abs(x),
    "exp": lambda t, x: t.exp(x),
    "log": lambda t, x: t.log(x),
    "sqrt": lambda t, x: t.sqrt(x),
    "sin": lambda t, x: t.sin(x),
    "cos": lambda t, x: t.cos(x),
    "tanh": lambda t, x: t.tanh(x),
    "sigmoid": lambda t, x: t.sigmoid(x),
    "relu": lambda t, x: t.relu(x),
    # torch.nn.functional.softplus gives x itself above 20, which is off by up to 2e-9.
    "softplus": lambda t, x: t.logaddexp(x, t.zeros_like(x)),
    "max": lambda t, x, y: t.maximum(x, y),
    "min": lambda t, x, y: t.minimum(x, y),
    "where": lambda t, c, x, y: t.where(c != 0, x, y),
    "stop_gradient": lambda t, x: x.detach(),
    "gt": lambda t, x, y: (x > y).to(t.float64),
    "ge": lambda t, x, y: (x >= y).to(t.float64),
    "lt": lambda t, x, y: (x < y).to(t.float64),
    "le": lambda t, x, y: (x <= y).to(t.float64),
    "eq": lambda t, x, y: (x == y).to(t.float64),
    "ne": lambda t, x, y: (x != y).to(t.float64),
}


def run(torch, graph):
    """Values and gradients of every id of a graph at its one point, for a seed of 1 for each output."""
    tensors = {name: torch.tensor(number, requires_grad=True) for name, number in graph.inputs.items()}
    for node in (graph.nodes[position] for position in graph.order):
        result = PYTORCH[node.op](torch, *(tensors[a] if isinstance(a, str) else torch.tensor(a) for a in node.args))
        # A node that no gradient passes through still has one of its own; to PyTorch it is a leaf.
        tensors[node.id] = result if result.requires_grad else result.requires_grad_()
        tensors[node.id].retain_grad()
    torch.autograd.backward([tensors[name] for name in graph.outputs])
    values = {name: tensor.item() for name, tensor in tensors.items()}
    return values, {name: 0.0 if tensor.grad is None else tensor.grad.item() for name, tensor in tensors.items()}
