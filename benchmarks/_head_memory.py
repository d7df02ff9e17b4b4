"""For head.py: how the linear head's temporary memory grows, from compiled programs."""

import jax
import numpy as np
from _head_sizes import FULL, Shape
from _losses import MIB, head, held, of_optax
from rich.progress import Progress

GROWTH = {
    "N": [FULL._replace(n=2**i) for i in range(10, 16)],
    "V": [FULL._replace(v=2**i) for i in range(13, 18)],
}
FIXED = {"N": f"D={FULL.d} V={FULL.v}", "V": f"N={FULL.n} D={FULL.d}"}


def temp(loss, shape: Shape) -> float:
    """Returns MiB of temporary memory of value and gradients in float32, without a run."""
    n, d, v = shape
    shapes = ((n, d), "float32"), ((d, v), "float32"), ((n,), "int32")
    program = jax.jit(jax.value_and_grad(loss, (0, 1)))
    compiled = program.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / MIB


def growth(progress: Progress) -> dict[str, np.ndarray]:
    """Returns, for N and for V, the size and the MiB of the head and of logits that are held."""
    return {
        axis: np.array(
            [
                (getattr(shape, axis.lower()), temp(head, shape), temp(held(of_optax), shape))
                for shape in progress.track(shapes, description=f"memory against {axis}")
            ]
        )
        for axis, shapes in GROWTH.items()
    }


def growth_table(axis: str, found: np.ndarray) -> tuple[list[str], list[list[str]]]:
    titles = [axis, "xent_jax head\nMiB", "logits, optax\nMiB", "share"]
    return titles, [
        [f"{size:.0f}", f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.3f}"]
        for size, ours, theirs in found
    ]
