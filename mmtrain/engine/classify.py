"""Whose turn it is when the worker raises: the operator's for a lack of the machine's, ours for all that mm* raises.

By the type of the error, its errno or CUDA's number of it; by upstream's words only where upstream has nothing else
(`upstream_words`).
"""

from __future__ import annotations

import errno
import os
import shutil
import traceback
from collections.abc import Iterator
from typing import Any

from mmtrain.engine import upstream_words
from mmtrain.machine import SHM, peak_rss_bytes
from trainer_sdk.errors import FrameworkError, JobError, OutOfMemory, ResourceError
from trainer_sdk.failures import os_errors
from trainer_sdk.failures.cgroup import oom_kill_count
from trainer_sdk.texts.redaction import Redaction

GPU_HINT = "halve batch, or lower imgsz"
MEMORY_HINT = "lower batch, imgsz or workers"
SHM_HINT = "raise --shm-size (in Kubernetes: a larger memory volume at /dev/shm), or lower workers"
CUDA_NO_MEMORY = 2
BROKEN_GPU = {
    35: "the driver is too old", 46: "it is taken by others", 100: "there is none", 101: "there is no such one",
    214: "its memory has an error that cannot be corrected", 215: "it refuses", 220: "its NVLink failed",
    226: "it contains an error", 719: "a kernel failed on it", 802: "it is not ready", 803: "driver and library differ",
}  # fmt: skip
"""https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, where it is the machine's and not ours."""
FULL_BYTES = 2**20
OPENCV_NO_MEMORY = -4
"""cv::Error::StsNoMem."""
OOM_KILLS_BEFORE = oom_kill_count()
"""When this process began."""


def error_record(error: Exception) -> dict[str, Any]:
    """The error in a form that crosses the process boundary, without what the environment hides: a file is written."""
    named = classify(error)
    trace = "".join(traceback.format_exception(error))
    facts = named.facts | {"peak_worker_bytes": peak_rss_bytes(), "peak_gpu_bytes": _peak_gpu_bytes()}
    record = {
        "type": type(named).__name__,
        "message": named.message,
        "hint": named.hint,
        "traceback": trace,
        "facts": facts,
        "retryable": named.retryable,
    }
    found: dict[str, Any] = Redaction(os.environ).everywhere(record, frozenset({"type"}))
    return found


def classify(error: BaseException) -> JobError:
    """The error that the job ends with."""
    if isinstance(error, JobError):
        return _out_of_its_wrapping(error)
    text = upstream_words.caught(str(error)) or str(error)
    return (
        _memory(error, text)
        or _gpu(error)
        or _loader(error, text)
        or _system(error, text)
        or FrameworkError(
            f"{type(error).__name__}: {error}", hint="the traceback is in outcome.json, the log in work/worker.log"
        )
    )


def _memory(error: BaseException, text: str) -> OutOfMemory | None:
    import torch

    on_gpu = isinstance(error, torch.OutOfMemoryError) or _cuda_code(error) == CUDA_NO_MEMORY
    if on_gpu or (isinstance(error, RuntimeError) and upstream_words.of_gpu_memory(text)):
        return OutOfMemory(f"out of GPU memory: {_first_line(text)}", hint=GPU_HINT)
    in_words = isinstance(error, RuntimeError) and upstream_words.of_memory(text)
    if in_words or isinstance(error, MemoryError) or _opencv_code(error) == OPENCV_NO_MEMORY:
        return OutOfMemory(f"out of memory: {_first_line(text)}", hint=MEMORY_HINT)
    return None


def _gpu(error: BaseException) -> ResourceError | None:
    why = BROKEN_GPU.get(_cuda_code(error) or 0)
    if why is None:
        return None
    hint = "look at nvidia-smi and the machine's kernel log; on another machine the job goes on from its checkpoint"
    return ResourceError(f"the GPU cannot be used, {why}: {_first_line(str(error))}", hint=hint)


def _loader(error: BaseException, text: str) -> JobError | None:
    """A data loading process died. Whoever killed it by SIGKILL was the kernel: nobody else kills loaders."""
    if not isinstance(error, RuntimeError):
        return None
    deaths = [(said, death) for said in (text, *_causes(error)) if (death := upstream_words.loader_death(said))]
    if not deaths:
        return None
    said, death = next((told for told in deaths if told[1].signal), deaths[0])
    what = f"a data loading process died: {_first_line(said)}"
    if death.signal == "Killed" or oom_kill_count() > OOM_KILLS_BEFORE:
        return OutOfMemory(what, hint=f"raise the memory limit, or {MEMORY_HINT}")
    if death.signal == "Bus error":
        return ResourceError(f"{what}; shared memory is full", hint=SHM_HINT)
    return ResourceError(what, hint="raise the memory limit or --shm-size, or lower workers")


def _causes(error: BaseException) -> Iterator[str]:
    """The texts of what it was raised from: torch tells of the signal there, or at once."""
    while error.__cause__ is not None:
        error = error.__cause__
        yield str(error)


def _system(error: BaseException, text: str) -> ResourceError | None:
    """The operating system refused something, be it a shared file of torch or in a data loading process."""
    if not isinstance(error, OSError | RuntimeError):
        return None
    number = getattr(error, "errno", None) or upstream_words.errno_in(text)
    where = error.filename if isinstance(error, OSError) else None
    in_words = upstream_words.of_shared_memory(text) and number in (*os_errors.NO_SPACE, errno.ENOMEM)
    nowhere = where is None and number in os_errors.NO_SPACE  # semaphores of Python's are in shared memory too
    if in_words or (nowhere and _shared_memory_is_full()):
        return ResourceError(f"shared memory (/dev/shm) is full: {_first_line(text)}", hint=SHM_HINT)
    found = os_errors.lacking(number, where)
    if found is not None and number not in os_errors.NO_SPACE and not isinstance(found, OutOfMemory):
        found.message = f"{type(error).__name__}: {text}"
    return found


def _shared_memory_is_full() -> bool:
    return SHM.is_dir() and shutil.disk_usage(SHM).free < FULL_BYTES


def _cuda_code(error: BaseException) -> int | None:
    """CUDA's own number; torch has it since 2.8, on its AcceleratorError."""
    import torch

    return getattr(error, "error_code", None) if isinstance(error, torch.AcceleratorError) else None


def _opencv_code(error: BaseException) -> int | None:
    import cv2

    return getattr(error, "code", None) if isinstance(error, cv2.error) else None


def _out_of_its_wrapping(error: JobError) -> JobError:
    """A data loading process hands an error over as its type with the traceback for a message."""
    original = upstream_words.caught(error.message)
    return error if original is None else type(error)(original)


def _peak_gpu_bytes() -> int | None:
    import torch

    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else None


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0] or "no message"
