"""The linear head: losses of inputs and a kernel whose logits are never all held.

A loss of logits [tokens, classes] becomes one of inputs [tokens, D] and a kernel
[D, classes], evaluated chunk by chunk of tokens. For a chunk whose losses have the
cotangents g:

    z = x W + b      dz = g dL/dz      dx = dz W'      dW = sum x' dz      db = sum dz

dW and db are summed over the chunks in float32. A sum or mean knows the cotangents up to one
factor before the loop, so its gradients are taken in the forward, with three products in
all. Without a reduction they are taken in the backward, from logits made anew: four.

Where the classes are divided over shards, dx is this shard's part of it; JAX adds up the parts,
once, after the loop, as it adds up what the shards of the tokens know of dW and db.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards
from xent_jax._chunks import over_chunks
from xent_jax._modes import Mode
from xent_jax._operands import (
    Operands,
    Wanted,
    chosen,
    is_zero,
    joined,
    or_none,
    or_unasked,
    values_of,
)
from xent_jax._rows import accumulator
from xent_jax._types import AxisName, KernelAxes


class Head(NamedTuple):
    """A loss of logits, and how the tokens lie in chunks."""

    # (z [size, V], targets, closed_over) -> trees of [size, ...]: losses, and what has no gradient
    loss: Callable[..., tuple[Any, Any]]
    mode: Mode
    batch: tuple[int, ...]
    size: int
    pieces: int  # of the classes, in which a CPU sums the kernel's gradient
    axes: KernelAxes  # of the kernel
    dtype: Any  # of the factors of all products
    axis_name: AxisName | None  # over whose shards the classes are divided

    def losses(self, operands: Operands, left: Array | None) -> Any:
        """Of each token, ``[*batch, ...]``, what ``loss`` gives; 0 where ``left`` is false."""
        if self.mode == "forward":
            return self._values(operands, left, jax.checkpoint)

        @jax.custom_vjp
        def kernel(operands, left):
            return self._values(operands, left)

        def forward(operands, left):
            wanted, (operands, left) = Wanted.of(operands), values_of((operands, left))
            # By the losses' own forward rules, which can be differentiated again in either mode.
            reverse = self._replace(loss=lambda *args: jax.vjp(self.loss, *args, has_aux=True)[::2])
            return reverse._values(operands, left), (wanted.as_residual(), operands, left)

        def backward(residual, g):
            wanted, operands, left = residual
            asked, g = self._asked(g[0])
            g, scale = _near_one(g, self.dtype)
            return asked._gradients(wanted.from_residual(), operands, left, g, scale)[1], None

        kernel.defvjp(forward, backward, symbolic_zeros=True)
        return kernel(operands, left)

    def total(self, operands: Operands, left: Array | None, scale: Array) -> tuple[Array, Any]:
        """``scale`` times the sum of the losses of the tokens left in, and what has no gradient."""
        scale = _shards.vary(
            scale, _shards.varying(operands.inputs) - _shards.names(self.axis_name)
        )
        if self.mode == "forward":
            losses, aux = self._values(operands, left, jax.checkpoint)
            return scale * jnp.sum(losses), aux

        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), operands)

        @jax.custom_vjp
        def kernel(operands, left, scale):
            losses, aux = self._values(operands, left)
            return scale * jnp.sum(losses), aux

        def forward(operands, left, scale):
            wanted, (operands, left, scale) = (
                Wanted.of(operands),
                values_of((operands, left, scale)),
            )
            (losses, aux), gradients = self._gradients(wanted, operands, left, None, scale)
            total = jnp.sum(losses)
            return (scale * total, aux), (or_unasked(gradients), total)

        def backward(residual, g):
            gradients, total = residual
            gradients, (g, _) = or_none(gradients), g
            g = jnp.zeros(g.shape, g.dtype) if is_zero(g) else g
            whole = _shards.cotangent(g, self.axis_name)
            return _scaled(gradients, whole, like), None, g * total

        kernel.defvjp(forward, backward, symbolic_zeros=True)
        return kernel(operands, left, scale)

    def _asked(self, g: Any) -> tuple["Head", list[Array]]:
        """A head of those losses alone that have a cotangent, and their cotangents."""
        every = jax.tree.leaves(g, is_leaf=is_zero)

        def some(values: Any) -> list[Any]:
            return [v for v, d in zip(values, every, strict=True) if not is_zero(d)]

        def loss(*args: Any) -> tuple[Any, Any]:
            return some(jax.tree.leaves(self.loss(*args)[0])), ()

        return self._replace(loss=loss), some(every)

    def _values(self, operands: Operands, left: Array | None, keeping: Any = lambda f: f) -> Any:
        """The losses alone: one product, one chunk of logits."""

        @keeping
        def losses(operands, x, targets, left):
            x, targets = _cleared((x, targets), left)
            z = self._logits(x, operands)
            return _cleared(self.loss(z, targets, operands.closed_over), left)

        def step(carry, rows, fresh):
            return carry, losses(operands._replace(inputs=None, targets=None), *rows)

        rows = operands.inputs, operands.targets, left
        return over_chunks(step, (), rows, self.batch, self.size)[1]

    def _gradients(
        self,
        wanted: Wanted,
        operands: Operands,
        left: Array | None,
        g: Any,
        scale: Array | None = None,
    ) -> tuple[Any, Operands]:
        """What the loss gives, and those of its gradients that are wanted, None for the others.

        ``g`` are the cotangents. ``None`` stands for ones, where the cotangent is not known yet:
        float16 gradients then stay in float32, see ``kept_dtype``. ``scale`` multiplies the
        gradients last, in float32: scaled down before, dz may be too small for half precision.
        """
        _, kernel, bias, _, closed_over = operands
        as_dtype = kept_dtype if g is None else jnp.dtype

        def step(sums, rows, fresh):
            x, targets, left, g = rows
            left = fresh if left is None else left if fresh is None else left & fresh
            x, targets = _cleared((x, targets), left)
            z = self._logits(x, operands)
            losses, pull, aux = self._differentiated(wanted, z, targets, closed_over)
            if g is None:
                g = jax.tree.map(lambda loss: _shards.share(loss, self.axis_name), losses)
            dz, d_targets, d_closed_over = pull(_cleared(g, left))
            dz = _cleared(dz, left)
            dx, d_kernel, d_bias = _backward(self, wanted, x, kernel, dz, sums[0])
            new = d_bias, d_closed_over
            rest = jax.tree.map(lambda total, d: total + d.astype(total.dtype), sums[1:], new)
            sums = (d_kernel, *rest)
            by_token = _scaled((dx, d_targets), scale, (x, targets), as_dtype)
            return sums, (_cleared((losses, aux), left), by_token)

        summed = (
            kernel if wanted.kernel else None,
            bias if wanted.bias else None,
            chosen(closed_over, wanted.closed_over),
        )
        sums = jax.tree.map(_zeros, summed)
        rows = operands.inputs, operands.targets, left, g
        sums, (found, (dx, d_targets)) = over_chunks(step, sums, rows, self.batch, self.size)
        d_kernel, d_bias, d_closed_over = _scaled(sums, scale, summed, as_dtype)
        return found, Operands(dx, d_kernel, d_bias, d_targets, d_closed_over)

    def _logits(self, x: Array, operands: Operands) -> Array:
        """x W + b, in float32 or more."""
        z = self.product(x, operands.kernel, (1, self.axes.index("D")))
        return z if operands.bias is None else z + operands.bias.astype(z.dtype)[None]

    def product(self, a: Array, b: Array, over: tuple[int, int]) -> Array:
        """The product over these axes, of factors rounded to ``dtype``, summed in float32.

        In half precision dz is rounded to it too: matrix units take it so.
        """
        return lax.dot_general(
            a.astype(self.dtype),
            b.astype(self.dtype),
            (((over[0],), (over[1],)), ((), ())),
            preferred_element_type=accumulator(self.dtype),
        )

    def _differentiated(self, wanted: Wanted, z: Array, targets: Any, closed_over: Any):
        """The losses of a chunk, and their vjp to its logits and what else is wanted."""

        def of(z, some_targets, some_closed_over):
            return self.loss(
                z, joined(some_targets, targets), joined(some_closed_over, closed_over)
            )

        some = chosen(targets, wanted.targets), chosen(closed_over, wanted.closed_over)
        return jax.vjp(of, z, *some, has_aux=True)


# ---------------------------------------------------------------- of one chunk


# dx = dz W', dW = x' dz added to the sum of the chunks before, db = sum dz.
# Proof: with_linear_head, linear_softmax_cross_entropy, linear_token_statistics
def _backward(head: Head, wanted: Wanted, x: Array, kernel: Array, dz: Array, total):
    dx = head.product(dz, kernel, (1, head.axes.index("V"))) if wanted.inputs else None
    d_kernel = _kernel_sum(head, total, x, dz) if wanted.kernel else None
    return dx, d_kernel, jnp.sum(dz, axis=0) if wanted.bias else None


def _kernel_sum(head: Head, total: Array, x: Array, dz: Array) -> Array:
    def added(total: Array, x: Array, dz: Array) -> Array:
        factors = (x, dz) if head.axes == "DV" else (dz, x)
        return total + head.product(*factors, (0, 0)).astype(total.dtype)

    def in_pieces(total: Array, x: Array, dz: Array) -> Array:
        axis, width = head.axes.index("V"), dz.shape[1] // head.pieces

        def add(i: Array, total: Array) -> Array:
            start = i * width
            part = lax.dynamic_slice_in_dim(total, start, width, axis)
            part = added(part, x, lax.dynamic_slice_in_dim(dz, start, width, 1))
            return lax.dynamic_update_slice_in_dim(total, part, start, axis)

        return lax.fori_loop(0, head.pieces, add, total)

    if head.pieces == 1:
        return added(total, x, dz)
    return lax.platform_dependent(total, x, dz, cpu=in_pieces, default=added)


def _zeros(like: Array) -> Array:
    """Of its shape and mesh axes, in float32 or more."""
    zeros = jnp.zeros(like.shape, accumulator(like.dtype))
    return _shards.vary(zeros, _shards.varying(like))


def _cleared(values: Any, left: Array | None) -> Any:
    """0 in the rows that are out: what they hold, a label out of range too, reaches nothing."""
    if left is None:
        return values

    def clear(x: Array) -> Array:
        mask = left.reshape(left.shape + (1,) * (x.ndim - 1))
        return jnp.where(mask, x, jnp.zeros((), x.dtype))

    return jax.tree.map(clear, values)


def _narrow(dtype: Any) -> bool:
    """Whether a dtype, such as float16, has a smaller range than float32."""
    return bool(jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp)


def kept_dtype(dtype: Any) -> Any:
    """The dtype in which a gradient waits for its cotangent."""
    return jnp.dtype(jnp.float32 if _narrow(dtype) else dtype)


def _near_one(g: list[Array], dtype: Any) -> tuple[list[Array], Array | None]:
    """Cotangents of which the largest is near 1, and the factor that was taken out.

    Only products in a dtype of small range need it: there dz would become 0 or infinite.
    """
    if not (g and _narrow(dtype)):
        return g, None
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(x), initial=0) for x in g])
    usable = (largest > 0) & jnp.isfinite(largest)
    largest = lax.stop_gradient(jnp.where(usable, largest, jnp.ones_like(largest)))
    # A power of two, so that dividing by it rounds nothing.
    factor = lax.reduce_precision(largest, jnp.finfo(largest.dtype).nexp, 0)
    return [x / factor for x in g], factor


def _scaled(
    gradients: Any, scale: Array | None, like: Any, as_dtype: Callable[[Any], Any] = jnp.dtype
) -> Any:
    """Times ``scale``, each in the dtype of what it is a gradient of; None stays None."""

    def one(d: Any, a: Any) -> Any:
        if d is None:
            return None
        if scale is not None:
            dtype = accumulator(d.dtype)
            d = scale.astype(dtype) * d.astype(dtype)
        return d.astype(as_dtype(a.dtype))

    return jax.tree.map(one, gradients, like, is_leaf=lambda x: x is None)
