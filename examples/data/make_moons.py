"""Make moons.json: the two interleaved half circles of micrograd's demonstration, and a second opinion on it.

    pip install scikit-learn && python make_moons.py > moons.json

Run once; the answer is kept beside this script so that the demonstration needs neither scikit-learn nor
NumPy. The points are those of micrograd's demo notebook: `np.random.seed(1337)`, then
`make_moons(n_samples=100, noise=0.1)` on NumPy's global generator, labels -1 and 1. The losses are those of
the same training written with NumPy arrays, so summed in another order: they agree with ours to about 1e-15,
not to the bit.
"""

import json
import random
import sys
from itertools import pairwise

import numpy as np
from sklearn.datasets import make_moons

SEED = 1337
STEPS = 100


def numpy_losses(points, labels):
    """Return the loss before each of the updates of micrograd's demo, by backpropagation through NumPy
    arrays.
    """
    draw = random.Random(SEED)
    sizes = [2, 16, 16, 1]
    weights = [
        np.array([[draw.uniform(-1, 1) for _ in range(inputs)] for _ in range(outputs)])
        for inputs, outputs in pairwise(sizes)
    ]
    biases = [np.zeros(outputs) for outputs in sizes[1:]]
    losses = []
    for step in range(STEPS):
        layers = [points]
        for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            scores = layers[-1] @ weight.T + bias
            layers.append(scores if depth == 2 else np.maximum(scores, 0))
        margin = 1 - labels * layers[-1][:, 0]
        penalty = sum((p * p).sum() for p in weights + biases)
        losses.append(float(np.maximum(margin, 0).mean() + 1e-4 * penalty))

        upstream = np.where(margin > 0, -labels, 0.0)[:, None] / len(labels)
        gradients = []
        for depth in (2, 1, 0):
            if depth != 2:
                upstream = upstream * (layers[depth + 1] > 0)
            gradients.append((depth, upstream.T @ layers[depth], upstream.sum(axis=0)))
            upstream = upstream @ weights[depth]
        rate = 1.0 - 0.9 * step / 100
        for depth, weight_gradient, bias_gradient in gradients:
            weights[depth] = weights[depth] - rate * (weight_gradient + 2e-4 * weights[depth])
            biases[depth] = biases[depth] - rate * (bias_gradient + 2e-4 * biases[depth])
    return losses


np.random.seed(SEED)
points, labels = make_moons(n_samples=100, noise=0.1)
labels = labels * 2 - 1
document = {
    "about": "100 points of scikit-learn's make_moons(noise=0.1), np.random.seed(1337), labels -1 and 1",
    "inputs": points.tolist(),
    "targets": [int(label) for label in labels],
    "numpy_losses": numpy_losses(points, labels),
}
members = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items()]
sys.stdout.write("{\n" + ",\n".join(members) + "\n}\n")
