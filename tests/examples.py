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
    # The reports are read below: no colours, and no narrower than they are.
    env = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *args],
        env={**env, "COLUMNS": "80", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def succeeds(example, *args, summary=None, **environment):
    """What an example prints, and its last line as the summary's pattern reads it."""
    result = run(example, *args, **environment)
    assert result.returncode == 0, result.stderr
    found = re.fullmatch(summary, result.stdout.splitlines()[-1]) if summary else None
    assert found or not summary, result.stdout
    return result.stdout, found


def fails(example, *messages, args=("--smoke",)):
    """What a copy in which something is wrong prints before it says so."""
    result = run(example, *args, **fast_compile_flags())
    assert result.returncode == 1
    assert all(message in result.stderr for message in messages), result.stderr
    return result.stdout


def picture(path, height, width):
    """A picture whose size is inside these bounds, and which is neither empty nor full."""
    pixels = imread(path, format="png")
    for (low, high), size in zip((height, width), pixels.shape, strict=False):
        assert low < size < high
    assert 0.3 < share_of(pixels, "white") < 0.95
    return pixels


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
