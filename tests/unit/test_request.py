"""What was asked: an environment becomes one specification, or one error with every problem."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.request_forms import LEAST, TREE_DEFAULTS, problem, read
from trainer_sdk.config.forms import TRAIN
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.request.kinds import job_id_of
from trainer_sdk.request.reading import RefusedTraining, read_train_spec
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task


def test_a_spec_from_the_mission() -> None:
    spec = read_train_spec(
        {
            "JOB_ID": "7",
            "TASK_TYPE": "detection",
            "MODEL_NAME": "faster-rcnn-r50",
            "DATASET_ID": "ds",
            "SNAPSHOT_ID": "snap_0123456789ab",
            "DATASET_VERSION_HASH": "sha256:" + "a" * 64,
        }
    )
    assert (spec.kind, spec.job_id, spec.task, spec.model_name) == ("train", "7", Task.DETECTION, "faster-rcnn-r50")
    assert (spec.dataset.snapshot_id, spec.dataset.version_hash) == ("snap_0123456789ab", "a" * 64)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("detection", Task.DETECTION),
        ("object_detection", Task.DETECTION),
        ("segmentation", Task.INSTANCE),
        ("semantic_segmentation", Task.SEMANTIC),
        ("Pose", Task.POSE),
        ("", None),
    ],
)
def test_task_names(name: str, task: Task | None) -> None:
    assert read(TASK_TYPE=name).task == task


def test_every_problem_is_said_at_once() -> None:
    message = problem(
        {"epochs": 0, "batch": "many", "epochz": 1, "cutmix": 0.1},
        JOB_ID="",
        MODEL_NAME="",
        TASK_TYPE="detektion",
        DATASET_ID="",
        DATASET_VERSION_HASH="123",
        CALLBACK_URL="backend:8000",
        INTERNAL_STORAGE_ENDPOINT="minio:9000",
        DELIVERY_TIMEOUT_S="soon",
    )
    for said in (
        "11 problems",
        "CONFIG.epochs=0",
        "CONFIG.batch='many'",
        "CONFIG.epochz is unknown; did you mean 'epochs'?",
        "CONFIG.cutmix is not supported",
        "JOB_ID is missing",
        "MODEL_NAME is missing",
        "TASK_TYPE='detektion' is unknown; did you mean 'detection'?",
        "no data set",
        "CALLBACK_URL='backend:8000'",
        "INTERNAL_STORAGE_ENDPOINT='minio:9000'",
        "DELIVERY_TIMEOUT_S='soon'",
    ):
        assert said in message, said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "CONFIG is not JSON"),
        ("[1]", "CONFIG must be a JSON object, found list"),
        ({"basic": [1]}, "CONFIG.basic must be an object, found list"),
        ({"lr0": float("nan")}, "CONFIG is not JSON"),
        ({"primary_metric": "\udcff"}, "CONFIG is not JSON"),
        ("[" * 50_000, "CONFIG is not JSON"),
        ('{"epochs": ' + "9" * 5000 + "}", "CONFIG"),
    ],
)
def test_a_config_that_is_none(config: Any, said: str) -> None:
    assert said in problem(config)


def test_a_specification_holds_no_secrets() -> None:
    names = [f"{role}_STORAGE_{key}_KEY" for role in ("EXTERNAL", "INTERNAL") for key in ("ACCESS", "SECRET")]
    environ = {**LEAST, **dict.fromkeys([*names, "INTERNAL_AUTH_TOKEN", "DATABASE_URL"], "hush")}
    assert "hush" not in read_train_spec(environ).model_dump_json()
    assert "hush" not in repr(Settings.from_env(environ))


def test_a_name_that_is_not_utf8() -> None:
    assert r"MODEL_NAME='a\udcff' is not UTF-8" in problem(MODEL_NAME="a\udcff")


@pytest.mark.parametrize("job_id", ["123", "trial-1", "a.b_c"])
def test_job_ids_without_a_backend(job_id: str) -> None:
    assert read(JOB_ID=job_id).job_id == job_id


@pytest.mark.parametrize("job_id", ["../1", "a/b", ".hidden", "x" * 65, "a b"])
def test_job_ids_that_are_no_folder_names(job_id: str) -> None:
    assert "JOB_ID=" in problem(JOB_ID=job_id)
    assert job_id_of({"JOB_ID": job_id}) is None


def test_the_backends_ids_are_numbers() -> None:
    assert read(JOB_ID="123", CALLBACK_URL="http://backend").job_id == "123"
    assert "must be a number" in problem(JOB_ID="trial-1", CALLBACK_URL="http://backend")


VARIABLES = sorted(
    {*LEAST, "TASK_TYPE", "CALLBACK_URL", "DATASET_S3_URI", "DATASET_PATH", "SNAPSHOT_ID", "DATASET_VERSION_HASH"}
    | {"DELIVERY_TIMEOUT_S", "INTERNAL_STORAGE_ENDPOINT", "CONFIG"}
    | {variable for _, variables, _ in TRAIN.names for variable in variables}
)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


keys = st.sampled_from([key for _, _, names in TRAIN.names for key in names] + ["basic", "advanced", "advanced_config"])


branches = st.sampled_from(list(TREE_DEFAULTS))


configs = st.dictionaries(keys, json_values | st.dictionaries(keys | branches, json_values, max_size=3), max_size=4)


values = st.text(st.characters(exclude_characters="\x00", exclude_categories=()), max_size=20) | st.just("\udcff")


# On a busy machine the drawing of texts is slow, which says nothing about what is tested.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(environ=st.dictionaries(st.sampled_from(VARIABLES), values), config=st.none() | configs)
def test_any_environment_is_a_specification_or_a_config_error(environ: dict[str, str], config: Any) -> None:
    given_config = {} if config is None else {"CONFIG": json.dumps(config)}
    with contextlib.suppress(ConfigError):
        spec = read_train_spec({**LEAST, **environ, **given_config})
        assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


def test_what_of_a_refused_request_is_whole_can_still_be_looked_at() -> None:
    with pytest.raises(RefusedTraining) as caught:
        read({"epochs": 3}, JOB_ID="", MODEL_NAME="rtmdet-tniy")
    usable = caught.value.usable
    assert (usable.model_name, usable.config and usable.config.epochs) == ("rtmdet-tniy", 3)
    more = caught.value.and_also(["there is no such model"])
    assert (
        more.message == "the request cannot be honoured: 2 problems\n  - JOB_ID is missing\n  - there is no such model"
    )
    assert more.hint == caught.value.hint
