"""One metric under three names, as a fraction."""

from __future__ import annotations

import pytest

from mmtrain.metrics import mm_metric_names, per_class_ap, report_metrics, report_name, ui_metrics
from trainer_sdk.tasks import Task


def test_points_become_fractions_and_minus_one_nothing() -> None:
    assert report_metrics({"mIoU": 81.25, "aAcc": 99.0, "mAcc": None, "data_time": 0.1}) == {
        "mIoU": 0.8125,
        "aAcc": 0.99,
        "mAcc": None,
    }
    assert report_metrics({"coco/bbox_mAP": -1.0}) == {"mAP@0.5:0.95": None}


def test_the_ui_has_names_of_its_own_for_boxes() -> None:
    assert ui_metrics({"coco/bbox_mAP_50": 0.5}) == {"mAP@0.5": 0.5, "mAP50(B)": 0.5}
    assert ui_metrics({"mIoU": 50.0}) == {"mIoU": 0.5}


@pytest.mark.parametrize("task", [Task.DETECTION, Task.INSTANCE, Task.SEMANTIC])
def test_whatever_is_measured_has_a_name_in_the_report(task: Task) -> None:
    assert all(report_name(name) for name in mm_metric_names(task))


def test_classes_without_a_number_of_their_own_are_left_out() -> None:
    assert per_class_ap({"coco/a_precision": 0.25, "coco/b_precision": -1.0}, ("a", "b")) == {
        "a": {"ap_50_95": 0.25},
        "b": {"ap_50_95": None},
    }
    assert per_class_ap({"mIoU": 50.0}, ("a", "b")) == {}
