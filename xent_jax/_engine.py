"""Losses of tokens and their gradients, chunk by chunk, for all heads and for ``chunked_loss``.

A ``Work`` does one chunk: it has a function for the losses, and one for the losses with their
gradients. The engine runs it over the chunks, and sums the gradients of arrays that all tokens
share, such as a kernel, in float32. For a sum or mean, the cotangents of the losses are known up
to one factor before the loop, so the gradients are computed in the forward pass. Without a
reduction, they are computed in the backward pass, where each chunk is computed again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards
from xent_jax._chunks import Chunks, cleared, over_chunks
from xent_jax._modes import Mode
from xent_jax._operands import (
    Operands,
    Wanted,
    chosen,
    gradients_of,
    is_zero,
    residuals_of,
    values_of,
)
from xent_jax._reduction import divisor, valid
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import Reduction, accumulator


class Work(Protocol):
    """Computes one chunk of tokens; ``rows`` are the rows of the chunk."""

    @property
    def dtype(self) -> Any:
        """The dtype in which cotangents are multiplied."""

    @property
    def shards(self) -> Shards:
        """The shards of the classes."""

    def value(self, shared: tuple, rows: tuple) -> tuple[Any, Any]:
        """Returns trees of ``[tokens, ...]``: the losses and the auxiliaries."""

    def gradients(
        self,
        wanted: Wanted,
        shared: tuple,
        rows: tuple,
        cotangents: Callable[[Any], Any],
        sums: tuple,
    ) -> tuple[tuple[Any, Any], tuple, tuple]:
        """Returns the value, the sums plus this chunk's gradients, and the rows' gradients.

        ``cotangents`` returns the cotangents of the losses. Unwanted gradients and their sums
        are None.
        """

    def then(self, function: Callable[[Any], Any]) -> "Work":
        """Returns the work whose losses are a function of the losses of this one."""


class Engine(NamedTuple):
    """Runs a work over the chunks of the tokens."""

    work: Any  # a ``Work``
    mode: Mode
    batch: tuple[int, ...]
    chunks: Chunks
    weighted: bool  # whether the last of the rows are the weights of the losses

    def losses(self, operands: Operands, mask: Array | None) -> Any:
        """Returns the value for each token, ``[*batch, ...]``, 0 where ``mask`` is false."""
        if self.mode == "forward":
            return self._leaving_out(self._values, None, operands, mask)

        @jax.custom_vjp
        def losses(operands, mask):
            return self._leaving_out(self._values, None, operands, mask)

        def forward(operands, mask):
            wanted, (operands, mask) = Wanted.of(operands), values_of((operands, mask))
            by_rule = functools.partial(self._values, by_rule=True)
            found = self._leaving_out(by_rule, wanted, operands, mask)
            return found, (wanted.as_residual(), operands, mask)

        def backward(residual, g):
            wanted, operands, mask = residual
            wanted = wanted.from_residual()
            asked, g = self._asked(g[0])
            g, scale = _near_one(g, self.work.dtype)

            def run(*args):
                return asked._gradients(wanted, *args)[1]

            return self._leaving_out(run, wanted, operands, mask, g, scale), None

        losses.defvjp(forward, backward, symbolic_zeros=True)
        return losses(operands, mask)

    def scaled_sum(self, operands: Operands, mask: Array | None, scale: Array) -> tuple[Array, Any]:
        """Returns ``scale`` times the sum of the losses, and the auxiliaries."""
        shards = self.work.shards
        scale = _shards.vary(scale, _shards.varying(operands.rows[0]) - shards.names)
        if self.mode == "forward":
            losses, aux = self.losses(operands, mask)
            return scale * jnp.sum(losses), aux

        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), operands)

        @jax.custom_vjp
        def total(operands, mask, scale):
            losses, aux = self._leaving_out(self._values, None, operands, mask)
            return scale * jnp.sum(losses), aux

        def forward(operands, mask, scale):
            wanted = Wanted.of(operands)
            operands, mask, scale = values_of((operands, mask, scale))

            def run(operands, mask, early, scale):
                return self._gradients(wanted, operands, mask, early, None, scale)

            (losses, aux), gradients = self._leaving_out(run, wanted, operands, mask, scale)
            total = jnp.sum(losses)
            return (scale * total, aux), (residuals_of(gradients), total)

        def backward(residual, g):
            gradients, total = residual
            gradients, (g, _) = gradients_of(gradients), g
            g = jnp.zeros(g.shape, g.dtype) if is_zero(g) else g
            whole = shards.cotangent(g)
            return _scaled(gradients, whole, like), None, g * total

        total.defvjp(forward, backward, symbolic_zeros=True)
        return total(operands, mask, scale)

    def _leaving_out(
        self, run: Callable[..., Any], wanted: Wanted | None, operands: Operands, mask: Any, *more
    ) -> Any:
        """Returns ``run(operands, mask, early, *more)`` without computing tokens that are left out.

        The loop ends early, and leaves out tokens of weight 0. JAX cannot differentiate a loop that
        ends early, and a gradient to the weights needs the losses of all tokens. So when JAX
        differentiates this function later, to any order, it differentiates a loop that does
        neither. If a gradient to the weights is ``wanted`` now, weights leave out no token.
        """
        if self.chunks.in_place or (mask is None and not self.weighted):
            return run(operands, mask, False, *more)
        by_weight = self.weighted and not (wanted and wanted.rows[-1])

        @jax.custom_jvp
        def leaving_out(mask, operands, *more):
            if by_weight:
                heavy = operands.rows[-1] != 0
                mask = heavy if mask is None else mask & heavy
            return run(operands, mask, True, *more)

        def rule(primals, tangents):
            (mask, *given), (_, *dots) = primals, tangents
            leaves, tree = jax.tree.flatten(given)
            dots = jax.tree.leaves(dots, is_leaf=is_zero)
            where = [i for i, t in enumerate(dots) if not is_zero(t)]

            def of(*moving: Array) -> Any:
                moved = dict(enumerate(leaves)) | dict(zip(where, moving, strict=True))
                operands, *more = jax.tree.unflatten(tree, moved.values())
                return run(operands, mask, False, *more)

            return jax.jvp(of, [leaves[i] for i in where], [dots[i] for i in where])

        leaving_out.defjvp(rule, symbolic_zeros=True)
        return leaving_out(mask, operands, *more)

    def _asked(self, g: Any) -> tuple["Engine", list[Array]]:
        """Returns an engine for the losses that have a cotangent, and these cotangents."""
        every = jax.tree.leaves(g, is_leaf=is_zero)

        def some(values: Any) -> list[Any]:
            leaves = jax.tree.leaves(values, is_leaf=is_zero)
            return [v for v, d in zip(leaves, every, strict=True) if not is_zero(d)]

        return self._replace(work=self.work.then(some)), some(g)

    def _values(
        self, operands: Operands, mask: Array | None, early: bool, by_rule: bool = False
    ) -> Any:
        """Returns the losses and the auxiliaries of each token.

        With ``by_rule``, they are computed by the forward rules of the losses, which JAX can
        differentiate again in either mode.
        """

        def step(carry: Any, rows: tuple, live: Array | None) -> tuple[Any, Any]:
            args = operands.shared, rows
            if by_rule:
                found = jax.vjp(self.work.value, *args, has_aux=True)[::2]
            else:
                found = self.work.value(*args)
            return carry, cleared(found, live)

        keep = jax.checkpoint if self.mode == "forward" else lambda body: body
        return over_chunks(step, (), operands.rows, self.batch, self.chunks, mask, keep, early)[1]

    def _gradients(
        self,
        wanted: Wanted,
        operands: Operands,
        mask: Array | None,
        early: bool,
        g: Any,
        scale: Array | None,
    ) -> tuple[Any, Operands]:
        """Returns the value for each token, and the wanted gradients, with None for the others.

        ``g`` are the cotangents. ``None`` stands for ones if the cotangent is not known yet; then
        float16 gradients stay in float32, see ``kept_dtype``. ``scale`` multiplies the gradients
        last, in float32, because scaled down earlier they may be too small for half precision.
        """
        as_dtype = kept_dtype if g is None else jnp.dtype

        def step(sums: tuple, rows: Any, live: Array | None) -> tuple[tuple, Any]:
            rows, g = rows

            def cotangents(losses: Any) -> Any:
                ones = self.work.shards.share
                return cleared(jax.tree.map(ones, losses) if g is None else g, live)

            found, sums, of_rows = self.work.gradients(
                wanted, operands.shared, rows, cotangents, sums
            )
            return sums, (cleared(found, live), _scaled(of_rows, scale, rows, as_dtype))

        shared = chosen(operands.shared, wanted.shared)
        sums = jax.tree.map(_zeros, shared)
        rows = operands.rows, g
        sums, (found, of_rows) = over_chunks(
            step, sums, rows, self.batch, self.chunks, mask, early=early
        )
        return found, Operands(_scaled(sums, scale, shared, as_dtype), of_rows)


def reduced(
    engine: Engine,
    operands: Operands,
    mask: Array | None,
    reduction: Reduction,
    dtype: Any,
    by_label: Array | None = None,
    batch_shards: Shards = WHOLE,
) -> tuple[Any, Any]:
    """Returns the reduction of the losses, in ``dtype``, and the auxiliaries.

    A mean divides by the sum of the tokens' weights, of the weights ``by_label``, or of their
    products, and without weights by the number of tokens.
    """
    with _shards.mesh_by_name():  # without it, JAX would trace the losses twice
        if reduction == "none":
            return engine.losses(operands, mask)
        scale = jnp.ones((), dtype)
        if reduction == "mean":
            weights = valid(operands.rows[-1], dtype) if engine.weighted else None
            scale = scale / divisor(engine.batch, dtype, mask, by_label, batch_shards, weights)
        of_tokens = _shards.varying(operands.rows[0]) - engine.work.shards.names
        if not _shards.SCAN_KEEPS_RULES or any(
            of_tokens - _shards.varying(a) for a in operands.shared if a is not None
        ):
            # The gradients are computed in the backward pass. On JAX 0.6, those from the forward
            # pass could not be differentiated again. If an array that the loss closes over is
            # replicated over the mesh axes of the tokens, JAX sums its gradient over the mesh as
            # soon as it is computed, and so needs the cotangents by then.
            losses, aux = engine.losses(operands, mask)
            total = scale * jnp.sum(losses)
        else:
            total, aux = engine.scaled_sum(operands, mask, scale)
        return batch_shards.psum(total), aux


def _zeros(like: Array) -> Array:
    """Returns zeros with its shape and mesh axes, in float32 or more."""
    zeros = jnp.zeros(like.shape, accumulator(like.dtype))
    return _shards.vary(zeros, _shards.varying(like))


def _narrow(dtype: Any) -> bool:
    """Returns whether a dtype, such as float16, has a smaller range than float32."""
    return bool(jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp)


def kept_dtype(dtype: Any) -> Any:
    """Returns the dtype of a gradient before it is multiplied by its cotangent."""
    return jnp.dtype(jnp.float32 if _narrow(dtype) else dtype)


def _near_one(g: list[Array], dtype: Any) -> tuple[list[Array], Array | None]:
    """Returns cotangents scaled so that the largest is near 1, and the factor that undoes it.

    Only products in a dtype of small range need it: their gradients would underflow or overflow.
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
    """Returns ``scale`` times each gradient, in the dtype of its argument."""

    def one(d: Any, a: Any) -> Any:
        if d is None:
            return None
        if scale is not None:
            dtype = accumulator(d.dtype)
            d = scale.astype(dtype) * d.astype(dtype)
        return d.astype(as_dtype(a.dtype))

    return jax.tree.map(one, gradients, like, is_leaf=lambda x: x is None)
