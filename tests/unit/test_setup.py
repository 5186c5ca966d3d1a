"""Set-up: a complete lock without addresses, CUDA where it is, and docs that name every variable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer_sdk.config.forms import EVALUATE, EXPORT, PREDICT, TRAIN
from trainer_sdk.environment import VARIABLES
from trainer_sdk.request.kinds import ID_NAMES
from trainer_sdk.request.variables import CHECKPOINTS, IMAGES

sys.path.insert(0, str(ROOT / "scripts"))
import setup_environment as setup

LOCKS = ("requirements.lock", "requirements-dev.lock")
READ = re.compile(r'environ(?:\.get\(|\[)"([A-Z_]+)"')


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_pinned_and_hashed_and_has_no_address(name: str) -> None:
    lock = setup.read_lock(ROOT / name)
    assert set(setup.BUILT_FROM_SOURCE) <= lock.keys()
    for package, block in lock.items():
        assert f"{package}==" in block
        assert "--hash=sha256:" in block
    assert "://" not in (ROOT / name).read_text()


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    runtime, development = (setup.read_lock(ROOT / name) for name in LOCKS)
    assert {name: development.get(name) for name in runtime} == runtime


def program(folder: Path, name: str, says: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\nprintf '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "named", "architectures"),
    [
        ({}, None, ""),
        ({"nvcc": ""}, None, ""),
        ({"nvidia-smi": "9.0\\n"}, None, ""),
        ({"nvcc": "", "nvidia-smi": "9.0\\n8.0\\n9.0\\n"}, None, "8.0;9.0"),
        ({"nvcc": ""}, "7.5;8.0", "7.5;8.0"),
    ],
)
def test_cuda_ops_are_built_where_a_compiler_and_a_card_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], named: str | None, architectures: str
) -> None:
    for name, says in programs.items():
        program(tmp_path, name, says)
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    if named is not None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", named)
    assert setup.cuda_architectures() == architectures


def test_a_binary_is_kept_under_what_it_is_bound_to() -> None:
    key = setup.binary_key(Path(sys.executable))
    for part in ("torch2.13.0", "numpy2.2.6", sys.implementation.cache_tag):
        assert part in key


def test_every_variable_that_is_read_is_documented() -> None:
    sources = [path.read_text() for path in (ROOT / "trainer_sdk").glob("*.py")]
    names = {name for source in sources for name in READ.findall(source)}
    names |= {name for of_a_kind in ID_NAMES.values() for name in of_a_kind} | {*CHECKPOINTS, *IMAGES}
    for form in (TRAIN, PREDICT, EXPORT, EVALUATE):
        names |= {*form.sources, *form.variables.values()}
    assert {"JOB_ID", "CONFIG", "WORKSPACE_DIR", "WEIGHTS_DIR"} <= names
    documented = {name for _, group in VARIABLES for variable in group for name in variable.name.split(", ")}
    assert names <= documented
    page = (ROOT / "docs" / "environment.md").read_text()
    assert all(name in page for name in documented)


def test_real_without_its_data_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "real.py"), "--data", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "annotations_detection.json" in done.stdout
    assert "DATA=" in done.stdout
