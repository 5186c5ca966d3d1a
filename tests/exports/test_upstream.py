"""Workarounds that exports need: each test fails when upstream no longer needs it."""

from __future__ import annotations

import pytest
import torch

from mmtrain import compat


def test_mmdetection_cannot_paste_a_mask_beyond_the_picture() -> None:
    compat.apply()
    compat.import_quietly("mmdet")
    from mmdet.models.roi_heads.mask_heads import fcn_mask_head

    masks, boxes = torch.ones(1, 1, 28, 28), torch.tensor([[60.0, 10.0, 70.0, 20.0]])
    upstream = getattr(fcn_mask_head._do_paste_mask, "upstream", fcn_mask_head._do_paste_mask)
    with pytest.raises(RuntimeError):
        upstream(masks, boxes, 40, 50)
    compat.paste_nothing_beyond_the_edge()
    found, (rows, columns) = fcn_mask_head._do_paste_mask(masks, boxes, 40, 50)
    assert found.shape == (1, 0, 0)
    assert torch.zeros(40, 50)[rows, columns].numel() == 0
    inside, _ = fcn_mask_head._do_paste_mask(masks, boxes - 50, 40, 50)
    assert inside.numel() > 0
