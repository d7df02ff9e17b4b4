"""How the tests themselves are run: on how many workers, and how their programs are compiled."""

import os

import jax.numpy as jnp
import pytest
from jax._src import compiler

from tests import conftest


@pytest.mark.parametrize("gigabytes, workers", [(0.5, 1), (3, 1), (5, 2), (64, 8)])
def test_workers_follow_the_memory(gigabytes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(conftest, "available_memory", lambda: gigabytes * conftest.GIB)
    assert conftest.pytest_xdist_auto_num_workers(None) == workers


def test_some_memory_is_available():
    assert conftest.GIB // 8 < conftest.available_memory() < 2**50


def overrides():
    return dict(compiler.get_compile_options(1, 1).env_option_overrides)


@pytest.mark.fast_compile
def test_what_is_marked_is_compiled_fast():
    assert overrides() == conftest.FAST_COMPILE
    assert jnp.ones(3).sum() == 3


def test_all_else_is_compiled_as_users_compile_it():
    assert overrides() == {}
