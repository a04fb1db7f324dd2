"""NumPy by hand: the chain rule of a network of layers written out, its products by BLAS.

BLAS adds in any order and fuses a product with its sum, which chainrule's contract forbids: beside it one sees what the
contract costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.networks import Job

Array = np.ndarray[Any, np.dtype[np.float64]]


def training(job: Job, steps: int) -> Callable[[], list[float]]:
    """Return the training loop."""
    x, t = np.array(job.inputs), np.array(job.targets)
    points = len(x)
    loss_and_slope = _LOSSES[job.loss]
    share = 1.0 / points if job.mean else 1.0

    def run() -> list[float]:
        weights = [np.array(w).T for w, _ in job.layers]
        biases = [np.array(b) for _, b in job.layers]
        losses = []
        for rate in job.rates[:steps]:
            rows = [x]
            for w, b, activation in zip(weights, biases, job.activations, strict=True):
                z = rows[-1] @ w + b
                rows.append(np.tanh(z) if activation == "tanh" else np.maximum(z, 0.0) if activation == "relu" else z)
            loss, slope = loss_and_slope(rows[-1], t)
            loss, slope = loss * share, slope * share
            if job.l2:
                loss += job.l2 * sum(float((p * p).sum()) for p in (*weights, *biases))
            losses.append(loss)
            for k in reversed(range(len(weights))):
                y = rows[k + 1]
                if job.activations[k] == "tanh":
                    slope = slope * (1.0 - y * y)
                elif job.activations[k] == "relu":
                    slope = slope * (y > 0.0)
                dw, db = rows[k].T @ slope, slope.sum(axis=0)
                slope = slope @ weights[k].T
                weights[k] -= rate * (dw + 2.0 * job.l2 * weights[k])
                biases[k] -= rate * (db + 2.0 * job.l2 * biases[k])
        return losses

    return run


def _squared_error(y: Array, t: Array) -> tuple[float, Array]:
    difference = y[:, 0] - t
    return float(difference @ difference), 2.0 * difference[:, None]


def _hinge(y: Array, t: Array) -> tuple[float, Array]:
    margin = 1.0 - t * y[:, 0]
    return float(np.maximum(margin, 0.0).sum()), (-t * (margin > 0.0))[:, None]


def _cross_entropy(y: Array, t: Array) -> tuple[float, Array]:
    chosen = np.arange(len(t)), t.astype(int)
    shifted = y - y.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    totals = powers.sum(axis=1, keepdims=True)
    slope = powers / totals
    slope[chosen] -= 1.0
    return float((np.log(totals[:, 0]) - shifted[chosen]).sum()), slope


_LOSSES = {"squared_error": _squared_error, "hinge": _hinge, "cross_entropy": _cross_entropy}
