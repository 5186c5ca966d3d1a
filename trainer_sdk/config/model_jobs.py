"""CONFIG of the jobs that have a model already: predict, export, evaluate (contract 3.2, 3.3, 1.4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trainer_sdk.config.frozen import Asked, Probability, Side, Size
from trainer_sdk.config.values import DEVICE, as_device, as_none, as_split, as_texts, as_width_height, not_empty

ExportFormat = Literal["onnx", "torchscript", "openvino", "tensorrt"]
NOT_EXPORTED = {
    "coreml": "it needs Apple's tools; convert the ONNX file with coremltools on a Mac",
    "tflite": "the OpenMMLab stack has no path to it; use onnx or openvino",
}
"""Formats that the platform knows and we do not write."""
Split = Literal["train", "val", "test", "all"]
SPLITS = get_args(Split)
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...] | None, BeforeValidator(not_empty)]
Shape = tuple[Annotated[int, Field(ge=1, le=1024)], Literal[3], Side, Side]
"""NCHW."""


class ModelConfig(Asked):
    """What the three have in common. None: the checkpoint, the data and the machine decide."""

    device: Annotated[str | None, BeforeValidator(as_device)] = Field(
        None, pattern=DEVICE, description="cpu, or the number of a GPU; else the first GPU if there is one"
    )
    imgsz: Annotated[Size | None, BeforeValidator(as_width_height)] = Field(
        None, description="input size in pixels, one number or [width, height]; else the one it was trained with"
    )
    class_names: Names = Field(
        None, description="names of the classes in the model's order, where the checkpoint does not say them"
    )
    workers: int | None = Field(None, ge=0, le=256, description="processes that decode images")
    keypoints: dict[str, Any] | None = Field(
        None, description="{names, skeleton, flip_pairs} of a pose model, where the checkpoint does not say them"
    )


class PredictConfig(ModelConfig):
    """Of a predict job; the first ones are the platform's, with its defaults."""

    conf: Probability = Field(0.25, description="least score of what is reported")
    iou: Probability | None = Field(
        None, description="IoU from which non-maximum suppression takes two boxes for one; else the model's own"
    )
    max_det: int = Field(100, ge=1, le=10_000, description="most objects per image")
    save_txt: bool = Field(True, description="write label files (YOLO's form)")
    save_conf: bool = Field(True, description="with the scores in them")
    save_crop: bool = Field(False, description="write a picture of every object")
    save_images: bool = Field(True, description="write the images with what was found drawn into them")
    save_dice: bool = Field(False, description="write DICE pre-annotations, which can be loaded as labels")
    batch: int | None = Field(None, ge=1, le=1024, description="images at a time")
    tiles: Annotated[Size | None, BeforeValidator(as_width_height)] = Field(
        None, description="cut images into tiles of this size, and merge what is found in them"
    )
    tile_overlap: float = Field(0.2, ge=0, le=0.9, description="of neighbouring tiles, as a share of their side")
    classes: Annotated[tuple[str | int, ...] | None, BeforeValidator(as_texts)] = Field(
        None, description="report these classes alone, by name or number"
    )
    flip: bool = Field(False, description="look at each image mirrored too, and merge (test-time flip)")
    precision: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="of the numbers in a PyTorch model")


class ExportConfig(ModelConfig):
    """Of an export job."""

    opset_version: int | None = Field(None, ge=11, le=23, description="of the ONNX file; else 17")
    input_shape: Shape | None = Field(
        None,
        description="[batch, 3, height, width] of the model's input; else one image of the size it was trained with",
    )
    dynamic_axes: dict[str, tuple[Annotated[int, Field(ge=0, le=3)], ...]] | None = Field(
        None, description='which of them may vary, such as {"input": [0, 2, 3]}: 0 the batch, 2 and 3 the size'
    )
    embed_preprocessing: bool = Field(
        False, description="put colour order and normalisation into the graph, which then takes pixels of 0..255"
    )
    simplify: bool = Field(True, description="fold constants of the ONNX graph and remove what does nothing")
    nms: bool = Field(
        False,
        description="choose the final boxes in the graph, for one image at a time; else the file's reader does it, as "
        "the package's runtime shows. Models of two stages always do it themselves",
    )
    raw_outputs: bool = Field(False, description="also give what the head says before it is decoded")
    conf: Probability | None = Field(None, description="least score of a box, with nms; else the model's own")
    iou: Probability | None = Field(None, description="IoU of the non-maximum suppression; else the model's own")
    max_det: int | None = Field(None, ge=1, le=10_000, description="most objects per image; else the model's own")
    fp16: bool = Field(False, description="numbers of 16 bits (TensorRT, OpenVINO)")
    int8: bool = Field(False, description="whole numbers of 8 bits, calibrated with images of the data set")
    quantization_type: Annotated[Literal["fp16", "int8"] | None, BeforeValidator(as_none)] = Field(
        None, description="the same in one word"
    )
    calibration_dataset_size: int = Field(100, ge=1, le=100_000, description="images to calibrate int8 with")
    profiles: dict[Literal["min", "opt", "max"], Shape] | None = Field(
        None, description="TensorRT's shapes {min, opt, max}, each as input_shape"
    )
    workspace_size_gb: float | None = Field(None, gt=0, le=1024, description="memory TensorRT may use while building")
    timing_cache: str | None = Field(None, description="a file in which TensorRT keeps its timings for the next build")
    validate_outputs: bool = Field(True, description="always: no export leaves without its certificate")
    tolerance: float = Field(1e-3, gt=0, le=1, description="largest relative error on the fixed probes")
    max_drop: float | None = Field(
        None, ge=0, le=100, description="points of mAP, mIoU or OKS that may be lost; else 0.1 (fp16 0.3, int8 1.0)"
    )
    num_samples: int = Field(10, ge=1, le=100_000, description="validation images that both models are measured on")

    @property
    def number_format(self) -> Literal["fp32", "fp16", "int8"]:
        """Of the exported weights; int8 where both are asked for, with fp16 for what int8 cannot do."""
        if self.int8 or self.quantization_type == "int8":
            return "int8"
        return "fp16" if self.fp16 or self.quantization_type == "fp16" else "fp32"

    @property
    def varying_axes(self) -> frozenset[int]:
        """Of the input."""
        return frozenset(axis for axes in (self.dynamic_axes or {}).values() for axis in axes)

    @property
    def dynamic_batch(self) -> bool:
        return 0 in self.varying_axes

    @property
    def dynamic_size(self) -> bool:
        return bool({2, 3} & self.varying_axes)

    @field_validator("validate_outputs")
    @classmethod
    def _always_proven(cls, value: bool) -> bool:
        if not value:
            raise PydanticCustomError("proof", "an export without proof does not exist")
        return value

    @field_validator("dynamic_axes")
    @classmethod
    def _no_other_channels(cls, value: dict[str, tuple[int, ...]] | None) -> dict[str, tuple[int, ...]] | None:
        if any(1 in axes for axes in (value or {}).values()):
            raise PydanticCustomError("channels", "axis 1, the channels, cannot vary")
        return value

    @model_validator(mode="after")
    def _one_size(self) -> ExportConfig:
        if self.input_shape and self.imgsz and self.input_shape[:1:-1] != self.imgsz:
            raise PydanticCustomError(
                "size", "input_shape and imgsz contradict each other (input_shape has height before width): give one"
            )
        return self


class EvaluateConfig(ModelConfig):
    """Of an evaluate job."""

    split: Annotated[Split | None, BeforeValidator(as_split)] = Field(
        None, description="which images: train, val, test or all; else test where it is worth a number, or val"
    )
    batch: int | None = Field(None, ge=1, le=4096, description="images at a time, where they all have one size")
    conf: Probability | None = Field(
        None,
        description="score at which precision, recall and confusion matrix are read; else that of the best mean F1",
    )
    split_config: dict[str, Any] | None = Field(
        None, description="how images are split: {method, ratio, seed, stratify, group_by, splits, exclude_images}"
    )
