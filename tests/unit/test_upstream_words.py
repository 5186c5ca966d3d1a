"""The few words of others that have to be read, as torch 2.13 and torchrun write them."""

from __future__ import annotations

import errno

import pytest

from mmtrain.engine import upstream_words as words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("unable to write to file </torch_12_3_4>: No space left on device (28)", errno.ENOSPC),
        ("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)", errno.EMFILE),
        ("[Errno 5] Input/output error: '/data/a.jpg'", errno.EIO),
        ("The size of tensor a must match the size of tensor b: got (28)", None),
        ("shapes differ: 3 (28)", None),
    ],
)
def test_the_systems_number_in_a_text(text: str, number: int | None) -> None:
    assert words.errno_in(text) == number


def test_what_a_loader_caught_is_told_from_what_killed_it() -> None:
    trace = "Traceback (most recent call last):\n  File ...\n"
    text = f"Caught OSError in DataLoader worker process 3.\nOriginal {trace}OSError: [Errno 5] broken: 'a'\n"
    assert words.caught(text) == "[Errno 5] broken: 'a'"
    assert words.loader_death(text) is None
    assert words.caught("OSError: [Errno 5] broken") is None


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("DataLoader worker (pid 4711) is killed by signal: Killed. ", "Killed"),
        ("DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that", "Bus error"),
        ("DataLoader worker (pid(s) 1, 2) exited unexpectedly", None),
        ("DataLoader worker (pid 9) exited unexpectedly with exit code 1. Details are lost", None),
    ],
)
def test_how_a_loader_died(text: str, signal: str | None) -> None:
    assert words.loader_death(text) == words.LoaderDeath(signal)


def test_torchruns_report() -> None:
    assert words.signal_in("[0]:\n  exitcode  : -11 (pid: 4711) SIGSEGV\n  exitcode  : -6 (pid: 2)") == 11
    assert words.signal_in("exitcode  : 1 (pid: 4711)") is None
    assert words.nodes_that_came("still waiting for clients. 1/2 clients joined.") == (1, 2)
    assert words.unreachable_node("torch.distributed.DistNetworkError: The client timed out") == "The client timed out"
