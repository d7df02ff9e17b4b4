"""Tokens that are left out change no result; test_masked_chunks.py tests what they cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.chunks import SIZE, N, chunks_of, mask_of
from tests.heads import drawn, held, modes, pulled, reductions, same
from tests.meshes import mesh_of, on_mesh
from tests.problems import close
from xent_jax import (
    linear_softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    with_linear_head,
)

pytestmark = pytest.mark.fast_compile

float64 = pytest.mark.usefixtures("float64")


@float64
@reductions
@pytest.mark.parametrize("size", [3, 4])
def test_nothing_of_a_token_that_is_out_comes_through(size, reduction):
    x, w, b, y = drawn((10,))
    left = jnp.arange(10) != 4
    head = functools.partial(linear_softmax_cross_entropy, reduction=reduction)
    of = jax.jit(functools.partial(pulled, head))
    with chunks_of(size):
        wanted = of(x, w, y, b, left)
        for bad in (np.nan, np.inf):
            got = of(x.at[4].set(bad), w, y.at[4].set(-7), b, left)
            same(got, wanted)
            assert (got[1][0][4] == 0).all()


@float64
@pytest.mark.parametrize("options", [{"ignore_index": -100}, {"where": jnp.array([True, False])}])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_label_that_is_out_reaches_no_gradient(reduction, options):
    """A label of -100 is also out of range: its NaN must not reach gradients that tokens share."""
    x, w, y = jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.array([0, -100])
    loss = functools.partial(linear_softmax_cross_entropy, reduction=reduction, **options)
    shared = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weights": jnp.ones(4)}
    gradient = jax.jit(jax.grad(lambda shared: jnp.sum(loss(x, w, y, **shared))))(shared)
    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient))


@modes
@float64
def test_a_weight_of_0_has_its_derivatives(rng, module):
    """Derivatives to a weight of 0 need the loss of its token, which adds nothing to the value."""
    x, w, _, y = drawn((N,))
    mask, weights = mask_of(rng, 17), jnp.where(jnp.arange(N) % 3 == 0, 0.0, 1.5)

    @functools.partial(jax.jit, static_argnums=0)
    def run(loss, x, w, weights):
        def of(x, w, weights):
            return loss(x, w, y, where=mask, weights=weights)

        def of_a_gradient(weights):
            """Returns a number made of a gradient.

            Ren et al. (2018), "Learning to Reweight Examples", differentiate one at weights of 0.
            """
            return jnp.sum(jnp.sin(jax.grad(of, 1)(x, w, weights)))

        def of_a_curvature(weights):
            sine = jax.grad(lambda w: jnp.sum(jnp.sin(jax.grad(of, 1)(x, w, weights))))
            return jnp.sum(sine(w))

        value, gradients = jax.value_and_grad(of, (0, 1, 2))(x, w, weights)
        moved = gradients[2], *(jax.grad(f)(weights) for f in (of_a_gradient, of_a_curvature))
        return value, gradients, moved

    with chunks_of(SIZE):
        got = run(module.linear_softmax_cross_entropy, x, w, weights)
    # float64 rounds at 1e-16; three derivatives of sums over 24 tokens, in another order.
    close(got, run(held, x, w, weights), 1e-10, 1e-12)  # 1e-16 times 1e4 to 1e6
    for moved in got[2]:
        np.testing.assert_array_equal(moved != 0, mask)


def test_what_fills_up_a_chunk_is_a_token_that_takes_part():
    """If zeros filled up a chunk, this loss, infinite at them, would make the gradients NaN."""

    def loss(z):
        return 1 / jnp.sum(z**2, -1)

    mask = jnp.arange(N) % 5 == 3
    x, w = jnp.where(mask[:, None], 1.0, jnp.zeros((N, 5))), jnp.ones((5, 7))
    with chunks_of(SIZE):
        gradient = jax.jit(jax.grad(lambda w: with_linear_head(loss)(x, w, where=mask)))(w)
    wanted = jax.grad(lambda w: jnp.mean(loss(x[mask] @ w)))(w)
    close(gradient, wanted, 1e-5)  # float32, a mean of equal numbers


def test_auxiliaries_of_a_weight_of_0_are_0_whatever_is_differentiated(rng):
    x, w, _, _ = drawn((N,))
    mask = mask_of(rng, 9)
    head = with_linear_head(lambda z: (z[:, 0], 1 + z[:, 1] ** 2), has_aux=True)

    def loss(x, weights):
        return head(x, w, weights=weights)

    @jax.jit
    def auxiliaries(x, weights):
        gradient = jax.grad(loss, has_aux=True)
        return (
            loss(x, weights)[1],
            gradient(x, weights)[1],
            jax.grad(loss, 1, has_aux=True)(x, weights)[1],
            jax.jvp(lambda x: gradient(x, weights), (x,), (x,))[0][1],
        )

    with chunks_of(SIZE):
        for aux in auxiliaries(x, 1.0 * mask):
            np.testing.assert_array_equal(aux != 0, mask)


def test_a_weight_of_0_and_a_bad_label(rng):
    """The head does not read the label, but its gradient to the weights and a loss of logits do."""
    x, w, _, y = drawn((N,))
    mask = mask_of(rng, 9)
    y, weights = jnp.where(mask, y, -1), 1.0 * mask

    def loss(x, weights):
        return linear_softmax_cross_entropy(x, w, y, weights=weights)

    with chunks_of(SIZE):
        value, gradient = jax.value_and_grad(loss)(x, weights)
        by_weights = jax.grad(loss, 1)(x, weights)
    assert np.isfinite(value) and np.isnan(by_weights).all()
    np.testing.assert_array_equal(np.any(gradient != 0, -1), mask)
    losses = softmax_cross_entropy_with_integer_labels(x @ w, y, weights=weights)
    np.testing.assert_array_equal(np.isnan(losses), ~mask)


@float64
def test_under_transformations(rng):
    x, w, _, y = drawn((N,))
    mask = mask_of(rng, 5)
    masks = jnp.stack([mask, ~mask, jnp.zeros_like(mask), jnp.ones_like(mask)])

    def each(loss):
        """Returns the losses with each mask and their gradients, by each transformation."""

        def of(x, w, mask):
            return loss(x, w, y, where=mask)

        def scanned(body, x, w):
            return jax.lax.scan(lambda c, mask: (c, body(x, w, mask)), None, masks)[1]

        ways = (
            lambda x, w: jax.vmap(of, (None, None, 0))(x, w, masks),
            functools.partial(scanned, of),
            functools.partial(scanned, jax.checkpoint(of)),
        )
        return jax.jit(lambda: [pulled(f, x, w) for f in ways])()

    with chunks_of(SIZE):
        got = each(linear_softmax_cross_entropy)
    # float64 rounds at 1e-16; first derivatives of sums over 24 tokens, in another order.
    close(got, each(held), 1e-12, 1e-13)


# ---------------------------------------------------------------- the shape of the mask

MASKS = [(), (1,), (6,), (2, 1), (1, 6), (2, 6, 1), (1, 6, 1), (2, 1, 1)]


@float64
@pytest.mark.parametrize(
    ("shape", "reduction"),
    [*((shape, "mean") for shape in MASKS), ((2, 1), "none"), ((1, 6), "sum")],
    ids=str,
)
def test_where_broadcasts_as_that_of_the_loss_of_logits(shape, reduction):
    x, w, b, y = drawn((2, 6))
    where = jnp.asarray(np.random.default_rng(2).random(shape) < 0.6)
    any_loss = with_linear_head(softmax_cross_entropy_with_integer_labels, reduction=reduction)
    head = functools.partial(linear_softmax_cross_entropy, reduction=reduction)
    sharded = on_mesh(linear_softmax_cross_entropy, mesh=mesh_of())
    ways = (
        functools.partial(held, reduction=reduction),
        head,
        lambda x, w, y, b, where: any_loss(x, w, y, bias=b, where=where),
        functools.partial(sharded, reduction=reduction),
    )
    with chunks_of(5):
        wanted, *found = jax.jit(lambda *args: [pulled(f, *args) for f in ways])(x, w, y, b, where)
    for of_head in found:
        same(of_head, wanted)


@pytest.mark.parametrize("shape", [(3,), (6, 2), (2, 6, 11), (1, 2, 6), (2, 6, 1, 1)], ids=str)
def test_a_mask_that_does_not_broadcast_to_the_tokens_is_refused(shape):
    x, w, _, y = drawn((2, 6))
    any_loss = with_linear_head(lambda z, y: z[:, 0])
    wanted = r"where must broadcast to the shape of the tokens, \[2, 6\], got bool"
    with pytest.raises(ValueError, match=f"linear_softmax_cross_entropy: {wanted}"):
        linear_softmax_cross_entropy(x, w, y, where=jnp.ones(shape, bool))
    with pytest.raises(ValueError, match=f"with_linear_head: {wanted}"):
        any_loss(x, w, y, where=jnp.ones(shape, bool))
