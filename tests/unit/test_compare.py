"""Jobs side by side, as a user asks for them; the folders hold what a job writes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from mmtrain.compare import main
from mmtrain.datasets.profile import DatasetProfile
from mmtrain.engine.messages import EpochEnd, Finished, FitStarted, MessageWriter, Validated
from mmtrain.engine.order import MESSAGES
from mmtrain.machine import Machine
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import load_recipe
from mmtrain.reports.models import PrimaryMetric, TrainReport
from tests.conftest import ROOT
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.lifecycle.outcome import Outcome, Status
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace

NASTY = "<script>alert(1)</script>"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def compare(workspace: Path, *arguments: str | Path) -> Done:
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        code = main([*map(str, arguments)], {"WORKSPACE_DIR": str(workspace)})
    return Done(code, stdout.getvalue(), stderr.getvalue())


class Job:
    """A job's folder, filled step by step."""

    def __init__(self, root: Path, job_id: str, **config: Any) -> None:
        self.space = Workspace(root, job_id)
        for folder in (self.space.out, self.space.work):
            folder.mkdir()
        self.spec = TrainSpec(
            job_id=job_id, task=Task.DETECTION, model_name="rtmdet-tiny",
            dataset=DatasetRef(id="cells", path="/d"), config=TrainConfig(**config),
        )  # fmt: skip
        self.space.save("job.json", self.spec)

    def planned(self) -> Job:
        self.space.save("plan.json", plan_of(self.spec))
        return self

    def trained(self, epochs: int, accuracy: float, *, to_the_end: bool = True) -> Job:
        writer = MessageWriter(self.space.work / MESSAGES)
        writer.say(FitStarted(epochs=20, iters=400, parameters=4_872_000))
        for epoch in range(1, epochs + 1):
            losses = {"loss": 2 / epoch}
            writer.say(
                EpochEnd(epoch=epoch, iteration=20 * epoch, losses=losses, lr=1e-3, peak_rss_bytes=10**9 * epoch)
            )
            metrics = {"coco/bbox_mAP": accuracy * epoch / epochs, "coco/bbox_mAP_50": -1.0}
            writer.say(Validated(epoch=epoch, metrics=metrics, best=True))
        if to_the_end:
            writer.say(Finished(best_epoch=epochs, epochs=epochs, train_s=61.5))
        return self

    def reported(self, accuracy: float) -> Job:
        (self.space.out / "best.pth").write_bytes(bytes(2_500_000))
        report = TrainReport(
            task="object_detection", job_id=self.spec.job_id, model_name="rtmdet-tiny", dataset_id="cells",
            primary_metric=PrimaryMetric(name="mAP@0.5:0.95", value=accuracy), evaluated_on="test",
            metrics={"mAP@0.5:0.95": accuracy, "mAP50(B)": 0.9, "AR@100": None},
        )  # fmt: skip
        self.space.save("out/report.json", report)
        return self

    def ended(self, status: Status, **fields: Any) -> Job:
        timings = {"fetch": 1.2, "train": 75.0} | fields.pop("timings_s", {})
        record = {"job_id": self.spec.job_id, "exit_code": 0, "phase": "publish", "timings_s": timings} | fields
        self.space.save("outcome.json", Outcome(status=status, **record))
        return self


def plan_of(spec: TrainSpec) -> TrainPlan:
    unknown = dict.fromkeys(
        name for name, field in DatasetProfile.model_fields.items() if "None" in str(field.annotation)
    )
    known = {"has_boxes": True, "has_masks": False, "has_keypoints": False, "has_mask_files": False, "num_classes": 2}
    counts = {"train": 100, "val": 10, "test": 10}
    profile = DatasetProfile(**unknown, **known, images=counts, objects=counts, objects_per_class={})
    machine = Machine(cores=2, gpus=(), shm_free_bytes=2**33)
    names = ("red", "white")
    return make_plan(
        spec, load_recipe("rtmdet-tiny"), machine, class_names=names, profile=profile, weights_file=None
    )  # fmt: skip


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    for job_id, accuracy, config in (("1", 0.42, {"lr0": 0.002}), ("2", 0.5, {"lr0": 0.001, "epochs": 5})):
        Job(tmp_path, job_id, **config).planned().trained(5, accuracy).reported(accuracy).ended("completed")
    return tmp_path


def row(output: str, label: str) -> list[str]:
    line = next(line for line in output.splitlines() if line.strip().startswith(label))
    return re.split(r"\s{2,}", line.strip())[1:]


def test_two_jobs_stand_side_by_side_in_80_columns(finished: Path) -> None:
    done = compare(finished, "1", finished / "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert row(done.stdout, "status") == ["completed", "completed"]
    assert row(done.stdout, "mAP@0.5:0.95") == ["0.420", "0.500"]
    assert row(done.stdout, "measured on") == ["test", "test"]
    assert row(done.stdout, "train") == ["1 min 15 s", "1 min 15 s"]
    assert row(done.stdout, "in all") == ["1 min 16 s", "1 min 16 s"]
    labels = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert labels.index("fetch") < labels.index("train") < labels.index("with")
    assert row(done.stdout, "fetch") == ["1.2 s", "1.2 s"]
    assert row(done.stdout, "with validations") == ["0.615 s", "0.615 s"]  # 61.5 s, 100 iterations
    assert row(done.stdout, "checkpoint") == ["2.5 MB", "2.5 MB"]
    assert row(done.stdout, "parameters") == ["4,872,000", "4,872,000"]
    assert row(done.stdout, "lr0") == ["0.002", "0.001"]
    assert "mAP50(B)" not in done.stdout
    assert not any(line.strip().startswith("imgsz") for line in done.stdout.splitlines())  # it is the same in both


def test_the_memory_of_the_processes_is_compared(finished: Path) -> None:
    Job(finished, "3").planned().trained(2, 0.3, to_the_end=False)
    assert row(compare(finished, "1", "3").stdout, "peak process memory")[1] == "2.0 GB"


def test_what_mmengine_logged_of_time_and_memory_is_told(finished: Path) -> None:
    log = finished / "1" / "work" / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    rows = [{"loss": 1.0, "time": 0.5, "data_time": 0.1, "memory": 1000}, {"coco/bbox_mAP": 0.1, "step": 1},
            {"loss": 1.0, "time": 0.3, "data_time": 0.1, "memory": 2000}]  # fmt: skip
    log.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b'\n{"loss": 1.0, "ti')
    done = compare(finished, "1", "2")
    assert row(done.stdout, "iteration") == ["0.400 s", "–"]
    assert row(done.stdout, "of it for data") == ["25%", "–"]
    assert row(done.stdout, "peak GPU memory") == ["2.1 GB", "–"]


def test_jobs_that_are_not_done_are_compared_as_far_as_they_came(finished: Path) -> None:
    Job(finished, "3").planned().trained(2, 0.3, to_the_end=False)
    failure = {"exit_code": 3, "phase": "check", "code": "ConfigError", "message": "no such [model]"}
    Job(finished, "4").ended("failed", **failure, timings_s={"train": 0.0})
    done = compare(finished, "1", "3", "4")
    assert done.returncode == 0
    assert "3: no outcome.json: still running, or ended without a word" in done.stdout
    assert "4: failed during check: [ConfigError] no such [model]" in done.stdout
    assert row(done.stdout, "status") == ["completed", "unfinished", "failed"]
    assert row(done.stdout, "epochs")[1:] == ["2 of 50", "0 of ?"]
    assert row(done.stdout, "mAP@0.5:0.95") == ["0.420", "0.300", "–"]
    assert row(done.stdout, "measured on") == ["test", "val, epoch 2", "–"]
    assert "no plan: 4" in done.stdout


def test_damaged_files_are_remarks(finished: Path) -> None:
    (finished / "1" / "plan.json").write_text('{"epochs": ')
    (finished / "1" / "out" / "report.json").write_text("[]")
    (finished / "2" / "outcome.json").write_text('{"status": "completed"}')
    with (finished / "2" / "work" / MESSAGES).open("ab") as messages:
        messages.write(b'{"kind": "epo')
    done = compare(finished, "1", "2")
    assert done.returncode == 0
    assert "1: plan.json cannot be read" in done.stdout
    assert "1: report.json cannot be read: holds list, not an object" in " ".join(done.stdout.split())
    assert "2: outcome.json cannot be read" in done.stdout
    assert row(done.stdout, "mAP@0.5:0.95") == ["0.420", "0.500"]  # from the last validation, from the report


def test_the_command_line_is_light(finished: Path) -> None:
    code = "import sys, mmtrain.compare; print(sorted({'torch', 'mmengine', 'matplotlib'} & set(sys.modules)))"
    command = f"{code}; sys.exit(mmtrain.compare.main(sys.argv[1:], {{}}))"
    done = subprocess.run(
        [sys.executable, "-c", command, str(finished / "1")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "[]")


def test_every_job_that_is_nowhere_is_named(finished: Path) -> None:
    (finished / "empty").mkdir()
    done = compare(finished, "1", "nine", "empty")
    assert done.returncode == 3
    assert "[ConfigError]" in done.stderr
    assert "no job nine" in done.stderr and "no job empty" in done.stderr
    assert done.stdout == ""


def test_the_page_needs_no_network_and_holds_the_curves(finished: Path, tmp_path: Path) -> None:
    Job(tmp_path / "other", "1", lr0=0.003).planned().trained(3, 0.2).ended(
        "failed", exit_code=1, phase="train", code="UnknownError", message=NASTY
    )
    page = tmp_path / "pages" / "page.html"
    done = compare(finished, "1", tmp_path / "other" / "1", "--html", page)
    assert done.returncode == 0, done.stderr
    html = page.read_text()
    assert html.count("<svg") == 2
    assert not re.search(r"https?://|<script|<link", html)
    assert "&lt;script&gt;" in html
    assert "<b>0.4" not in html  # on test and on val: neither is the better one
    assert str(finished / "1") in html and str(tmp_path / "other" / "1") in html  # one id, two jobs


def test_the_better_one_stands_out(finished: Path) -> None:
    compare(finished, "1", "2", "--html", finished / "page.html")
    html = (finished / "page.html").read_text()
    assert "<b>0.500</b>" in html
    assert "<b>0.420</b>" not in html


def test_jobs_that_never_trained_have_a_page_too(tmp_path: Path) -> None:
    Job(tmp_path, "1").ended("failed", exit_code=3, phase="fetch", code="DatasetError", message="gone")
    done = compare(tmp_path, "1", "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "None of them has trained an epoch." in (tmp_path / "page.html").read_text()
    assert "none of them was measured" in done.stdout
