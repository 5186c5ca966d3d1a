"""A machine on which nothing can be written but some folders: Kubernetes' readOnlyRootFilesystem.

    python -m tests.doubles.readonly --writable DIR --writable DIR -- command ...

makes every mount of a namespace of its own read-only, and the folders writable again. Needs user namespaces.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

KEPT = {"nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"}
"""Flags that a namespace may not take from a mount, so they are said again."""
KERNEL = ("/proc", "/sys", "/dev")
"""No disk is behind them: a process needs /dev/null and /dev/shm."""


def read_only(writable: Sequence[Path], command: Sequence[str]) -> list[str]:
    """The command as it runs there."""
    itself = [sys.executable, str(Path(__file__).resolve())]
    folders = [word for folder in writable for word in ("--writable", str(folder))]
    return ["unshare", "--user", "--map-root-user", "--mount", *itself, *folders, "--", *command]


def main() -> None:
    """Becomes the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--writable", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args()
    for folder in chosen.writable:
        mount("--bind", str(folder), str(folder))
    for place, flags in mounts():
        if place.startswith(KERNEL) or Path(place) in chosen.writable:
            continue
        mount("-o", ",".join(["remount", "bind", "ro", *flags]), place)
    os.execvp(chosen.command[0], chosen.command)


def mounts() -> list[tuple[str, list[str]]]:
    """Every place, the last mount on it, and the flags it has to keep."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        found[place] = sorted(KEPT.intersection(fields[5].split(",")))
    return list(found.items())


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()
