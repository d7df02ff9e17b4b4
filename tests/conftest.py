"""Sets up eight CPU devices for the tests of sharding (others use the first), and the fixtures."""

import os
import zlib

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
os.environ.pop("COLUMNS", None)  # as wide as tables are in a file


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Else a process holds gigabytes of them by the end."""
    yield
    jax.clear_caches()


@pytest.fixture
def unoptimized():
    """Programs compiled in less time, where derivatives are compared and not their compilation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def spoil(monkeypatch):
    """``monkeypatch.setattr`` for a part of the library, beside whose traces none may be kept."""
    jax.clear_caches()
    yield monkeypatch.setattr
    monkeypatch.undo()
    jax.clear_caches()
