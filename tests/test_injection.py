"""NaN and infinities in drawn rows reach no other row, and no result if the row is masked."""

from types import SimpleNamespace

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import xent_jax
from tests.calls import EVERY, LAYER, Call, any_head
from tests.cases import CLASSES
from tests.chunks import chunks_of
from tests.draws import draws
from tests.heads import modes, pulled
from tests.meshes import on_mesh
from xent_jax import forward_mode

pytestmark = pytest.mark.fast_compile

ROWS, K = 8, 6
BY_ROW = CLASSES | {"integers", "elements", "unit elements", "example weights"}
poisons = st.tuples(
    st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS - 1),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 99),
)


def poly(library, arrays):
    """Returns the arguments of ``with_linear_head``: a loss that closes over an option."""
    return {"loss": lambda z, t: library.poly_loss_cross_entropy(z, t, arrays["epsilon"])}


def in_shards(library):
    """Returns the library's heads, with the tokens and the classes in shards."""
    names = "linear_softmax_cross_entropy", "linear_token_statistics"
    return SimpleNamespace(**{name: on_mesh(getattr(library, name)) for name in names})


CALLS = EVERY | {
    "with_linear_head": Call(
        LAYER | {"labels": "soft", "epsilon": "0.1 0.2"}, any_head(poly), {"where", "reduction"}
    )
}


class Problem:
    """A call and its arrays, eight rows of each kind in ``BY_ROW``."""

    def __init__(self, name, library):
        name, *mesh = name.split(" on a mesh")
        self.library = in_shards(library) if mesh else library
        kinds, self.call, self.options = CALLS[name]
        # A cap would make an infinite logit finite.
        self.kinds = {k: kind for k, kind in kinds.items() if k != "logit_softcap"}
        arrays = CALLS[name]._replace(kinds=self.kinds).arrays(np.random.default_rng(0), ROWS, K)
        self.clean = {k: v if v.dtype == np.int32 else np.float32(v) for k, v in arrays.items()}

    def poisoned(self, rows, bad, seed):
        """Returns the arrays, with one bad entry or a label out of range in each of the rows."""
        rng = np.random.default_rng(seed)
        dirty = {k: np.array(v) for k, v in self.clean.items()}
        for row in rows:
            name = rng.choice([k for k, kind in self.kinds.items() if kind in BY_ROW])
            if self.kinds[name] == "integers":
                dirty[name][row] = rng.choice([-1, K, 10**6])
            elif self.kinds[name] == "example weights":
                dirty[name][row] = bad
            else:
                dirty[name][row, rng.integers(dirty[name].shape[1])] = bad
        return dirty

    def pulled(self, inputs, **more):
        """Returns the losses and the gradients to floating arguments, for a varying cotangent."""
        floats = {k: v for k, v in inputs.items() if jnp.issubdtype(v.dtype, jnp.floating)}
        if "reduction" in self.options:
            more = {"reduction": "none"} | more

        def losses(floats):
            return self.call(self.library, {**inputs, **floats}, **more)

        with chunks_of(3):
            value, (gradients,) = pulled(losses, floats)
        return value, gradients


def equal(got, wanted, rows=...):
    """Asserts that two trees have exactly the same numbers in these rows."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[rows], np.asarray(b)[rows])


ON_A_MESH = [
    "linear_softmax_cross_entropy on a mesh",
    "linear_token_statistics on a mesh",
]
every_loss = pytest.mark.parametrize(
    ("name", "module"),
    [pytest.param(name, xent_jax, id=name) for name in [*CALLS, *ON_A_MESH]]
    + [
        pytest.param(name, forward_mode, id=f"{name}, forward mode")
        for name in ("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels")
    ],
)


@every_loss
def test_other_rows(name, module):
    problem = Problem(name, module)
    run = jax.jit(problem.pulled)

    def by_row(found):
        return found[0], {k: v for k, v in found[1].items() if problem.kinds[k] in BY_ROW}

    wanted = by_row(run(problem.clean))

    @draws(10)
    @given(poisons)
    def check(poison):
        others = np.delete(np.arange(ROWS), list(poison[0]))
        equal(by_row(run(problem.poisoned(*poison))), wanted, others)

    check()


@every_loss
def test_rows_left_out(name, module):
    """``where`` leaves out even poisoned rows, and ``ignore_index``, if there is one, odd ones."""
    problem = Problem(name, module)
    if "where" not in problem.options:
        pytest.skip("it leaves nothing out")
    more = {"reduction": "mean"} if "reduction" in problem.options else {}
    ignores = "ignore_index" in problem.options
    if ignores:
        more["ignore_index"] = -100
    elements = problem.clean.get("logits") is not None and "elements" in problem.kinds.values()

    @jax.jit
    def run(arrays, out):
        where = ~out | (jnp.arange(ROWS) % 2 == 1) if ignores else ~out
        if ignores:
            arrays = arrays | {"labels": jnp.where(where & out, -100, arrays["labels"])}
        return problem.pulled(arrays, where=where[:, None] if elements else where, **more)

    @draws(10)
    @given(poisons)
    def check(poison):
        out = np.isin(np.arange(ROWS), list(poison[0]))
        equal(run(problem.poisoned(*poison), out), run(problem.clean, out))

    check()


@modes
def test_binary_weights_of_elements_left_out(module):
    """NaN in ``pos_weight`` at an element that is left out reaches neither value nor gradients."""
    z, w = jnp.array([0.3, -1.0]), jnp.array([2.0, np.nan])

    def loss(z, w, smoothing):
        options = {"pos_weight": w, "where": z > 0, "label_smoothing": smoothing}
        return module.sigmoid_binary_cross_entropy(z, jnp.ones(2), reduction="mean", **options)

    found = jax.value_and_grad(loss, (0, 1, 2))(z, w, 0.1)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("name", ["linear_softmax_cross_entropy", ON_A_MESH[0]])
@modes
def test_a_poisoned_token_makes_what_all_share_nan(name, module):
    """Gradients that are sums over the tokens show a NaN in a token that takes part."""
    problem = Problem(name, module)
    problem.clean["inputs"][5, 1] = np.nan
    _, gradients = jax.jit(problem.pulled)(problem.clean)
    shared = {k: v for k, v in gradients.items() if problem.kinds[k] not in BY_ROW}
    assert set(shared) > {"kernel", "bias", "z_loss"}
    assert all(np.isnan(v).all() for k, v in shared.items() if k != "class_weights")
