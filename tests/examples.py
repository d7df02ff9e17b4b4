"""Runs the examples, or copies in which something is wrong, and reads their pictures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

FAST_COMPILE = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
"""For an example in which something is wrong: its figures are not looked at."""

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example, *args, **environment):
    # The reports are read below: no colours, and no narrower than they are.
    env = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *args],
        env={**env, "COLUMNS": "80", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def share_of(picture, color):
    """The share of a picture's pixels that have just this color."""
    return np.mean(np.all(np.abs(picture[..., :3] - to_rgb(color)) < 1 / 255, axis=-1))


def changed(example, tmp_path, *changes):
    """A copy of an example in which each old text, there once, has become the new one."""
    text = (EXAMPLES / example).read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    copy = tmp_path / example
    copy.write_text(text, "utf-8")
    return copy
