"""Requests of predict, export and evaluate jobs, as the mission and the platform write them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer_sdk.config.forms import EVALUATE, EXPORT, PREDICT
from trainer_sdk.errors import ConfigError
from trainer_sdk.jobspec import EvaluateSpec, ExportSpec, PredictSpec
from trainer_sdk.request.kinds import Kind, folder_of, job_id_of
from trainer_sdk.request.reading import read_evaluate_spec, read_export_spec, read_predict_spec, read_spec
from trainer_sdk.session import JobSession
from trainer_sdk.tasks import Task

BEST = "s3://training-checkpoints/checkpoints/7/best.pt"

MISSION: dict[Kind, dict[str, str]] = {  # contract 0
    "predict": {
        "CALLBACK_URL": "http://backend:8000",
        "JOB_ID": "123",
        "CHECKPOINT_PATH": BEST,
        "IMAGES_PATH": "s3://inference-data/inference/u/",
        "TASK_TYPE": "detection",
        "MODEL_NAME": "rtmdet-s",
    },
    "export": {
        "CALLBACK_URL": "http://backend:8000",
        "JOB_ID": "123",
        "CHECKPOINT_PATH": BEST,
        "EXPORT_FORMAT": "onnx",
        "EXPORT_CONFIG": '{"opset_version": 17, "input_shape": [1, 3, 640, 640]}',
    },
    "evaluate": {"JOB_ID": "123", "CHECKPOINT_PATH": BEST, "DATASET_ID": "ds_abc"},
}
PLATFORM: dict[Kind, dict[str, str]] = {  # contract 1.2-1.4, 3.2, 3.3
    "predict": {
        "CALLBACK_URL": "http://backend:8000/api/v1",
        "INFERENCE_JOB_ID": "123",
        "TRAINING_JOB_ID": "7",
        "CHECKPOINT_S3_URI": BEST,
        "IMAGES_S3_URI": "s3://inference-data/inference/u/",
        "CONFIG": json.dumps(
            {
                "task_type": "object_detection", "model_name": "rtmdet_s", "conf": 0.25, "iou": 0.45, "max_det": 100,
                "imgsz": 640, "device": "cpu", "save_txt": True, "save_conf": True, "save_crop": False,
            }
        ),
    },
    "export": {
        "CALLBACK_URL": "http://backend:8000/api/v1",
        "EXPORT_JOB_ID": "123",
        "TRAINING_JOB_ID": "7",
        "CHECKPOINT_S3_URI": BEST,
        "EXPORT_FORMAT": "onnx",
        "CONFIG": json.dumps(
            {
                "opset_version": None, "dynamic_axes": None, "embed_preprocessing": False, "simplify": True,
                "workspace_size_gb": None, "fp16": None, "int8": None, "minimum_deployment_target": None,
                "quantization_type": None, "calibration_dataset_size": 100, "pruning_amount": None,
                "validate_outputs": True, "tolerance": 1e-3, "num_samples": 10, "task_type": "object_detection",
            }
        ),
    },
    "evaluate": {
        "CALLBACK_URL": "http://backend:8000/api/v1",
        "TEST_RUN_ID": "123",
        "TRAINING_JOB_ID": "7",
        "CHECKPOINT_S3_URI": BEST,
        "DATASET_S3_URI": "/data/ds_abc",
        "CONFIG": '{"task_type": "detection", "dataset_split": "test", "batch_size": 16, "device": "cpu"}',
    },
}  # fmt: skip
KINDS: tuple[Kind, ...] = ("predict", "export", "evaluate")


def problem(kind: Kind, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        read_spec(kind, environ)
    return caught.value.message


def asking(kind: Kind, config: Any = None, **change: str) -> dict[str, str]:
    said = {} if config is None else {"CONFIG": config if isinstance(config, str) else json.dumps(config)}
    return {**MISSION[kind], **said, **change}


@pytest.mark.parametrize("kind", KINDS)
def test_both_dialects_ask_for_the_same(kind: Kind) -> None:
    mission, platform = read_spec(kind, MISSION[kind]), read_spec(kind, PLATFORM[kind])
    assert mission.job_id == platform.job_id == "123"
    assert mission.checkpoint_path == platform.checkpoint_path == BEST
    assert platform.task is Task.DETECTION
    assert mission.notes == platform.notes == ()
    assert type(platform).model_validate_json(platform.model_dump_json()) == platform


def test_a_predict_request() -> None:
    spec = read_predict_spec(PLATFORM["predict"])
    assert (spec.images, spec.training_job_id) == (("s3://inference-data/inference/u/",), "7")
    assert spec.model_name == "rtmdet_s"
    assert (spec.config.conf, spec.config.iou, spec.config.imgsz) == (0.25, 0.45, (640, 640))
    assert (spec.config.save_txt, spec.config.save_crop) == (True, False)
    plain = read_predict_spec(MISSION["predict"]).config
    assert (plain.conf, plain.iou, plain.imgsz, plain.device) == (0.25, None, None, None)


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"IMAGES_PATH": "/data/images"}, ("/data/images",)),
        ({"IMAGE_PATHS": '["a.jpg", "s3://inference-data/x/b.png"]'}, ("a.jpg", "s3://inference-data/x/b.png")),
        ({"IMAGE_PATHS": "s3://inference-data/x/"}, ("s3://inference-data/x/",)),
        ({"IMAGES_S3_URI": "", "CONFIG": '{"image_paths_s3": "s3://b/x/"}'}, ("s3://b/x/",)),
        ({"IMAGES_S3_URI": "s3://b/x/", "CONFIG": '{"image_paths_s3": "s3://b/x/"}'}, ("s3://b/x/",)),
    ],
)
def test_where_images_may_be_named(given: dict[str, str], paths: tuple[str, ...]) -> None:
    environ = {name: value for name, value in MISSION["predict"].items() if name != "IMAGES_PATH"}
    assert read_predict_spec(environ | given).images == paths


def test_an_export_request() -> None:
    spec = read_export_spec(MISSION["export"])
    assert (spec.format, spec.dataset) == ("onnx", None)
    assert (spec.config.opset_version, spec.config.input_shape) == (17, (1, 3, 640, 640))
    assert spec.config.number_format == "fp32"
    asked = asking("export", {"dynamic_axes": {"input": [0, 2, 3]}, "quantization_type": "int8"}, DATASET_ID="ds")
    other = read_export_spec(asked)
    assert (other.config.dynamic_batch, other.config.dynamic_size, other.config.number_format) == (True, True, "int8")
    assert other.dataset is not None and other.dataset.prefix == "datasets/ds/"


@pytest.mark.parametrize(("split", "read"), [("test", "test"), ("validation", "val"), ("all", "all"), (None, None)])
def test_an_evaluate_request(split: str | None, read: str | None) -> None:
    spec = read_evaluate_spec(asking("evaluate", {"dataset_split": split, "batch_size": 16}))
    assert (spec.config.split, spec.config.batch) == (read, 16)
    assert read_evaluate_spec(PLATFORM["evaluate"]).dataset.path == "/data/ds_abc"


def test_the_published_weights_need_a_model() -> None:
    assert read_predict_spec(asking("predict", CHECKPOINT_PATH="pretrained")).checkpoint_path is None
    assert "needs a MODEL_NAME" in problem("predict", asking("predict", CHECKPOINT_PATH="pretrained", MODEL_NAME=""))
    named = {"task_type": "detection", "model_name": "rtmdet-s"}
    assert read_predict_spec(asking("predict", named, CHECKPOINT_PATH="pretrained", MODEL_NAME="")).model_name


@pytest.mark.parametrize(
    ("kind", "config", "change", "said"),
    [
        ("predict", {}, {"JOB_ID": ""}, "INFERENCE_JOB_ID or JOB_ID is missing"),
        ("predict", {}, {"INFERENCE_JOB_ID": "9"}, "INFERENCE_JOB_ID='9' and JOB_ID='123' contradict each other"),
        ("predict", {}, {"IMAGES_PATH": ""}, "no images"),
        ("predict", {}, {"IMAGES_PATH": "ftp://x/y"}, "IMAGES_PATH='ftp://x/y' is neither"),
        ("predict", {}, {"IMAGE_PATHS": "[1]"}, "IMAGE_PATHS='[1]' is neither a path nor a list"),
        ("predict", {}, {"CHECKPOINT_PATH": ""}, "no checkpoint"),
        ("predict", {"conf": 1.5}, {}, "CONFIG.conf=1.5"),
        ("predict", {"conf": True}, {}, "CONFIG.conf=True: true and false cannot stand here"),
        ("predict", {"confidence_threshold": 0.5, "conf": 0.4}, {}, "contradict each other"),
        ("predict", {"half": True}, {}, "CONFIG.half is not supported"),
        ("predict", {"epochs": 3}, {}, "CONFIG.epochs is unknown"),
        ("predict", {"task_type": "pose"}, {}, "TASK_TYPE='detection' and CONFIG.task_type='pose' contradict"),
        (
            "predict",
            {"model_name": "rtmdet_m"},
            {},
            "MODEL_NAME='rtmdet-s' and CONFIG.model_name='rtmdet_m' contradict",
        ),
        ("predict", {"task_type": 3}, {}, "CONFIG.task_type=3 is no text"),
        ("predict", {"tiles": 16}, {}, "CONFIG.tiles=16"),
        ("export", {}, {"EXPORT_FORMAT": ""}, "EXPORT_FORMAT is missing"),
        ("export", {}, {"EXPORT_FORMAT": "coreml"}, "EXPORT_FORMAT='coreml' is not written: it needs Apple's tools"),
        ("export", {}, {"EXPORT_FORMAT": "tflite"}, "EXPORT_FORMAT='tflite' is not written"),
        ("export", {}, {"EXPORT_FORMAT": "onxx"}, "did you mean 'onnx'?"),
        ("export", {"opset_version": 13}, {}, "EXPORT_CONFIG.opset_version=17 and CONFIG.opset_version=13 contradict"),
        ("export", {"validate_outputs": False}, {}, "an export without proof does not exist"),
        ("export", {"pruning_amount": 0.3}, {}, "CONFIG.pruning_amount is not supported"),
        ("export", {"minimum_deployment_target": "iOS16"}, {}, "CONFIG.minimum_deployment_target is not supported"),
        ("export", {"dynamic_axes": True}, {}, "CONFIG.dynamic_axes=True"),
        ("export", {"dynamic_axes": {"input": [1]}}, {}, "axis 1, the channels, cannot vary"),
        ("export", {"imgsz": 320}, {}, "input_shape and imgsz contradict each other"),
        ("export", {}, {"TRAINING_JOB_ID": "../7"}, "TRAINING_JOB_ID='../7'"),
        ("evaluate", {"dataset_split": "holdout"}, {}, "CONFIG.dataset_split='holdout'"),
        ("evaluate", {}, {"DATASET_ID": ""}, "no data set"),
        ("evaluate", [], {}, "CONFIG must be a JSON object, found list"),
    ],
)
def test_what_is_refused_and_how(kind: Kind, config: Any, change: dict[str, str], said: str) -> None:
    assert said in problem(kind, asking(kind, config, **change))


def test_every_problem_is_said_at_once() -> None:
    message = problem(
        "export",
        asking("export", {"fp16": "so", "nmss": 1}, EXPORT_FORMAT="x", CHECKPOINT_PATH="", JOB_ID="", TASK_TYPE="poze"),
    )
    for said in ("6 problems", "CONFIG.fp16='so'", "CONFIG.nmss is unknown", "EXPORT_FORMAT='x'", "no checkpoint"):
        assert said in message, said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [PREDICT, EXPORT, EVALUATE])
def test_forms_and_models_agree(kind: Kind, form: Any) -> None:
    assert set(form.also) <= set(form.model.model_fields)
    assert set(form.structured) <= set(form.model.model_fields)
    keys = [key for _, _, keys in form.names for key in keys]
    assert len(keys) == len(set(keys))
    assert not set(keys) & (set(form.refused) | set(form.lifted))
    assert all(field.description for field in form.model.model_fields.values())


def test_ids_and_folders() -> None:
    assert job_id_of({"EXPORT_JOB_ID": "5", "JOB_ID": "6"}, "export") == "5"
    assert job_id_of({"JOB_ID": "6"}, "export") == "6"
    assert job_id_of({"TEST_RUN_ID": "../6"}, "evaluate") is None
    assert {folder_of(kind, "5") for kind in ("train", *KINDS)} == {"5", "predict-5", "export-5", "evaluate-5"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=()), max_size=20) | st.just("\udcff")


@pytest.mark.parametrize(("kind", "form"), [("predict", PREDICT), ("export", EXPORT), ("evaluate", EVALUATE)])
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_environment_is_a_specification_or_a_config_error(kind: Kind, form: Any, data: st.DataObject) -> None:
    keys = [key for _, _, names in form.names for key in names] + [*form.lifted, *form.refused, "basic", "advanced"]
    config = data.draw(st.dictionaries(st.sampled_from(keys), json_values, max_size=5))
    names = sorted({*MISSION[kind], *PLATFORM[kind], "IMAGE_PATHS", "DATASET_PATH", "TASK_TYPE", "MODEL_NAME"})
    environ = data.draw(st.dictionaries(st.sampled_from(names), texts, max_size=2))
    with contextlib.suppress(ConfigError):
        spec = read_spec(kind, {**MISSION[kind], "CONFIG": json.dumps(config), **environ})
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("kind", "spec"), [("predict", PredictSpec), ("export", ExportSpec), ("evaluate", EvaluateSpec)]
)
def test_a_session_has_the_spec_of_its_kind(kind: Kind, spec: type) -> None:
    assert isinstance(JobSession.from_env(PLATFORM[kind], kind=kind).spec, spec)
