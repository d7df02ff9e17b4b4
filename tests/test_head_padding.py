"""Classes that pad a kernel, or that a bias rules out, take no part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import heads
from tests.heads import modes, pulled
from tests.problems import close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

N, D, K, PADDED = 6, 3, 5, 8
Y = jnp.array([0, 4, 2, 1, 3, 0])


def drawn(bad):
    rng = np.random.default_rng(0)
    x, w, b = (jnp.asarray(rng.normal(size=s)) for s in ((N, D), (D, PADDED), PADDED))
    return x, w.at[:, K:].set(bad), b.at[K:].set(bad)


def integer(library, x, w, b, **options):
    return library.linear_softmax_cross_entropy(x, w, Y, b, label_smoothing=0.1, **options)


def statistics(library, x, w, b, **options):
    found = library.linear_token_statistics(x, w, Y, b, top_k=K, **options)
    return found.loss + found.entropy + found.logsumexp + found.top_k_log_probabilities[:, 0]


def any_loss(library, x, w, b, **options):
    return library.with_linear_head(library.softmax_focal_loss, **options)(x, w, Y, bias=b)


MEAN, EACH = (functools.partial(integer, reduction=reduction) for reduction in ("mean", "none"))


@modes
@pytest.mark.parametrize("function", [MEAN, EACH, any_loss, statistics])
def test_padding_of_any_value(function, module):
    def gradients(axes, *args, **more):
        def of(x, w, b):
            return function(module, x, w if axes == "DV" else w.T, b, kernel_axes=axes, **more)

        return pulled(of, *args)

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


def test_a_class_that_the_bias_rules_out():
    (x, w, b, y), k = heads.drawn((5,)), heads.CLASSES
    out, first, run = b.at[3].set(-jnp.inf), 0 * y, xent_jax.linear_token_statistics
    found = run(x, w, first, out, top_k=k)
    wanted = run(x, jnp.delete(w, 3, axis=1), first, jnp.delete(b, 3), top_k=k - 1)
    close(found[:3], wanted[:3])
    assert np.all(found.top_k_log_probabilities[:, -1] == -np.inf)
    assert np.all(found.top_k_indices[:, -1] == 3)
    gradient = jax.grad(lambda b: jnp.sum(run(x, w, y, b).entropy))(out)
    assert np.all(np.isfinite(gradient)) and gradient[3] == 0
