"""Convolutions by minimal filtering beside plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmvqzip.models import winograd


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (1, 1), (9, 14), (16, 3)])
@pytest.mark.parametrize("height", [1, 2, 5])
def test_they_are_the_same(rows: int, columns: int, height: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(0, 1, (rows, columns, 6)).astype(np.float32)
    matrix = generator.normal(0, 1, (54, 5)).astype(np.float32)
    around, weights, last = winograd.padded(x), winograd.transformed(matrix), winograd.tiles(rows)
    strips = [slice(top, min(top + height, last)) for top in range(0, last, height)]
    found = np.concatenate([winograd.convolved(around, strip, weights) for strip in strips])[:rows, :columns]
    kernel = torch.from_numpy(matrix.reshape(3, 3, 6, 5)).permute(3, 2, 0, 1)
    wanted = F.conv2d(torch.from_numpy(x).permute(2, 0, 1)[None], kernel, padding=1)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())
