#!/usr/bin/env python3
"""Makes the virtual environment from the lock, compiling what ships no usable wheel once per user.

Standard library only: it runs on a machine that has Python, a C++ compiler and nothing else.

Four packages of the stack come as sources (mmcv with its ops, mmdet, mmseg) or with a wheel for another
numpy (xtcocotools). Their wheels are built once into ``$XDG_CACHE_HOME/openmmlab-trainer/wheels/<key>`` and
installed from there by every later checkout. The key names what a binary is bound to: the torch build, the
Python ABI and the CUDA architectures. pip's own wheel cache names none of these, uv's does not hit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM_SOURCE = ("onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation", "xtcocotools")
OWN_TORCH = re.compile(r"^(torch|torchvision|triton|nvidia-.*|cuda-.*)$")
"""What a CPU build of torch replaces or does not need."""
BUILD_TOOLS = ("cython", "ninja", "setuptools", "uv", "wheel")
QUIETLY = ("--quiet", "--no-config")
"""uv would read pyproject.toml's settings, which are for resolving and contradict installing from a complete lock."""


def main() -> int:
    args = parse_arguments()
    wanted = read_lock(ROOT / ("requirements.lock" if args.runtime_only else "requirements-dev.lock"))
    tools = {name: block for name, block in read_lock(ROOT / "requirements-dev.lock").items() if name in BUILD_TOOLS}
    stamp = args.venv / ".complete"
    fingerprint = hashlib.sha256(repr((wanted, args.torch, cuda_architectures())).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == fingerprint:
        say(f"{args.venv} is up to date")
        return 0
    check_machine()
    started = time.monotonic()
    make_venv(args.venv, tools["uv"])
    python = args.venv / "bin" / "python"
    locked = wanted | tools
    if args.torch == "cpu":
        say("torch: the build that pip finds here (TORCH=cpu)")
        run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                *(version_of(locked, name) for name in ("torch", "torchvision")),
            ]
        )
        locked = {name: block for name, block in locked.items() if not OWN_TORCH.match(name)}
    install_locked(args.venv, {name: block for name, block in locked.items() if name not in BUILT_FROM_SOURCE})
    wheels = built_wheels(python, locked)
    run([args.venv / "bin" / "uv", "pip", "install", *QUIETLY, "--no-deps", "--python", python, *wheels])
    say("checking that every package imports and that its compiled parts work")
    run([python, ROOT / "scripts" / "check_imports.py"])
    if args.runtime_only:
        run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *sorted(tools.keys() - wanted.keys())])
    stamp.write_text(fingerprint)
    say(f"{args.venv} is ready after {time.monotonic() - started:.0f} s")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--runtime-only", action="store_true", help="for images: no development tools")
    parser.add_argument("--torch", choices=("locked", "cpu"), default="locked", help="'cpu': whatever build pip finds")
    return parser.parse_args()


def check_machine() -> None:
    """Stops with a list of everything that is missing, before anything is downloaded."""
    problems = []
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        problems.append(f"Python 3.11 or 3.12 is needed, this is {platform.python_version()}: set PYTHON=python3.11")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        problems.append(f"the lock is for Linux on x86_64, this is {sys.platform} on {platform.machine()}")
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        problems.append("no C++ compiler (g++) on PATH: apt-get install g++")
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        problems.append("the Python headers (Python.h) are missing: apt-get install python3-dev")
    if problems:
        sys.exit("cannot set up:\n" + "\n".join(f"  - {problem}" for problem in problems))


def read_lock(path: Path) -> dict[str, str]:
    """Package name -> its block of the lock: pins, markers and hashes (a name may have one line per Python)."""
    blocks: dict[str, str] = {}
    for block in re.split(r"\n(?=[a-z0-9])", path.read_text()):
        name = block.split("==")[0].strip()
        blocks[name] = blocks.get(name, "") + block.rstrip() + "\n"
    return blocks


def version_of(lock: dict[str, str], name: str) -> str:
    return lock[name].split(" ")[0].split("[")[0]


def make_venv(venv: Path, uv: str) -> None:
    say(f"creating {venv}")
    run([sys.executable, "-m", "venv", "--clear", venv])
    with requirements_file({"uv": uv}) as path:
        run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", path])


def install_locked(venv: Path, blocks: dict[str, str]) -> None:
    say(f"installing {len(blocks)} locked packages")
    with requirements_file(blocks) as path:
        uv = [venv / "bin" / "uv", "pip", "install", "--python", venv / "bin" / "python"]
        run([*uv, *QUIETLY, "--no-deps", "--require-hashes", "-r", path])


def built_wheels(python: Path, lock: dict[str, str]) -> list[Path]:
    """The wheels of BUILT_FROM_SOURCE, from the user's cache or built into it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "openmmlab-trainer" / "wheels"
    folder = cache / binary_key(python)
    return [cached_wheel(folder, lock[name]) or build_wheel(python, folder, lock[name]) for name in BUILT_FROM_SOURCE]


def binary_key(python: Path) -> str:
    """torch build, numpy, Python ABI, platform and CUDA architectures, as a folder name."""
    query = (
        "import torch, numpy, sys; "
        "print(torch.__version__, torch.version.cuda, numpy.__version__, sys.implementation.cache_tag)"
    )
    torch, cuda, numpy, abi = subprocess.check_output([str(python), "-c", query], text=True).split()
    ops = f"cuda{cuda}-{cuda_architectures()}" if cuda != "None" and cuda_architectures() else "cpu"
    return f"torch{torch}-numpy{numpy}-{abi}-{platform.machine()}-{ops}".replace(";", "_").replace(" ", "_")


def cuda_architectures() -> str:
    """TORCH_CUDA_ARCH_LIST if set (an image is built without a GPU), else the GPU present; '' without nvcc."""
    if shutil.which("nvcc") is None:
        return ""
    if "TORCH_CUDA_ARCH_LIST" in os.environ:
        return os.environ["TORCH_CUDA_ARCH_LIST"]
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return ";".join(sorted(set(found.stdout.split()))) if found.returncode == 0 else ""


def cached_wheel(folder: Path, block: str) -> Path | None:
    name, version = block.split(" ", maxsplit=1)[0].split("==")
    return next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)


def build_wheel(python: Path, folder: Path, block: str) -> Path:
    """Builds from the hash-checked source; the wheel appears in the cache in one rename."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "MMCV_WITH_OPS": "1",
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(len(os.sched_getaffinity(0)))),
    }
    if cuda_architectures():
        environment |= {"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": cuda_architectures()}
    say(
        f"building {block.split(' ', maxsplit=1)[0]} for {folder.name}"
        + (" (about 7 minutes on 2 cores)" if "mmcv" in block else "")
    )
    with tempfile.TemporaryDirectory(dir=folder) as work, requirements_file({"": block}) as path:
        command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
        # The sdist's setup.py must find ninja, which lives in the virtual environment.
        environment["PATH"] = f"{python.parent}:{environment['PATH']}"
        run([*command, "--no-binary", ":all:", "--require-hashes", "--wheel-dir", work, "-r", path], environment)
        (wheel,) = Path(work).glob("*.whl")
        return wheel.rename(folder / wheel.name)


class requirements_file:  # noqa: N801 - used like a function
    """A temporary requirements file from blocks of the lock."""

    def __init__(self, blocks: dict[str, str]) -> None:
        self._text = "\n".join(blocks.values())

    def __enter__(self) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
            file.write(self._text)
        self._path = file.name
        return file.name

    def __exit__(self, *_: object) -> None:
        Path(self._path).unlink()


def run(command: list[object], environment: dict[str, str] | None = None) -> None:
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, env=environment, check=False)
    if done.returncode:
        sys.exit(f"set-up stopped: '{' '.join(arguments[:6])} ...' exited {done.returncode}; its message is above")


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
