"""The distortion for eyes: SSIMULACRA2 beside the package that measures it, and an error that is weighted by colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gmvqzip.bench.metrics import ssimulacra2
from gmvqzip.models import distortion
from gmvqzip.models.distortion import CHROMA_WEIGHT, colour_error, eye_distortion, structure, summed_error


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some edges and texture [H, W, 3]."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    pixels[height // 4 : height // 2, width // 4 : width // 2] //= 2
    pixels[height // 2 :] += rng.integers(-20, 20, (height - height // 2, width, 1))
    return pixels.clip(0, 255).astype(np.uint8)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("quality", [20, 50, 80, 95])
def test_it_is_ssimulacra2(quality: int) -> None:
    pytest.importorskip("ssimulacra2")
    original = scene(256, 384)
    buffer = io.BytesIO()
    Image.fromarray(original).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    # Small weights are left out, and borders are reflected where the package pads with black.
    assert float(structure(tensor(decoded), tensor(original))) == pytest.approx(ssimulacra2(original, decoded), abs=2.5)


@pytest.mark.parametrize(("height", "width"), [(131, 97), (40, 300), (8, 200)])
def test_sums_of_shifts_are_the_product_with_a_matrix(height: int, width: int) -> None:
    planes = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, columns = (distortion._window(side, planes.device, planes.dtype) for side in (height, width))
    wanted = rows @ planes @ columns.T
    found = distortion._blurred(planes)
    assert torch.allclose(found, wanted, atol=1e-6)
    weights = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(1))
    (slopes,) = torch.autograd.grad((wanted * weights).sum(), planes)
    assert torch.allclose(distortion._blurred_back(weights), slopes, atol=1e-5)


def test_originals_are_looked_at_once() -> None:
    original, decoded = tensor(scene(64, 96, 1)), [tensor(scene(64, 96, seed)) for seed in (2, 3)]
    known = distortion.Distortion(original, "eye")
    assert [known(d).item() for d in decoded] == [summed_error(d, original, "eye").item() for d in decoded]


def test_equal_pictures() -> None:
    image = tensor(scene(64, 96))
    assert float(structure(image, image)) > 97
    assert float(colour_error(image, image)) == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradients_are_finite_where_nothing_is_to_be_seen(value: float) -> None:
    flat = torch.full((2, 3, 32, 48), value, requires_grad=True)
    structure(flat, torch.full_like(flat, value)).sum().backward()
    assert flat.grad is not None and bool(flat.grad.isfinite().all())


def test_a_step_along_the_gradient_is_a_better_picture() -> None:
    original = tensor(scene(64, 64))
    decoded = (original + 0.05 * torch.randn(original.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    decoded.requires_grad_()
    before = structure(decoded, original)
    before.backward()
    assert decoded.grad is not None
    after = structure((decoded + 0.01 * decoded.grad / decoded.grad.abs().amax()).detach(), original)
    assert float(after) > float(before.detach())


@pytest.mark.parametrize(("height", "width"), [(64, 96), (101, 75), (32, 32), (9, 8)])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_gradient_is_the_slope_in_any_direction(height: int, width: int, seed: int) -> None:
    original, decoded, way = (tensor(scene(height, width, number)).double() for number in (0, seed, 3))
    decoded = (original + 0.1 * (decoded - 0.5)).clamp(0.02, 0.98).requires_grad_()
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(seed)).double()
    for direction in (original - decoded.detach(), way - 0.5, noise):
        (slope,) = torch.autograd.grad(structure(decoded, original).sum(), decoded)
        ends = [structure((decoded + step * direction).detach(), original).item() for step in (1e-6, -1e-6)]
        assert (slope * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=0.01)


def test_each_picture_has_its_own_gradient() -> None:
    original = torch.cat([tensor(scene(40, 56, seed)) for seed in (1, 2)])
    decoded = (original + 0.1 * (tensor(scene(40, 56, 3)) - 0.5)).requires_grad_()
    (together,) = torch.autograd.grad((structure(decoded, original) * torch.tensor([1.0, -2.0])).sum(), decoded)
    for number, factor in enumerate((1, -2)):
        (alone,) = torch.autograd.grad(structure(decoded, original[number : number + 1])[number], decoded)
        assert torch.allclose(together[number], factor * alone[number], atol=1e-4 * float(alone.abs().max()))


def test_beyond_the_range_of_pictures_there_is_no_slope() -> None:
    original = tensor(scene(32, 48))
    decoded = (original * 3 - 1).requires_grad_()
    (slope,) = torch.autograd.grad(structure(decoded, original).sum(), decoded)
    inside = (decoded >= 0) & (decoded <= 1)
    assert bool((slope[~inside] == 0).all()) and float(slope[inside].abs().max()) > 0


def test_errors_of_colour_count_less() -> None:
    original = torch.full((1, 3, 8, 8), 0.5)
    gray = colour_error(original + 0.1, original)
    assert float(gray) == pytest.approx(0.01, rel=1e-4)
    luma = torch.tensor([0.299, 0.587, 0.114])
    shift = torch.tensor([0.1, 0.0, -0.1])
    shift = shift - (luma * shift).sum()  # of colour alone
    error = colour_error(original + shift[:, None, None], original)
    weighted = CHROMA_WEIGHT * ((0.713 * shift[0]) ** 2 + (0.564 * shift[2]) ** 2)
    assert float(error) == pytest.approx(float(weighted), rel=1e-4)


class TestSummedError:
    def test_squares(self) -> None:
        decoded, original = tensor(scene(24, 40, 1)), tensor(scene(24, 40, 2))
        assert summed_error(decoded, original, "rgb").item() == pytest.approx(
            float((decoded - original).double().square().sum()), rel=1e-5
        )

    def test_for_eyes_it_is_in_the_same_unit(self) -> None:
        decoded, original = tensor(scene(24, 40, 1)), tensor(scene(24, 40, 2))
        eye = eye_distortion(decoded, original)
        mean = summed_error(decoded, original, "eye") / original[0].numel()  # of a sample in [0, 1]
        assert (255**2 * mean).item() == pytest.approx(eye.item(), rel=1e-5)
