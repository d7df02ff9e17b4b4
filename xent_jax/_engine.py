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
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from xent_jax import _checks, _shards
from xent_jax._chunks import Chunks, cleared, over_chunks
from xent_jax._modes import Mode
from xent_jax._reduction import divisor, valid
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import Reduction, accumulator
from xent_jax._zero import product


class Operands(NamedTuple):
    """The arrays that the losses depend on; None for an optional one that is not given."""

    shared: tuple[Any, ...]  # of all tokens: a kernel, a bias, parameters, what a loss closes over
    rows: tuple[Any, ...]  # [*batch, ...]: inputs, targets, and last the weights if there are any


class Wanted(NamedTuple):
    """Which gradients are asked for; no others are computed.

    JAX traces a call once and shares that trace between calls whose differentiated arguments
    differ, and it reads the tree of the residuals only when it transposes. So a residual must
    have the same tree whatever is differentiated, and these flags are kept in the shapes of its
    leaves.
    """

    shared: tuple[bool, ...]
    rows: tuple[bool, ...]

    @classmethod
    def of(cls, operands: Operands) -> "Wanted":
        """Reads the operands that ``symbolic_zeros`` marks as perturbed or not."""

        def one(x: Any) -> bool:
            return (
                x is not None
                and x.perturbed
                and jnp.issubdtype(jnp.result_type(x.value), jnp.floating)
            )

        return cls(*(tuple(map(one, part)) for part in operands))

    def as_residual(self) -> "Wanted":
        """Writes the flags as arrays of shape [1] for true and [0] for false."""
        return jax.tree.map(lambda wanted: jnp.zeros(int(wanted), jnp.bool_), self)

    def from_residual(self) -> "Wanted":
        """Undoes ``as_residual``."""
        return jax.tree.map(lambda kept: kept.shape == (1,), self)


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
            wanted, (operands, mask) = Wanted.of(operands), _values_of((operands, mask))
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
            operands, mask, scale = _values_of((operands, mask, scale))

            def run(operands, mask, early, scale):
                return self._gradients(wanted, operands, mask, early, None, scale)

            (losses, aux), gradients = self._leaving_out(run, wanted, operands, mask, scale)
            total = jnp.sum(losses)
            return (scale * total, aux), (_or_unasked(gradients), total)

        def backward(residual, g):
            gradients, total = residual
            gradients, (g, _) = _or_none(gradients), g
            g = jnp.zeros(g.shape, g.dtype) if _is_zero(g) else g
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
            dots = jax.tree.leaves(dots, is_leaf=_is_zero)
            where = [i for i, t in enumerate(dots) if not _is_zero(t)]

            def of(*moving: Array) -> Any:
                moved = dict(enumerate(leaves)) | dict(zip(where, moving, strict=True))
                operands, *more = jax.tree.unflatten(tree, moved.values())
                return run(operands, mask, False, *more)

            return jax.jvp(of, [leaves[i] for i in where], [dots[i] for i in where])

        leaving_out.defjvp(rule, symbolic_zeros=True)
        return leaving_out(mask, operands, *more)

    def _asked(self, g: Any) -> tuple["Engine", list[Array]]:
        """Returns an engine for the losses that have a cotangent, and these cotangents."""
        every = jax.tree.leaves(g, is_leaf=_is_zero)

        def some(values: Any) -> list[Any]:
            leaves = jax.tree.leaves(values, is_leaf=_is_zero)
            return [v for v, d in zip(leaves, every, strict=True) if not _is_zero(d)]

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
    with _shards.mesh_by_name():  # without it, the losses would be traced twice
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


def hoisted(
    function: Callable[..., Any], *like: Any
) -> tuple[Callable[..., Any], tuple[Array, ...]]:
    """Returns ``of(closed_over, *args)``, and the tracers that ``function`` closes over.

    All tracers become operands: ``jax.closure_convert`` leaves those that are not differentiated,
    which ``vmap`` or a later trace of a rule may still be tracing.
    """
    traced, out = jax.make_jaxpr(function, return_shape=True)(*like)
    tracers = [isinstance(c, jax.core.Tracer) for c in traced.consts]

    def of(closed_over: tuple[Array, ...], *args: Any) -> Any:
        given = iter(closed_over)
        consts = [next(given) if t else c for t, c in zip(tracers, traced.consts, strict=True)]
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(out), found)

    return of, tuple(c for t, c in zip(tracers, traced.consts, strict=True) if t)


def weighed(found: tuple[Array, Any], weights: Array | None) -> tuple[Array, Any]:
    """Returns the losses of a chunk times their weights, and the auxiliaries without gradient.

    A loss with a negative or NaN weight is NaN, and the auxiliaries of a token of weight 0 are 0.
    """
    losses, aux = found
    if weights is not None:
        losses = product(valid(weights, losses.dtype), losses)
        aux = cleared(aux, weights != 0)
    return losses, jax.tree.map(lax.stop_gradient, aux)


def check_losses(name: str, of: str, tokens: int, losses: Any, aux: Any) -> None:
    """Raises ValueError unless losses and each array of aux have one entry for each token."""
    if getattr(losses, "shape", None) != (tokens,):
        raise ValueError(
            f"{name}: loss must give one number for each token, [{tokens}] for {of}, got "
            f"{_described(losses)}."
        )
    if any(getattr(a, "shape", ())[:1] != (tokens,) for a in jax.tree.leaves(aux)):
        raise ValueError(
            f"{name}: aux must hold arrays with one entry for each token, [{tokens}, ...] for "
            f"{of}, got {_described(aux)}."
        )


def _described(tree: Any) -> Any:
    return jax.tree.map(lambda x: _checks.describe(x) if hasattr(x, "shape") else repr(x), tree)


def vjp_of(function: Callable[..., Any], wanted: tuple, *args: tuple) -> tuple[Any, Any, Any]:
    """Returns the result of ``jax.vjp`` with ``has_aux``, for the gradients that are wanted.

    Args:
        function: a function of tuples of arrays.
        wanted: for each tuple, which gradients are wanted; the others are None.
        args: the tuples.
    """
    some = [chosen(given, flags) for given, flags in zip(args, wanted, strict=True)]

    def of(*some: tuple) -> Any:
        return function(*(map(_joined, some, args)))

    return jax.vjp(of, *some, has_aux=True)


def added(sums: Any, gradients: Any) -> Any:
    """Returns the sums with the gradients of a chunk, in the dtypes of the sums."""
    return jax.tree.map(lambda total, d: total + d.astype(total.dtype), sums, gradients)


def chosen(values: tuple, wanted: tuple[bool, ...]) -> tuple:
    """Returns the values that are wanted, and None for the others."""
    return tuple(v if w else None for v, w in zip(values, wanted, strict=True))


def _joined(some: tuple, rest: tuple) -> tuple:
    return tuple(r if s is None else s for s, r in zip(some, rest, strict=True))


def _or_unasked(gradients: Any) -> Any:
    """Returns the gradients as residuals, with an array of booleans for each None."""
    empty = jnp.zeros(0, jnp.bool_)
    return jax.tree.map(lambda d: empty if d is None else d, gradients, is_leaf=lambda d: d is None)


def _or_none(gradients: Any) -> Any:
    """Undoes ``_or_unasked``."""
    return jax.tree.map(lambda d: None if d.dtype == jnp.bool_ else d, gradients)


def _values_of(primals: Any) -> Any:
    """Returns the arrays of the arguments that ``symbolic_zeros`` passes to a forward rule."""
    return jax.tree.map(
        lambda p: jnp.asarray(p.value), primals, is_leaf=lambda p: hasattr(p, "perturbed")
    )


def _is_zero(g: Any) -> bool:
    return isinstance(g, SymbolicZero)


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
