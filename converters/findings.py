"""What was found in a data set: every code, its severity and its advice in one table, and a counter that fills it.

``blocks``    no honest training is possible: the job ends with a DatasetError
``repaired``  the data were changed (clipped, dropped, moved); training goes on
``warns``     the data were kept as they are, but the user should know
``info``      a fact worth a line in the report
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from converters.geometry import XYWH
from trainer_sdk.errors import DatasetError
from trainer_sdk.texts.printable import printable

Severity = Literal["blocks", "repaired", "warns", "info"]

MAX_EXAMPLES = 5
MAX_EXAMPLE_CHARACTERS = 200
MAX_FILES = 2 * MAX_EXAMPLES
"""Copies come in pairs."""


class Finding(BaseModel):
    """One kind of peculiarity, how often it occurs, and the first places where it does."""

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    title: str
    count: int
    examples: tuple[str, ...] = ()
    hint: str = ""
    files: tuple[str, ...] = ()
    """File names of pictures that show it, as annotated; a pair of copies gives two."""
    boxes_xywh: tuple[XYWH | None, ...] = ()
    """One per entry of `files`: the box in question, in pixels of that picture; None where all of it is meant."""

    @property
    def text(self) -> str:
        """One line for a log or an error message; the hint is left out."""
        shown = "; ".join(self.examples)
        more = "; ..." if self.count > len(self.examples) > 0 else ""
        return f"{self.code} {self.title} ({self.count})" + (f": {shown}{more}" if shown else "")


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that forbid training."""
    return tuple(finding for finding in findings if finding.severity == "blocks")


def refuse_blocked(findings: Iterable[Finding]) -> None:
    """Raises: DatasetError, with every finding that forbids training and its remedy."""
    if found := blocking(findings):
        problems = [f"{finding.text} - {finding.hint}" for finding in found]
        hint = "docs/findings.md explains every code"
        raise DatasetError.of_problems("the data set cannot be trained on", problems, hint=hint)


def shorten(example: str) -> str:
    """A box may be a list of thousands where four numbers belong, and a name may hold lines and commands."""
    example = printable(example)
    return example if len(example) <= MAX_EXAMPLE_CHARACTERS else example[: MAX_EXAMPLE_CHARACTERS - 3] + "..."


class Rule(NamedTuple):
    """The constant part of a finding."""

    severity: Severity
    title: str
    hint: str


RULES: dict[str, Rule] = {
    # The file as a whole.
    "DS001": Rule("blocks", "The data set has no images", "Add images to the data set."),
    "DS002": Rule(
        "blocks",
        "No usable annotation in the training images",
        "Label some training images, and check that boxes are absolute pixels, not fractions of the image.",
    ),
    "DS003": Rule("blocks", "No class is declared", "Declare at least one class besides __background__."),
    "DS004": Rule("blocks", "Class name declared more than once", "Rename or merge these classes."),
    "DS005": Rule(
        "blocks", "Class id declared more than once", "Give each class its own id: labels would be ambiguous."
    ),
    "DS006": Rule(
        "blocks",
        "Annotation of a class that is not declared",
        "Declare the class or delete its annotations; leaving them out would teach that these objects are background.",
    ),
    "DS007": Rule("blocks", "class_id and class_name contradict each other", "Correct whichever of the two is wrong."),
    "DS008": Rule(
        "blocks", "Image id used more than once", "Give each image its own id: annotations and splits refer to it."
    ),
    "DS009": Rule(
        "blocks",
        "Image file listed more than once",
        "Keep one entry per file: copies may lie in train and in val, or contradict each other's labels.",
    ),
    "DS010": Rule(
        "repaired",
        "Annotation of an image that is not listed",
        "It was left out. Usual after an image was deleted; restore the image if you need its labels.",
    ),
    "DS011": Rule("blocks", "Image width or height missing or not positive", "Save the data set again with sizes."),
    "DS012": Rule(
        "blocks",
        "Image file name missing or outside the data set folder",
        "Use paths relative to the images folder, without '..'.",
    ),
    "DS013": Rule(
        "warns", "Annotation nested in an image but naming another", "The image that contains it was believed."
    ),
    "DS014": Rule("warns", "Image marked as background but annotated", "The annotations were kept, the mark ignored."),
    "DS015": Rule("info", "Image without annotations", "It is used as a negative example."),
    "DS016": Rule("blocks", "Class without a name", "Name it: results are told by name."),
    "DS017": Rule(
        "warns",
        "Class names that differ only by case or spaces",
        "Merge them if they mean the same: one takes from the other.",
    ),
    "DS018": Rule("info", "Annotation id used more than once", "Both were kept; id_map.json leads both to this id."),
    "DS019": Rule(
        "repaired", "Annotation repeated (same image, class and shape)", "The repetitions were left out."
    ),
    # Boxes and masks.
    "DS020": Rule("repaired", "Box partly outside its image", "It was clipped to the image."),
    "DS021": Rule("repaired", "Box without area (a side shorter than 1 pixel)", "The annotation was left out."),
    "DS022": Rule("repaired", "Box wholly outside its image", "The annotation was left out."),
    "DS023": Rule("repaired", "Box missing or not four finite numbers", "The annotation was left out."),
    "DS024": Rule("info", "Box computed from the mask or the keypoints", "The box was missing or unusable."),
    "DS025": Rule("repaired", "Polygon with fewer than three points, or without area in its image", "It was left out."),
    "DS026": Rule("repaired", "Annotation without a usable mask", "It was left out: this task learns masks."),
    "DS027": Rule("blocks", "No annotation has a usable mask", "Draw polygons, or train the task object_detection."),
    "DS028": Rule("blocks", "Unknown box format", "Save boxes as [x, y, width, height] in absolute pixels."),
    "DS029": Rule("repaired", "Box with negative width or height", "Its corners were put in order."),
    # The split.
    "DS030": Rule(
        "repaired",
        "The val split is empty",
        "These train images became val images, by seed 42: scores on training images would mean nothing.",
    ),
    "DS031": Rule(
        "blocks", "Too few images to train and validate", "Assign at least one image to train and one to val."
    ),
    "DS032": Rule("warns", "Image not assigned by the manual split", "It was left out. Assign it to a split."),
    "DS033": Rule("info", "Image without a split", "It was distributed by the split ratio."),
    "DS034": Rule("warns", "The split names an image that is not listed", "The entry was ignored."),
    "DS035": Rule("warns", "Unknown split name", "Known: train, val, test. The image counts as not assigned."),
    "DS036": Rule("info", "Image excluded by the split configuration", "It is used nowhere."),
    "DS037": Rule(
        "warns", "Class in too few images (or groups) to be in every split", "Label it in more images, or merge it."
    ),
    "DS038": Rule("info", "Group larger than its split was to be", "A group stays together; the ratio gives way."),
    "DS039": Rule(
        "blocks",
        "split_config in the annotation file is not an object",
        "Save the data set again, or remove the field.",
    ),
    # Classes against the split, and the data set's shape.
    "DS040": Rule("warns", "Class without any usable annotation", "It cannot be learned; label it or remove it."),
    "DS041": Rule("warns", "Class absent from train", "It cannot be learned; move some of its images to train."),
    "DS042": Rule("warns", "Class absent from val", "It has no score; move some of its images to val."),
    "DS043": Rule(
        "blocks",
        "No usable annotation in the val images",
        "Label some val images, or split anew (stratify, another seed): without objects no checkpoint is the best.",
    ),
    "DS044": Rule(
        "blocks",
        "Boxes look like [x1, y1, x2, y2] where [x, y, width, height] is meant",
        "Many boxes leave their image as they are, and all fit as corners. Convert them, or say bbox_format xyxy.",
    ),
    "DS045": Rule("repaired", "Box given as corners (bbox_format xyxy)", "It was converted to [x, y, width, height]."),
    "DS046": Rule("warns", "Polygon that crosses itself", "It was kept; redraw it if its inside is unclear."),
    "DS047": Rule("info", "Box with an extreme aspect ratio (over 20:1)", "Anchors and strides seldom fit such boxes."),
    "DS048": Rule(
        "warns", "Class with under 1/100 of the largest class's objects", "It will hardly be learned; label more of it."
    ),
    "DS049": Rule("warns", "Few training images (under 50)", "Expect unstable scores; label more images."),
    # The pictures themselves (mmtrain/datasets).
    "DS050": Rule("blocks", "Image file missing", "Upload the file, or remove the image from the data set."),
    "DS051": Rule(
        "blocks",
        "Image unreadable, truncated or empty",
        "Replace the file, or remove the image. If only its copy in the cache was damaged, the next job gets it anew.",
    ),
    "DS052": Rule(
        "warns",
        "Image size differs from the annotated one",
        "The pixels were believed; check that the boxes were drawn on this very file.",
    ),
    "DS053": Rule(
        "info",
        "Image turned by its EXIF tag",
        "Boxes are taken to be drawn on the turned picture, as browsers show it.",
    ),
    "DS054": Rule(
        "warns",
        "The same picture in two splits",
        "Scores on it say nothing: remove the copy, or keep both in one split (group_by).",
    ),
    "DS055": Rule(
        "warns",
        "Nearly the same picture in two splits",
        "Frames of one video or crops of one scene make scores too good: keep them in one split (group_by).",
    ),
    "DS056": Rule("info", "The same picture more than once in one split", "It counts double; remove the copy."),
    "DS057": Rule(
        "info", "Picture that is not 8-bit RGB", "Grey is repeated, alpha dropped, CMYK converted, as OpenCV reads it."
    ),
    "DS058": Rule(
        "warns", "Object smaller than 4 pixels at the planned input size", "Raise imgsz, or expect it to be missed."
    ),
    "DS059": Rule("repaired", "Image file missing, within the limit", "The image was left out of this training."),
    # Keypoints.
    "DS060": Rule(
        "blocks",
        "Keypoint count differs from the data set's",
        "Every annotation needs the same points in the same order; correct these, or give CONFIG.keypoints.",
    ),
    "DS061": Rule("repaired", "Annotation without usable keypoints", "It was left out: this task learns keypoints."),
    "DS062": Rule("repaired", "Keypoint outside its image", "It counts as not labelled."),
    "DS063": Rule("repaired", "Keypoint visibility other than 0, 1, 2", "The point counts as visible."),
    "DS064": Rule("blocks", "No annotation has usable keypoints", "Label keypoints, or train object_detection."),
    "DS065": Rule(
        "info",
        "Keypoint names or skeleton not given",
        "COCO's for 17 points, else numbered points without left-right pairs; CONFIG.keypoints can name them.",
    ),
    "DS066": Rule(
        "blocks", "Keypoint names, skeleton and flip pairs do not fit", "Correct the class or CONFIG.keypoints."
    ),
    # Semantic masks.
    "DS070": Rule("blocks", "Mask file missing", "Upload the file, or remove the image from the data set."),
    "DS071": Rule("blocks", "Mask unreadable, or not one number per pixel", "Save it as an 8-bit indexed or grey PNG."),
    "DS072": Rule("blocks", "Mask size differs from its image", "Draw the mask on this very image."),
    "DS073": Rule(
        "blocks", "Mask holds a number that is no class id", "Declare the class, or use 255 for pixels to ignore."
    ),
    "DS074": Rule(
        "info", "Class background added", "Some pixels belong to no declared class; a model must be able to say so."
    ),
    "DS075": Rule("warns", "Image with neither mask nor polygons", "It was left out: nothing is known of its pixels."),
    "DS076": Rule("blocks", "More classes than a mask of 8 bits can tell (255)", "Merge or remove classes."),
    "DS077": Rule(
        "repaired",
        "Object with a box but no usable mask",
        "The pixels of its box are ignored in training: some are of its class, and nobody knows which.",
    ),
    "DS078": Rule(
        "blocks",
        "One class for every pixel",
        "There is nothing to tell apart: label a second class, or leave what is none of the class unlabelled.",
    ),
    # Ancestor v0.9.
    "DS080": Rule("blocks", "Label file of an image missing or unreadable", "Restore it, or remove the image."),
    "DS081": Rule("repaired", "Shape that is no box or polygon", "It was left out."),
    # Altogether.
    "DS093": Rule("blocks", "No image has the metadata that group_by names", "Correct the key, or leave group_by out."),
    "DS094": Rule(
        "blocks",
        "More than half of the annotations cannot be used",
        "See what was left out: a model would learn that these objects are background.",
    ),
    "DS095": Rule(
        "warns",
        "More than a twentieth of the annotations cannot be used",
        "See what was left out: a model learns that these objects are background.",
    ),
    # The inspection itself.
    "DS090": Rule("info", "Only a sample of the pictures was opened", "Set inspect_images to 'all' to open every one."),
    "DS092": Rule(
        "warns",
        "Picture of more than 8 bits that is nearly black in 8 bits",
        "Only the upper 8 bits are read: stretch the values to 0..255 and save 8-bit pictures.",
    ),
    # The split again.
    "DS091": Rule("info", "Image without the metadata that group_by names", "It is a group of its own."),
}  # fmt: skip


class FindingCounter:
    """Counts occurrences by code and keeps the first five examples of each."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._places: dict[str, list[tuple[str, XYWH | None]]] = {}
        for finding in findings:
            self._counts[finding.code] = self._counts.get(finding.code, 0) + finding.count
            known = self._examples.get(finding.code, [])
            self._examples[finding.code] = [*known, *finding.examples][:MAX_EXAMPLES]
            places = self._places.setdefault(finding.code, [])
            places.extend(zip(finding.files, finding.boxes_xywh, strict=True))
            del places[MAX_FILES:]

    def add(
        self,
        code: str,
        example: str = "",
        *,
        count: int = 1,
        file: str | tuple[str, ...] | None = None,
        bbox_xywh: XYWH | None = None,
    ) -> None:
        """Note ``count`` more occurrences, ``example`` telling where; an unknown code is a KeyError of ours.

        Args:
            file: the picture that shows it, or several (both of a pair), by annotated file name.
            bbox_xywh: the box in question, in pixels of the (first) file.
        """
        RULES[code]
        self._counts[code] = self._counts.get(code, 0) + count
        examples = self._examples.setdefault(code, [])
        if example and len(examples) < MAX_EXAMPLES:
            examples.append(shorten(example))
            names = () if file is None else (file,) if isinstance(file, str) else file
            boxes = (bbox_xywh, *(None,) * len(names))
            self._places.setdefault(code, []).extend(zip(names, boxes, strict=False))

    def __contains__(self, code: str) -> bool:
        return code in self._counts

    def count(self, code: str) -> int:
        """Occurrences so far."""
        return self._counts.get(code, 0)

    @property
    def codes(self) -> frozenset[str]:
        """What was found so far."""
        return frozenset(self._counts)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in order of code."""
        return tuple(self._finding(code) for code in sorted(self._counts))

    def _finding(self, code: str) -> Finding:
        places = self._places.get(code, [])
        return Finding(
            code=code,
            count=self._counts[code],
            examples=tuple(self._examples[code]),
            files=tuple(name for name, _ in places),
            boxes_xywh=tuple(box for _, box in places),
            **RULES[code]._asdict(),
        )
