"""The stand-in has the traps that the contract found in the real backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doubles.backend import ContractBackend

PROGRESS = {"job_id": 123, "status": "running", "current_epoch": 1, "total_epochs": 2}
COMPLETION = {"job_id": 123, "status": "completed", "total_epochs_completed": 1}
LOG = {"job_id": 123, "event_type": "training", "message": "hello"}
RESULTS = {"job_id": 123, "epoch": 1, "task_type": "object_detection"}

SOUND: dict[str, dict[str, Any]] = {
    "/training/jobs/123/callback/progress": PROGRESS,
    "/training/jobs/123/callback/completion": COMPLETION,
    "/training/jobs/123/callback/logs": LOG,
    "/validation/jobs/123/results": RESULTS,
}
PATHS = {path.rpartition("/")[2]: path for path in SOUND}


def send(backend: ContractBackend, path: str, body: Any, method: str = "POST") -> httpx.Response:
    return httpx.request(method, backend.url + path, content=json.dumps(body))


@pytest.mark.parametrize("path", SOUND)
def test_sound_calls_are_taken_and_incomplete_ones_are_422(backend: ContractBackend, path: str) -> None:
    assert send(backend, path, SOUND[path]).status_code == 200
    for missing in SOUND[path]:
        assert send(backend, path, {k: v for k, v in SOUND[path].items() if k != missing}).status_code == 422, missing
    assert send(backend, path, [SOUND[path]]).status_code == 422
    assert len(backend.calls) == len(backend.rejected) + 1


@pytest.mark.parametrize(
    ("what", "change", "status"),
    [
        ("progress", {"progress_percent": 100.1}, 422),
        ("progress", {"total_epochs": 0}, 422),
        ("progress", {"current_epoch": -1}, 422),
        ("progress", {"job_id": "abc"}, 422),
        ("progress", {"status": "s" * 21}, 500),
        ("progress", {"checkpoint_path": "p" * 501}, 500),
        ("progress", {"metrics": {"loss": float("nan")}}, 500),
        ("progress", {"metrics": {"extra_metrics": {"a": float("inf")}}}, 500),
        ("progress", {"metrics": {"accuracy": 0.5, "extra_metrics": None}}, 500),
        ("progress", {"metrics": {"accuracy": 0.5, "learning_rate": 0.1, "extra_metrics": None}}, 200),
        ("completion", {"final_metrics": {"loss": 1.0, "extra_metrics": None}}, 500),
        ("completion", {"error_message": "a\x00b"}, 500),
        ("logs", {"event_type": "elevenchars"}, 500),
        ("logs", {"message": "a\x00b"}, 500),
        ("logs", {"data": [1]}, 422),
        ("results", {"per_class_metrics": [1]}, 422),
        ("results", {"confusion_matrix": [[0.5]]}, 422),
        ("results", {"confusion_matrix": [[1.0]]}, 200),
        ("results", {"class_names": {"0": "cat"}}, 422),
        ("results", {"visualization_urls": {"a": None}}, 422),
        ("results", {"task_type": "t" * 51}, 500),
    ],
)
def test_traps(backend: ContractBackend, what: str, change: dict[str, Any], status: int) -> None:
    assert send(backend, PATHS[what], {**SOUND[PATHS[what]], **change}).status_code == status


def test_paths_and_methods(backend: ContractBackend) -> None:
    assert send(backend, PATHS["logs"].replace("123", "7"), LOG).status_code == 404
    assert send(backend, PATHS["logs"], LOG, method="PUT").status_code == 405
    assert send(backend, "/nowhere", {}).status_code == 404
    redirect = send(backend, PATHS["logs"] + "/", LOG)
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/api/v1" + PATHS["logs"])


def test_the_exit_code_decides_the_status(backend: ContractBackend) -> None:
    send(backend, PATHS["completion"], {**COMPLETION, "exit_code": 3})
    assert backend.status_of(123) == "failed"
    send(backend, PATHS["completion"], {**COMPLETION, "status": "stopped"})
    assert httpx.get(f"{backend.url}/training/jobs/123").json()["status"] == "stopped"


def test_misbehaviour(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    with ContractBackend(log=log) as backend, httpx.Client(base_url=backend.url, timeout=0.3) as client:
        backend.fail_next(1, status=503)
        assert [client.post(PATHS["logs"], json=LOG).status_code for _ in range(2)] == [503, 200]
        backend.go_down()
        with pytest.raises(httpx.TransportError):
            client.post(PATHS["logs"], json=LOG)
        backend.come_back()
        backend.hang()
        with pytest.raises(httpx.ReadTimeout):
            client.post(PATHS["logs"], json=LOG)
    statuses = [json.loads(line)["status"] for line in log.read_text().splitlines()]
    assert statuses == [503, 200]
