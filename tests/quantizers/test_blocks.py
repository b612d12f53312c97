"""MAP codes block by block, against all scores at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import blocks
from gmvqzip.quantizers.blocks import map_codes


def drawn(groups: int, sites: int, codes: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Features, sides, pull and targets."""
    torch.manual_seed(groups + sites + codes)
    return [torch.randn(groups, n, f, dtype=dtype) for n, f in ((sites, 5), (codes, 5), (sites, 3), (codes, 3))]


def at_once(features: Tensor, sides: Tensor, pull: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = torch.einsum("gnf,gkf->gnk", features, sides)
    indices = (logits + torch.einsum("gnp,gkp->gnk", pull, targets)).argmax(2)
    return -logits.log_softmax(2).gather(2, indices[..., None])[..., 0], indices


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 7), (2, 40, 16)])
def test_codes_lengths_and_gradients(monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, int, int]) -> None:
    """Whatever the blocks: parts of a group's sites, single groups, or several."""
    monkeypatch.setattr(blocks, "_BLOCK", block)
    found, expected = drawn(*shape), drawn(*shape)
    for tensor in (*found[:2], *expected[:2]):
        tensor.requires_grad_()
    nats, indices = map_codes(*found)
    wanted_nats, wanted_indices = at_once(*expected)
    assert torch.equal(indices, wanted_indices)
    assert not indices.requires_grad
    torch.testing.assert_close(nats, wanted_nats)
    weight = torch.randn_like(nats)
    (weight * nats).sum().backward()
    (weight * wanted_nats).sum().backward()
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_blocks_cover_every_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 30)
    features, sides, *_ = drawn(5, 11, 4)
    seen = torch.zeros(5, 11)
    parts = list(blocks._parts(features, sides))
    for part in parts:
        assert 4 * seen[part].numel() <= 30
        seen[part] += 1
    assert len(parts) > 5
    assert bool((seen == 1).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_first_of_the_largest(dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    scores = size * torch.randint(-3, 3, (4, 50, 9)).to(dtype)  # many are equal
    scores[0] = size * torch.randn(50, 9, dtype=dtype)
    scores[1, :, 3] = torch.nextafter(scores[1].amax(1), torch.full((50,), torch.inf, dtype=dtype))
    expected = torch.tensor([[row.index(max(row)) for row in group] for group in scores.tolist()])
    assert torch.equal(blocks.argmax_(scores), expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_still_has_a_code(value: float) -> None:
    """The loss says that something is wrong, not an index that does not exist."""
    features, sides, pull, targets = drawn(2, 6, 4, torch.float32)
    features[0, 0, 0] = value
    nats, indices = map_codes(features, sides, pull, targets)
    assert bool(((indices >= 0) & (indices < 4)).all())
    assert not nats[0, 0].isfinite()
    assert bool(nats[1].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("library", ["the one at hand", "none but torch's own"])
def test_affine_in_full_precision(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, library: str) -> None:
    """As in double precision but for the rounding of 70 sums, also of strided tensors."""
    if library != "the one at hand":
        monkeypatch.setattr(blocks, "_ONEDNN", None)
    torch.manual_seed(0)
    rows, weights, bias = (torch.randn(size, dtype=dtype) for size in ((70, 33), (70, 90), (45,)))
    found = blocks.affine(rows.t(), weights.t()[::2], bias)
    expected = torch.addmm(bias.double(), rows.double().t(), weights.double()[:, ::2])
    assert found.dtype == dtype and found.shape == (33, 45)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=200 * torch.finfo(dtype).eps)
