"""Told to stop at any moment, and started again

Twenty moments, drawn over all phases from a seed (STOPPING_SEED): the job's own files and requests say where it is, and
some more time passes. Whatever was stopped ends with the weights of the job that nobody disturbed, bit by bit.

Each fault strikes twice: a real training, and a job whose worker is a double that trains a few numbers without torch
(tests/doubles/light_worker.py) and takes seconds; the trainer's half of it is the real one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import ROOT, RunningScript, RunScript, ScriptRun, StartScript
from tests.doubles import light_worker
from tests.doubles.backend import ContractBackend
from tests.doubles.proxy import FaultyProxy
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.e2e.test_jobs import request
from tests.faults.conftest import Seen

pytestmark = pytest.mark.timeout(3600)

SEED = int(os.environ.get("STOPPING_SEED", "15"))
MOMENTS = 20
GRACE_S = 30.0
LIGHT, REAL = "no torch", "torch"
ENGINES = (LIGHT, REAL)
JOB_S = 1500.0
"""Patience with a whole job on a machine that does much else."""
TINY = {"epochs": 2, "workers": 1}
SAME_EVERY_TIME = {"ema": True, "deterministic": True, "val_interval": 1, "checkpoint_interval": 1, "mosaic": 0.5}


@dataclass(frozen=True)
class Phase:
    """Where a job is, as one sees it from outside."""

    name: str
    begun: Callable[[RunningScript, FaultyProxy], bool]
    lasts_s: float
    """About: the signal comes that much later at most."""


def file(name: str) -> Callable[[RunningScript, FaultyProxy], bool]:
    return lambda job, proxy: (job.folder / name).exists()


def news(kind: str) -> Callable[[RunningScript, FaultyProxy], bool]:
    def said(job: RunningScript, proxy: FaultyProxy) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return f'"kind":"{kind}"' in (job.folder / "work" / "worker_messages.jsonl").read_text()
        return False

    return said


PHASES = (
    Phase("the start", lambda job, proxy: True, 1.5),
    Phase("the first checks", file("job.json"), 0.5),
    Phase("the download", lambda job, proxy: any("/images/" in path for path in proxy.asked), 0.5),
    Phase("the conversion", file("findings.json"), 0.2),
    Phase("the plan", file("plan.json"), 0.2),
    Phase("the worker's start", file("work/worker.json"), 8.0),
    Phase("the training", news("fit_started"), 3.0),
    Phase("an evaluation while training", news("validating"), 0.5),
    Phase("the second epoch", news("validated"), 1.0),
    Phase("the evaluation of the best", news("predicting"), 0.5),
    Phase("the report", news("finished"), 2.0),
    Phase("the upload", file("out/manifest.json"), 0.5),
    Phase("the last word", file("outcome.json"), 0.3),
)


IN_SHORT = {"the download", "the training", "the upload"}


@dataclass(frozen=True)
class Moment:
    phase: Phase
    later_s: float


def moments(seed: int) -> list[Moment]:
    """Each phase once, and some again."""
    draw = random.Random(seed)
    phases = [*PHASES, *draw.choices(PHASES, k=MOMENTS - len(PHASES))]
    return [Moment(phase, round(draw.uniform(0, phase.lasts_s), 3)) for phase in phases]


def rows() -> Iterator[Any]:
    for engine in ENGINES:
        for number, moment in enumerate(moments(SEED)):
            name = moment.phase.name
            fault = pytest.mark.fault(
                f"SIGTERM in {name}, {moment.later_s:.2f} s after its beginning ({engine}, seed {SEED})",
                expected="exit 143 within 30 s; the rerun ends with the same weights and one final outcome",
            )
            short = [pytest.mark.short] if engine == LIGHT and name in IN_SHORT and number < len(PHASES) else []
            id = f"{engine}-{number}-{name}".replace(" ", "-")
            yield pytest.param(engine, moment, id=id, marks=[fault, *short])


def by_engine(fault: str, expected: str) -> pytest.MarkDecorator:
    """A row of the matrix for each of the two."""
    params = [
        pytest.param(
            engine, id=engine.replace(" ", "-"), marks=pytest.mark.fault(f"{fault} ({engine})", expected=expected)
        )
        for engine in ENGINES
    ]
    return pytest.mark.parametrize("engine", params, indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def job_request(engine: str) -> dict[str, str]:
    light = {"PYTHONPATH": str(ROOT / "tests" / "doubles" / "light")}
    return {**request("rtmdet-tiny", TINY, **SAME_EVERY_TIME), **(light if engine == LIGHT else {})}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", counts={"train": 8, "val": 4})


@pytest.fixture(scope="module")
def undisturbed(engine: str, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    environment = {**job_request(engine), "DATASET_PATH": str(shapes)}
    run = RunningScript(ROOT / "train.py", environment, (), tmp_path_factory.mktemp("undisturbed")).wait(JOB_S)
    assert run.exit_code == 0, run.stdout
    return run


@pytest.fixture
def proxy(s3: S3Double, shapes: Path) -> Iterator[FaultyProxy]:
    s3.put_folder(shapes, prefix="datasets/shapes/")
    with FaultyProxy(s3.endpoint) as proxy:
        proxy.delay_s = 0.3
        yield proxy


@pytest.fixture
def environment(
    engine: str, s3: S3Double, proxy: FaultyProxy, backend: ContractBackend, tmp_path: Path
) -> dict[str, str]:
    return {
        **job_request(engine),
        **proxy.environment(s3.environment()),
        "DATASET_ID": "shapes",
        "DATASET_CACHE_DIR": str(tmp_path / "cache"),
        "CALLBACK_URL": backend.url,
    }


def wait_until(begun: Callable[[], bool], job: RunningScript) -> None:
    deadline = time.monotonic() + JOB_S
    while not begun() and job.process.poll() is None:
        assert time.monotonic() < deadline, job.output()
        time.sleep(0.02)


def weights(run: ScriptRun, name: str) -> dict[str, Any]:
    """By name, as numbers that can be compared."""
    path = run.folder / "out" / name
    if "light" in run.folder.joinpath("config.py").read_text()[:40]:
        return light_worker.read(path)
    from mmtrain.engine.safe_load import load_checkpoint_safely

    checkpoint = load_checkpoint_safely(path)
    return {
        f"{part}.{key}": value.tolist() if hasattr(value, "tolist") else value
        for part in ("state_dict", "ema_state_dict")
        for key, value in checkpoint.get(part, {}).items()
    }


def assert_same_weights(run: ScriptRun, undisturbed: ScriptRun) -> None:
    for name in ("last.pth", "best.pth"):
        ours, theirs = weights(run, name), weights(undisturbed, name)
        assert ours.keys() == theirs.keys()
        assert [key for key, value in ours.items() if value != theirs[key]] == []


def outcomes(backend: ContractBackend) -> list[int]:
    """Exit codes, as they were told; nothing that would revive the job follows one in the same run."""
    told = [call for call in backend.calls if call.what in ("completion", "progress")]
    for one, following in itertools.pairwise(told):
        if one.what == "completion" and following.what == "progress":
            assert following.body["current_epoch"] == 0 and "metrics" not in following.body  # the next run's beginning
    return [call.body["exit_code"] for call in told if call.what == "completion"]


def run_again_until_it_is_done(stopped: ScriptRun, environment: dict[str, str], run: RunScript) -> ScriptRun:
    return stopped if stopped.exit_code == 0 else run(environment, timeout_s=JOB_S)


# The scope: else one parameter of a test alone would make the undisturbed job run again for every test.
@pytest.mark.parametrize(("engine", "moment"), list(rows()), indirect=["engine"], scope="module")
def test_stopped_at(
    moment: Moment,
    start_script: StartScript,
    run_script: RunScript,
    environment: dict[str, str],
    proxy: FaultyProxy,
    backend: ContractBackend,
    undisturbed: ScriptRun,
    seen: Seen,
) -> None:
    backend.delay(0.05)
    job = start_script(environment)
    wait_until(lambda: moment.phase.begun(job, proxy), job)
    time.sleep(moment.later_s)
    job.process.terminate()
    began = time.monotonic()
    stopped = job.wait(GRACE_S)
    took_s = time.monotonic() - began
    if stopped.exit_code != -signal.SIGTERM:  # Python itself was not up yet
        assert stopped.exit_code in (143, 0), stopped.stdout
        assert outcomes(backend) == [stopped.exit_code]
    told = outcomes(backend)
    phase = stopped.outcome["phase"] if told else "nothing yet"

    done = run_again_until_it_is_done(stopped, environment, run_script)
    assert done.exit_code == 0, done.stdout
    assert_same_weights(done, undisturbed)
    assert outcomes(backend) == ([0] if stopped.exit_code == 0 else [*told, 0])
    assert backend.status_of(123) == "completed"
    assert backend.rejected == []
    seen(f"exit {stopped.exit_code}, in {phase}; then the same weights, one final outcome", recovery_s=took_s)


def family(job: RunningScript) -> list[psutil.Process]:
    root = psutil.Process(job.process.pid)
    return [root, *root.children(recursive=True)]


WORKERS = {"mmtrain.engine.worker", "tests.doubles.light_worker"}


def workers(job: RunningScript) -> list[psutil.Process]:
    """The process that trains first, then those that load its data; torchrun is none of them."""
    found = []
    for process in family(job)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if WORKERS & set(words) and "torch.distributed.run" not in words:
                found.append(process)
    return sorted(found, key=lambda process: len(process.parents()))


def after_one_epoch(job: RunningScript) -> None:
    wait_until(lambda: news("validated")(job, None), job)  # type: ignore[arg-type]
    assert job.process.poll() is None, job.output()


@by_engine(
    "SIGTERM to every process of the job, loading ones too, five times",
    "a checkpoint all the same; exit 143; the rerun ends with the same weights",
)
def test_everybody_is_told_again_and_again(
    start_script: StartScript,
    run_script: RunScript,
    environment: dict[str, str],
    backend: ContractBackend,
    undisturbed: ScriptRun,
    seen: Seen,
) -> None:
    job = start_script(environment)
    wait_until(lambda: news("iteration")(job, None), job)  # type: ignore[arg-type]
    for _ in range(5):
        for process in family(job):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        time.sleep(0.1)
    stopped = job.wait(GRACE_S)
    assert stopped.exit_code == 143, stopped.stdout
    assert (stopped.folder / "work" / "interrupted.pth").exists()
    done = run_script(environment, timeout_s=JOB_S)
    assert done.exit_code == 0, done.stdout
    assert_same_weights(done, undisturbed)
    assert outcomes(backend) == [143, 0]
    seen("a checkpoint; exit 143; the same weights")


def kill_worker(number: signal.Signals) -> Callable[[RunningScript], None]:
    return lambda job: workers(job)[0].send_signal(number)


def kill_parent(job: RunningScript) -> None:
    left = workers(job)
    job.process.kill()
    _, alive = psutil.wait_procs(left, timeout=GRACE_S)
    assert alive == []


KILLS: dict[str, tuple[Callable[[RunningScript], None], list[int]]] = {
    "the worker (SIGKILL, as by the kernel for memory)": (kill_worker(signal.SIGKILL), [4, 0]),
    "the worker (a segmentation fault)": (kill_worker(signal.SIGSEGV), [1, 0]),
    "the parent alone": (kill_parent, [0]),
    "all processes at once": (RunningScript.kill, [0]),
}


@pytest.mark.parametrize(
    ("engine", "kill"),
    [
        pytest.param(
            engine,
            name,
            id=f"{engine}-{name}".replace(" ", "-"),
            marks=pytest.mark.fault(
                f"killed: {name} ({engine})", expected="the rerun goes on and ends with the same weights"
            ),
        )
        for engine in ENGINES
        for name in KILLS
    ],
    indirect=["engine"],
    scope="module",
)
def test_killed(
    kill: str,
    start_script: StartScript,
    run_script: RunScript,
    environment: dict[str, str],
    backend: ContractBackend,
    undisturbed: ScriptRun,
    seen: Seen,
) -> None:
    act, told = KILLS[kill]
    job = start_script(environment)
    after_one_epoch(job)
    act(job)
    with contextlib.suppress(ValueError):  # killed with all others: its logs are closed
        job.wait(JOB_S)
    done = run_script(environment, timeout_s=JOB_S)
    assert done.exit_code == 0, done.stdout
    assert "going on after epoch" in done.stdout
    assert_same_weights(done, undisturbed)
    assert outcomes(backend) == told
    assert backend.status_of(123) == "completed"
    seen(f"went on from a checkpoint, the same weights; outcomes told: {told}")


@by_engine("the node is gone with its disk", "a rerun elsewhere goes on from the storage")
def test_the_node_is_gone(
    start_script: StartScript,
    run_script: RunScript,
    environment: dict[str, str],
    backend: ContractBackend,
    s3: S3Double,
    undisturbed: ScriptRun,
    tmp_path: Path,
    seen: Seen,
) -> None:
    job = start_script(environment)
    record = "checkpoints/123/resume/progress.json"
    wait_until(lambda: record in s3.keys(CHECKPOINTS, "checkpoints/123/resume/"), job)
    job.kill()
    elsewhere = {
        **environment,
        "WORKSPACE_DIR": str(tmp_path / "other"),
        "DATASET_CACHE_DIR": str(tmp_path / "other-cache"),
    }
    done = run_script(elsewhere, timeout_s=JOB_S)
    assert done.exit_code == 0, done.stdout
    assert "saved by an earlier run on another machine" in done.stdout
    assert_same_weights(done, undisturbed)
    assert outcomes(backend) == [0]
    seen("went on elsewhere after an epoch, the same weights")


@by_engine("cancelled by the backend while training", "checkpoint in the storage, silence, exit 0")
def test_cancelled_while_training(
    start_script: StartScript,
    run_script: RunScript,
    environment: dict[str, str],
    backend: ContractBackend,
    s3: S3Double,
    undisturbed: ScriptRun,
    seen: Seen,
) -> None:
    job = start_script({**environment, "STATE_POLL_S": "1"})
    after_one_epoch(job)
    backend.jobs[123].status = "cancelled"
    began = time.monotonic()
    cancelled = job.wait(GRACE_S + 15)
    took_s = time.monotonic() - began
    assert (cancelled.exit_code, cancelled.outcome["status"]) == (0, "cancelled")
    assert backend.status_of(123) == "cancelled"
    assert outcomes(backend) == []
    assert "checkpoints/123/resume/progress.json" in s3.keys(CHECKPOINTS, "checkpoints/123/resume/")

    backend.jobs[123].status = "pending"  # as the platform's restart does
    done = run_script(environment, timeout_s=JOB_S)
    assert done.exit_code == 0, done.stdout
    assert_same_weights(done, undisturbed)
    seen("exit 0, still cancelled, checkpoint uploaded; restarted, the same weights", recovery_s=took_s)


@pytest.mark.fault("a picture that never opens, so its loading process hangs", expected="stacks, ResourceError, exit 4")
def test_a_loading_process_that_hangs(
    start_script: StartScript, backend: ContractBackend, tmp_path: Path, seen: Seen
) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})
    environment = {**request("rtmdet-tiny", TINY | {"epochs": 50}), "DATASET_PATH": str(data), "WATCHDOG_S": "150"}
    job = start_script({**environment, "CALLBACK_URL": backend.url})
    wait_until(lambda: news("iteration")(job, None), job)  # type: ignore[arg-type]
    for picture in (data / "images").iterdir():
        picture.unlink()
        os.mkfifo(picture)  # opening it waits for a writer for ever
    done = job.wait(JOB_S)
    assert done.exit_code == 4, done.stdout
    (told,) = [call.body for call in backend.calls if call.what == "completion"]
    assert told["error_message"].startswith("[ResourceError] the training process made no progress for ")
    for text in (told["traceback"], (done.folder / "work" / "worker.log").read_text()):
        assert "in _worker_loop" in text  # of the loading process
        assert "mmtrain/engine/worker.py" in text
    seen("the stacks of worker and loading process; exit 4")
