"""A request of somebody who means harm: bounded, of one meaning, and unable to speak in our name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.request_forms import LEAST, problem, read
from trainer_sdk.config.text import MAX_CHARACTERS, MAX_DEPTH, deeper_than
from trainer_sdk.errors import LONGEST_PROBLEM, MOST_PROBLEMS, ConfigError, DatasetError
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.request.reading import read_spec
from trainer_sdk.settings import settings_problems
from trainer_sdk.texts.printable import printable


def nested(depth: int, inmost: str = "1") -> str:
    """JSON of so many objects in each other."""
    return '{"a": ' * depth + inmost + "}" * depth


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (nested(MAX_DEPTH + 1), "levels deep"),
        (nested(1000), "levels deep"),
        (nested(100_000), "depth limit"),
        ('{"advanced": {"optimizer": ' + nested(900) + "}}", "levels deep"),
        ('{"split_config": ' + "[" * 900 + "]" * 900 + "}", "levels deep"),
        (json.dumps({"split_config": "[" * 900 + "]" * 900}), "split_config"),
        (json.dumps({"x": "y" * MAX_CHARACTERS}), "1,048,576 at most"),
        ('{"epochs": 1, "epochs": 300}', "'epochs' more than once"),
        ('{"basic": {"batch": 1, "batch": 64}}', "'batch' more than once"),
        ('{"epochs": ' + "9" * 5000 + "}", "CONFIG is not JSON"),
        ('{"epochs": ' + "9" * 300 + "}", "epochs"),
        ('{"lr0": 1e400}', "CONFIG is not JSON"),
        ('{"lr0": -0.0}', "lr0"),
    ],
)
def test_config_is_bounded_and_says_each_thing_once(config: str, said: str) -> None:
    message = problem(config)
    assert said in message
    assert len(message) < LONGEST_PROBLEM + 200


def test_a_variable_as_deep_as_that_is_a_text() -> None:
    assert "IMGSZ" in problem(IMGSZ="[" * 900 + "]" * 900)


def test_problems_are_lines_however_many_and_whatever_they_quote() -> None:
    message = problem({f"k{n}\n  - all is well\x1b[2J": 1 for n in range(500)})
    lines = message.splitlines()
    assert len(lines) == MOST_PROBLEMS + 2
    assert lines[-1] == "  - and 400 more"
    assert message.isascii()
    assert "\x1b" not in message
    assert r"\n  - all is well\x1b[2J" in lines[1]


def test_a_snapshot_is_no_way_to_another_folder() -> None:
    for name in ("../../etc", "a/b", ".hidden", "a\nb", "x" * 200):
        assert "SNAPSHOT_ID" in problem(SNAPSHOT_ID=name)
    assert read(SNAPSHOT_ID="snap_0123456789ab").dataset.snapshot_id == "snap_0123456789ab"


def test_a_signed_address_is_used_and_not_written_down() -> None:
    spec = read(CHECKPOINT_PATH="https://store/best.pt?X-Amz-Signature=abcdef")
    assert spec.checkpoint_path == "https://store/best.pt?X-Amz-Signature=abcdef"
    assert "abcdef" not in spec.model_dump_json()
    assert TrainSpec.model_validate_json(spec.model_dump_json()).model_dump() == spec.model_dump()


def test_the_limit_of_pixels_is_a_number() -> None:
    for text in ("many", "0", "-1", "1e9", "٣"):
        assert "OPENCV_IO_MAX_IMAGE_PIXELS" in settings_problems({"OPENCV_IO_MAX_IMAGE_PIXELS": text})[0]
    assert settings_problems({"OPENCV_IO_MAX_IMAGE_PIXELS": "400000000"}) == []


def test_an_error_keeps_its_lines_and_no_commands() -> None:
    error = DatasetError("first\nsecond \x1b]0;title\x07 \u202egnp.exe \udcff", hint="\x9b31m")
    assert error.message == r"first" + "\n" + r"second \x1b]0;title\x07 \u202egnp.exe \udcff"
    assert error.hint == r"\x9b31m"


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printable_stays_and_nothing_else(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()


def outcome_of(act: Callable[[], str]) -> str:
    """What it returns, or what the only error it may raise says."""
    try:
        return act()
    except ConfigError as error:
        return error.message


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(
    ["basic", "advanced", "advanced_config", "optimizer", "scheduler", "augmentation", "validation", "epochs", "batch",
     "imgsz", "lr0", "device", "split_config", "class_weights", "keypoints", "freeze", "albumentations", "val_interval",
     "type", "early_stopping", "patience", "lr_milestones", "images", "input_shape", "task_type", "model"]
)  # fmt: skip
any_config = st.recursive(
    any_json, lambda inner: st.dictionaries(keys | st.text(max_size=4), inner, max_size=4), max_leaves=8
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_config, st.sampled_from(["train", "predict", "evaluate", "export"]))
def test_any_json_is_a_request_or_a_config_error(config: Any, kind: Any) -> None:
    ids = dict.fromkeys(("JOB_ID", "INFERENCE_JOB_ID", "EXPORT_JOB_ID", "TEST_RUN_ID"), "123")
    model = {"CHECKPOINT_PATH": "/best.pt", "IMAGES_PATH": "/images", "EXPORT_FORMAT": "onnx", "TASK_TYPE": "detection"}
    environ = {**LEAST, **ids, **(model if kind != "train" else {}), "CONFIG": json.dumps(config)}

    def read() -> str:
        assert read_spec(kind, environ).model_dump_json()
        return "read"

    told = outcome_of(read)
    assert printable(told, keep="\n") == told


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_text_is_a_request_or_a_config_error(text: str) -> None:
    told = outcome_of(lambda: read(text).model_dump_json())
    assert told.startswith(("{", "the request cannot be honoured"))


@given(any_json, st.integers(0, 12))
def test_depth_is_counted_as_people_count(value: Any, levels: int) -> None:
    def depth(found: Any) -> int:
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        return (1 + max(map(depth, inner), default=0)) if isinstance(found, dict | list) else 0

    assert deeper_than(value, levels) == (depth(value) > levels)
