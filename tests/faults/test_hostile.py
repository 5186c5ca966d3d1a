"""Hostile input: whole jobs on data, checkpoints and machines that mean harm."""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.order import BROUGHT, ORDER
from tests.conftest import ROOT, RunningScript, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.doubles.readonly import read_only
from tests.doubles.s3 import CHECKPOINTS, DATASETS, S3Double
from tests.doubles.secrets import PLANTED, STORAGE, files_below, told
from tests.e2e.test_jobs import TRAIN_S, request

Seen = Callable[..., None]

CLASSES = ("<script>alert(1)</script>", "{{$HOME:}}\n# ERROR: all is lost", "$\\frac{\x1b[2J\u202e'\"")
FILE_NAMES = (
    "<img src=x onerror=alert(1)>.png", "two\u2028lines ERROR.png", "{{ fileDirname }}.png", "a'b\"c$&;`touch it`.png",
)  # fmt: skip
MODEL = "rtmdet-tiny"


def hostile_shapes(folder: Path) -> Path:
    """Drawn shapes whose classes and some of whose files are called what nobody should repeat unlooked at."""
    write_shapes(folder, counts={"train": 4, "val": 2}, size=(64, 64))
    path = folder / "annotations_detection.json"
    document = orjson.loads(path.read_bytes())
    renamed = {row["name"]: name for row, name in zip(document["classes"], CLASSES, strict=True)}
    for row in document["classes"]:
        row["name"] = renamed[row["name"]]
    for image, name in zip(document["images"], FILE_NAMES, strict=False):
        (folder / "images" / image["file_name"]).rename(folder / "images" / name)
        image["file_name"] = name
    for image in document["images"]:
        for annotation in image["annotations"]:
            annotation["class_name"] = renamed[annotation["class_name"]]
    path.write_bytes(orjson.dumps(document))
    return folder


class Tags(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}


@dataclass(frozen=True)
class Ended:
    """One job on hostile data with planted secrets, which streams its images, and whom it talked to."""

    done: ScriptRun
    data: Path
    home: Path
    backend: ContractBackend
    objects: list[tuple[str, bytes]]
    """What it uploaded."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    home = tmp_path_factory.mktemp("hostile")
    data = hostile_shapes(tmp_path_factory.mktemp("data") / "shapes")
    with S3Double() as s3, ContractBackend([123]) as backend:
        s3.put_folder(data, DATASETS, "datasets/d/")
        environ = {
            **request(MODEL, data_access="stream"), **s3.environment(), **PLANTED,
            "DATASET_ID": "d", "CALLBACK_URL": backend.url, "HOME": str(home), "TMPDIR": str(home),
        }  # fmt: skip
        script = RunningScript(ROOT / "train.py", environ, ("--log-level", "INFO"), home)
        try:
            done = script.wait(TRAIN_S)
            yield Ended(done, data, home, backend, [(key, s3.get(CHECKPOINTS, key)) for key in s3.keys(CHECKPOINTS)])
        finally:
            script.kill()


@pytest.mark.fault(
    "secrets in every variable that carries one, and inherited ones; the images are streamed",
    expected="no file, no log line, no call and no uploaded object holds one",
)
def test_no_secret_leaves_a_job(ended: Ended, seen: Seen) -> None:
    assert ended.done.exit_code == 0, ended.done.stdout
    calls = json.dumps([[call.path, call.body] for call in ended.backend.calls]).encode()
    objects, files = ended.objects, files_below(ended.home)
    said = [("stdout", ended.done.stdout.encode()), ("stderr", ended.done.stderr.encode()), ("calls", calls)]
    assert told([*said, *objects, *files]) == []
    assert any("events.out.tfevents" in name for name, _ in files)
    assert any(key.endswith("best.pt") for key, _ in objects)
    assert "MLflow hears no more of this job" in ended.done.stdout  # its address with the password was used
    seen(
        f"{len(PLANTED)} secrets, none in {len(files)} files, {len(objects)} objects and {len(calls):,} bytes of calls"
    )


@pytest.mark.fault(
    "classes and files called <script>, {{$HOME:}}, lines with ERROR, terminal commands, LaTeX",
    expected="the job trains; pages hold no element of theirs, logs no line, config.py no template",
)
def test_names_stay_names(ended: Ended, seen: Seen) -> None:
    assert ended.done.exit_code == 0, ended.done.stdout
    pages = [ended.done.folder / "out" / name for name in ("report.html", "data.html")]
    for page in (Tags(path.read_text()) for path in pages):
        assert {"script", "iframe", "object", "link"}.isdisjoint(page.tags)
        assert page.handlers == set()
    lines = [json.loads(line) for line in ended.done.stdout.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    messages = [call.body["message"] for call in ended.backend.calls if call.what == "logs"]
    told_lines = [line for message in messages for line in message.splitlines()]  # several lines travel as one row
    assert not [line for line in told_lines if line.startswith(("#", "lines")) or not line.isprintable()]
    code = "import sys; from mmengine.config import Config; c = Config.fromfile(sys.argv[1], format_python_code=False);"
    code += " print(list(c.train_dataloader.dataset.metainfo.classes))"
    config = ended.done.folder / "config.py"
    read = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, check=False)
    assert read.stdout.strip() == repr(list(CLASSES)), read.stderr
    best = torch.load(ended.done.folder / "out" / "best.pth", weights_only=True)
    assert tuple(best["meta"]["trainer"]["classes"]) == CLASSES
    assert ended.backend.rejected == []
    seen(f"{len(lines)} log lines, {len(messages)} of them sent, {len(pages)} pages: all ours")


class Calls:
    """Pickled as a call: what an unpickler would run."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._trace}",)


@pytest.mark.short
@pytest.mark.parametrize("way", ["a file", "s3://"])
@pytest.mark.fault("CHECKPOINT_PATH leads to a pickle that runs a command", expected="CheckpointError, nothing runs")
def test_a_malicious_checkpoint_runs_nothing(
    run_script: RunScript, s3: S3Double, tmp_path: Path, way: str, seen: Seen
) -> None:
    trace, path = tmp_path / "it_ran", tmp_path / "evil.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Calls(trace)}, path)
    data = write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2}, size=(64, 64))
    s3.put(CHECKPOINTS, "evil.pth", path.read_bytes())
    address = str(path) if way == "a file" else f"s3://{CHECKPOINTS}/evil.pth"
    environ = {**request(MODEL, {"pretrained": True}), **s3.environment(), "DATASET_PATH": str(data)}
    done = run_script({**environ, "CHECKPOINT_PATH": address}, timeout_s=TRAIN_S)
    assert (done.exit_code, done.outcome["code"]) == (3, "CheckpointError"), done.stdout
    assert "system" in done.outcome["message"]
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have
    seen(f"by {way}: {done.outcome['code']}, nothing ran")


@pytest.mark.fault(
    "the storage offers a pickle that runs a command as the checkpoint to go on from",
    expected="it is not gone on with, nothing runs, the training begins anew",
)
def test_a_malicious_checkpoint_to_go_on_from_runs_nothing(
    ended: Ended, run_script: RunScript, s3: S3Double, tmp_path: Path, seen: Seen
) -> None:
    trace, path = tmp_path / "it_ran", tmp_path / "evil.pth"
    order = orjson.loads((ended.done.folder / "work" / ORDER).read_bytes())
    meta = {"trainer": {"fingerprint": order["fingerprint"]}, "epoch": 1, "iter": 1, "evil": Calls(trace)}
    torch.save({"meta": meta, "optimizer": {}, "state_dict": {}}, path)
    raw = path.read_bytes()
    s3.put_folder(ended.data, DATASETS, "datasets/d/")
    facts = {"object": "evil.pth", "sha256": hashlib.sha256(raw).hexdigest(), "size_bytes": len(raw)}
    record = {"fingerprint": order["fingerprint"], "epoch": 1, "iteration": 1, "files": {BROUGHT: facts}}
    s3.put(CHECKPOINTS, "checkpoints/123/resume/evil.pth", raw)
    s3.put(CHECKPOINTS, "checkpoints/123/resume/progress.json", orjson.dumps(record))
    environ = {**request(MODEL, data_access="stream"), **s3.environment(), **STORAGE, "DATASET_ID": "d"}
    done = run_script(environ, timeout_s=TRAIN_S)
    assert done.exit_code == 0, done.stdout
    assert "saved by an earlier run on another machine" in done.stdout  # it was brought
    assert "is not gone on with" in (done.folder / "work" / "worker.log").read_text()
    assert not trace.exists()
    seen("it was fetched, refused by its content, and the training completed from the start")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For TMPDIR: the sockets of Python's processes are in there, and a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.fault(
    "nothing can be written but the work folder, the caches and the folder for temporary files; HOME neither",
    expected="the job completes, and leaves no temporary files",
)
def test_a_read_only_machine(tmp_path: Path, short_path: Path, seen: Seen) -> None:
    data = write_shapes(tmp_path / "shapes", counts={"train": 4, "val": 2}, size=(64, 64))
    folders = {"workspace": tmp_path / "workspace", "cache": tmp_path / "cache", "temporary": short_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    command = [sys.executable, str(ROOT / "train.py")]
    environ = {
        **request(MODEL), "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DATASET_PATH": str(data),
        "WORKSPACE_DIR": str(folders["workspace"]), "XDG_CACHE_HOME": str(folders["cache"]),
        "TMPDIR": str(folders["temporary"]), "MPLCONFIGDIR": str(folders["cache"] / "matplotlib"),  # as in the image
    }  # fmt: skip
    probe = read_only([*folders.values()], ["touch", str(tmp_path / "written")])
    refused = subprocess.run(probe, capture_output=True, text=True, check=False)
    assert "Read-only file system" in refused.stderr, refused.stderr  # else this test would prove nothing
    job = read_only([*folders.values()], command)
    done = subprocess.run(job, env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TRAIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = orjson.loads((folders["workspace"] / "123" / "outcome.json").read_bytes())
    assert outcome["status"] == "completed"
    left = [path for path in folders["temporary"].rglob("*") if path.is_file()]
    assert left == []
    seen("completed; nothing was left in the folder for temporary files")
    shutil.rmtree(folders["workspace"])
