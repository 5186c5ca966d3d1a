"""Whose turn it is, by what torch, OpenCV and the system raise for real."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from mmtrain.engine.classify import classify, error_record
from mmtrain.engine.saving import save_atomically
from tests.conftest import ROOT
from trainer_sdk.errors import DatasetError, FrameworkError, JobError, OutOfMemory, ResourceError


def raised(work: Callable[[], Any]) -> BaseException:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is judged
        return error.with_traceback(None)
    raise AssertionError("nothing was raised")


class Broken(Dataset[int]):
    """One whose rows fail as told."""

    def __init__(self, fail: Callable[[], Any]) -> None:
        self._fail = fail

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        self._fail()
        return index


def from_a_loader(fail: Callable[[], Any]) -> JobError:
    return classify(raised(lambda: list(DataLoader(Broken(fail), num_workers=1))))


def fail_with(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def kill(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.zeros(10**15),
        lambda: np.zeros(10**15),
        lambda: cv2.copyMakeBorder(np.zeros((9, 9), np.uint8), 0, 2**30, 0, 2**28, cv2.BORDER_CONSTANT),
        fail_with(MemoryError()),
        fail_with(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
)
def test_memory_that_the_machine_has_not(work: Callable[[], Any]) -> None:
    assert type(classify(raised(work))) is OutOfMemory


def test_memory_that_the_gpu_has_not() -> None:
    found = classify(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert type(found) is OutOfMemory
    assert found.message.startswith("out of GPU memory")


@pytest.mark.parametrize(
    ("code", "kind"), [(2, OutOfMemory), (214, ResourceError), (46, ResourceError), (710, FrameworkError)]
)
def test_cudas_number_decides_not_its_words(code: int, kind: type[JobError]) -> None:
    error = torch.AcceleratorError("CUDA error: something")
    error.error_code = code  # as torch does
    assert type(classify(error)) is kind


@pytest.mark.parametrize("words", ["the disk is out of memory", "Killed", "No space left on device", "signal: Killed"])
def test_words_alone_decide_nothing(words: str) -> None:
    assert type(classify(ValueError(words))) is FrameworkError
    assert type(classify(RuntimeError(words))) is FrameworkError


def test_a_checkpoint_that_does_not_fit_is_told_by_the_systems_number(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, before[1]))
    try:
        error = raised(lambda: save_atomically({"weights": torch.zeros(10**5)}, tmp_path / "a.pth"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert type(classify(error)) is ResourceError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fail", "kind", "said"),
    [
        (fail_with(OSError(errno.EIO, "Input/output error", "/d/a.jpg")), ResourceError, "Input/output error"),
        (fail_with(OSError(errno.ENOSPC, "No space left on device")), ResourceError, "the disk is full"),
        (fail_with(DatasetError("the image a is gone\n  - and b")), DatasetError, "the image a is gone\n  - and b"),
        (fail_with(ValueError("no such class")), FrameworkError, "no such class"),
        (kill(signal.SIGKILL), OutOfMemory, "a data loading process died"),
        (kill(signal.SIGBUS), ResourceError, "shared memory is full"),
        (kill(signal.SIGSEGV), ResourceError, "a data loading process died"),
    ],
)
def test_what_happens_in_a_data_loading_process(fail: Callable[[], Any], kind: type[JobError], said: str) -> None:
    found = from_a_loader(fail)
    assert type(found) is kind
    assert said in found.message


def test_shared_memory_that_is_too_small() -> None:
    small = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    program = (
        "import torch; from torch.utils.data import DataLoader; from mmtrain.engine.classify import classify\n"
        "try: list(DataLoader([torch.zeros(10**6)] * 4, num_workers=1))\n"
        "except Exception as error: found = classify(error); print(type(found).__name__, found.message)"
    )
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", small, "bash"]
    command = [*unshared, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ResourceError "), done.stdout + done.stderr
    assert "shared memory" in done.stdout


def test_the_record_that_crosses_carries_what_only_the_worker_knows() -> None:
    record = error_record(torch.OutOfMemoryError("CUDA out of memory"))
    assert (record["type"], record["retryable"]) == ("OutOfMemory", False)
    assert record["facts"]["peak_worker_bytes"] > 0
    assert record["facts"]["peak_gpu_bytes"] is None
