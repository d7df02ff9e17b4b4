"""Classes that pad a kernel take no part, whatever its columns hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64
from tests.test_contract import close

N, D, K, PADDED = 6, 3, 5, 8
Y = jnp.array([0, 4, 2, 1, 3, 0])


@pytest.fixture(autouse=True)
def _float64():
    with x64():
        yield


def drawn(bad):
    rng = np.random.default_rng(0)
    x, w, b = (jnp.asarray(rng.normal(size=s)) for s in ((N, D), (D, PADDED), PADDED))
    return x, w.at[:, K:].set(bad), b.at[K:].set(bad)


def integer(reduction):
    def of(library, x, w, b, axes, **more):
        loss = library.linear_softmax_cross_entropy
        return loss(x, w, Y, b, reduction=reduction, label_smoothing=0.1, kernel_axes=axes, **more)

    return of


def statistics(library, x, w, b, axes, **more):
    found = library.linear_token_statistics(x, w, Y, b, top_k=K, kernel_axes=axes, **more)
    return found.loss + found.entropy + found.logsumexp + found.top_k_log_probabilities[:, 0]


@pytest.mark.parametrize("library", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])
@pytest.mark.parametrize("axes", ["DV", "VD"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("function", [integer("mean"), integer("none"), statistics])
@pytest.mark.usefixtures("unoptimized")
def test_padding_of_any_value(function, bad, axes, library):
    x, w, b = drawn(bad)

    def of(x, w, b, **more):
        w = w if axes == "DV" else w.T
        return jnp.sum(jnp.sin(function(library, x, w, b, axes, **more)))

    got = jax.jit(
        jax.value_and_grad(lambda *args: of(*args, num_classes=K), (0, 1, 2))
    )(x, w, b)  # fmt: skip
    wanted = jax.value_and_grad(lambda x, w, b: of(x, w[:, :K], b[:K]), (0, 1, 2))(x, w, b)
    close(got[0], wanted[0])
    for g, e, axis in zip(got[1], wanted[1], (None, 1, 0), strict=True):
        kept = g if axis is None else jnp.take(g, jnp.arange(K), axis)
        rest = 0 if axis is None else jnp.take(g, jnp.arange(K, PADDED), axis)
        close(kept, e if axis is None else jnp.take(e, jnp.arange(K), axis))
        assert np.all(rest == 0)


def test_indices_of_statistics_are_of_classes():
    x, w, b = drawn(np.inf)
    found = xent_jax.linear_token_statistics(x, w, Y, b, num_classes=K, top_k=K)
    assert np.sort(found.top_k_indices, -1).tolist() == [list(range(K))] * N
    assert np.all(found.argmax < K)
