"""Runs the examples, or copies in which something is wrong, and reads their pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tests.conftest import fast_compile_flags

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example, *args, **environment):
    # Tests read the reports, which must have no colours and no fewer than 80 columns.
    env = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *args],
        env={**env, "COLUMNS": "80", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def succeeds(example, *args, summary=None, **environment):
    """Runs an example; returns what it prints and the match of ``summary`` in its last line."""
    result = run(example, *args, **environment)
    assert result.returncode == 0, result.stderr
    found = re.fullmatch(summary, result.stdout.splitlines()[-1]) if summary else None
    assert found or not summary, result.stdout
    return result.stdout, found


def fails(example, *messages, args=("--smoke",)):
    """Runs a wrong copy, asserts that it fails with these messages, and returns what it prints."""
    result = run(example, *args, **fast_compile_flags())
    assert result.returncode == 1
    assert all(message in result.stderr for message in messages), result.stderr
    return result.stdout


def picture(path, height, width):
    """Returns a picture, whose size must be in these bounds and which is neither empty nor full."""
    pixels = imread(path, format="png")
    for (low, high), size in zip((height, width), pixels.shape, strict=False):
        assert low < size < high
    assert 0.3 < share_of(pixels, "white") < 0.95
    return pixels


def share_of(picture, color):
    """Returns the share of a picture's pixels that have exactly this color."""
    return np.mean(np.all(np.abs(picture[..., :3] - to_rgb(color)) < 1 / 255, axis=-1))


def changed(example, tmp_path, *changes):
    """Writes a copy of an example with each old text, which occurs once, replaced by the new."""
    text = (EXAMPLES / example).read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    copy = tmp_path / example
    copy.write_text(text, "utf-8")
    return copy
