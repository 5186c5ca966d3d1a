"""A completed job is known by what lies in the storage, when its folder is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.jobs.rerun import completed_elsewhere, remember_completed
from tests.unit.test_memory import spec_of
from trainer_sdk.errors import ConfigError
from trainer_sdk.events import Completed, Metrics
from trainer_sdk.settings import Settings
from trainer_sdk.workspace import Workspace

DONE = Completed(
    total_epochs_completed=3, final_metrics=Metrics(accuracy=0.5, extra_metrics={"AP": None}), best_epoch=2
)


class Session:
    """As much of a session as is asked for."""

    def __init__(self, folder: Path, name: str, **environ: str) -> None:
        self.settings = Settings.from_env({"INTERNAL_STORAGE_ENDPOINT": f"file://{folder}/storage", **environ})
        self.workspace = Workspace(folder / name, "1")
        self.workspace.clear()
        self.said: list[str] = []
        self.outcome: Completed | None = None

    def complete(self, outcome: Completed) -> None:
        self.outcome = outcome

    def log(self, text: str, **_: Any) -> None:
        self.said.append(text)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Published by a job that then remembered its outcome; something to go on from is left."""
    session = Session(tmp_path, "first")
    manifest = orjson.dumps({"files": {"best.pt": {"size_bytes": 4}}})
    folder = tmp_path / "storage" / "training-checkpoints" / "checkpoints" / "1"
    (folder / "resume").mkdir(parents=True)
    (folder / "resume" / "progress.json").write_text("{}")
    (folder / "best.pt").write_bytes(b"best")
    for place in (folder, session.workspace.out):
        (place / "manifest.json").write_bytes(manifest)
    remember_completed(spec_of(epochs=3), DONE, session)  # type: ignore[arg-type]
    assert session.outcome == DONE
    return folder


def asked(folder: Path, **config: Any) -> tuple[Completed | None, list[str]]:
    session = Session(folder, "second")
    return completed_elsewhere(spec_of(**config), session), session.said  # type: ignore[arg-type]


def test_the_same_request_has_the_same_outcome(results: Path, tmp_path: Path) -> None:
    outcome, said = asked(tmp_path, epochs=3)
    assert outcome == DONE
    assert said == ["job 1 was completed by an earlier run; nothing is trained again"]
    assert not (results / "resume" / "progress.json").exists()


def test_another_request_under_the_same_id_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="completed with another request"):
        asked(tmp_path, epochs=4)


@pytest.mark.parametrize("name", ["best.pt", "manifest.json"])
def test_results_that_are_gone_are_made_again(results: Path, tmp_path: Path, name: str) -> None:
    (results / name).unlink()
    outcome, said = asked(tmp_path, epochs=3)
    assert outcome is None
    assert said[0].endswith(f"lacks {name}")


def test_a_damaged_record_is_as_good_as_none(results: Path, tmp_path: Path) -> None:
    (results / "completed.json").write_text("{")
    outcome, said = asked(tmp_path, epochs=3)
    assert outcome is None
    assert "cannot be read" in said[0]


def test_a_job_that_never_ran_was_not_completed(tmp_path: Path) -> None:
    assert asked(tmp_path, epochs=3) == (None, [])
