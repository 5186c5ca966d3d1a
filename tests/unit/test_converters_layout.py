"""Names of annotation files and object keys of images."""

from __future__ import annotations

import pytest

from converters.layout import (
    annotation_file_names,
    file_name_problem,
    image_key_candidates,
)
from trainer_sdk.errors import ConfigError, DatasetError


@pytest.mark.parametrize("task", ["detection", "object_detection"])
def test_annotation_file_of_the_task_comes_before_the_old_one(task: str) -> None:
    assert annotation_file_names(task) == ("annotations_detection.json", "annotations.json")


def test_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        annotation_file_names("tracking")
    assert "object_detection" in caught.value.hint


@pytest.mark.parametrize("prefix", ["datasets/d", "datasets/d/"])
@pytest.mark.parametrize(
    "root", [None, "", "datasets/d/images", "datasets/d/images/", "s3://bucket/datasets/d/images/"]
)
def test_doubled_and_single_images_folder_are_both_candidates(prefix: str, root: str | None) -> None:
    assert image_key_candidates(prefix, root, "images/wood/000.png") == (
        "datasets/d/images/images/wood/000.png",
        "datasets/d/images/wood/000.png",
    )


def test_foreign_image_root_comes_first() -> None:
    assert image_key_candidates("datasets/d", "datasets/other", "a.png") == (
        "datasets/other/a.png",
        "datasets/d/a.png",
        "datasets/d/images/a.png",
    )


@pytest.mark.parametrize(
    "name",
    ["", " ", "/etc/passwd", "../a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:\\a.jpg", "\\a.jpg", "a\0.jpg", "a/.."],
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    assert file_name_problem(name)
    with pytest.raises(DatasetError):
        image_key_candidates("datasets/d", None, name)


@pytest.mark.parametrize("name", ["a.jpg", "a/b/c.png", "a..b.jpg", "...jpg", "fünf äpfel.png", "a\\b.jpg"])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert file_name_problem(name) == ""
