"""Options of the binary losses and of the token statistics, as hypothesis draws them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import textbook as book
from tests.cases import x64
from tests.heads import of_logits
from tests.meshes import on_mesh
from tests.test_options_drawn import derivatives, drawn, modules, same, seeds

pytestmark = pytest.mark.fast_compile

reductions = st.sampled_from(["none", "sum", "mean"])


TEXTBOOK = {"sigmoid_binary_cross_entropy": book.binary, "sigmoid_focal_loss": book.binary_focal}
OPTIONS = {
    "sigmoid_binary_cross_entropy": {"label_smoothing": (0.1, 0.9), "pos_weight": (0.5, 3.0)},
    "sigmoid_focal_loss": {"alpha": (0.1, 0.9), "gamma": (1.0, 3.0)},
}


@pytest.mark.parametrize("name", TEXTBOOK)
@drawn(8)
@given(seed=seeds, module=modules, reduction=reductions, masked=st.booleans(), data=st.data())
def test_binary_losses(name, seed, module, reduction, masked, data):
    rng = np.random.default_rng(seed)
    chosen = [o for o in OPTIONS[name] if data.draw(st.booleans(), o)]
    floats = {o: rng.uniform(*OPTIONS[name][o]) for o in chosen}
    floats |= {"logits": 2 * rng.standard_normal((3, 4)), "labels": rng.random((3, 4))}
    if "pos_weight" in floats:
        floats["pos_weight"] = rng.uniform(0.5, 3, 4)
    static = {}
    if name == "sigmoid_binary_cross_entropy":
        where = rng.random((3, 4)) < 0.6
        static = {"where": where if masked else None, "reduction": reduction}

    def wanted(f):
        options = {k: v for k, v in f.items() if k in chosen}
        return TEXTBOOK[name](f["logits"], f["labels"], **options, **static)

    def loss(f):
        return getattr(module, name)(**f, **static)

    with x64():
        given_ = {k: jnp.asarray(v, jnp.float64) for k, v in floats.items()}
        same(derivatives(loss, given_), derivatives(wanted, given_), jnp.float64)


@drawn(6)
@given(
    seed=seeds, top=st.integers(1, 3), capped=st.booleans(), axes=st.sampled_from(["DV", "VD"]),
    num_classes=st.sampled_from([None, 5]), mesh=st.booleans(),
)  # fmt: skip
def test_token_statistics(seed, top, capped, axes, num_classes, mesh):
    rng = np.random.default_rng(seed)
    head = xent_jax.linear_token_statistics
    if mesh:
        spec = P(None, "model") if axes == "DV" else P("model")
        head = on_mesh(head, spec)
    k = num_classes or 8
    with x64():
        x, w, b = (jnp.asarray(rng.standard_normal(s)) for s in ((4, 3), (3, 8), (8,)))
        y = jnp.asarray(rng.integers(0, k, 4))
        z = x @ w + b
        options = {"logit_softcap": 2.0} if capped else {}
        z = 2 * jnp.tanh(z / 2) if capped else z
        kernel = w if axes == "DV" else w.T
        found = jax.jit(
            lambda *args: head(
                *args, top_k=top, kernel_axes=axes, num_classes=num_classes, **options
            )
        )(x, kernel, y, b)
        for name, wanted in of_logits(z[:, :k], y, top).items():
            np.testing.assert_allclose(getattr(found, name), wanted, atol=1e-12, err_msg=name)
