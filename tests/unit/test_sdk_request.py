"""What was asked: two dialects of environment, one specification, every problem at once."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainConfig, TrainSpec
from trainer_sdk.request import NAMES, NOT_YET, job_id_of, read_train_spec
from trainer_sdk.settings import Settings, callback_base
from trainer_sdk.tasks import Task

LEAST = {"JOB_ID": "123", "MODEL_NAME": "rtmdet_tiny", "DATASET_ID": "ds_abc"}
TREE_DEFAULTS: dict[str, Any] = {  # contract 3.1: what the backend fills in when nobody chose anything
    "optimizer": {"type": "adam", "learning_rate": 1e-3, "weight_decay": 0, "momentum": 0.9, "nesterov": False},
    "scheduler": {"type": "none", "step_size": 30, "gamma": 0.1, "warmup_epochs": 0},
    "augmentation": {"enabled": True, "random_flip": True, "mixup": False, "mixup_alpha": 0.2},
    "preprocessing": {"image_size": 224, "resize_mode": "resize", "mean": [0.485, 0.456, 0.406]},
    "validation": {"enabled": True, "val_interval": 1, "save_best_metric": "accuracy"},
    "mixed_precision": False,
    "gradient_clip_value": None,
    "checkpoint_interval": 10,
    "keep_n_checkpoints": 3,
    "log_interval": 10,
}


def read(config: Any = None, **environ: str) -> TrainSpec:
    text = {} if config is None else {"CONFIG": config if isinstance(config, str) else json.dumps(config)}
    return read_train_spec({**LEAST, **text, **environ})


def problem(config: Any = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(config, **environ)
    return caught.value.message


def tree(**change: Any) -> dict[str, Any]:
    """The platform's generic tree with leaves changed as ``branch__leaf``."""
    copy: dict[str, Any] = json.loads(json.dumps(TREE_DEFAULTS))
    for path, value in change.items():
        *branches, leaf = path.split("__")
        (copy[branches[0]] if branches else copy)[leaf] = value
    return copy


DIALECTS: dict[str, dict[str, Any]] = {
    "flat": {
        "config": {"epochs": 5, "batch": 4, "learning_rate": 0.002, "imgsz": 640, "device": "0", "optimizer": "AdamW"}
    },
    "flat, other names": {
        "config": {
            "batch_size": 4,
            "lr0": 0.002,
            "image_size": [640, 640],
            "device": 0,
            "optimizer": "AdamW",
            "epochs": 5,
        }
    },
    "basic and advanced": {
        "config": {
            "basic": {"epochs": 5, "batch": 4, "lr0": 0.002, "optimizer": "AdamW", "device": "0"},
            "advanced": {"imgsz": 640},
        }
    },
    "generic tree": {
        "config": {
            "advanced_config": tree(
                optimizer__type="adamw", optimizer__learning_rate=0.002, preprocessing__image_size=640
            ),
            "epochs": 5,
            "batch": 4,
            "learning_rate": 0.001,
            "imgsz": 320,
            "device": "0",
        }
    },
    "variables": {
        "config": {"optimizer": "AdamW"},
        "EPOCHS": "5",
        "BATCH_SIZE": "4",
        "LEARNING_RATE": "0.002",
        "IMGSZ": "640",
        "DEVICE": "0",
    },
    "both at once": {
        "config": {"epochs": 5, "batch": 4, "learning_rate": 2e-3, "imgsz": 640, "device": "0", "optimizer": "AdamW"},
        "EPOCHS": "5",
        "BATCH_SIZE": "4",
        "LEARNING_RATE": "0.002",
        "IMGSZ": "640",
        "DEVICE": "0",
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(dialect: str) -> None:
    expected = TrainConfig(epochs=5, batch=4, lr0=0.002, imgsz=(640, 640), device="0", optimizer="AdamW")
    assert read(**DIALECTS[dialect]).config == expected


@pytest.mark.parametrize(
    "config", [None, "", "{}", {"basic": {}, "advanced": None}, {"advanced_config": {}}, {"epochs": None}]
)
def test_nothing_chosen_is_nothing_decided(config: Any) -> None:
    assert read(config).config == TrainConfig()


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


def test_the_generic_trees_defaults_count_for_nothing() -> None:
    spec = read({"epochs": 5, "learning_rate": 0.01, "imgsz": 640, "advanced_config": TREE_DEFAULTS})
    assert spec.config == TrainConfig(epochs=5, lr0=0.01, imgsz=640)
    assert spec.notes == ()


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ({"optimizer__type": "sgd"}, {"optimizer": "SGD"}),
        ({"optimizer__weight_decay": 0.05}, {"weight_decay": 0.05}),
        ({"optimizer__momentum": 0.8}, {"momentum": 0.8}),
        ({"scheduler__type": "cosine"}, {"lr_scheduler": "cosine"}),
        ({"preprocessing__image_size": [512, 256]}, {"imgsz": (512, 256)}),
        ({"mixed_precision": True}, {"amp": True}),
        ({"checkpoint_interval": 2}, {"checkpoint_interval": 2}),
        ({"keep_n_checkpoints": 1}, {"checkpoint_keep_max": 1}),
    ],
)
def test_a_changed_leaf_of_the_generic_tree_is_a_wish(leaf: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read({"advanced_config": tree(**leaf)}).config == TrainConfig(**expected)


def test_a_wish_that_cannot_be_granted_is_noted() -> None:
    (note,) = read({"advanced_config": tree(log_interval=5)}).notes
    assert note == "advanced_config.log_interval=5 has no effect in this trainer"


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ({"optimizer__type": "rmsprop"}, "CONFIG.advanced_config.optimizer.type='rmsprop'"),
        ({"optimizer__learning_rate": "fast"}, "CONFIG.advanced_config.optimizer.learning_rate='fast'"),
        ({"scheduler__type": ["step"]}, "CONFIG.advanced_config.scheduler.type=['step']"),
        ({"checkpoint_interval": "often"}, "CONFIG.advanced_config.checkpoint_interval='often'"),
    ],
)
def test_a_leaf_that_cannot_be_read_is_named(leaf: dict[str, Any], said: str) -> None:
    assert said in problem({"advanced_config": tree(**leaf)})


@pytest.mark.parametrize(
    ("config", "environ", "first", "second"),
    [
        ({"epochs": 5}, {"EPOCHS": "6"}, "EPOCHS=6", "CONFIG.epochs=5"),
        ({"batch": 2, "batch_size": 4}, {}, "CONFIG.batch=2", "CONFIG.batch_size=4"),
        ({"basic": {"lr0": 0.1}, "learning_rate": 0.2}, {}, "CONFIG.basic.lr0=0.1", "CONFIG.learning_rate=0.2"),
        (
            None,
            {"DATASET_S3_URI": "s3://b/datasets/other/"},
            "DATASET_ID='ds_abc'",
            "DATASET_S3_URI='s3://b/datasets/other/'",
        ),
        (
            None,
            {"DATASET_PATH": "/data/ds_abc", "DATASET_S3_URI": "/mnt/ds_abc"},
            "DATASET_PATH='/data/ds_abc'",
            "DATASET_S3_URI='/mnt/ds_abc'",
        ),
    ],
)
def test_a_contradiction_names_both_sources(config: Any, environ: dict[str, str], first: str, second: str) -> None:
    message = problem(config, **environ)
    assert first in message
    assert second in message
    assert "give one" in message


def test_every_problem_is_said_at_once() -> None:
    message = problem(
        {"epochs": 0, "batch": "many", "epochz": 1, "hsv_h": 0.1},
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
        "CONFIG.hsv_h is not supported",
        "JOB_ID is missing",
        "MODEL_NAME is missing",
        "TASK_TYPE='detektion' is unknown; did you mean 'detection'?",
        "no data set",
        "CALLBACK_URL='backend:8000'",
        "INTERNAL_STORAGE_ENDPOINT='minio:9000'",
        "DELIVERY_TIMEOUT_S='soon'",
    ):
        assert said in message, said


@pytest.mark.parametrize("key", sorted(NOT_YET))
def test_keys_that_have_no_effect_here_are_refused_by_name(key: str) -> None:
    assert f"CONFIG.advanced.{key} is not supported by this version" in problem({"advanced": {key: 0.5}})


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


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("ds_abc", None, "datasets/ds_abc/"),
        ("datasets/ds_abc", None, "datasets/ds_abc/"),
        ("s3://training-datasets/datasets/ds_abc/", "training-datasets", "datasets/ds_abc/"),
        ("s3://elsewhere/a/b/ds_abc", "elsewhere", "a/b/ds_abc/"),
    ],
)
@pytest.mark.parametrize("dataset_id", ["", "ds_abc"])
def test_data_set_uris(uri: str, bucket: str | None, prefix: str, dataset_id: str) -> None:
    dataset = read(DATASET_S3_URI=uri, DATASET_ID=dataset_id).dataset
    assert (dataset.id, dataset.path, dataset.bucket, dataset.prefix) == ("ds_abc", None, bucket, prefix)


@pytest.mark.parametrize(
    "environ",
    [
        {"DATASET_S3_URI": "/data/ds_abc/"},
        {"DATASET_S3_URI": "file:///data/ds_abc/"},
        {"DATASET_PATH": "/data/ds_abc/"},
    ],
)
def test_local_data_sets(environ: dict[str, str]) -> None:
    dataset = read(**{"DATASET_ID": "", **environ}).dataset
    assert (dataset.id, dataset.path, dataset.bucket) == ("ds_abc", "/data/ds_abc/", None)


@pytest.mark.parametrize("uri", ["s3://bucket-only", "s3://bucket-only/", "s3:///key"])
def test_an_incomplete_uri(uri: str) -> None:
    assert "lacks a bucket or a folder" in problem(DATASET_S3_URI=uri, DATASET_ID="")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://backend:8000", "http://backend:8000/api/v1"),
        ("http://backend:8000/", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1/", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1/training", "http://backend:8000/api/v1"),
        ("https://host/prefix/api/v1", "https://host/prefix/api/v1"),
        ("", None),
        ("backend:8000", None),
        ("ftp://backend", None),
        ("http://[::1", None),
        ("http://backend:99999", None),
    ],
)
def test_callback_urls(url: str, base: str | None) -> None:
    assert callback_base(url) == base


@pytest.mark.parametrize("device", ["cpu", "0", "0,1", "0-3", "0-1,3"])
def test_devices(device: str) -> None:
    assert read({"device": device}).config.device == device
    assert read(DEVICE=device).config.device == device
    assert read({"basic": {"device": device}}, DEVICE=device).config.device == device


@pytest.mark.parametrize("device", ["cuda:0", "gpu", "0,", "-1", True])
def test_devices_that_are_none(device: Any) -> None:
    assert "CONFIG.device=" in problem({"device": device})


@pytest.mark.parametrize(("given_size", "size"), [(640, (640, 640)), (640.0, (640, 640)), ([1280, 736], (1280, 736))])
def test_image_sizes(given_size: Any, size: tuple[int, int]) -> None:
    assert read({"imgsz": given_size}).config.imgsz == size


@pytest.mark.parametrize("wrong", [True, 16, [640], [640, 640, 3], "large", 640.5])
def test_image_sizes_that_are_none(wrong: Any) -> None:
    assert problem({"imgsz": wrong}).count("CONFIG.imgsz=") == 1


@pytest.mark.parametrize(("value", "probability"), [(True, 1.0), (False, 0.0), (0.3, 0.3), (None, None)])
def test_augmentations_are_probabilities_or_switches(value: Any, probability: float | None) -> None:
    config = read({"advanced": {"mosaic": value, "mixup": value, "fliplr": value}}).config
    assert (config.mosaic, config.mixup, config.fliplr) == (probability,) * 3


def test_the_primary_metric_is_passed_on() -> None:
    config = read({"primary_metric": "mAP50", "primary_metric_mode": "max"}).config
    assert (config.primary_metric, config.primary_metric_mode) == ("mAP50", "max")


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
    | {variable for _, variables, _ in NAMES for variable in variables}
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([key for _, _, names in NAMES for key in names] + ["basic", "advanced", "advanced_config"])
branches = st.sampled_from(list(TREE_DEFAULTS))
configs = st.dictionaries(keys, json_values | st.dictionaries(keys | branches, json_values, max_size=3), max_size=4)
values = st.text(st.characters(exclude_characters="\x00", exclude_categories=()), max_size=20) | st.just("\udcff")


@given(environ=st.dictionaries(st.sampled_from(VARIABLES), values), config=st.none() | configs)
def test_any_environment_is_a_specification_or_a_config_error(environ: dict[str, str], config: Any) -> None:
    given_config = {} if config is None else {"CONFIG": json.dumps(config)}
    with contextlib.suppress(ConfigError):
        spec = read_train_spec({**LEAST, **environ, **given_config})
        assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
