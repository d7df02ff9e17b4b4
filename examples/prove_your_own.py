"""Prove a gradient of your own, and see the prover refute one that passes a test.

    pip install "xent-jax[examples]"
    python examples/prove_your_own.py

The loss is cross-entropy with a z-loss: lse - z_y + c lse^2, of log-sum-exp lse. Its gradient with
respect to the logits is (1 + 2 c lse) p - onehot(y). If the factor 2 is forgotten, the gradient is
wrong, but a test with the usual c = 1e-4 cannot distinguish that from rounding.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.nn import logsumexp, one_hot, softmax
from jax.test_util import check_grads
from rich.console import Console
from rich.table import Table
from xent_jax.proofs import array, labels, prove_vjp, scalar

console = Console(highlight=False)
# Older versions of JAX keep this context in jax.experimental.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def textbook(z, y, c):
    """Returns the loss of each example, for JAX to differentiate."""
    lse = logsumexp(z, axis=-1)
    return lse - jnp.take_along_axis(z, y[:, None], axis=-1)[:, 0] + c * lse**2


def with_backward(factor):
    """Returns the same loss with our own backward pass; the right factor is 2."""

    def backward(kept, g):
        z, y, c = kept
        lse = logsumexp(z, axis=-1, keepdims=True)
        gradient = (1 + factor * c * lse) * softmax(z) - one_hot(y, z.shape[-1])
        return gradient * g[:, None], None, None

    loss = jax.custom_vjp(textbook)
    loss.defvjp(lambda z, y, c: (textbook(z, y, c), (z, y, c)), backward)
    return loss


def test(loss):
    """Compares the gradient with finite differences, with JAX's default tolerances."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(8, 10)), jnp.float32)
    y = jnp.arange(8)
    check_grads(lambda z: loss(z, y, 1e-4), (z,), order=1, modes=["rev"])  # custom_vjp: no "fwd"


def prove(loss):
    """Tries to prove the gradient for all sizes n and k, all logits, valid labels and any c."""
    arguments = {"z": array("n k"), "y": labels("n", classes="k"), "c": scalar()}
    return prove_vjp(loss, arguments, wrt=("z",))


def show_counterexample(loss, at):
    """Prints the claimed and the true gradient at a point where they differ."""
    for name, value in at.items():
        console.print(f"  {name} = {np.array2string(np.asarray(value), precision=4)}")
    with enable_x64(True):
        z, y, c = map(jnp.asarray, at.values())
        claimed, true = (
            np.asarray(jax.grad(lambda z, f=f: f(z, y, c).sum())(z)) for f in (loss, textbook)
        )
    table = Table("example", "class", "claimed", "true")
    for place in np.ndindex(claimed.shape):
        style = "red" if abs(claimed[place] - true[place]) > 1e-6 else ""
        numbers = (f"{claimed[place]:+.6f}", f"{true[place]:+.6f}")
        table.add_row(*map(str, place), *numbers, style=style)
    console.print(table)


def show_identity(gradient):
    """Prints the proved gradient, with the name lse for the logarithm of its sum."""
    (total,) = gradient.atoms(sympy.Sum)
    short = sympy.powsimp(gradient.subs(total, sympy.exp(sympy.Symbol("lse", real=True))))
    print("The gradient to z[a0, a1], of example a0 and class a1, for the cotangent g:")
    print(f"  {short}\n  where lse = log {total}")


def main():
    wrong, right = with_backward(1), with_backward(2)

    console.rule("The factor 2 forgotten")
    test(wrong)
    console.print("check_grads, at its defaults: [yellow]passes[/yellow]")
    verdict = prove(wrong)
    console.print(f"prove_vjp: [red]{verdict.status}[/red], {verdict.seconds:.1f} s. Wrong at")
    if verdict.status != "refuted":
        sys.exit("The wrong gradient was not refuted.")
    show_counterexample(wrong, verdict.counterexample)

    console.rule("Mended")
    test(right)
    console.print("check_grads, at its defaults: [green]passes[/green]")
    verdict = prove(right)
    if not verdict.proved:
        sys.exit(f"The right gradient was not proved: {verdict.reason}")
    console.print(f"prove_vjp: [green]{verdict.status}[/green], {verdict.seconds:.1f} s, assuming")
    for assumption in verdict.assumptions:
        console.print(f"  · {assumption}")
    show_identity(verdict.identity)
    print("refuted without the 2, proved with it: for every n and k, not at one point")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
