"""What this machine gives a job: cores, GPUs, shared memory, a compiler. Asked without torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
SHM = Path("/dev/shm")


class Machine(BaseModel):
    """A snapshot."""

    model_config = ConfigDict(frozen=True)

    cores: int
    gpus: tuple[str, ...]
    """Names of the visible GPUs."""
    shm_free_bytes: int
    compiler: bool = True
    """A C++ compiler, which torch.compile calls; Triton calls one too."""


def look_at_machine(environ: Mapping[str, str]) -> Machine:
    """What is there now."""
    return Machine(
        cores=available_cores(),
        gpus=visible_gpus(environ),
        shm_free_bytes=shutil.disk_usage(SHM).free if SHM.is_dir() else 0,
        compiler=any(shutil.which(name) for name in (environ.get("CXX", "g++"), "g++", "clang++")),
    )


def available_cores(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """Cores we may really use: the affinity mask, cut by the container's quota (cgroup v2 ``cpu.max``)."""
    cores = len(os.sched_getaffinity(0))
    if not cpu_max.exists():
        return cores
    quota, period = cpu_max.read_text().split()
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def visible_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the GPUs that nvidia-smi sees, restricted to CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    names = tuple(line.strip() for line in found.stdout.splitlines() if line.strip()) if found.returncode == 0 else ()
    allowed = environ.get("CUDA_VISIBLE_DEVICES")
    return names if allowed is None else names[: len([part for part in allowed.split(",") if part.strip()])]
