"""The prover proves no backward pass that was changed so that its numbers are wrong."""

import collections
import itertools
import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs._prover.verdict import Verdict  # noqa: E402

from tests.cases import x64
from tests.mutation import command  # noqa: E402
from tests.mutation import mutants as m  # noqa: E402
from tests.mutation.high_precision import _outputs, same  # noqa: E402
from tests.mutation.mutate import mutants, well_typed  # noqa: E402
from tests.mutation.numbers import Backward, Numerics  # noqa: E402

pytestmark = pytest.mark.fast_compile

RULES = {"arguments", "axis", "branches", "constant", "operand", "operator", "term"}
BY_NAME = {t.name: t for t in m.SHIPPED}
SOFTMAX = BY_NAME["softmax: gradient"]


def proves_everything(backward, mutant):
    return Verdict("proved")


@pytest.mark.slow
def test_no_wrong_mutant_of_many_backwards_is_proved(tmp_path):
    """The command tries 19 mutants, each of another backward; by default it tries a thousand."""
    report, count = tmp_path / "mutants.json", 19
    assert command.main(["--jobs", "2", "--count", str(count), "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert [o for o in found if o["escaped"]] == []
    assert sum(o["numbers"] != "invalid" for o in found) == count
    assert sum(o["numbers"] == "different" for o in found) >= count / 2
    assert any(o["status"] == "proved" for o in found)
    rules = {o["rule"] for o in found}
    assert rules <= RULES and len(rules) >= len(RULES) - 1  # so few mutants may miss a rule
    assert {o["backward"] for o in found} == {t.name for t, n in m.shares(count) if n}


def test_a_prover_that_proves_everything_is_found_out():
    found = list(m.outcomes(SOFTMAX, 15, prover=proves_everything))
    assert sum(o.escaped for o in found) >= 5
    assert {o.numbers for o in found} == {"different", "the same", "invalid"}


def test_the_command_fails_where_a_wrong_mutant_is_proved(monkeypatch, capsys):
    found = [o for o in m.outcomes(SOFTMAX, 8, prover=proves_everything) if o.tried]
    monkeypatch.setattr(command, "_of", lambda work: found if work[0] == 0 else [])
    assert command.main(["--count", "8", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    escaped = [o for o in found if o.escaped]
    assert f"8 mutants of {len(m.SHIPPED)} backwards, {len(escaped)} wrong ones proved" in printed
    assert all(o.what in printed for o in escaped)


def test_the_command_fails_where_too_few_are_tried(monkeypatch, capsys):
    monkeypatch.setattr(command, "_of", lambda work: [])
    assert command.main(["--count", "3", "--jobs", "1"]) == 1


def test_the_shares_add_up():
    assert sum(n for _, n in m.shares(1201)) == 1201
    assert {n for _, n in m.shares(20 * len(m.SHIPPED))} == {20}
    assert [t for t, _ in m.shares(7)] == list(m.SHIPPED)


def test_the_sample_repeats():
    backward = Backward.of(SOFTMAX)

    def first(**seed):
        return [(x.rule, x.what) for x in itertools.islice(m.sample(backward, **seed), 30)]

    assert first() == first()
    assert first() != first(seed=1)


def test_all_rules_apply_to_softmax():
    assert {x.rule for x in mutants(Backward.of(SOFTMAX).backward)} == RULES


def traced(function, backward):
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in backward.backward.in_avals]
    run = jax.extend.core.jaxpr_as_fun(backward.backward)
    return jax.make_jaxpr(lambda *args: function(run(*args)))(*shapes)


def test_the_numbers_tell_the_original_from_its_double():
    backward = Backward.of(SOFTMAX)
    numerics = Numerics(backward, m.SEED)
    assert numerics.classify(backward.backward) == "the same"
    double = traced(lambda outs: [2 * x for x in outs], backward)
    assert numerics.classify(double) == "different"
    assert not numerics.same_over_the_reals(double)


def test_what_has_another_type_is_invalid():
    backward = Backward.of(SOFTMAX)
    summed = traced(lambda outs: [x.sum(0) for x in outs], backward)
    assert not well_typed(summed, backward.backward)
    assert Numerics(backward, m.SEED).classify(summed) == "invalid"


@pytest.mark.slow
def test_a_mutant_that_overflows_is_the_same_over_the_reals():
    # The floors may be any whole numbers, but beside large ones float64 loses all other terms.
    backward = Backward.of(BY_NAME["linear_token_statistics (entropy): gradient"])
    numerics = Numerics(backward, m.SEED)
    floors = [x.jaxpr for x in mutants(backward.backward) if "floor operand 0" in x.what]
    lost = [x for x in floors if numerics.classify(x) == "different"]
    lost = [x for x in lost if numerics.same_over_the_reals(x)]
    assert lost and all(m.for_all_sizes(backward, x).proved for x in lost)
    # Mutants that are different for other reasons are not the same over the reals.
    digits = collections.Counter(
        numerics.same_over_the_reals(x.jaxpr)
        for x in itertools.islice(m.sample(backward), 20)
        if numerics.classify(x.jaxpr) == "different"
    )
    assert digits[False] >= 6


SIZE = {"n": 2}
POINTS = [np.array(x) for x in ([0.5, 3.0], [-2.0, 0.25], [0.0, 1e-3], [5.0, 20.0])]


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.exp(x) * x - jnp.expm1(x) / (1 + x * x),
        lambda x: jnp.log1p(x * x) + jnp.log(abs(x) + 2) ** 1.5,
        lambda x: jnp.tanh(x) * jnp.sign(x) + jnp.floor(x) - jnp.round(x),
        lambda x: jnp.where(x > 1, jnp.maximum(x, 2.0), x.sum()) + x**-2,
        lambda x: jax.lax.reduce_precision(jnp.exp(x), 8, 3) + jnp.isfinite(x),
        lambda x: jnp.where(jnp.isnan(x / x), 1 / x, jnp.log(x)),
    ],
)
def test_many_digits_give_the_numbers_of_jax(function, point):
    with x64():
        wanted = function(jnp.asarray(point))
    # The trace is in float32, and its literals are read as the fractions that they round.
    (out,) = _outputs(jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2,), "float32")), [point])
    got = np.array([float(x) for x in out])
    np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_many_digits_tell_what_float64_does_not():
    (n,) = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((n,), "float32")
    lost, kept, none = (
        jax.make_jaxpr(f)(shape)
        for f in (lambda x: (x + 1e30) - 1e30, lambda x: x + 0.0, lambda x: 0 * x)
    )
    point = [np.array([0.5, 3.0])]
    assert same(lost, kept, point, SIZE, 0)
    assert not same(lost, none, point, SIZE, 0)
