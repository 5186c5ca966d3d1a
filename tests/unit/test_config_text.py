"""Values out of a configuration's text: what MMEngine wrote is read again, and nothing is ever run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmtrain.config.text import read_values, with_numbers_of

TEXT = """\
model = dict(
    a=[
        1,
        2.5,
        ],
    b=(
        -1,
        ),
    c=dict(
        {'x y': 1}),
    d=inf,
    e=None,
    f='it\\'s',
    type='X')
epochs = 3
names = (
    'a',
    'b',
    )
"""


def test_what_mmengine_writes_is_read() -> None:
    assert read_values(TEXT) == {
        "model": {"a": [1, 2.5], "b": (-1,), "c": {"x y": 1}, "d": math.inf, "e": None, "f": "it's", "type": "X"},
        "epochs": 3,
        "names": ("a", "b"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "a = __import__('os').system('touch {file}')",
        "a = dict(b=open('{file}', 'w'))",
        "a = [open('{file}', 'w') for _ in range(1)]",
        "import os\nos.mkdir('{file}')",
        "a = (",
        "a = " + "[" * 10_000,
        "a = 'nul\x00'",
    ],
)
def test_nothing_is_run(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ran"
    assert read_values(text.replace("{file}", str(file))) == {}
    assert not file.exists()


def test_numbers_are_taken_and_words_are_not() -> None:
    config = {"type": "Good", "size": (64, 64), "path": "here", "on": True, "sub": [{"k": 1}], "weights": [1.0, 1.0]}
    said = {"type": "os.system", "size": (32, 64), "path": "/etc", "on": False, "sub": [{"k": 2, "x": 9}]}
    assert with_numbers_of(config, said | {"weights": [2.0], "more": 1}) == {
        "type": "Good",
        "size": (32, 64),
        "path": "here",
        "on": False,
        "sub": [{"k": 2}],
        "weights": [2.0],
    }
    assert with_numbers_of({"a": 1, "b": "x"}, {"a": "one", "b": 2}) == {"a": 1, "b": "x"}
