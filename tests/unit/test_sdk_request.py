"""What was asked: two dialects of environment, one specification, every problem at once."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import TrainConfig, TrainSpec
from trainer_sdk.platform_tree import wishes
from trainer_sdk.request import NAMES, REFUSED, job_id_of, read_train_spec
from trainer_sdk.settings import Settings, callback_base
from trainer_sdk.tasks import Task

AUGMENTATIONS = (
    "mosaic", "mixup", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "random_crop",
    "copy_paste",
)  # fmt: skip
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
        ({"scheduler__type": "one_cycle"}, {"lr_scheduler": "onecycle"}),
        ({"scheduler__type": "step", "scheduler__step_size": 8}, {"lr_scheduler": "step", "lr_milestones": 8}),
        (
            {"scheduler__type": "multistep", "scheduler__milestones": [8, 11], "scheduler__gamma": 0.2},
            {"lr_scheduler": "multistep", "lr_milestones": [8, 11], "lr_gamma": 0.2},
        ),
        ({"scheduler__step_size": 8, "scheduler__gamma": 0.2}, {}),
        ({"scheduler__warmup_epochs": 3}, {"warmup_epochs": 3}),
        ({"augmentation__random_flip": False}, {"fliplr": 0}),
        ({"augmentation__random_flip_prob": 0.3}, {"fliplr": 0.3}),
        ({"augmentation__mixup": True}, {"mixup": 1}),
        ({"validation__val_interval": 2}, {"val_interval": 2}),
        ({"validation__early_stopping": True, "validation__early_stopping_patience": 4}, {"early_stopping": 4}),
        ({"validation__early_stopping": True}, {"early_stopping": 10}),
        ({"validation__early_stopping": False, "validation__early_stopping_patience": 4}, {}),
        (
            {"validation__save_best_metric": "mAP50", "validation__save_best_mode": "max"},
            {"primary_metric": "mAP50", "primary_metric_mode": "max"},
        ),
        ({"gradient_clip_value": 1.5}, {"grad_clip": 1.5}),
        ({"gradient_accumulation_steps": 4}, {"accumulate": 4}),
    ],
)
def test_a_changed_leaf_of_the_generic_tree_is_a_wish(leaf: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read({"advanced_config": tree(**leaf)}).config == TrainConfig(**expected)


def test_a_wish_that_cannot_be_granted_is_noted() -> None:
    (note,) = read({"advanced_config": tree(log_interval=5)}).notes
    assert note == "advanced_config.log_interval=5 has no effect in this trainer"


def test_what_belongs_to_a_switch_counts_with_it() -> None:
    branch = {"hue": 0.1, "saturation": 0.2, "brightness": 0.3, "rotation_degrees": 10, "crop_scale": [0.8, 1]}
    chosen, _ = wishes({"augmentation": branch})
    assert chosen == {}
    switched = {"color_jitter": True, "random_rotation": True, "random_crop": True}
    chosen, _ = wishes({"augmentation": branch | switched})
    values = {name: value for name, (_, value) in chosen.items()}
    assert values == {"hsv_h": 0.1, "hsv_s": 0.2, "hsv_v": 0.3, "degrees": 10, "random_crop": 1.0}
    off, _ = wishes({"augmentation": branch | switched | {"enabled": False}})
    assert {value for _, value in off.values()} == {0.0}
    assert {*AUGMENTATIONS} == {*off}


def test_a_switch_for_what_we_do_not_do_is_noted() -> None:
    notes = read({"advanced_config": tree(augmentation__cutmix=True, optimizer__nesterov=True)}).notes
    assert [note.partition("=")[0] for note in notes] == [
        "advanced_config.optimizer.nesterov", "advanced_config.augmentation.cutmix",
    ]  # fmt: skip


SAME: dict[str, list[dict[str, Any]]] = {
    "keep": [
        {"keep": 2}, {"checkpoint_keep_max": 2}, {"max_keep_ckpts": 2},
        {"advanced_config": tree(keep_n_checkpoints=2)},
    ],
    "clipping": [
        {"grad_clip": 35.0}, {"clip_grad": 35}, {"clip_grad": {"max_norm": 35, "norm_type": 2}},
        {"gradient_clip_value": 35}, {"advanced_config": tree(gradient_clip_value=35)},
    ],
    "accumulation": [
        {"accumulate": 2}, {"gradient_accumulation_steps": 2}, {"accumulative_counts": 2},
        {"advanced_config": tree(gradient_accumulation_steps=2)},
    ],
    "early stopping": [
        {"early_stopping": 4}, {"patience": 4}, {"early_stopping": True, "patience": 4}, {"early_stopping_patience": 4},
        {"advanced_config": tree(validation__early_stopping=True, validation__early_stopping_patience=4)},
    ],
    "no early stopping": [{}, {"early_stopping": False, "patience": 4}, {"early_stopping": False}],
    "last epochs": [{"weak_epochs": 3}, {"close_mosaic": 3}, {"close_mosaic_epochs": 3}],
    "frozen stages": [{"backbone_frozen_stages": 1}, {"frozen_stages": 1}],
    "size": [{"imgsz": [640, 320]}, {"img_scale": [640, 320]}, {"image_size": [640, 320]}, {"crop_size": [320, 640]}],
    "cosine": [
        {"lr_scheduler": "cosine"}, {"scheduler": "cosine"}, {"lr_scheduler": "CosineAnnealingLR"},
        {"advanced_config": tree(scheduler__type="cosine")},
    ],
    "one cycle": [
        {"lr_scheduler": "onecycle"}, {"lr_scheduler": "one_cycle"}, {"lr_scheduler": "OneCycleLR"},
        {"advanced_config": tree(scheduler__type="one_cycle")},
    ],
    "every eight epochs": [
        {"lr_scheduler": "step", "lr_milestones": 8}, {"lr_scheduler": "step", "milestones": [8]},
        {"advanced_config": tree(scheduler__type="step", scheduler__step_size=8)},
    ],
    "precision": [
        {"amp": True}, {"mixed_precision": True}, {"amp": "fp16"}, {"advanced_config": tree(mixed_precision=True)},
    ],
    "frozen by name": [{"freeze": "backbone"}, {"freeze": ["backbone"]}],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_every_spelling_and_every_level_says_the_same(name: str) -> None:
    first, *others = SAME[name]
    expected = read(first).config
    for flat in others:
        assert read(flat).config == expected, flat
        if "advanced_config" not in flat:
            assert read({"basic": flat, "advanced": {}}).config == expected
            assert read({"basic": {}, "advanced": flat}).config == expected


OF_THE_TREE: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "optimizer": ("optimizer__type", st.sampled_from(["SGD", "AdamW"])),
    "lr0": ("optimizer__learning_rate", st.floats(2e-3, 0.5)),
    "weight_decay": ("optimizer__weight_decay", st.floats(1e-5, 0.5)),
    "momentum": ("optimizer__momentum", st.floats(0, 0.8)),
    "lr_scheduler": ("scheduler__type", st.sampled_from(["step", "multistep", "cosine"])),
    "warmup_epochs": ("scheduler__warmup_epochs", st.integers(1, 20)),
    "fliplr": ("augmentation__random_flip_prob", st.floats(0.6, 1)),
    "imgsz": ("preprocessing__image_size", st.integers(10, 40).map(lambda cells: 32 * cells)),
    "val_interval": ("validation__val_interval", st.integers(2, 50)),
    "grad_clip": ("gradient_clip_value", st.floats(0.1, 50)),
    "accumulate": ("gradient_accumulation_steps", st.integers(2, 64)),
    "checkpoint_interval": ("checkpoint_interval", st.integers(1, 9)),
    "checkpoint_keep_max": ("keep_n_checkpoints", st.sampled_from([1, 2, 4, 5])),
    "amp": ("mixed_precision", st.just(True)),
}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(flat=st.fixed_dictionaries({}, optional={name: values for name, (_, values) in OF_THE_TREE.items()}))
def test_flat_nested_and_generic_forms_are_one_request(flat: dict[str, Any]) -> None:
    config = read(flat).config
    platforms = {OF_THE_TREE[name][0]: value for name, value in flat.items()}
    if "optimizer" in flat:
        platforms["optimizer__type"] = flat["optimizer"].lower()
    for other in (
        {"basic": flat},
        {"advanced": flat, "basic": {}},
        {"advanced_config": tree(**platforms)},
    ):
        again = read(other).config
        assert again == config
        assert again.model_fields_set == config.model_fields_set


def test_two_spellings_that_differ_are_named_both() -> None:
    message = problem({"keep": 2, "checkpoint_keep_max": 3})
    assert "CONFIG.keep=2" in message and "CONFIG.checkpoint_keep_max=3" in message


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_of_other_trainers_are_refused_with_what_to_do_instead(key: str) -> None:
    assert f"CONFIG.{key} is not supported: {REFUSED[key]}" in problem({key: "x"})
    assert read({key: None}).config == TrainConfig()


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


def test_a_tree_without_augmentation_says_nothing_of_what_is_not_there_anyway() -> None:
    assert read({"advanced_config": tree(augmentation__enabled=False)}).notes == ()


def test_the_trees_lists_may_be_text_too() -> None:
    asked = tree(scheduler__type="multistep", scheduler__milestones="[3, 5]")
    assert read({"advanced_config": asked}).config.lr_milestones == (3, 5)


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


# On a busy machine the drawing of texts is slow, which says nothing about what is tested.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(environ=st.dictionaries(st.sampled_from(VARIABLES), values), config=st.none() | configs)
def test_any_environment_is_a_specification_or_a_config_error(environ: dict[str, str], config: Any) -> None:
    given_config = {} if config is None else {"CONFIG": json.dumps(config)}
    with contextlib.suppress(ConfigError):
        spec = read_train_spec({**LEAST, **environ, **given_config})
        assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("name", ["CHECKPOINT_PATH", "CHECKPOINT_S3_URI"])
@pytest.mark.parametrize(
    "address", ["s3://b/checkpoints/1/best.pt", "https://host/best.pth?s=1", "/data/a@b/best.pth", "best.pt"]
)
def test_a_checkpoint_to_start_from(name: str, address: str) -> None:
    assert read(**{name: address}).checkpoint_path == address


def test_the_platforms_word_for_the_published_weights() -> None:
    assert read(CHECKPOINT_S3_URI="pretrained").checkpoint_path is None
    assert read(CHECKPOINT_PATH=" ").checkpoint_path is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"CHECKPOINT_PATH": "s3://bucket"}, "lacks a bucket or a key"),
        ({"CHECKPOINT_PATH": "ftp://host/best.pth"}, "is neither a file nor"),
        ({"CHECKPOINT_PATH": "a.pth", "CHECKPOINT_S3_URI": "b.pth"}, "'a.pth' and CHECKPOINT_S3_URI='b.pth' differ"),
        ({"CHECKPOINT_PATH": "https://u:s3cret@host/best.pth"}, "holds a user or a password"),
    ],
)
def test_an_address_that_is_none(given: dict[str, str], said: str) -> None:
    message = problem(**given)
    assert said in message
    assert "s3cret" not in message


def test_a_password_in_a_url_is_refused_without_being_repeated() -> None:
    names = ("CALLBACK_URL", "EXTERNAL_STORAGE_ENDPOINT", "INTERNAL_STORAGE_ENDPOINT")
    environ = {"JOB_ID": "1", "MODEL_NAME": "m", "DATASET_ID": "d"} | dict.fromkeys(names, "http://u:s3cret@host:1")
    with pytest.raises(ConfigError) as caught:
        read_train_spec(environ)
    assert all(name in caught.value.message for name in names) and "s3cret" not in caught.value.message
    assert Settings.from_env(environ).callback_url is None


def test_a_misspelt_leaf_of_the_generic_tree_is_told() -> None:
    tree = {"optimizr": {"type": "sgd"}, "optimizer": {"type": "adam", "momentm": 0.8}}
    spec = read(CONFIG=json.dumps({"advanced_config": tree}))
    assert list(spec.notes) == [
        "advanced_config.optimizr.type='sgd' is unknown and has no effect",
        "advanced_config.optimizer.momentm=0.8 is unknown and has no effect",
    ]
