"""Shared fixtures: the platform's two servers, and jobs as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from tests.doubles.backend import ContractBackend

ROOT = Path(__file__).resolve().parents[1]
JOB_ID = 123


def pytest_configure(config: pytest.Config) -> None:
    """Each of several pytest processes takes its own cores, for itself and the jobs that it starts.

    Two trainings on the same cores stall each other, as OpenMP's threads spin (docs/decisions/0005).
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    cores, count = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    mine = cores[int(worker.removeprefix("gw")) :: count]
    if mine:
        os.sched_setaffinity(0, mine)


@dataclass(frozen=True)
class ScriptRun:
    """A job that ended."""

    exit_code: int
    stdout: str
    stderr: str
    folder: Path
    started_at: float

    @property
    def outcome(self) -> dict[str, Any]:
        return dict(orjson.loads((self.folder / "outcome.json").read_bytes()))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in (self.folder / "events.jsonl").read_bytes().splitlines()]


ID_NAMES = {"predict": "INFERENCE_JOB_ID", "export": "EXPORT_JOB_ID", "evaluate": "TEST_RUN_ID"}


def job_folder(script: str, environ: Mapping[str, str]) -> str:
    """Each kind of job counts for itself; a script that is none of the others is a training."""
    plain = environ.get("JOB_ID", "")
    return f"{script}-{environ.get(ID_NAMES[script]) or plain}" if script in ID_NAMES else plain


class RunningScript:
    """A job as a process of its own, with nothing of our environment but PATH and HOME."""

    def __init__(self, script: Path, environ: Mapping[str, str], arguments: Sequence[str], folder: Path) -> None:
        self.folder = folder / "workspace" / job_folder(script.stem, environ)
        self._logs = [(folder / f"{script.stem}.{time.monotonic_ns()}.{name}").open("w+") for name in ("out", "err")]
        basic = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "WORKSPACE_DIR": str(folder / "workspace")}
        self.started_at = time.time()
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**basic, **environ},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._logs[0],
            stderr=self._logs[1],
        )
        if "WORKSPACE_DIR" in environ:
            self.folder = Path(environ["WORKSPACE_DIR"]) / job_folder(script.stem, environ)

    def output(self) -> str:
        return Path(self._logs[0].name).read_text()

    def wait(self, timeout_s: float = 60.0) -> ScriptRun:
        """Waits for the end; kills the whole tree when it does not come."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            out, err = (Path(file.name).read_text() for file in self._logs)
        return ScriptRun(code, out, err, self.folder, self.started_at)

    def kill(self) -> None:
        if self.process.poll() is None:
            root = psutil.Process(self.process.pid)
            for process in (*root.children(recursive=True), root):
                process.kill()
            self.process.wait()
        for file in self._logs:
            file.close()


StartScript = Callable[..., RunningScript]
RunScript = Callable[..., ScriptRun]
JobScript = Callable[[str], Path]


@pytest.fixture
def backend() -> Iterator[ContractBackend]:
    """The platform's backend, knowing job 123."""
    with ContractBackend([JOB_ID]) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    from tests.doubles.s3 import S3Double  # moto takes a second to import: only for who asks

    with S3Double() as server:
        yield server


@pytest.fixture
def s3(s3_server: Any) -> Any:
    """The platform's storage with empty buckets."""
    s3_server.reset()
    return s3_server


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[StartScript]:
    """``start_script(environ, script=train.py, arguments=(...))``: a running job; `wait()` gives its `ScriptRun`."""
    running: list[RunningScript] = []

    def start(
        environ: Mapping[str, str], script: Path = ROOT / "train.py", arguments: Sequence[str] = ("--log-level", "INFO")
    ) -> RunningScript:
        running.append(RunningScript(script, environ, arguments, tmp_path))
        return running[-1]

    yield start
    for script in running:
        script.kill()


@pytest.fixture
def run_script(start_script: StartScript) -> RunScript:
    """``run_script(environ, script=train.py, arguments=(...), timeout_s=60)``: a job from start to end."""

    def run(environ: Mapping[str, str], timeout_s: float = 60.0, **how: Any) -> ScriptRun:
        return start_script(environ, **how).wait(timeout_s)

    return run


@pytest.fixture
def job_script(tmp_path: Path) -> JobScript:
    """Writes a script like train.py whose work is this body; it sees ``session``, ``errors``, events and ``DONE``."""

    def write(body: str) -> Path:
        script = tmp_path / "job.py"
        work = textwrap.indent(textwrap.dedent(body).strip(), " " * 12)
        script.write_text(SCRIPT_HEAD.format(root=str(ROOT)) + work + SCRIPT_TAIL)
        return script

    return write


SCRIPT_HEAD = """\
import os, sys, time
sys.path.insert(0, {root!r})
from trainer_sdk import errors
from trainer_sdk.arguments import log_level_of
from trainer_sdk.aside import leave
from trainer_sdk.events import Completed, Metrics, Progress
from trainer_sdk.session import JobSession

DONE = Completed(total_epochs_completed=1, final_metrics=Metrics(accuracy=0.5))

def main():
    with JobSession.from_env(os.environ, log_level=log_level_of(sys.argv)) as session:
        if not session.already_completed:
            spec = session.spec
            session.workspace.save("job.json", spec)
"""
SCRIPT_TAIL = """
    return session.exit_code

leave(main())
"""
