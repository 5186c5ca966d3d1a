"""Cores and GPUs as a container really has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmtrain.machine import available_cores, visible_gpus

OWN = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", OWN), ("50000 100000", 1), ("100000 100000", 1), ("900000000 100000", OWN)],
)
def test_a_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "cpu.max") == OWN


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that knows two cards."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Card One'\necho 'Card Two'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ("Card One", "Card Two")), ("1", ("Card One",)), ("", ()), ("0,1", ("Card One", "Card Two"))],
)
def test_gpus_are_those_this_job_may_see(visible: str | None, names: tuple[str, ...]) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert visible_gpus(environment) == names
