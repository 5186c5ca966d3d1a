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

Severity = Literal["blocks", "repaired", "warns", "info"]

MAX_EXAMPLES = 5
MAX_EXAMPLE_CHARACTERS = 200


class Finding(BaseModel):
    """One kind of peculiarity, how often it occurs, and the first places where it does."""

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    title: str
    count: int
    examples: tuple[str, ...] = ()
    hint: str = ""

    @property
    def text(self) -> str:
        """One line for a log or an error message; the hint is left out."""
        shown = "; ".join(self.examples)
        more = "; ..." if self.count > len(self.examples) > 0 else ""
        return f"{self.code} {self.title} ({self.count})" + (f": {shown}{more}" if shown else "")


def shorten(example: str) -> str:
    """A box may be a list of thousands where four numbers belong."""
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
    # Boxes and masks.
    "DS020": Rule("repaired", "Box partly outside its image", "It was clipped to the image."),
    "DS021": Rule("repaired", "Box without area (a side shorter than 1 pixel)", "The annotation was left out."),
    "DS022": Rule("repaired", "Box wholly outside its image", "The annotation was left out."),
    "DS023": Rule("repaired", "Box missing or not four finite numbers", "The annotation was left out."),
    "DS024": Rule("info", "Box computed from the mask", "The box was missing or unusable."),
    "DS025": Rule("repaired", "Polygon with fewer than three points, or without area in its image", "It was left out."),
    "DS026": Rule("repaired", "Annotation without a usable mask", "It was left out: this task learns masks."),
    "DS027": Rule("blocks", "No annotation has a usable mask", "Draw polygons, or train the task object_detection."),
    "DS028": Rule("blocks", "Box format other than xywh", "Save boxes as [x, y, width, height] in absolute pixels."),
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
    # The pictures themselves (mmtrain/datasets/inspect.py).
    "DS050": Rule("blocks", "Image file missing", "Upload the file, or remove the image from the data set."),
    "DS051": Rule("blocks", "Image unreadable, truncated or empty", "Replace the file, or remove the image."),
    "DS052": Rule(
        "warns",
        "Image size differs from the annotated one",
        "The pixels were believed; check that the boxes were drawn on this very file.",
    ),
    # Classes against the split.
    "DS040": Rule("warns", "Class without any usable annotation", "It cannot be learned; label it or remove it."),
    "DS041": Rule("warns", "Class absent from train", "It cannot be learned; move some of its images to train."),
    "DS042": Rule("warns", "Class absent from val", "It has no score; move some of its images to val."),
    "DS043": Rule(
        "blocks",
        "No usable annotation in the val images",
        "Label some val images, or leave the split to us: without objects no checkpoint is better than another.",
    ),
}  # fmt: skip


class FindingCounter:
    """Counts occurrences by code and keeps the first five examples of each."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        for finding in findings:
            self._counts[finding.code] = finding.count
            self._examples[finding.code] = list(finding.examples)

    def add(self, code: str, example: str = "", *, count: int = 1) -> None:
        """Note ``count`` more occurrences, ``example`` telling where; an unknown code is a KeyError of ours."""
        RULES[code]
        self._counts[code] = self._counts.get(code, 0) + count
        examples = self._examples.setdefault(code, [])
        if example and len(examples) < MAX_EXAMPLES:
            examples.append(shorten(example))

    def __contains__(self, code: str) -> bool:
        return code in self._counts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in order of code."""
        return tuple(
            Finding(code=code, count=self._counts[code], examples=tuple(self._examples[code]), **RULES[code]._asdict())
            for code in sorted(self._counts)
        )
