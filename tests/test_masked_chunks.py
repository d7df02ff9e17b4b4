"""Tokens that are left out cost nothing: no chunk is computed for them."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.chunks import SIZE, N, chunks_of, mask_of
from tests.heads import derivatives, drawn, held, pulled
from tests.meshes import on_mesh
from tests.problems import close
from tests.programs import sizes, temp
from xent_jax import linear_softmax_cross_entropy
from xent_jax._linear_layer import LinearLayer

pytestmark = pytest.mark.fast_compile


LEFT_OUT = {  # the labels and options with which the tokens outside a mask are left out
    "where": lambda y, mask: {"labels": y, "where": mask},
    "ignore_index": lambda y, mask: {"labels": jnp.where(mask, y, -100), "ignore_index": -100},
    "weights": lambda y, mask: {"labels": y, "weights": mask * 1.5},
}


@pytest.fixture
def computed(spoil):
    """Returns a list to which each chunk whose logits are computed adds an entry."""
    chunks, logits = [], LinearLayer.logits

    def counted(self, x, *rest):
        jax.debug.callback(lambda: chunks.append(1))
        return logits(self, x, *rest)

    spoil(LinearLayer, "logits", counted)
    return chunks


@pytest.mark.parametrize(("reduction", "passes"), [("mean", 1), ("none", 2)])
@pytest.mark.parametrize("by", LEFT_OUT)
def test_no_more_chunks_are_computed_than_the_tokens_that_are_left_fill(
    computed, rng, by, reduction, passes
):
    x, w, _, y = drawn((N,))

    @jax.jit
    def run(mask):
        options = {"reduction": reduction} | LEFT_OUT[by](y, mask)
        return pulled(functools.partial(linear_softmax_cross_entropy, **options), x, w)

    for kept, chunks in ((0, 0), (4, 1), (5, 2), (24, 6)):
        computed.clear()
        with chunks_of(SIZE):
            jax.block_until_ready(run(mask_of(rng, kept)))
        jax.effects_barrier()
        assert len(computed) == passes * chunks, kept


def test_each_shard_by_its_own_tokens(computed):
    """One of two shards of the tokens has no token that takes part, and the other has all."""
    x, w, _, y = drawn((N,))
    mask = jnp.arange(N) < N // 2
    sharded = on_mesh(linear_softmax_cross_entropy)

    def run(loss):
        return derivatives(lambda x, w: loss(x, w, y, where=mask), x, w)

    with chunks_of(SIZE):
        found = run(sharded)
    jax.effects_barrier()
    assert len(computed) == 2 * N // 2 // SIZE  # once by each of the two shards of the classes
    close(found, run(held), 2e-5, 1e-6)  # float32, sums of 12 tokens


def test_a_loop_in_place_computes_all_chunks(computed, rng):
    """The loop that proofs read skips no chunk, which the counts in the tests above would show."""
    x, w, _, y = drawn((N,))
    with chunks_of(SIZE, in_place=True):
        linear_softmax_cross_entropy(x, w, y, where=mask_of(rng, 4))
    jax.effects_barrier()
    assert len(computed) == N // SIZE


@pytest.mark.users_compile
def test_memory_grows_by_an_integer_for_each_token():
    n, d, v = 16384, 64, 4096

    def taken(masked):
        def loss(x, w, y, mask):
            options = {"where": mask if masked else None, "max_logits_bytes": 8 * v * 512}
            return linear_softmax_cross_entropy(x, w, y, **options)

        return temp(loss, *sizes(n, d, v), ((n,), "bool"))

    assert taken(True) <= taken(False) + 2 * 2**20 + 4 * n
