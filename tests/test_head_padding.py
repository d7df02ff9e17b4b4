"""Classes that pad a kernel take no part, whatever their columns hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.heads import modes
from tests.problems import close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

N, D, K, PADDED = 6, 3, 5, 8
Y = jnp.array([0, 4, 2, 1, 3, 0])


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


def any_loss(library, x, w, b, axes, **more):
    head = library.with_linear_head(library.softmax_focal_loss, kernel_axes=axes, **more)
    return head(x, w, Y, bias=b)


@modes
@pytest.mark.parametrize("function", [integer("mean"), integer("none"), any_loss, statistics])
def test_padding_of_any_value(function, module):
    def gradients(axes, x, w, b, **more):
        def of(x, w, b):
            w = w if axes == "DV" else w.T
            return jnp.sum(jnp.sin(function(module, x, w, b, axes, **more)))

        return jax.value_and_grad(of, (0, 1, 2))(x, w, b)

    padded = jax.jit(lambda *args: [gradients(a, *args, num_classes=K) for a in ("DV", "VD")])
    x, w, b = drawn(0.0)
    wanted = jax.jit(functools.partial(gradients, "DV"))(x, w[:, :K], b[:K])
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        for value, (dx, dw, db) in padded(*drawn(bad)):
            close((value, (dx, dw[:, :K], db[:K])), wanted)
            assert np.all(dw[:, K:] == 0) and np.all(db[K:] == 0), bad


def test_indices_of_statistics_are_of_classes():
    x, w, b = drawn(np.inf)
    found = xent_jax.linear_token_statistics(x, w, Y, b, num_classes=K, top_k=K)
    assert np.sort(found.top_k_indices, -1).tolist() == [list(range(K))] * N
    assert np.all(found.argmax < K)


def test_a_label_in_the_padding_is_out_of_range():
    x, w, _ = drawn(0.0)
    y = Y.at[1].set(K)
    losses = xent_jax.linear_softmax_cross_entropy(x, w, y, num_classes=K, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), np.arange(N) == 1)
