"""Every way to compute a loss agrees, with all options at once, as hypothesis draws them.

The losses of logits, and those of elements, are compared in both modes, in value and gradient, with
textbook formulas in float64, which JAX differentiates. test_options_drawn_heads tests heads.
"""

import dataclasses
import functools
import inspect
import math
from typing import NamedTuple

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import xent_jax
from tests import textbook as book
from tests.cases import RICHEST, x64
from tests.drawn_options import OPTIONS, both_derivatives, dtypes, modules, reductions, same
from tests.draws import draws, seeds
from tests.problems import arrays

pytestmark = pytest.mark.fast_compile

# -------------------------------------------------------------------------- losses of logits

TEXTBOOK = {
    "softmax_cross_entropy": book.soft,
    "softmax_cross_entropy_with_integer_labels": book.integer,
    "softmax_focal_loss": book.focal,
    "poly_loss_cross_entropy": book.poly,
}
PLAIN = {name: TEXTBOOK[name] for name in list(TEXTBOOK)[:2]} | {"softmax": book.softmax}


class Layout(NamedTuple):
    """The sizes of the batch and of the classes, and the axes of the classes, in order."""

    batch: tuple[int, ...]
    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    argument: int | tuple[int, ...]  # the axes as they are given

    def place(self, x):
        """Divides the last axis into those of the classes, and moves them."""
        x = jnp.reshape(x, (*x.shape[:-1], *self.sizes))
        return jnp.moveaxis(x, range(len(self.batch), x.ndim), self.axes)

    def flat(self, x):
        """Undoes ``place``: the classes lie on the last axis again."""
        x = jnp.moveaxis(x, self.axes, range(len(self.batch), x.ndim))
        return x.reshape(*self.batch, -1)


@st.composite
def layouts(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    axes = tuple(order[: draw(st.integers(1, len(shape)))])
    signed = tuple(a - draw(st.sampled_from([0, len(shape)])) for a in axes)
    batch = tuple(n for a, n in enumerate(shape) if a not in axes)
    argument = signed[0] if len(signed) == 1 and draw(st.booleans()) else signed
    return Layout(batch, tuple(shape[a] for a in axes), axes, argument)


@st.composite
def problems(draw, names, optional=True):
    """Draws a loss, its floating arguments, its other arrays, static options, layout and dtype.

    The classes lie on the last axis.
    """
    name = draw(st.sampled_from(sorted(names)))
    takes = inspect.signature(getattr(xent_jax, name)).parameters
    layout, dtype = draw(layouts()), draw(dtypes | st.just(jnp.float16))
    batch, k = layout.batch, math.prod(layout.sizes)
    rng = np.random.default_rng(draw(seeds))
    chosen = [o for o in OPTIONS if o in takes and optional and draw(st.booleans())]
    floats = {o: OPTIONS[o](rng, k) for o in chosen}
    mask = draw(st.sampled_from(["none", "examples", "classes", "shared classes"]))
    left, fixed, static = np.ones((*batch, k), bool), {}, {}
    if mask != "none":
        shapes = {"examples": (*batch, 1), "classes": (*batch, k)}
        where = rng.random(shapes.get(mask, (*[1] * len(batch), k)))
        where = where < draw(st.sampled_from([0.1, 0.7]))
        left &= where
        fixed["where"] = where[..., 0] if mask == "examples" else where
    z = np.float64((2 * rng.standard_normal(left.shape)).astype(dtype))
    there = left.copy()
    # Label smoothing would put mass on absent classes, and the loss would be infinite.
    if not floats.get("label_smoothing") and draw(st.booleans()):
        absent = (rng.random(z.shape) < 0.3) & (np.cumsum(left, -1) > 1)
        z[absent], there = -np.inf, left & ~absent
    labels = np.where(there, rng.random(z.shape), 0)
    if "ignore_index" in takes:
        fixed["labels"] = np.argmax(labels, -1)
        if draw(st.booleans()):
            static["ignore_index"] = draw(st.sampled_from([-100, 0, k]))
            out = rng.random(batch) < 0.3
            fixed["labels"] = np.where(out, static["ignore_index"], fixed["labels"])
    elif "labels" in takes:
        floats["labels"] = labels
    if "reduction" in takes:
        static["reduction"] = draw(reductions)
        if optional and draw(st.booleans()):
            floats["weights"] = np.where(rng.random(batch) < 0.3, 0, rng.uniform(0.1, 2, batch))
    return name, floats | {"logits": z}, fixed, static, layout, dtype


def as_dtype(floats, dtype):
    """Returns logits in the dtype, which holds them exactly, and options in at least float32."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return {k: jnp.asarray(v, dtype if k == "logits" else wide) for k, v in floats.items()}


def compare(problem, module, plain=False):
    name, floats, fixed, static, layout, dtype = problem

    def loss(f):
        given = {**f, **fixed}
        for k in {"logits", "labels", "where"} & given.keys():
            if given[k].ndim > len(layout.batch):
                given[k] = layout.place(given[k])
        out = getattr(module, name)(**given, **static, axis=layout.argument)
        return layout.flat(out) if name == "softmax" else out

    def textbook(f):
        given = f | fixed
        first = [given.pop(k) for k in ("logits", "labels") if k in given]
        return (TEXTBOOK | PLAIN)[name](*first, **given, **static)

    with x64():
        given = as_dtype(floats, dtype), as_dtype(floats, jnp.float64)
        (value, gradients), wanted = both_derivatives(loss, textbook, *given)
        same((value, gradients), wanted, dtype, plain)
    assert gradients[0]["logits"].dtype == dtype
    wide = dtype if name == "softmax" else jnp.promote_types(dtype, jnp.float32)
    assert value.dtype == wide


@draws(16)
@given(problems(TEXTBOOK), modules)
def test_losses_of_logits(problem, module):
    compare(problem, module)


@pytest.mark.slow
@draws(48)
@given(problems(PLAIN, optional=False))
def test_losses_without_options(problem):
    compare(problem, xent_jax, plain=True)


# ------------------------------------------------------------------------ losses of elements

BINARY = {
    "sigmoid_binary_cross_entropy": {"label_smoothing": "0.1 0.9", "pos_weight": "weights"},
    "sigmoid_focal_loss": {"alpha": "0.1 0.9", "gamma": "1.0 3.0"},
}


@pytest.mark.parametrize("name", BINARY)
@draws(8)
@given(seed=seeds, module=modules, reduction=reductions, masked=st.booleans(), data=st.data())
def test_binary_losses(name, seed, module, reduction, masked, data):
    rng, options = np.random.default_rng(seed), {}
    keywords = {k: kind for k, kind in BINARY[name].items() if data.draw(st.booleans(), k)}
    case = dataclasses.replace(RICHEST[name], keywords=keywords, options={})
    if name == "sigmoid_binary_cross_entropy":
        options = {"where": rng.random((3, 4)) < 0.6 if masked else None, "reduction": reduction}
    ours, textbook = functools.partial(case.call, module, **options), case.expected
    with x64():
        inputs = arrays(case.inputs(rng, (3,), 4))
        textbook = functools.partial(textbook, **options)
        same(*both_derivatives(ours, textbook, inputs, inputs), jnp.float64)
