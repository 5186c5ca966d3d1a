"""Starts the worker through torchrun, listens to it, and turns whatever becomes of it into a result or one error."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import orjson
import psutil

from mmtrain.engine import upstream_words
from mmtrain.engine.messages import Done, Finished, FitStarted, MessageReader, News, Predicting
from mmtrain.engine.order import EARLIER_LOG, ERROR, LOG, MESSAGES, STOP
from mmtrain.engine.watchdog import Watchdog
from trainer_sdk.errors import (
    ERROR_TYPES,
    FrameworkError,
    Interrupted,
    JobError,
    OutOfMemory,
    ResourceError,
    disk_full,
)
from trainer_sdk.failures.cgroup import oom_kill_count
from trainer_sdk.request.nodes import ALONE, Nodes, without_launchers
from trainer_sdk.stopping import Stop
from trainer_sdk.texts.redaction import hides

Last = TypeVar("Last", Finished, Done)

POLL_S = 0.2
FULL_DISK_BYTES = 2**20
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


def supervise(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    *,
    stop: Stop | None = None,
    watchdog_s: float = 0.0,
    alone: bool = True,
) -> Finished:
    """Waits for the worker and passes its news on.

    Args:
        stop: the job's; how long the worker may take to save a checkpoint, too.
        watchdog_s: how long it may say nothing; 0: for ever.
        alone: no other machine trains with it.

    Raises:
        JobError: what the worker reported, or what its death means; the reason to stop, passed on after the worker has
            saved a checkpoint and left.
    """
    stop = stop or Stop()
    with_something_to_save = not alone

    def hear(message: News) -> None:
        """Before the first and after the last iteration there is nothing to save."""
        nonlocal with_something_to_save
        if isinstance(message, FitStarted):
            with_something_to_save = True
        elif isinstance(message, Predicting | Finished):
            with_something_to_save = not alone
        listen(message)

    def patience_s() -> float:
        return stop.left_s("checkpoint") if with_something_to_save else 0.0

    return _supervised(process, work_dir, hear, Finished, stop, Watchdog(watchdog_s), patience_s)


def supervise_alone(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    *,
    stop: Stop | None = None,
    watchdog_s: float = 0.0,
) -> Done:
    """As `supervise`, for `launch_alone`, which has nothing to save. Raises: as there."""
    return _supervised(process, work_dir, listen, Done, stop or Stop(), Watchdog(watchdog_s), lambda: 0.0)


def _supervised(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    last: type[Last],
    stop: Stop,
    watchdog: Watchdog,
    patience_s: Callable[[], float],
) -> Last:
    """
    Args:
        patience_s: how long the worker may take to leave, asked when it has to.
    """
    oom_kills = oom_kill_count()
    finished: Last | None = None
    with contextlib.closing(MessageReader(work_dir / MESSAGES)) as reader:
        try:
            for message in _until_exit(process, reader):
                stop.check()
                if message is None:
                    watchdog.check(process.pid, work_dir)
                    continue
                watchdog.hear()
                finished = message if isinstance(message, last) else finished
                listen(message)
        except BaseException:
            let_leave(process, work_dir, patience_s())
            raise
    if process.returncode == 0 and finished is not None:
        return finished
    raise death(process.returncode, work_dir, oom_killed=oom_kill_count() > oom_kills)


def _until_exit(process: subprocess.Popen[bytes], reader: MessageReader) -> Iterator[News | None]:
    """What it says, and None at every look."""
    while process.poll() is None:
        yield from reader.news()
        yield None
        time.sleep(POLL_S)
    yield from reader.news()


def let_leave(process: subprocess.Popen[bytes], work_dir: Path, patience_s: float) -> None:
    """Asks the worker to save and leave; ends it and its children when it does not, or has no time for it."""
    try:
        with contextlib.suppress(OSError):  # a full disk: then without a checkpoint
            (work_dir / STOP).touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    finally:
        end_tree(process)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """torchrun gives every worker a session of its own, so no process group holds them all."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def death(returncode: int, work_dir: Path, *, oom_killed: bool) -> JobError:
    """What a dead worker's remains say: its own report first, then the signal that ended it."""
    report = work_dir / ERROR
    if report.exists():
        return _reported(report)
    if shutil.disk_usage(work_dir).free < FULL_DISK_BYTES:
        return disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), work_dir)
    log = (work_dir / LOG).read_text(errors="replace")
    if alone := _alone(log):
        return alone
    number = killing_signal(returncode, log)
    where = f"the last lines of {work_dir / 'worker.log'}: " + " | ".join(log.strip().splitlines()[-3:])
    if number is None:
        return FrameworkError(f"the training process ended with code {returncode} and no report", hint=where)
    error = _of_signal(number, where, oom_killed=oom_killed)
    error.facts["exit_signal"] = signal_name(number)
    return error


def _of_signal(number: int, where: str, *, oom_killed: bool) -> JobError:
    if number == signal.SIGKILL:
        why = "by the kernel's OOM killer" if oom_killed else "(SIGKILL), most often for lack of memory"
        kind = OutOfMemory if oom_killed else ResourceError
        return kind(
            f"the training process was killed {why}", hint="raise the memory limit, or lower batch, imgsz or workers"
        )
    if number == signal.SIGTERM:
        return Interrupted("the training process was told to stop (SIGTERM)", hint="run the same JOB_ID again")
    if number == signal.SIGBUS:
        return ResourceError(
            "the training process died of SIGBUS: shared memory is full", hint="raise --shm-size, or set workers to 0"
        )
    return FrameworkError(
        f"the training process died of {signal_name(number)}", hint=f"a crash in compiled code; {where}"
    )


def signal_name(number: int) -> str:
    """``SIGKILL``; a number for those that have no name."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _alone(log: str) -> ResourceError | None:
    """What torchrun says when the nodes did not find each other."""
    hint = "all need the same PET_NNODES, PET_MASTER_ADDR and PET_MASTER_PORT, and wait for NODES_TIMEOUT_S"
    if came := upstream_words.nodes_that_came(log):
        return ResourceError(f"only {came[0]} of {came[1]} nodes came", hint=f"see the others' logs; {hint}")
    if said := upstream_words.unreachable_node(log):
        return ResourceError(f"the first node cannot be reached: {said}", hint=f"see its log; {hint}")
    return None


def killing_signal(returncode: int, log: str) -> int | None:
    """The signal that ended the worker; torchrun itself exits 1 and says it in its log."""
    return upstream_words.signal_in(log) or (-returncode if returncode < 0 else None)


def _reported(report: Path) -> JobError:
    record = orjson.loads(report.read_bytes())
    error = ERROR_TYPES.get(record["type"], FrameworkError)(
        record["message"], hint=record["hint"], retryable=record.get("retryable")
    )
    error.worker_traceback = record["traceback"]
    error.facts = record.get("facts", {})
    return error
