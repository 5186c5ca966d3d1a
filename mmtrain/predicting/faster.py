"""Makes a PyTorch model faster: without a change beyond the rounding of float32, or in fewer bits where asked for."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmtrain.predicting.options import Options
from trainer_sdk.errors import ConfigError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
IN_ORDER = ("conv", "norm", "act")


def faster(model: nn.Module, options: Options, *, channels_last: bool) -> nn.Module:
    """The model on its device, for inference only.

    Args:
        channels_last: layout of its convolutions; not every model outside of MMDetection can look at such results.

    Raises:
        ConfigError: a precision that the device has no use for.
    """
    if options.precision == "fp16" and options.device == "cpu":
        raise ConfigError("precision fp16 needs a GPU", hint="use bf16 or fp32 on a CPU")
    model = fuse(model).to(options.device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if options.precision != "fp32":
        _reduce(model, DTYPES[options.precision])
    return model


def autocast(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Around each inference."""
    if options.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(options.device.partition(":")[0], DTYPES[options.precision])


def _reduce(model: nn.Module, dtype: torch.dtype) -> None:
    """Weights of convolutions and linear layers in fewer bits, once instead of at every inference; boxes and scores
    are computed in float32 again, from what the heads say.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    for name in ("bbox_head", "rpn_head", "decode_head", "head"):
        if hasattr(model, name):
            getattr(model, name).register_forward_hook(lambda module, given, said: _as_float(said))


def _as_float(said: Any) -> Any:
    if isinstance(said, torch.Tensor):
        return said.float() if said.is_floating_point() else said
    return type(said)(map(_as_float, said)) if isinstance(said, list | tuple) else said


def fuse(model: nn.Module) -> nn.Module:
    """Folds batch norms into the convolutions before them, in place; what is shared is copied first.

    Only where MMCV's ConvModule says that a norm follows its convolution directly. RTMDet's levels share their
    convolutions, each with a norm of its own: folded into the shared one, all of them would be wrong.
    """
    for module in list(model.modules()):
        if _foldable(module):
            module.conv = _folded(module.conv, module.norm)
            setattr(module, module.norm_name, nn.Identity())
    return model


def _foldable(module: nn.Module) -> bool:
    return (
        isinstance(module, ConvModule)
        and type(module.conv) is nn.Conv2d
        and module.with_norm
        and isinstance(module.norm, _BatchNorm)
        and module.norm.track_running_stats
        and tuple(module.order) == IN_ORDER
    )


def _folded(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    """``(w * x + b - mean) / sqrt(var + eps) * gamma + beta`` as one convolution."""
    made = copy.deepcopy(conv)
    with torch.no_grad():
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            factor = factor * norm.weight.double()
        shift = -norm.running_mean.double() * factor
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        if conv.bias is not None:
            shift = shift + conv.bias.double() * factor
        made.weight = nn.Parameter((conv.weight.double() * factor.reshape(-1, 1, 1, 1)).to(conv.weight.dtype))
        made.bias = nn.Parameter(shift.to(conv.weight.dtype))
    return made
