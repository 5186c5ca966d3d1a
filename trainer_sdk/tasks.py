"""The tasks, under the one name that the platform's UI can draw, and every other name they are known by."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """Canonical task names (platform contract, section 3.4)."""

    DETECTION = "object_detection"
    INSTANCE = "instance_segmentation"
    SEMANTIC = "semantic_segmentation"
    POSE = "pose_estimation"
    CLASSIFICATION = "image_classification"


TASK_ALIASES: dict[str, Task] = {
    "detection": Task.DETECTION,
    "segmentation": Task.INSTANCE,
    "pose": Task.POSE,
    "classification": Task.CLASSIFICATION,
    **{task.value: task for task in Task},
}
