"""The theorems about the head fail if the head is wrong."""

import inspect
import textwrap

import jax.numpy as jnp
import pytest
from jax import lax

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import array, labels, prove_vjp  # noqa: E402
from xent_jax.proofs._theorems import textbook as book  # noqa: E402
from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

from tests.chunks import chunks_of
from tests.second_engine.concrete import prove_concrete  # noqa: E402
from xent_jax import _engine, linear_softmax_cross_entropy  # noqa: E402
from xent_jax._linear_layer import LinearLayer  # noqa: E402

pytestmark = pytest.mark.fast_compile

ARGS = {"x": array("m s d"), "w": array("d k"), "y": labels("m s", classes="k")}


def head(reduction):
    def of(x, w, y):
        with chunks_of(x.shape[1], in_place=True):
            return linear_softmax_cross_entropy(x, w, y, reduction=reduction)

    return of


def reference(reduction):
    return lambda x, w, y: book.head_loss(x, w, y, reduction=reduction)


def proved(reduction, wrt):
    return prove_vjp(head(reduction), ARGS, wrt, reference(reduction)).proved


@pytest.mark.parametrize("wrt", ["x", "w"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_gradient_alone_without_a_bias(reduction, wrt):
    assert proved(reduction, (wrt,))


def spoiled(name):
    """Returns a wrong replacement for the function or method of this name."""
    product, cleared, scaled = LinearLayer.product, _engine.cleared, _engine._scaled

    def transposed(head, a, b, over):
        return product(head, a, b, over) * (2 if over == (1, 1) else 1)

    def doubled(gradients, scale, *rest):
        return scaled(gradients, None if scale is None else 2 * scale, *rest)

    def dropped(values, left):
        return cleared(values, left) if getattr(values, "ndim", 0) == 2 else values

    return {"product": transposed, "_scaled": doubled, "cleared": dropped}[name]


@pytest.mark.parametrize("place, name", [(LinearLayer, "product"), (_engine, "_scaled")])
def test_a_spoiled_head_is_not_proved(spoil, place, name):
    spoil(place, name, spoiled(name))
    assert not proved("mean", ("x",))


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("return (scale * total, aux), (res", "return (scale + total, aux), (res"),
        ("return scale * jnp.sum(losses), aux\n\n        def", "return 0.0, aux\n\n        def"),
    ],
    ids=["of the forward rule", "of the function"],
)
def test_a_wrong_value_of_the_sum_is_not_proved(spoil, right, wrong):
    """``jax.value_and_grad`` returns the value of the forward rule, not that of the function."""
    source = textwrap.dedent(inspect.getsource(_engine.Engine.scaled_sum))
    assert (text := textwrap.indent(source, "    ")).count(right) == 1
    scope = vars(_engine).copy()
    exec("if True:\n" + text.replace(right, wrong), scope)
    spoil(_engine.Engine, "scaled_sum", scope["scaled_sum"])
    assert not proved("mean", ("x",))


def test_a_mean_of_one_chunk_alone_is_not_proved(spoil):
    def of_a_chunk(batch, dtype, *rest):
        return jnp.asarray(batch[1], dtype)

    spoil("xent_jax._engine.divisor", of_a_chunk)
    verdict = prove_vjp(head("mean"), ARGS, ("w",), reference("mean"))
    assert verdict.status == "refuted"


def test_tokens_that_are_out_must_not_count(spoil):
    (theorem,) = [
        t
        for t in THEOREMS
        if "ignore_index, masked tokens, mean" in t.name and t.kind == "gradient"
    ]
    spoil(_engine, "cleared", spoiled("cleared"))
    assert not theorem.prove().proved


# ------------------------------------------- at small sizes: what is not read for all sizes


def at_one_shape(tokens, size, pieces):
    """Returns the verdict of the second engine on one row of tokens, in chunks and pieces."""

    def of(x, w, y):
        with chunks_of(size, pieces):
            return linear_softmax_cross_entropy(x, w, y, reduction="mean")

    shape = {"m": 1, "s": tokens, "d": 1, "k": 2}
    return prove_concrete(of, ARGS, ("x", "w"), reference("mean"), [shape])


@pytest.mark.parametrize("tokens, size, pieces", [(3, 2, 1), (2, 1, 2), (3, 2, 2)])
def test_chunks_that_overlap_and_pieces_of_the_classes(tokens, size, pieces):
    assert at_one_shape(tokens, size, pieces).proved


@pytest.mark.parametrize("wrong", ["the overlap counts twice", "a piece goes astray"])
def test_a_wrong_overlap_or_piece_is_not_proved(spoil, wrong):
    if wrong == "a piece goes astray":
        update = lax.dynamic_update_slice_in_dim
        spoil(
            lax, "dynamic_update_slice_in_dim",
            lambda whole, part, start, axis: update(whole, part, 0 * start, axis),
        )  # fmt: skip
        verdict = at_one_shape(2, 1, 2)
    else:
        spoil(_engine, "cleared", lambda values, live: values)
        verdict = at_one_shape(3, 2, 1)
    assert not verdict.proved
