"""The work of the linear head for a chunk of tokens: logits, loss, and three products.

For inputs x, a kernel W, a bias b and losses with the cotangents g:

    z = x W + b      dz = g dL/dz      dx = dz W'      dW = sum x' dz      db = sum dz

If the classes are sharded, dx is this shard's part of it. JAX adds up the parts once, after the
loop, and likewise the parts of dW and db of the shards of the tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from xent_jax._operands import Wanted, added, vjp_of
from xent_jax._shards import Shards
from xent_jax._types import KernelAxes, accumulator


class LinearLayer(NamedTuple):
    """A ``Work`` (see ``_engine``) of a loss of logits.

    Its shared operands are the kernel, the bias or None, and the arrays that the loss closes over;
    its rows are the inputs and the targets.
    """

    # (closed_over, z [tokens, V], *targets) -> trees of [tokens, ...]: losses, and auxiliaries
    loss: Callable[..., tuple[Any, Any]]
    axes: KernelAxes
    pieces: int  # a CPU sums the kernel's gradient in this many pieces of the classes
    dtype: Any  # the dtype of the factors of all products
    shards: Shards

    def then(self, function: Callable[[Any], Any]) -> "LinearLayer":
        """Returns the same with a function of the losses."""

        def loss(*args: Any) -> tuple[Any, Any]:
            losses, aux = self.loss(*args)
            return function(losses), aux

        return self._replace(loss=loss)

    def value(self, shared: tuple, rows: tuple) -> tuple[Any, Any]:
        """Returns the losses and auxiliaries of a chunk."""
        (kernel, bias, *closed_over), (x, *targets) = shared, rows
        return self.loss(tuple(closed_over), self.logits(x, kernel, bias), *targets)

    def gradients(
        self, wanted: Wanted, shared: tuple, rows: tuple, cotangents: Any, sums: tuple
    ) -> tuple[tuple[Any, Any], tuple, tuple]:
        """Returns the value, the sums with the gradients of this chunk, and those of its rows."""
        (kernel, bias, *closed_over), (x, *targets) = shared, rows
        (_, _, *of_closed), (_, *of_targets) = wanted

        def of_logits(logits: tuple, targets: tuple, closed_over: tuple) -> tuple[Any, Any]:
            return self.loss(tuple(closed_over), *logits, *targets)

        flags = (True,), of_targets, of_closed
        given = (self.logits(x, kernel, bias),), tuple(targets), tuple(closed_over)
        losses, pull, aux = vjp_of(of_logits, flags, *given)
        (dz,), d_targets, d_closed = pull(cotangents(losses))
        dx, d_kernel, d_bias = _backward(self, wanted, x, kernel, dz, sums[0])
        sums = d_kernel, *added(sums[1:], (d_bias, *d_closed))
        return (losses, aux), sums, (dx, *d_targets)

    def logits(self, x: Array, kernel: Array, bias: Array | None) -> Array:
        """Returns x W + b, in float32 or more."""
        z = self.product(x, kernel, (1, self.axes.index("D")))
        return z if bias is None else z + bias.astype(z.dtype)[None]

    def product(self, a: Array, b: Array, over: tuple[int, int]) -> Array:
        """Returns the product over these axes, of factors rounded to ``dtype``, summed in float32.

        In half precision, dz is rounded too, because matrix units need factors of one dtype.
        """
        return lax.dot_general(
            a.astype(self.dtype),
            b.astype(self.dtype),
            (((over[0],), (over[1],)), ((), ())),
            preferred_element_type=accumulator(self.dtype),
        )


# dx = dz W', dW = x' dz added to the sum of the chunks before, db = sum dz.
# Proof: with_linear_head, linear_softmax_cross_entropy, linear_token_statistics
def _backward(layer: LinearLayer, wanted: Wanted, x: Array, kernel: Array, dz: Array, total: Any):
    (of_kernel, of_bias, *_), (of_inputs, *_) = wanted
    dx = layer.product(dz, kernel, (1, layer.axes.index("V"))) if of_inputs else None
    d_kernel = _kernel_sum(layer, total, x, dz) if of_kernel else None
    return dx, d_kernel, jnp.sum(dz, axis=0) if of_bias else None


def _kernel_sum(layer: LinearLayer, total: Array, x: Array, dz: Array) -> Array:
    def added(total: Array, x: Array, dz: Array) -> Array:
        factors = (x, dz) if layer.axes == "DV" else (dz, x)
        return total + layer.product(*factors, (0, 0)).astype(total.dtype)

    def in_pieces(total: Array, x: Array, dz: Array) -> Array:
        axis, width = layer.axes.index("V"), dz.shape[1] // layer.pieces

        def add(i: Array, total: Array) -> Array:
            start = i * width
            part = lax.dynamic_slice_in_dim(total, start, width, axis)
            part = added(part, x, lax.dynamic_slice_in_dim(dz, start, width, 1))
            return lax.dynamic_update_slice_in_dim(total, part, start, axis)

        return lax.fori_loop(0, layer.pieces, add, total)

    if layer.pieces == 1:
        return added(total, x, dz)
    return lax.platform_dependent(total, x, dz, cpu=in_pieces, default=added)
