"""What the contract's order of rounding costs: the kernel of a dense layer beside others that are free of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.race import OURS, Contender, Effort, Figure, race

#: Neurons, inputs, points, and the points of a block.
UNITS, INPUTS, POINTS, BLOCK = 32, 64, 1792, 128


def rounding(effort: Effort) -> Iterator[Figure]:
    """A dense layer's sums: 32 neurons over 64 inputs at 1,792 points."""
    import numpy as np

    from chainrule_engine.compiled.products import ZERO, add_products, on_arrays

    rng = np.random.default_rng(0)
    weights, blocks = rng.uniform(-1, 1, (UNITS, INPUTS)), rng.uniform(-1, 1, (POINTS // BLOCK, INPUTS, BLOCK))
    w, x, side_by_side = weights.ravel(), blocks.reshape(POINTS // BLOCK, -1), np.hstack(list(blocks))

    def by_kernel(kernel: Callable[..., None]) -> Callable[[], list[float]]:
        sums = np.zeros((POINTS // BLOCK, UNITS * BLOCK))

        def run() -> list[float]:
            for c, b in zip(sums, x, strict=True):
                kernel(ZERO, w, c, BLOCK, UNITS, w, INPUTS, 1, b, BLOCK, INPUTS, BLOCK)
            return [float(sums[0, 0]), float(sums[-1, -1])]

        return run

    product = np.zeros((UNITS, POINTS))

    def by_blas() -> list[float]:
        np.dot(weights, side_by_side, out=product)
        return [float(product[0, 0]), float(product[-1, -1])]

    free = "the same kernel, product and sum fused"
    blas = "BLAS, fused and in any order"
    contenders = [
        Contender(OURS, by_kernel(on_arrays(add_products))),
        Contender(free, by_kernel(fused())),
        Contender(blas, by_blas),
    ]
    times = race(contenders, effort)
    yield times.took(unit="µs")
    yield from times.ratios({free: None, blas: None})


def fused() -> Callable[..., None]:
    """Return chainrule's kernel with a single rounding for a product and its sum, where the processor has that."""
    from numba import types
    from numba.extending import intrinsic

    from chainrule_engine.compiled import lanes, products

    @intrinsic
    def add_product(context: Any, total: Any, factor: Any, numbers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            factors = lanes.spread(builder, args[1], signature.return_type.count)
            return builder.fadd(args[0], builder.fmul(factors, args[2], flags=("fast",)), flags=("fast",))

        return total(total, types.float64, numbers), generate

    kernel: Callable[..., None] = products.on_arrays(products.made_of(add_product))
    return kernel
