"""The certificate: what was compared, how far it is apart, and whether that is near enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, computed_field

from mmtrain.exporters.comparing import Difference
from trainer_sdk.tasks import Task

Precision = Literal["fp32", "fp16", "int8"]
LARGEST_DROP: dict[str, float] = {"fp32": 0.1, "fp16": 0.3, "int8": 1.0}
"""Points of mAP, mIoU or OKS."""
UNMATCHED_SHARE = 0.01
MASK_TOLERANCE = 0.05
"""1 - IoU: a pixel at the outline of a small object is more than any share of it."""
PIXEL_TOLERANCE = 1e-3
HERE = Path(__file__).parent


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Tolerances(_Frozen):
    """What may differ."""

    probe: float = 1e-3
    """Relative; for fp32. Coarser numbers are judged on the validation images alone."""
    drop_points: float


class Tensors(_Frozen):
    """Outputs for the same input, per name: largest difference over largest value."""

    errors: dict[str, float]
    not_compared: tuple[str, ...] = ()
    """Whose number of objects differs."""


class Scores(_Frozen):
    """Of one model on the validation images, in points of 100."""

    overall: float | None
    per_class: dict[str, float | None]


class Validation(_Frozen):
    """Both models on the same images."""

    images: int
    metric: str
    pytorch: Scores
    exported: Scores

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drop_points(self) -> float:
        """Of the whole; a gain is negative."""
        return round((self.pytorch.overall or 0.0) - (self.exported.overall or 0.0), 4)


class Latency(_Frozen):
    """Of a model alone, without reading and preparing images."""

    batch: int
    p50_ms: float
    p95_ms: float
    images_per_s: float
    runs: int


class Speed(_Frozen):
    """Both models on the same machine, one after the other."""

    threads: int
    pytorch: tuple[Latency, ...]
    exported: tuple[Latency, ...]
    note: str = ""


class FileFacts(_Frozen):
    """The exported file."""

    name: str
    size_bytes: int
    sha256: str
    operators: dict[str, int]


class Certificate(_Frozen):
    """``certificate.json``."""

    model_name: str
    task: str
    format: str
    precision: Precision
    opset: int | None
    file: FileFacts
    tolerances: Tolerances
    tensors: Tensors
    probes: Difference
    probe_images: int
    validation: Validation | None
    speed: Speed | None
    runtime: dict[str, str]
    notes: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def failures(self) -> list[str]:
        """Why it does not pass; empty when it does."""
        found = [*self._probe_failures()] if self.precision == "fp32" else []
        if not self.anything_compared:
            found.append("nothing was compared: the model sees nothing in the probes, and no data set is named")
        if self.validation is not None and self.validation.drop_points > self.tolerances.drop_points:
            found.append(
                f"{self.validation.metric} fell by {self.validation.drop_points:.2f} points on "
                f"{self.validation.images} validation images, {self.tolerances.drop_points:g} are allowed"
            )
        if self.validation is None and self.precision != "fp32":
            found.append(f"{self.precision} cannot be judged without validation images")
        return found

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Literal["pass", "fail"]:
        return "fail" if self.failures else "pass"

    @property
    def anything_compared(self) -> bool:
        """Two empty answers prove nothing."""
        seen = self.validation is not None and bool(self.validation.pytorch.overall)
        return bool(self.tensors.errors) or self.probes.pairs > 0 or seen

    @property
    def compared(self) -> list[tuple[str, float, float]]:
        """Of what this task finds in the probes: name, largest error, what is allowed."""
        probes, limit = self.probes, self.tolerances.probe
        if self.task == Task.SEMANTIC.value:
            return [("pixels of another class", probes.pixels, PIXEL_TOLERANCE)]
        found = [("boxes", probes.box, limit), ("scores", probes.score, limit)]
        if self.task == Task.INSTANCE.value:
            found.append(("masks (1 - IoU)", probes.mask, MASK_TOLERANCE))
        if self.task == Task.POSE.value:
            found.append(("keypoints", probes.keypoint, limit))
        return found

    def _probe_failures(self) -> list[str]:
        limit = self.tolerances.probe
        found = [
            f"output {name} differs by {error:.2g}, {limit:g} is allowed"
            for name, error in self.tensors.errors.items()
            if not error <= limit  # also what is no number
        ]
        found += [
            f"{name} of the probes differ by {error:.2g}, {most:g} is allowed"
            for name, error, most in self.compared
            if not error <= most
        ]
        if self.probes.unmatched_share > UNMATCHED_SHARE:
            found.append(f"{self.probes.unmatched} objects of {self.probes.objects} in the probes have no partner")
        return found


def page(certificate: Certificate) -> str:
    """``certificate.html``: one page, nothing loaded from elsewhere."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    values: dict[str, Any] = {"c": certificate, "probes": certificate.compared}
    return environment.get_template("certificate.html.j2").render(**values)
