"""From DICE to COCO as a whole: ids, classes, negatives, findings, files."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from converters import Conversion, convert, read_dice, write_conversion
from converters.__main__ import main
from converters.coco import encode_coco
from converters.dice_to_coco import SHAPE_OF_TASK
from converters.findings import MAX_EXAMPLES, RULES
from trainer_sdk.errors import ConfigError, DatasetError

no_deadline = settings(deadline=None)  # a busy machine is no failure

BCCD = Path(__file__).parents[3] / "shared" / "data" / "training-datasets" / "datasets" / "ds_bccd"
"""The real data set lies beside a checkout, never in it; `make real` needs it too."""
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def image(number: int, split: str | None, *annotations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48, "split": split,
        "annotations": list(annotations), **fields,
    }  # fmt: skip


def box(class_id: int | None = 0, xywh: Any = (1, 2, 3, 4), **fields: Any) -> dict[str, Any]:
    return {"id": 1, "class_id": class_id, "bbox": xywh, **fields}


def document(*images: dict[str, Any], classes: list[tuple[int, str]] | None = None) -> dict[str, Any]:
    named = [(0, "cell")] if classes is None else classes
    return {"dataset_id": "ds", "classes": [{"id": i, "name": n} for i, n in named], "images": list(images)}


def converted(source: dict[str, Any], task: Any = "object_detection", **options: Any) -> Conversion:
    return convert(read_dice(json.dumps(source).encode()), task, **options)


def codes(conversion: Conversion) -> set[str]:
    """What was found, but for what is true of every tiny data set: ids that restart per image, few images."""
    return {finding.code for finding in conversion.findings} - {"DS018", "DS049"}


def sound(*extra: dict[str, Any], classes: list[tuple[int, str]] | None = None) -> dict[str, Any]:
    """A trainable data set, with a fault in ``extra``."""
    return document(image(101, "train", box()), image(102, "val", box()), *extra, classes=classes)


def test_ids_are_contiguous_and_start_where_pycocotools_needs_them() -> None:
    conversion = converted(
        document(
            image(7, "val", box(40, id=900), box(-3, id="x")),
            image(3, "train", box(-3, id=0)),
            image(5, "test"),
            classes=[(40, "b"), (-3, "a")],
        )
    )
    assert conversion.class_names == ("b", "a")
    assert [c.id for c in conversion.splits["test"].categories] == [0, 1]
    assert [i.id for name in ("val", "train", "test") for i in conversion.splits[name].images] == [1, 2, 3]
    assert [(a.id, a.category_id) for a in conversion.splits["val"].annotations] == [(1, 0), (2, 1)]
    assert conversion.id_map.annotations == [900, "x", 0]
    assert (conversion.id_map.images[2].id, conversion.id_map.images[2].split) == (3, "train")
    assert not conversion.blocking


@no_deadline
@given(st.lists(st.integers(), min_size=1, max_size=8, unique=True), st.data())
def test_any_integer_category_ids_round_trip(ids: list[int], data: st.DataObject) -> None:
    used = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=12))
    classes = [(class_id, f"class {class_id}") for class_id in ids]
    boxes = [box(class_id, (n, 2, 3, 4), id=n) for n, class_id in enumerate(used)]
    conversion = converted(document(image(1, "train", *boxes), image(2, "val", box(ids[0])), classes=classes))
    assert conversion.class_names == tuple(name for _, name in classes)
    annotations = conversion.splits["train"].annotations
    assert [conversion.id_map.classes[a.category_id].id for a in annotations] == used
    assert [conversion.id_map.annotations[a.id - 1] for a in annotations] == list(range(len(used)))


@no_deadline
@given(st.lists(st.lists(st.floats(-100, 200), min_size=4, max_size=4), max_size=20))
def test_boxes_lie_inside_their_image(boxes: list[list[float]]) -> None:
    conversion = converted(sound(image(1, "train", *(box(0, xywh) for xywh in boxes))))
    for annotation in conversion.splits["train"].annotations:
        x, y, w, h = annotation.bbox
        assert x >= -1e-6 and y >= -1e-6 and x + w <= 64 + 1e-6 and y + h <= 48 + 1e-6
        assert w > 0 and h > 0 and annotation.area > 0
    kept = len(conversion.splits["train"].annotations) - 1
    dropped = sum(f.count for f in conversion.findings if f.code in {"DS019", "DS021", "DS022", "DS023"})
    assert kept + dropped == len(boxes)


@no_deadline
@given(st.integers(2, 40), st.integers())
def test_splits_are_a_partition_of_the_images(count: int, seed: int) -> None:
    source = document(*(image(n, None, box()) for n in range(count)))
    conversion = converted(source, config_split={"ratio": [0.6, 0.2, 0.2], "seed": seed})
    names = [i.file_name for split in conversion.splits.values() for i in split.images]
    assert sorted(names) == sorted(f"{n}.jpg" for n in range(count))
    again = converted(source, config_split={"ratio": [0.6, 0.2, 0.2], "seed": seed})
    assert [list(one.annotations) for one in again.splits.values()] == [
        list(one.annotations) for one in conversion.splits.values()
    ]


def test_background_is_no_class_and_its_images_stay() -> None:
    marks: list[dict[str, Any]] = [
        {"id": 1, "class_id": 5},
        {"id": 2, "class_id": 0, "class_name": "__background__"},
        {"id": 3, "class_id": 5, "class_name": "__background__"},
    ]
    conversion = converted(
        sound(*(image(n, "train", mark) for n, mark in enumerate(marks)), classes=[(5, "__background__"), (0, "cell")])
    )
    assert conversion.class_names == ("cell",)
    assert len(conversion.splits["train"].images) == 4
    assert len(conversion.splits["train"].annotations) == 1
    assert codes(conversion) == {"DS015"}


def test_background_is_case_sensitive_and_does_not_hide_annotations() -> None:
    conversion = converted(
        sound(image(1, "train", box(), {"class_name": "__background__"}), classes=[(0, "cell"), (1, "__Background__")])
    )
    assert conversion.class_names == ("cell", "__Background__")
    assert codes(conversion) == {"DS014", "DS040"}
    assert len(conversion.splits["train"].annotations) == 2


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (document(), "DS001"),
        (document(image(1, "train"), image(2, "val", box())), "DS002"),
        (document(image(1, "train", box(0, [0.1, 0.1, 0.5, 0.5])), image(2, "val")), "DS002"),
        (sound(classes=[]), "DS003"),
        (sound(classes=[(0, "__background__")]), "DS003"),
        (sound(classes=[(0, "cell"), (1, "cell")]), "DS004"),
        (sound(classes=[(0, "cell"), (0, "wall")]), "DS005"),
        (sound(image(1, "train", box(9))), "DS006"),
        (sound(image(1, "train", box(None))), "DS006"),
        (sound(image(1, "train", box(None, class_name="wall"))), "DS006"),
        (sound(image(1, "train", box(0, class_name="wall"))), "DS007"),
        (sound(image(1, "train", box(5, class_name="cell")), classes=[(0, "cell"), (5, "__background__")]), "DS007"),
        (sound(image(101, "train", file_name="x.jpg")), "DS008"),
        (sound(image(1, "train", file_name="./101.jpg")), "DS009"),
        (sound(image(1, "train", width=None)), "DS011"),
        (sound(image(1, "train", height=0)), "DS011"),
        (sound(image(1, "train", file_name="../1.jpg")), "DS012"),
        (sound(image(1, "train", file_name=None)), "DS012"),
        (sound(image(1, "train", box(bbox_format="yolo"))), "DS028"),
        (document(image(1, "train", box())), "DS031"),
    ],
)
def test_blocking_findings(source: dict[str, Any], code: str) -> None:
    conversion = converted(source)
    assert code in {finding.code for finding in conversion.blocking}
    with pytest.raises(DatasetError, match=code):
        conversion.raise_if_blocked()


def test_every_blocking_finding_is_told_with_its_remedy() -> None:
    conversion = converted(sound(image(101, "train", box(9), box(9), box(8, class_name="wall"), width=0)))
    with pytest.raises(DatasetError) as caught:
        conversion.raise_if_blocked()
    for said in (
        "4 problems",
        "DS006",
        "DS008",
        "DS009",
        "DS011",
        "class_id 9, class_name None, 2 times",
        "'wall'",
        "Declare",
    ):
        assert said in caught.value.message


def test_class_by_name_where_no_id_is_given() -> None:
    conversion = converted(sound(image(1, "train", box(None, class_name="wall")), classes=[(0, "cell"), (1, "wall")]))
    assert [a.category_id for a in conversion.splits["train"].annotations] == [0, 1]


def test_classes_missing_somewhere_are_warned_of() -> None:
    classes = [(0, "cell"), (1, "never"), (2, "only val"), (3, "only train")]
    conversion = converted(sound(image(1, "val", box(2)), image(2, "train", box(3)), classes=classes))
    warned = {finding.code: finding.examples for finding in conversion.findings if finding.code in codes(conversion)}
    assert warned == {"DS040": ("never",), "DS041": ("only val",), "DS042": ("only train",)}
    assert not conversion.blocking


def test_examples_name_file_annotation_and_box_and_stop_at_five() -> None:
    conversion = converted(sound(image(1, "train", *(box(0, [5, 5, 0, 0], id=n) for n in range(9)))))
    (finding,) = (finding for finding in conversion.findings if finding.code in codes(conversion))
    assert (finding.code, finding.count, len(finding.examples)) == ("DS021", 9, MAX_EXAMPLES)
    assert finding.examples[0] == "1.jpg: annotation 0, box [5, 5, 0, 0]"


def found(conversion: Conversion, code: str) -> tuple[int, tuple[str, ...]]:
    (finding,) = (finding for finding in conversion.findings if finding.code == code)
    return finding.count, finding.examples


def test_class_names_that_differ_by_case_or_spaces_are_warned_of() -> None:
    conversion = converted(sound(classes=[(0, "cell"), (1, " Cell"), (2, "wall")]))
    assert found(conversion, "DS017") == (1, ("' Cell', 'cell'",))
    assert not conversion.blocking


def test_a_box_drawn_from_its_lower_right_corner_is_the_same_box() -> None:
    conversion = converted(sound(image(1, "train", box(0, [30, 20, -10, -5]))))
    assert conversion.splits["train"].annotations[1].bbox == (20, 15, 10, 5)
    assert found(conversion, "DS029")[0] == 1


@pytest.mark.parametrize(
    ("bow_tie", "warned"),
    [([10, 10, 30, 30, 30, 10, 10, 20], {"DS046"}), ([10, 10, 30, 30, 30, 10, 10, 30], {"DS025", "DS026"})],
    ids=["with an area", "whose halves cancel out"],
)
def test_a_polygon_that_crosses_itself_is_kept_unless_it_has_no_area(bow_tie: list[int], warned: set[str]) -> None:
    sides = [box(0, None, segmentation=[SQUARE])]
    source = document(image(1, "train", *sides, box(0, None, segmentation=[bow_tie])), image(2, "val", *sides))
    conversion = converted(source, "instance_segmentation")
    assert codes(conversion) - {"DS024"} == warned
    kept = [annotation.segmentation for annotation in conversion.splits["train"].annotations]
    assert kept == ([[SQUARE], [bow_tie]] if "DS046" in warned else [[SQUARE]])


@pytest.mark.parametrize(("objects", "warned"), [(99, False), (100, False), (101, True)])
def test_a_class_with_under_a_hundredth_of_the_largest_is_warned_of(objects: int, warned: bool) -> None:
    many = [box(0, [1, 1, 3 + 0.1 * number, 4], id=number) for number in range(1, objects)]
    images = image(1, "train", *many, box(1)), image(2, "val", box(0))
    source = document(*images, classes=[(0, "cell"), (1, "rare")])
    counted = {finding.code: finding.examples for finding in converted(source).findings}
    assert counted.get("DS048") == ((f"rare: 1 of {objects}",) if warned else None)


def test_detection_takes_the_box_of_the_mask_when_the_box_is_missing() -> None:
    conversion = converted(sound(image(1, "train", box(0, None, segmentation=[SQUARE], area=80))))
    annotation = conversion.splits["train"].annotations[1]
    assert (annotation.bbox, annotation.area, annotation.segmentation) == ((10, 10, 10, 10), 80, None)
    assert codes(conversion) == {"DS024"}


def test_instance_segmentation_keeps_parts_rle_and_crowds() -> None:
    rle = {"size": [48, 64], "counts": [48, 96, 2928]}
    objects = [
        box(0, [10, 10, 40, 20], segmentation=[SQUARE, [30, 10, 40, 10, 40, 20], [1, 1, 2, 2]], area=1e9),
        box(0, None, segmentation=rle, iscrowd=1),
        box(0, None, segmentation=[[-10, 0, 20, 0, 20, 20, -10, 20]]),
        box(0),
    ]
    conversion = converted(
        document(image(1, "train", *objects), image(2, "val", *objects[:2])), "instance_segmentation"
    )
    parts, crowd, outside = conversion.splits["train"].annotations
    assert parts.segmentation == [SQUARE, [30, 10, 40, 10, 40, 20]] and parts.area == 150
    assert (crowd.segmentation, crowd.bbox, crowd.iscrowd, crowd.area) == (rle, (1, 0, 2, 48), 1, 96)
    assert outside.bbox == (0, 0, 20, 20)
    assert codes(conversion) == {"DS024", "DS025", "DS026", "DS047"}


def test_instance_segmentation_without_any_mask_is_blocked_once() -> None:
    conversion = converted(sound(), "instance_segmentation")
    assert {finding.code for finding in conversion.blocking} == {"DS027"}


def test_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="classification"):
        converted(sound(), "image_classification")


def test_nan_box_is_dropped_with_a_finding() -> None:
    source = json.dumps(sound(image(1, "train", box(0, [float("nan"), 1, 2, 3])))).encode()
    conversion = convert(read_dice(source), "object_detection")
    assert codes(conversion) == {"DS023"} and not conversion.blocking


def test_files_are_written_whole_and_read_by_pycocotools(tmp_path: Path) -> None:
    masks = [box(0, segmentation=[SQUARE]), box(0, None, segmentation={"size": [48, 64], "counts": [48, 96, 2928]})]
    conversion = converted(document(image(1, "train", *masks), image(2, "val", *masks)), "instance_segmentation")
    write_conversion(conversion, tmp_path / "coco")
    written = {path.name for path in (tmp_path / "coco").iterdir()}
    assert written == {"train.json", "val.json", "test.json", "id_map.json"}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "coco" / "train.json")
    assert [int(coco.annToMask(coco.anns[i]).sum()) for i in (1, 2)] == [100, 96]
    assert json.loads(b"".join(encode_coco(conversion.splits["val"])))["annotations"][0]["segmentation"] == [SQUARE]
    id_map = json.loads((tmp_path / "coco" / "id_map.json").read_bytes())
    assert id_map["classes"] == {"0": {"id": 0, "name": "cell"}}
    assert id_map["images"]["2"] == {"id": 2, "file_name": "2.jpg", "split": "val"}


def test_every_rule_tells_its_severity_and_a_remedy() -> None:
    for rule in RULES.values():
        assert rule.severity in {"blocks", "repaired", "warns", "info"} and rule.title and rule.hint


def test_command_converts_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "annotations.json").write_text(json.dumps(sound()))
    assert main([str(tmp_path), str(tmp_path / "out")]) == 0
    assert "1 train, 1 val, 0 test" in capsys.readouterr().out
    assert main([str(tmp_path / "annotations.json"), str(tmp_path / "out"), "--split", "0.5,0.5", "--seed", "1"]) == 0
    assert "automatic 0.5:0.5, seed 1, from the command line" in capsys.readouterr().out


@pytest.mark.parametrize("source", [{"classes": [], "images": []}, {"odd": 1}, None])
def test_command_refuses_bad_data_with_exit_code_3(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if source is not None:
        (tmp_path / "annotations_detection.json").write_text(json.dumps(source))
    assert main([str(tmp_path), str(tmp_path / "out")]) == 3
    assert "[DatasetError]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "cell", "__background__", "xywh"]),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
    max_leaves=12,
)
ODD_FIELDS = st.dictionaries(
    st.sampled_from(["id", "class_id", "class_name", "bbox", "segmentation", "area", "iscrowd"]), ANYTHING
)


@no_deadline
@given(st.lists(ODD_FIELDS, max_size=4), st.sampled_from(list(SHAPE_OF_TASK)))
def test_odd_annotations_give_findings_or_a_named_error(odd: list[dict[str, Any]], task: str) -> None:
    try:
        conversion = converted(sound(image(1, "train", *(box() | fields for fields in odd))), task)
    except DatasetError:
        return  # a field of a type that nothing can be made of
    for split in conversion.splits.values():
        assert len(json.loads(b"".join(encode_coco(split)))["annotations"]) == len(split.annotations)


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD data set is not on this machine")
def test_real_data_set() -> None:
    conversion = convert(read_dice((BCCD / "annotations_detection.json").read_bytes()), "object_detection")
    assert {name: len(split.images) for name, split in conversion.splits.items()} == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    assert sum(len(split.annotations) for split in conversion.splits.values()) == 4886
    assert conversion.class_names == ("RBC", "WBC", "Platelets")
    assert [(finding.code, finding.count) for finding in conversion.findings] == [("DS021", 2)]


def test_a_conversion_never_overwrites_files_of_another_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "annotations.json"
    source.write_text(json.dumps(sound()))
    mine = tmp_path / "train.json"
    mine.write_text("precious")
    assert main([str(source), str(tmp_path)]) == ConfigError.exit_code
    assert mine.read_text() == "precious" and "train.json" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "out")]) == 0
    source.write_text(json.dumps(document()))  # no longer fit for training: what is old must not look new
    assert main([str(source), str(tmp_path / "out")]) == DatasetError.exit_code
    assert not list((tmp_path / "out").iterdir())


def test_corners_that_are_declared_are_converted_and_undeclared_ones_block() -> None:
    corners = [[10 + n, 20, 50, 40] for n in range(12)]
    declared = [box(0, xyxy, bbox_format="xyxy") for xyxy in corners]
    conversion = converted(sound(image(1, "train", *declared)))
    assert codes(conversion) == {"DS045"} and not conversion.blocking
    assert conversion.splits["train"].annotations[1].bbox == (10, 20, 40, 20)
    assert "DS044" in codes(
        converted(document(image(1, "train", *map(box, [0] * 12, corners)), image(2, "val", box())))
    )


def test_most_annotations_lost_block_and_some_warn() -> None:
    lost = [box(0, [0.1, 0.2, 0.3, 0.4], id=n) for n in range(10)]
    kept = [box(0, [n, 2, 9, 9], id=n) for n in range(20)]
    assert "DS094" in codes(converted(sound(image(1, "train", *lost))))
    assert "DS095" in codes(converted(sound(image(1, "train", *lost, *kept))))


def test_polygons_without_their_outer_list_or_in_pairs_are_read() -> None:
    pairs = [[x, y] for x, y in zip(SQUARE[::2], SQUARE[1::2], strict=True)]
    forms = [SQUARE, pairs, [pairs], [SQUARE]]
    conversion = converted(
        document(
            image(1, "train", *(box(0, [n, 2, 30, 30], segmentation=form) for n, form in enumerate(forms))),
            image(2, "val", box(0, segmentation=[SQUARE])),
        ),
        "instance_segmentation",
    )
    assert [one.area for one in conversion.splits["train"].annotations] == [100] * 4


def test_the_area_of_an_object_ends_with_its_image() -> None:
    outside = box(0, [-10, -10, 30, 30], area=900, segmentation=[[-10, -10, 20, -10, 20, 20, -10, 20]])
    conversion = converted(document(image(1, "train", outside), image(2, "val", outside)), "instance_segmentation")
    annotation = conversion.splits["train"].annotations[0]
    assert (annotation.bbox, annotation.area) == ((0, 0, 20, 20), 400)
