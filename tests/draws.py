"""Sets how many problems hypothesis draws, and lets it draw seeds for NumPy's generators."""

import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("XENT_JAX_DRAWS", "1"))
"""Multiplies the number of problems that are drawn.

For example, ``XENT_JAX_DRAWS=50 pytest tests/test_options_drawn.py``.
"""

seeds = st.integers(0, 2**32 - 1)


def draws(examples):
    """Returns settings of hypothesis; the problems are the same in each run if ``TIMES`` is 1."""
    return settings(
        max_examples=TIMES * examples,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
