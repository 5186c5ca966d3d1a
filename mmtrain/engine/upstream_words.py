"""The one place where words of others are read, for what they say in no other way. Never our own words.

torch's CPU allocator, its shared memory, its collectives over gloo and a dead data loading process all raise a plain
RuntimeError; an exception in a data loading process comes back as its type with nothing but a text; torchrun tells how
its processes ended in its log alone. Texts of torch 2.13; an error whose text no longer fits is a FrameworkError with
that text.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

NO_MEMORY = ("DefaultCPUAllocator: ", "std::bad_alloc")
"""Of torch and of C++."""
ONEDNN_NO_MEMORY = re.compile(r"could not (create a primitive$|create a memory|execute a primitive)")
"""It has no other. "Could not create a primitive descriptor" is about something it cannot do."""
NO_GPU_MEMORY = re.compile(r"CUDA error: out of memory|(CUBLAS|CUDNN|NCCL)\w*_STATUS_ALLOC_FAILED|Cuda failure 2 ")
"""Of libraries over CUDA: only torch's own allocator has a type for it."""
LEFT_ALONE = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Of collectives that another process has left."""
LOADER_DIED = re.compile(
    r"DataLoader worker \(pid.*?\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)"
)
CAUGHT = re.compile(r"Caught (?P<type>\w+) in DataLoader worker process \d+\.\nOriginal ")
ERRNO = re.compile(r"\[Errno (\d+)\]")
TORCH_ERRNO = re.compile(r": (?P<words>[^:]+) \((?P<number>\d+)\)\s*$")
"""``unable to write to file </torch_1>: No space left on device (28)``."""
SHARED_FILE = re.compile(r"file <?/torch_\d+|shared memory\(shm\)|torch_shm_manager")
WAITING_FOR_NODES = re.compile(r"waiting for clients\. (\d+)/(\d+) clients joined")
UNREACHABLE_NODE = re.compile(r"DistNetworkError: (.+)")
TORCHRUN_SIGNAL = re.compile(r"exitcode\s*: -(\d+)")


class LoaderDeath(NamedTuple):
    """How a data loading process ended."""

    signal: str | None
    """As strsignal writes it: "Killed", "Bus error"."""


def of_memory(text: str) -> bool:
    """Whether it is about a lack of the machine's memory."""
    return any(words in text for words in NO_MEMORY) or ONEDNN_NO_MEMORY.search(text) is not None


def of_gpu_memory(text: str) -> bool:
    """Whether it is about a lack of a GPU's memory."""
    return NO_GPU_MEMORY.search(text) is not None


def of_a_lost_process(text: str) -> bool:
    """Whether it only says that another process is missing."""
    return any(words in text for words in LEFT_ALONE)


def of_shared_memory(text: str) -> bool:
    """Whether it is about a piece of /dev/shm that torch shares between processes."""
    return SHARED_FILE.search(text) is not None


def loader_death(text: str) -> LoaderDeath | None:
    """Whether a data loading process died, which its parent tells, and of what."""
    found = LOADER_DIED.search(text)
    return LoaderDeath((found["signal"] or "").strip() or None) if found else None


def caught(text: str) -> str | None:
    """The message of an error that came from a data loading process, without its traceback; None: it did not."""
    found = CAUGHT.match(text)
    return text.rpartition(f"{found['type']}: ")[2].strip() if found else None


def errno_in(text: str) -> int | None:
    """The system's number in a text that came without its exception."""
    if found := ERRNO.search(text):
        return int(found[1])
    found = TORCH_ERRNO.search(text)
    return int(found["number"]) if found and os.strerror(int(found["number"])) == found["words"] else None


def nodes_that_came(log: str) -> tuple[int, int] | None:
    """(how many, of how many), where torchrun's nodes did not find each other."""
    found = WAITING_FOR_NODES.search(log)
    return (int(found[1]), int(found[2])) if found else None


def unreachable_node(log: str) -> str | None:
    """What torchrun says of the first node."""
    found = UNREACHABLE_NODE.search(log)
    return found[1] if found else None


def signal_in(log: str) -> int | None:
    """The signal that ended the first of torchrun's processes that failed: ``exitcode  : -9 (pid: 4711)``."""
    found = TORCHRUN_SIGNAL.findall(log)
    return int(found[0]) if found else None
