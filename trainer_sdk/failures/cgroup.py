"""What the kernel counts of this container's memory: cgroup v2, and v1 where that is what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
EVENTS = ("memory.events", "memory.oom_control")
PEAKS = ("memory.peak", "memory.max_usage_in_bytes")
LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of v2 and v1."""
STATES = {"oom_kill_disable", "under_oom"}
"""In v1's file and no counters."""


def memory_events(root: Path = ROOT, own: Path = OWN) -> dict[str, int]:
    """``{"oom_kill": 0, "max": 12, ...}``; empty where the kernel counts nothing for us.

    `oom_kill` is how many processes the OOM killer ended, `max` how often the limit was met.
    """
    file = _first(EVENTS, root, own)
    words = [line.split() for line in _text(file).splitlines()] if file else []
    counted = [word for word in words if len(word) == 2 and word[1].isdecimal() and word[0] not in STATES]
    return {name: int(count) for name, count in counted}


def memory_peak_bytes(root: Path = ROOT, own: Path = OWN) -> int | None:
    """The most that all processes of the container had together, page cache included."""
    file = _first(PEAKS, root, own)
    number = _text(file).strip() if file else ""
    return int(number) if number.isdecimal() else None


def memory_limit_bytes(root: Path = ROOT, own: Path = OWN) -> int | None:
    """What our group, or a group that ours is in, allows all its processes together; None without a limit."""
    limits = [_text(folder / name).strip() for folder in _folders(root, own) for name in LIMITS]
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)


def oom_kill_count() -> int:
    """How often the OOM killer struck here; 0 also where the kernel does not say."""
    return memory_events().get("oom_kill", 0)


def _first(names: tuple[str, ...], root: Path, own: Path) -> Path | None:
    return next((folder / name for folder in _folders(root, own) for name in names if (folder / name).is_file()), None)


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """Our own group and those it is in. A container mostly sees its own as the root, whatever the host calls it."""
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "memory"):
            top, group = root / controllers, PurePosixPath(path.lstrip("/"))
            yield from (top / folder for folder in (group, *group.parents))
    yield from (root, root / "memory")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not there, or not ours to read: then nothing is known
        return ""
