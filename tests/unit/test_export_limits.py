"""What a request says about choosing objects reaches a model that chooses itself, and the reader of every file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain.exporters.limits import in_the_model, refuse_what_has_no_meaning, told
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError

ASKED: dict[str, Any] = {"conf": 0.3, "iou": 0.5, "max_det": 7}
RULES = {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.65}, "max_per_img": 300}
WANTED = {"score_thr": 0.3, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 7}


def one_stage() -> Any:
    return SimpleNamespace(test_cfg=RULES, bbox_head=SimpleNamespace(test_cfg=RULES))


def test_one_stage_models_follow_only_where_they_choose_in_the_graph() -> None:
    model = one_stage()
    with in_the_model(model, ExportConfig(nms=True, **ASKED)):
        assert model.test_cfg == model.bbox_head.test_cfg == WANTED
    assert model.test_cfg == model.bbox_head.test_cfg == RULES
    with in_the_model(model, ExportConfig(**ASKED)):
        assert model.bbox_head.test_cfg == RULES


def test_two_stage_models_always_follow() -> None:
    model: Any = SimpleNamespace(roi_head=SimpleNamespace(test_cfg=RULES))
    with in_the_model(model, ExportConfig(**ASKED)):
        assert model.roi_head.test_cfg == WANTED
    with in_the_model(model, ExportConfig()):
        assert model.roi_head.test_cfg == RULES


def test_poses_of_the_whole_picture_follow() -> None:
    model = type("BottomupPoseEstimator", (), {"test_cfg": {"score_thr": 0.01, "nms_thr": 0.65}})()
    with in_the_model(model, ExportConfig(**ASKED)):
        assert model.test_cfg == {"score_thr": 0.3, "nms_thr": 0.5}


@pytest.mark.parametrize(
    ("kind", "asked", "refused"),
    [
        ("semantic", ASKED, ["conf", "iou", "max_det"]),
        ("semantic", {"nms": True}, ["nms"]),
        ("tops", ASKED | {"nms": True}, ["iou", "nms"]),
        ("simcc", {"max_det": 3}, ["max_det"]),
        ("dense", ASKED | {"nms": True}, []),
        ("detections", ASKED | {"nms": True}, []),
        ("semantic", {}, []),
    ],
)
def test_limits_that_a_model_does_not_have_are_refused_by_name(
    kind: str, asked: dict[str, Any], refused: list[str]
) -> None:
    if not refused:
        refuse_what_has_no_meaning(ExportConfig(**asked), kind)
        return
    with pytest.raises(ConfigError) as caught:
        refuse_what_has_no_meaning(ExportConfig(**asked), kind)
    for name in refused:
        assert f"{name}: this model has no such choice" in str(caught.value)


def test_the_reader_is_told() -> None:
    assert told(ExportConfig()) == {}
    assert told(ExportConfig(conf=0.3, max_det=7)) == {"score_threshold": 0.3, "least_score": 0.3, "max_detections": 7}
