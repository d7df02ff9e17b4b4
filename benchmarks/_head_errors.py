"""For head.py: the errors of the linear head in bfloat16, against the same numbers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from _head_sizes import HALF, draw, in_chunks
from _losses import head, held, of_optax, of_tokamax, tokamax
from rich.progress import Progress

MODELS = {
    "xent_jax head": head,
    "xent_jax head, chunks of 64 tokens": in_chunks(64),
    "logits, optax": held(of_optax),
    "logits, cast to float32, optax": held(of_optax, jnp.float32),
    "tokamax head, chunked_xla": tokamax and of_tokamax,
}
SPREADS = (1, 3)  # standard deviations of the logits


def reference(x, w, y) -> list[np.ndarray]:
    """Returns the loss, dx and dW in float64."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    z, rows = x @ w, np.arange(len(y))
    lse = np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    dz = np.exp(z - lse)
    dz[rows, y] -= 1
    dz /= len(y)
    return [np.mean(lse[:, 0] - z[rows, y]), dz @ w.T, x.T @ dz]


def half_errors(draws: int, progress: Progress) -> dict[str, np.ndarray]:
    """Returns, for each model, [spreads, 3]: the worst errors of loss, dx and dW over the draws.

    An error is the largest error over the largest component.
    """
    programs = {
        what: jax.jit(jax.value_and_grad(loss, (0, 1))) for what, loss in MODELS.items() if loss
    }
    errors = {what: np.zeros((len(SPREADS), 3)) for what in programs}
    for seed in progress.track(range(draws), description="bfloat16"):
        for i, spread in enumerate(SPREADS):
            x, w, y, *_ = draw(HALF, seed)
            x, w = (a.astype(jnp.bfloat16) for a in (x, spread * w))
            wanted = reference(x, w, np.asarray(y))
            for what, program in programs.items():
                loss, gradients = program(x, w, y)
                got = [np.asarray(a, np.float64) for a in (loss, *gradients)]
                pairs = zip(got, wanted, strict=True)
                new = [abs(a - b).max() / abs(b).max() for a, b in pairs]
                errors[what][i] = np.maximum(errors[what][i], new)
    return errors


def half_table(errors: dict[str, np.ndarray]) -> tuple[list[str], list[list[str]]]:
    titles = ["", *(f"{of}\nspread {s}" for s in SPREADS for of in ("loss", "dx", "dW"))]
    lines = []
    for what in MODELS:
        numbers = [f"{e:.1e}" for e in errors[what].flat] if what in errors else ["not installed"]
        lines.append([what, *numbers] + [""] * (len(titles) - 1 - len(numbers)))
    return titles, lines
