"""The prover under mutation: no backward whose numbers are wrong is proved."""

import collections

import jax
import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax.proofs import _mutants as m  # noqa: E402
from xent_jax.proofs._mutate import mutants, well_typed  # noqa: E402
from xent_jax.proofs._verdict import Verdict  # noqa: E402

QUICK = [t for t in m.SHIPPED if t.name in ("softmax: gradient", "softcap: gradient")]
RULES = {"arguments", "axis", "branches", "constant", "operand", "operator", "term"}


def _always(_, __):
    return Verdict("proved")


def test_no_wrong_mutant_of_a_frozen_sample_is_proved():
    outcomes = list(m.run(m.for_all_sizes, count=40, shipped=m.SHIPPED[::9]))
    assert [o for o in outcomes if o.escaped] == []
    assert sum(o.numbers == "wrong" for o in outcomes) >= 15


@pytest.mark.slow
def test_no_wrong_mutant_is_proved():
    outcomes = list(m.run(m.for_all_sizes))
    assert [o for o in outcomes if o.escaped] == []
    assert sum(o.numbers != "invalid" for o in outcomes) >= 1000
    assert {o.rule for o in outcomes} == RULES


@pytest.mark.slow
def test_the_second_engine_proves_no_wrong_mutant():
    outcomes = list(m.run(m.at_concrete_shapes, count=4 * len(m.SHIPPED)))
    assert [o for o in outcomes if o.escaped] == []


def test_a_prover_that_proves_everything_is_found_out():
    outcomes = list(m.run(_always, count=20, shipped=QUICK))
    assert any(o.escaped for o in outcomes)


def test_the_command_fails_where_a_wrong_mutant_is_proved(monkeypatch, capsys):
    monkeypatch.setitem(m._ENGINES, "all", _always)
    monkeypatch.setattr(m, "run", lambda prover, *_: iter(m_run(prover)))
    assert m.main(["--count", "10"]) == 1
    assert "wrong mutants proved" in capsys.readouterr().out


def m_run(prover, run=m.run):
    return list(run(prover, count=10, shipped=QUICK))


def test_the_sample_repeats():
    backward = m.Backward.of(QUICK[0])
    once, again = ([(x.rule, x.what) for x in m.sample(backward, 30)] for _ in range(2))
    assert once == again
    other = [(x.rule, x.what) for x in m.sample(backward, 30, seed=1)]
    assert once != other


def test_all_rules_apply_to_softmax():
    backward = m.Backward.of(QUICK[0])
    assert {x.rule for x in mutants(backward.backward)} == RULES


def test_the_numbers_tell_the_original_from_its_double():
    backward = m.Backward.of(QUICK[0])
    numerics = m.Numerics(backward)
    assert numerics.classify(backward.backward) == "equivalent"
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in backward.backward.in_avals]
    run = jax.extend.core.jaxpr_as_fun(backward.backward)
    double = jax.make_jaxpr(lambda *args: [2 * x for x in run(*args)])(*shapes)
    assert numerics.classify(double) == "wrong"


def test_what_has_another_type_is_invalid():
    backward = m.Backward.of(QUICK[0])
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in backward.backward.in_avals]
    run = jax.extend.core.jaxpr_as_fun(backward.backward)
    summed = jax.make_jaxpr(lambda *args: [x.sum(0) for x in run(*args)])(*shapes)
    assert not well_typed(summed, backward.backward)
    assert m.Numerics(backward).classify(summed) == "invalid"


def test_each_kind_of_number_occurs():
    numbers = collections.Counter(o.numbers for o in m.run(_always, count=60, shipped=QUICK))
    assert set(numbers) == {"wrong", "equivalent", "invalid"}
