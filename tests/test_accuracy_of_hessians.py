"""Second derivatives keep the accuracy contract, in every combination of the two modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.hard_rows import by_size, stacked
from tests.measure import (
    HESSIAN_ENTRY,
    HESSIAN_PRODUCT,
    beyond_gap,
    excesses,
    run,
    wide_dtypes,
)

K = 8  # classes of the rows whose Hessian is tested in all entries


@functools.cache
def small_rows(dtype):
    """Returns {name: (logits, label)} for rows of ``K`` classes."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=K)
    rows = {"N(0, 1)": z, "N(0, 10^2)": 10 * z, "N(0, 40^2)": 40 * z, "all + 1e4": 1e4 + z}
    for gap in (1, 5, 15, 30, 60):
        rows[f"gap {gap}"] = np.where(np.arange(K) == 2, z.max() + gap, z)
    rows["all tied"] = np.full(K, 0.3)
    rows["two tied"] = np.where(np.arange(K) < 2, 20, z)
    rows["two nearly tied"] = np.where(np.arange(K) == 0, 20.001, rows["two tied"])
    rows["half the logits -inf"] = np.where(np.arange(K) % 2, -np.inf, z)
    rows["one class just above a half"] = np.where(np.arange(K) == 3, np.log(K - 1) + 1e-6, 0)
    return {name: (np.asarray(z, dtype), 2) for name, z in rows.items()}


def losses(module):
    """Returns losses of a row by name, each with the factor of diag(p) - pp' in its Hessian."""
    soft = jnp.arange(K) / 16  # of sum 1.75, exactly

    def of_soft_labels(z, y):
        return module.softmax_cross_entropy(z, soft.astype(z.dtype))

    return {
        "integer": (module.softmax_cross_entropy_with_integer_labels, 1),
        "soft": (of_soft_labels, 1.75),
        "lse": (lambda z, y: module.logsumexp(z), 1),
    }


MODES = {
    "forward over reverse": (xent_jax, lambda f: jax.jacfwd(jax.jacrev(f))),
    "reverse over reverse": (xent_jax, lambda f: jax.jacrev(jax.jacrev(f))),
    "hessian, forward_mode": (xent_jax.forward_mode, jax.hessian),
    "forward over forward": (xent_jax.forward_mode, lambda f: jax.jacfwd(jax.jacfwd(f))),
    "reverse over forward": (xent_jax.forward_mode, lambda f: jax.jacrev(jax.jacfwd(f))),
}


@functools.cache
def exact_hessian(dtype, name):
    return exact.hessian(small_rows(dtype)[name][0])


@wide_dtypes
@pytest.mark.parametrize(
    "loss, mode",
    [("integer", mode) for mode in MODES]
    + [(loss, mode) for loss in ("soft", "lse") for mode in list(MODES)[:2]],
)
def test_hessian_entries(dtype, loss, mode):
    module, differentiate = MODES[mode]
    f, factor = losses(module)[loss]
    hessian = jax.vmap(lambda z, y: differentiate(lambda z: f(z, y))(z))
    errors = {}
    for names, z, y in by_size(small_rows(dtype)):
        for name, got in zip(names, run(hessian, dtype, z, y), strict=True):
            gap = exact.softmax(small_rows(dtype)[name][0]).gap
            error = beyond_gap(got, factor * exact_hessian(dtype, name), gap[:, None] + gap)
            errors[name] = error.max()
    assert not excesses(errors, HESSIAN_ENTRY)


# ------------------------------------------------------------------ products with a vector


def vectors(z):
    """Returns {name: vectors}, with one vector for each row of z."""
    rng = np.random.default_rng(8)
    n, k = z.shape
    normal = rng.normal(size=z.shape)
    top = np.argmax(z, axis=1)[:, None] == np.arange(k)
    return {
        "N(0, 1)": normal,
        "1e4 + N(0, 1)": 1e4 + normal,
        "1e-3 N(0, 1), but 1e3 at the largest logit": np.where(top, 1e3, 1e-3 * normal),
        "one class": np.eye(k)[rng.integers(0, k, n)],
    }


def jvp_of_grad(f):
    return lambda z, v: jax.jvp(jax.grad(f), (z,), (v,))[1]


def vjp_of_grad(f):
    return lambda z, v: jax.vjp(jax.grad(f), z)[1](v)[0]


@functools.cache
def product_cases():
    """Returns names, logits and labels of the rows, and {kind: (vectors, references)}.

    A reference is a row's exact product with its vector, the scale of the product, and the gap.
    """
    names, z, y = stacked("float32")
    cases = {}
    for kind, v in vectors(z).items():
        v = v.astype(z.dtype)
        pairs = zip(z, v, strict=True)
        cases[kind] = v, [(*exact.hessian_product(*p), exact.softmax(p[0]).gap) for p in pairs]
    return names, z, y, cases


def product_errors(product):
    """Returns the errors of a Hessian-vector product, as {(row, kind of vectors): ulp}."""
    names, z, y, cases = product_cases()
    errors = {}
    for kind, (v, references) in cases.items():
        products = run(jax.vmap(product), "float32", z, y, v)
        for name, got, (want, scale, gap) in zip(names, products, references, strict=True):
            errors[name, kind] = (exact.ulps(got, want, scale) - gap / 2).max()
    return errors


def integer_product(module, product):
    loss = module.softmax_cross_entropy_with_integer_labels
    return lambda z, y, v: product(lambda z: loss(z, y))(z, v)


@pytest.mark.parametrize("module", [xent_jax, xent_jax.forward_mode], ids=["default", "forward"])
@pytest.mark.parametrize("product", [jvp_of_grad, vjp_of_grad])
def test_hessian_vector_products(module, product):
    assert not excesses(product_errors(integer_product(module, product)), HESSIAN_PRODUCT)


@pytest.mark.parametrize("derivative", ["jvp", "vjp"])
def test_derivative_of_softmax(derivative):
    """The Jacobian of softmax is the Hessian that the other tests measure."""

    def product(z, y, v):
        if derivative == "jvp":
            return jax.jvp(xent_jax.forward_mode.softmax, (z,), (v,))[1]
        return jax.vjp(xent_jax.softmax, z)[1](v)[0]

    assert not excesses(product_errors(product), HESSIAN_PRODUCT)
