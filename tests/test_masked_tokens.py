"""Tokens that are left out cost nothing: no chunk is computed for them, whatever they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import x64
from tests.chunks import chunks_of
from xent_jax import shard_linear_head, softmax_cross_entropy_with_integer_labels
from xent_jax._linear_layer import LinearLayer

pytestmark = pytest.mark.fast_compile

N, D, V, SIZE = 24, 5, 7, 4


def drawn(rng, kept, dtype=jnp.float64):
    """Inputs, kernel, labels and a mask that leaves in that many tokens."""
    mask = rng.permutation(N) < kept
    x, w = rng.standard_normal((N, D)), rng.standard_normal((D, V))
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype), rng.integers(0, V, N), jnp.asarray(mask)


def left_out(by, y, mask):
    """The labels and options with which the tokens outside the mask are left out."""
    return {
        "where": (y, {"where": mask}),
        "ignore_index": (jnp.where(mask, y, -100), {"ignore_index": -100}),
        "weights": (y, {"weights": mask * 1.5}),
    }[by]


@pytest.fixture
def computed(spoil):
    """A list to which each chunk whose logits are computed adds an entry."""
    chunks, logits = [], LinearLayer.logits

    def counted(self, x, *rest):
        jax.debug.callback(lambda: chunks.append(1))
        return logits(self, x, *rest)

    spoil(LinearLayer, "logits", counted)
    return chunks


@pytest.mark.parametrize(("kept", "chunks"), [(0, 0), (4, 1), (5, 2), (24, 6)])
@pytest.mark.parametrize("by", ["where", "ignore_index", "weights"])
def test_no_more_chunks_are_computed_than_the_tokens_that_are_left_fill(
    computed, rng, by, kept, chunks
):
    x, w, y, mask = drawn(rng, kept, jnp.float32)
    y, options = left_out(by, y, mask)
    for reduction, passes in (("mean", 1), ("none", 2)):

        def loss(x, w, reduction=reduction):
            head = xent_jax.linear_softmax_cross_entropy
            return jnp.sum(head(x, w, y, reduction=reduction, **options))

        computed.clear()
        with chunks_of(SIZE):
            jax.block_until_ready(jax.jit(jax.value_and_grad(loss, (0, 1)))(x, w))
        jax.effects_barrier()
        assert len(computed) == passes * chunks


def held(x, w, weights, y, mask):
    """The mean of the losses that are left in, from all logits."""
    losses = xent_jax.forward_mode.softmax_cross_entropy_with_integer_labels(x @ w, y)
    weights = jnp.where(mask, weights, 0)
    return jnp.sum(losses * weights) / jnp.sum(weights)


def through_the_head(library):
    def loss(x, w, weights, y, mask):
        with chunks_of(SIZE):
            head = library.linear_softmax_cross_entropy
            return head(x, w, y, where=mask, weights=weights)

    return loss


def first(loss, *args):
    return jax.value_and_grad(loss, (0, 1, 2))(*args)


def by_weights_of_a_gradient(loss, x, w, weights, y, mask):
    """As Ren et al. (2018), "Learning to Reweight Examples", from weights of 0."""
    step = jax.grad(lambda w, weights: loss(x, w, weights, y, mask))
    return jax.grad(lambda weights: jnp.sum(jnp.sin(step(w, weights))))(weights)


def by_weights_of_a_curvature(loss, x, w, weights, y, mask):
    def curved(weights):
        gradient = jax.grad(lambda w: loss(x, w, weights, y, mask))
        return jnp.sum(jax.grad(lambda w: jnp.sum(jnp.sin(gradient(w))))(w))

    return jax.grad(curved)(weights)


@pytest.mark.parametrize("library", [xent_jax, xent_jax.forward_mode], ids=["reverse", "forward"])
@pytest.mark.parametrize("derivative", [first, by_weights_of_a_gradient, by_weights_of_a_curvature])
def test_a_weight_of_0_has_its_derivatives(rng, library, derivative):
    """They need the loss of a token that counts nothing."""
    with x64():
        x, w, y, mask = drawn(rng, 17)
        weights = jnp.where(jnp.arange(N) % 3 == 0, 0.0, 1.5)
        run = jax.jit(lambda x, w, v, loss: derivative(loss, x, w, v, y, mask), static_argnums=3)
        got, wanted = (run(x, w, weights, f) for f in (through_the_head(library), held))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            # float64 rounds at 1e-16; three derivatives of sums over 24 tokens, in another order.
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # 1e-16 times 1e4 to 1e6
        moved = got[1][2] if derivative is first else got
        assert np.all((np.asarray(moved) != 0) == np.asarray(mask))


def test_what_fills_up_a_chunk_is_a_token_that_takes_part():
    """A loss that is infinite at other inputs would otherwise make the sums of gradients NaN."""
    head = xent_jax.with_linear_head(lambda z: 1 / jnp.sum(z**2, -1))
    mask = jnp.arange(N) % 5 == 3
    x, w = jnp.where(mask[:, None], 1.0, jnp.zeros((N, D))), jnp.ones((D, V))
    with chunks_of(SIZE):
        gradient = jax.jit(jax.grad(lambda w: head(x, w, where=mask)))(w)
    held = jax.grad(lambda w: jnp.mean(1 / jnp.sum((x[mask] @ w) ** 2, -1)))(w)
    np.testing.assert_allclose(gradient, held, rtol=1e-5)  # float32, a mean of equal numbers


def test_auxiliaries_of_a_weight_of_0_are_0_whatever_is_differentiated(rng):
    x, w, _, mask = drawn(rng, 9, jnp.float32)
    head = xent_jax.with_linear_head(lambda z: (z[:, 0], 1 + z[:, 1] ** 2), has_aux=True)

    def loss(x, weights):
        with chunks_of(SIZE):
            return head(x, w, weights=weights)

    weights = 1.0 * mask
    for aux in (
        loss(x, weights)[1],
        jax.grad(loss, 0, has_aux=True)(x, weights)[1],
        jax.grad(loss, 1, has_aux=True)(x, weights)[1],
        jax.jit(lambda x: jax.jvp(jax.grad(lambda x: loss(x, weights), has_aux=True), (x,), (x,)))(
            x
        )[0][1],
    ):
        assert np.array_equal(np.asarray(aux) != 0, mask)


def test_a_weight_of_0_and_a_bad_label(rng):
    """The head leaves the token out; a gradient to the weights, or a loss of logits, reads it."""
    x, w, y, mask = drawn(rng, 9, jnp.float32)
    y = jnp.where(mask, y, -1)

    def loss(x, weights):
        with chunks_of(SIZE):
            return xent_jax.linear_softmax_cross_entropy(x, w, y, weights=weights)

    weights = 1.0 * mask
    value, gradient = jax.value_and_grad(loss)(x, weights)
    assert np.isfinite(value) and np.array_equal(np.any(gradient != 0, -1), mask)
    assert np.array_equal(np.isnan(jax.grad(loss, 1)(x, weights)), np.ones(N, bool))
    held = softmax_cross_entropy_with_integer_labels(x @ w, y, weights=weights)
    assert np.array_equal(np.isnan(held), ~mask)


def wrapped(how, loss):
    """The loss of a batch of masks, by one of JAX's transformations."""
    if how == "vmap":
        return jax.vmap(loss, (None, None, 0))
    body = {"scan": loss, "checkpoint": jax.checkpoint(loss)}[how]

    def scanned(x, w, masks):
        return jax.lax.scan(lambda c, mask: (c, body(x, w, mask)), None, masks)[1]

    return scanned


@pytest.mark.parametrize("how", ["vmap", "scan", "checkpoint"])
def test_under_transformations(rng, how):
    with x64():
        x, w, y, mask = drawn(rng, 5)
        masks = jnp.stack([mask, ~mask, jnp.zeros_like(mask), jnp.ones_like(mask)])

        def through(x, w, mask):
            with chunks_of(SIZE):
                return xent_jax.linear_softmax_cross_entropy(x, w, y, where=mask)

        def held(x, w, mask):
            losses = softmax_cross_entropy_with_integer_labels(x @ w, y)
            return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(jnp.sum(mask), 1)

        def gradients(loss):
            total = lambda x, w: jnp.sum(jnp.arange(1.0, 5) * wrapped(how, loss)(x, w, masks))  # noqa: E731
            return jax.jit(jax.value_and_grad(total, (0, 1)))(x, w)

        for a, b in zip(*map(jax.tree.leaves, map(gradients, (through, held))), strict=True):
            # float64 rounds at 1e-16; first derivatives of sums over 24 tokens, in another order.
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_each_shard_by_its_own_tokens(computed, rng):
    """Of two shards of the tokens one has none left in and the other has all."""
    x, w, y, _ = drawn(rng, 0, jnp.float32)
    mask = jnp.arange(N) < N // 2
    mesh = jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4])
    classes = P(None, "model")

    def loss(x, w):
        head = xent_jax.linear_softmax_cross_entropy
        with chunks_of(SIZE):
            return shard_linear_head(head, mesh, inputs=P("data"), kernel=classes)(
                x, w, y, where=mask
            )

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, w)
    jax.effects_barrier()
    assert len(computed) == 2 * N // 2 // SIZE  # by the two shards of the classes
    losses = lambda x, w: jnp.mean(softmax_cross_entropy_with_integer_labels(x @ w, y)[: N // 2])  # noqa: E731
    wanted = jax.value_and_grad(losses, (0, 1))(x, w)
    for a, b in zip(jax.tree.leaves((value, gradients)), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)  # float32, sums of 12 tokens


@pytest.mark.users_compile
def test_memory_grows_by_an_integer_for_each_token():
    n, d, v = 16384, 64, 4096
    shapes = ((n, d), "float32"), ((d, v), "float32"), ((n,), "int32"), ((n,), "bool")

    def temp(*options):
        def loss(x, w, y, mask):
            where = mask if options else None
            return xent_jax.linear_softmax_cross_entropy(
                x, w, y, where=where, max_logits_bytes=8 * v * 512
            )

        program = jax.jit(jax.value_and_grad(loss, (0, 1)))
        program = program.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temp("where") <= temp() + 2 * 2**20 + 4 * n


def test_a_loop_in_place_computes_all_chunks(computed, rng):
    """What the proofs read: it shows that the counts above would notice a loop that skips none."""
    x, w, y, mask = drawn(rng, 4, jnp.float32)
    with chunks_of(SIZE, in_place=True):
        xent_jax.linear_softmax_cross_entropy(x, w, y, where=mask)
    jax.effects_barrier()
    assert len(computed) == N // SIZE
