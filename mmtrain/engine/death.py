"""What the worker's death means: its own report, the system's numbers, the signal, torchrun's log."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import orjson

from mmtrain.engine import upstream_words
from mmtrain.engine.order import ERROR, LOG
from trainer_sdk.errors import (
    ERROR_TYPES,
    FrameworkError,
    Interrupted,
    JobError,
    OutOfMemory,
    ResourceError,
    disk_full,
)

FULL_DISK_BYTES = 2**20


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
