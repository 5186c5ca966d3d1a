"""Starts the worker through torchrun, or a job's one process, with the environment that it needs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mmtrain.engine.order import EARLIER_LOG, LOG
from trainer_sdk.request.nodes import ALONE, Nodes, without_launchers
from trainer_sdk.texts.redaction import hides

FOR_STREAMING = (
    "EXTERNAL_STORAGE_ACCESS_KEY", "EXTERNAL_STORAGE_SECRET_KEY",
    *(name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())),
)  # fmt: skip
"""Secret or not: without them no image can be read from its bucket."""


def launch(
    work_dir: Path,
    *,
    processes: int,
    threads: int,
    gpus: tuple[int, ...],
    environ: Mapping[str, str],
    streaming: bool = False,
    nodes: Nodes = ALONE,
) -> subprocess.Popen[bytes]:
    """Starts `torchrun` in a session of its own: a Ctrl-C at the terminal is ours to pass on.

    Args:
        processes: on this machine.
        streaming: the worker reads images from their bucket, so it learns the key to the data sets.
    """
    module = [
        "torch.distributed.run", *_meeting(nodes), f"--nproc-per-node={processes}", "-m", "mmtrain.engine.worker",
    ]  # fmt: skip
    return _start(module, work_dir, worker_environment(environ, threads=threads, gpus=gpus, streaming=streaming))


def launch_alone(
    module: str,
    work_dir: Path,
    *,
    threads: int,
    gpus: tuple[int, ...],
    environ: Mapping[str, str],
    streaming: bool = False,
    keys: tuple[str, ...] = (),
) -> subprocess.Popen[bytes]:
    """Starts one process, of a job that trains nothing: ``python -m <module> <work_dir>``; `serving.serve` is in it."""
    own = worker_environment(environ, threads=threads, gpus=gpus, streaming=streaming)
    return _start([module], work_dir, own | {name: environ[name] for name in keys if name in environ})


def _start(module: list[str], work_dir: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with contextlib.suppress(FileNotFoundError):
        (work_dir / LOG).replace(work_dir / EARLIER_LOG)
    with (work_dir / LOG).open("ab") as log:  # the watchdog writes there too
        return subprocess.Popen(
            [sys.executable, "-m", *module, str(work_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parents[2],
            env=environ,
            start_new_session=True,
        )


def _meeting(nodes: Nodes) -> tuple[str, ...]:
    """Where torchrun's processes meet; static: the first node is the one that we take for it."""
    if nodes.count == 1:
        return ("--standalone",)
    return (
        f"--nnodes={nodes.count}",
        f"--node-rank={nodes.rank}",
        f"--master-addr={nodes.address}",
        f"--master-port={nodes.port}",
        f"--rdzv-conf=timeout={nodes.timeout_s}",
    )


def worker_environment(
    environ: Mapping[str, str], *, threads: int, gpus: tuple[int, ...], streaming: bool = False
) -> dict[str, str]:
    """Ours, without secrets it has no use for, with as many threads as each process has cores, and the chosen GPUs."""
    allowed = FOR_STREAMING if streaming else ()
    ours = without_launchers(environ)
    kept = {name: value for name, value in ours.items() if name in allowed or not hides(name, value)}
    visible = [number.strip() for number in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number.strip()]
    chosen = ",".join(visible[gpu] if visible else str(gpu) for gpu in gpus)
    return kept | {
        "CUDA_VISIBLE_DEVICES": chosen,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
