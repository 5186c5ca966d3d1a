"""What every command line says of an error: the machine's own errors too, in one line and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.conftest import ROOT
from trainer_sdk.errors import ResourceError

TOO_LONG = "x" * 300
"""A name that no file system takes: `OSError` from the first look."""


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("converters", [TOO_LONG, "out"]), ("mmtrain.compare", [TOO_LONG]), ("mmtrain.browse", [TOO_LONG])],
)
def test_what_the_machine_refuses_is_one_line(module: str, arguments: list[str], tmp_path: Path) -> None:
    done = run(module, *[str(tmp_path / name) for name in arguments])
    assert done.returncode == ResourceError.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("[ResourceError] ") and done.stderr.count("\n") == 1


def test_the_doctor_says_it_where_its_answer_is_expected(tmp_path: Path) -> None:
    plain, machines = run("mmtrain.doctor", str(tmp_path / TOO_LONG)), run("mmtrain.doctor", TOO_LONG, "--json")
    assert plain.returncode == machines.returncode == ResourceError.exit_code
    assert plain.stdout.startswith("[ResourceError] ")
    assert orjson.loads(machines.stdout)["error"].startswith("[ResourceError] ")
