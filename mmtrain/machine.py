"""What this machine gives a job: cores, GPUs, shared memory, a compiler. Asked without torch."""

from __future__ import annotations

import math
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
from pydantic import BaseModel, ConfigDict

from trainer_sdk.failures import cgroup
from trainer_sdk.request.nodes import ALONE, Nodes

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
SHM = Path("/dev/shm")
PROCESS_STATUS = Path("/proc/self/status")


class Machine(BaseModel):
    """A snapshot."""

    model_config = ConfigDict(frozen=True)

    cores: int
    gpus: tuple[str, ...]
    """Names of the visible GPUs."""
    gpu_free_bytes: tuple[int, ...] = ()
    """Of each of them, as far as it is known."""
    shm_free_bytes: int
    compiler: bool = True
    """A C++ compiler, which torch.compile calls; Triton calls one too."""
    nodes: int = 1
    """How many machines like this one train together."""
    processes: int | Literal["auto"] | None = None
    """Training processes that whoever started us wants on each; auto: one for each GPU."""


def look_at_machine(environ: Mapping[str, str], nodes: Nodes = ALONE) -> Machine:
    """What is there now."""
    return Machine(
        cores=available_cores(),
        gpus=visible_gpus(environ),
        gpu_free_bytes=gpu_free_bytes(environ),
        shm_free_bytes=shutil.disk_usage(SHM).free if SHM.is_dir() else 0,
        compiler=any(shutil.which(name) for name in (environ.get("CXX", "g++"), "g++", "clang++")),
        nodes=nodes.count,
        processes=nodes.processes,
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
    names = _ask_nvidia("name")
    allowed = environ.get("CUDA_VISIBLE_DEVICES")
    return names if allowed is None else names[: len([part for part in allowed.split(",") if part.strip()])]


def gpu_free_bytes(environ: Mapping[str, str]) -> tuple[int, ...]:
    """Of the GPUs of `visible_gpus`, in their order; empty where they are named by something else than numbers."""
    free = [int(text) * 2**20 for text in _ask_nvidia("memory.free") if text.isdecimal()]
    allowed = environ.get("CUDA_VISIBLE_DEVICES")
    chosen = [part.strip() for part in (allowed or "").split(",") if part.strip()]
    if allowed is None:
        return tuple(free)
    known = all(part.isdecimal() and int(part) < len(free) for part in chosen)
    return tuple(free[int(part)] for part in chosen) if known else ()


def _ask_nvidia(what: str) -> tuple[str, ...]:
    """A line for each GPU, of this machine; none without NVIDIA's program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip()) if found.returncode == 0 else ()


class MemoryLimit(NamedTuple):
    """How much a process of this job may have, and what says so."""

    size_bytes: int
    source: str


def memory_limit() -> MemoryLimit:
    """The container's limit (cgroup), ``ulimit -d``, or the machine's memory: the least of them.

    ``ulimit -v`` is not among them: it counts addresses, of which libraries take gigabytes without using any.
    """
    limits = [MemoryLimit(int(psutil.virtual_memory().total), "memory of this machine")]
    container_bytes = cgroup.memory_limit_bytes()
    if container_bytes is not None:
        limits.append(MemoryLimit(container_bytes, "memory limit of the container"))
    data_bytes, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if data_bytes != resource.RLIM_INFINITY:
        limits.append(MemoryLimit(data_bytes, "memory limit of the process (ulimit -d)"))
    return min(limits, key=lambda limit: limit.size_bytes)


def peak_rss_bytes(status: Path = PROCESS_STATUS) -> int | None:
    """The most memory this process ever had; None where the system does not say.

    Not `getrusage`: its number begins with what the parent had when it started this process.
    """
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
