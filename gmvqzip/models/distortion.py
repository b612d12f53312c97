"""What an eye minds in a decoded picture, differentiable: a colour-weighted squared error, and SSIMULACRA2.

`structure` is SSIMULACRA2 2.1 (Sneyers 2022) as a function of pictures in [0, 1]: maps of structural dissimilarity,
of ringing and of blur in the XYB colour space at five scales, their means and fourth-power means, a weighted sum and a
curve. Of its 108 weights those below 0.9 are left out, which changes the score by some tenths; windows reach over the
border by reflection. The sixth scale has no weight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK = 255.0
CHROMA_WEIGHT = 1 / 6  # of the squared errors of Cb and Cr, beside 1 of Y
POINT = (
    1.1  # squared errors of 8-bit samples that a point of SSIMULACRA2 is worth; measured along curves of photographs
)
_COLOUR_SHARE = 0.4  # of the squared error in `eye_distortion`

_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_BIAS = 0.0037930732552754493
_C2 = 0.0009
_SIGMA, _RADIUS = 1.5, 5  # pixels
_LONG_SIDE = 96  # pixels, beyond which a processor is faster with shifted sums than with a matrix for each side
_EPSILON = 1e-16  # under fourth roots, whose slope is infinite at 0
_GAIN, _CURVE = 0.9562382616834844, (2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
_POWER = 0.6276336467831387
# Weights of (mean, fourth-power mean) of each map, by scale and channel of XYB.
_SSIM = {
    (0, 1): (0.0, 7.466890328078848), (1, 0): (0.0, 1.1041726426657346), (1, 1): (0.0, 6.683678146179332),
    (2, 0): (0.0, 1.8422455520539298), (2, 1): (225.20515300849274, 19.213238186143016),
    (3, 0): (0.0, 1.8787594979546387), (3, 1): (176.39317598450694, 24.43300999870476),
    (3, 2): (0.0, 8.826982764996862), (4, 1): (0.0, 34.77906344483772), (4, 2): (95.1080498811086, 0.0),
}  # fmt: skip
_RINGING = {
    (2, 0): (0.0, 11.441172603757666), (3, 0): (0.0, 10.94906990605142), (3, 2): (0.0, 23.19243343998926),
    (4, 0): (0.9677937080626833, 0.9981766977854967), (4, 1): (0.0, 44.835625328877896),
    (4, 2): (0.9863978034400682, 171.2667255897307),
}  # fmt: skip
_BLUR = {
    (0, 1): (0.0, 17.445833984131262),
    (1, 1): (0.0, 1.027889937768264),
    (4, 2): (0.9834382792465353, 0.9807858872435379),
}
_SCALES = 5


class Distortion:
    """A configuration's `distortion` of decoded pictures beside originals [B, 3, H, W] in [0, 1].

    What depends on the originals alone is computed once, for as many decoded pictures as are looked at.
    """

    def __init__(self, original: Tensor, kind: str) -> None:
        self.original = original
        self._structure = None if kind == "rgb" else Structure(original)

    def __call__(self, decoded: Tensor) -> Tensor:
        """[B], as a sum of squares over all samples in [0, 1]; the gradient reaches `decoded`."""
        if self._structure is None:
            return (decoded - self.original).square().sum((1, 2, 3))
        structural = POINT * (100 - self._structure(decoded.float()))
        squares = _COLOUR_SHARE * PEAK**2 * colour_error(decoded, self.original) + (1 - _COLOUR_SHARE) * structural
        return squares * (self.original[0].numel() / PEAK**2)


def summed_error(decoded: Tensor, original: Tensor, distortion: str) -> Tensor:
    """What a configuration's `distortion` makes of pictures [B, 3, H, W]: [B], as a sum of squares over all samples in
    [0, 1]."""
    return Distortion(original, distortion)(decoded)


def eye_distortion(decoded: Tensor, original: Tensor) -> Tensor:
    """The distortion [B] of pictures [B, 3, H, W] that stands for eyes, in squared errors of 8-bit samples."""
    return summed_error(decoded, original, "eye") * (PEAK**2 / original[0].numel())


def colour_error(decoded: Tensor, original: Tensor) -> Tensor:
    """Squared error [B] of pictures [B, 3, H, W] in [0, 1]: Y + CHROMA_WEIGHT (Cb + Cr), as large as that of RGB where
    all three channels err alike."""
    error = decoded - original
    red, green, blue = error.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = (0.564 * (blue - luma)).square() + (0.713 * (red - luma)).square()
    return (luma.square() + CHROMA_WEIGHT * chroma).mean((1, 2))


class Structure:
    """SSIMULACRA2 beside originals [B, 3, H, W] in [0, 1]."""

    def __init__(self, original: Tensor) -> None:
        with torch.no_grad():
            self._known = []
            for scale, y in enumerate(_pyramid(_xyb(original.clamp(0, 1)))):
                channels = [c for c in range(3) if any((scale, c) in table for table in (_SSIM, _RINGING, _BLUR))]
                own = y[:, channels]
                mean, square = _blurred(torch.cat([own, own * own])).chunk(2)
                self._known.append((channels, own, mean, square - mean * mean))

    def __call__(self, decoded: Tensor) -> Tensor:
        """SSIMULACRA2 [B] of decoded pictures, at most 100; the gradient reaches them."""
        total = torch.zeros(len(decoded), device=decoded.device)
        for scale, (x, known) in enumerate(zip(_pyramid(_xyb(decoded.clamp(0, 1))), self._known, strict=True)):
            total = total + _scale(x[:, known[0]], *known[1:], scale, known[0])
        total = _GAIN * total
        linear, square, cube = _CURVE
        total = linear * total + square * total**2 + cube * total**3
        return 100 - 10 * (total.clamp_min(0) + 1e-6) ** _POWER


def structure(decoded: Tensor, original: Tensor) -> Tensor:
    """SSIMULACRA2 [B] of pictures [B, 3, H, W] in [0, 1], at most 100; the gradient reaches `decoded`."""
    return Structure(original)(decoded)


def _scale(x: Tensor, y: Tensor, mean_y: Tensor, variance_y: Tensor, scale: int, channels: list[int]) -> Tensor:
    """The weighted sum [B] of the maps of one scale, of decoded `x` and original `y` [B, C, H, W]."""
    mean_x, square_x, product = _blurred(torch.cat([x, x * x, x * y])).chunk(3)
    variance_x = square_x - mean_x * mean_x
    covariance = product - mean_x * mean_y
    luminance = 1 - (mean_x - mean_y).square()
    ssim = (1 - luminance * (2 * covariance + _C2) / (variance_y + variance_x + _C2)).clamp_min(0)
    edge = (1 + (x - mean_x).abs()) / (1 + (y - mean_y).abs()) - 1
    total = torch.zeros(len(x), device=x.device)
    for index, channel in enumerate(channels):
        for table, plane, sign in ((_SSIM, ssim, 1), (_RINGING, edge, 1), (_BLUR, edge, -1)):
            if (scale, channel) not in table:
                continue
            first, fourth = table[scale, channel]
            own = plane[:, index] if table is _SSIM else (sign * plane[:, index]).clamp_min(0)
            if first:
                total = total + first * own.mean((1, 2))
            if fourth:
                total = total + fourth * (own.square().square().mean((1, 2)) + _EPSILON) ** 0.25
    return total


def _xyb(image: Tensor) -> Tensor:
    """XYB, shifted to be positive, of pictures [B, 3, H, W] in [0, 1]."""
    linear = torch.where(image <= 0.04045, image / 12.92, ((image.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    matrix = image.new_tensor(_ABSORBANCE)
    mixed = (torch.einsum("oc,bchw->bohw", matrix, linear) + _BIAS) ** (1 / 3) - _BIAS ** (1 / 3)
    long, middle, short = mixed.unbind(1)
    luma = 0.5 * (long + middle)
    return torch.stack([7 * (long - middle) + 0.42, luma + 0.01, short - luma + 0.55], 1)


def _pyramid(planes: Tensor) -> list[Tensor]:
    """[B, C, H, W] and its halves, while a side has 8 pixels."""
    scales = [planes]
    while len(scales) < _SCALES and min(scales[-1].shape[2:]) >= 16:
        scales.append(F.avg_pool2d(scales[-1], 2, ceil_mode=True, count_include_pad=False))
    return scales


def _blurred(planes: Tensor) -> Tensor:
    """The Gaussian mean around each pixel of [B, C, H, W], which the ends of a side reflect."""
    rows, columns = planes.shape[2:]
    if planes.device.type == "cpu" and min(rows, columns) > _RADIUS and max(rows, columns) > _LONG_SIDE:
        blurred: Tensor = _Taps.apply(planes)  # type: ignore[no-untyped-call]
    else:
        blurred = _window(rows, planes.device) @ planes @ _window(columns, planes.device).T
    return blurred


class _Taps(torch.autograd.Function):
    """The Gaussian mean as a sum over shifts, and its transpose."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor) -> Tensor:
        for axis in (2, 3):
            first, last = planes.narrow(axis, 0, _RADIUS), planes.narrow(axis, planes.shape[axis] - _RADIUS, _RADIUS)
            planes = _shifts(torch.cat([first.flip(axis), planes, last.flip(axis)], axis), axis)
        return planes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        for axis in (2, 3):
            side = gradient.shape[axis]
            beyond = gradient.new_zeros(*gradient.shape[:axis], 2 * _RADIUS, *gradient.shape[axis + 1 :])
            whole = _shifts(torch.cat([beyond, gradient, beyond], axis), axis)
            gradient = whole.narrow(axis, _RADIUS, side)
            gradient.narrow(axis, 0, _RADIUS).add_(whole.narrow(axis, 0, _RADIUS).flip(axis))
            gradient.narrow(axis, side - _RADIUS, _RADIUS).add_(whole.narrow(axis, _RADIUS + side, _RADIUS).flip(axis))
        return gradient


def _shifts(planes: Tensor, axis: int) -> Tensor:
    """The weighted sums along an axis, which gets shorter by the window's two ends."""
    side = planes.shape[axis] - 2 * _RADIUS
    weights = _gaussian().tolist()
    total: Tensor = planes.narrow(axis, 0, side) * weights[0]
    for place in range(1, 2 * _RADIUS + 1):
        total.add_(planes.narrow(axis, place, side), alpha=weights[place])
    return total


def _gaussian() -> Tensor:
    """The weights [2 * radius + 1] of the mean along one axis, float64."""
    weights = torch.exp(-torch.arange(-_RADIUS, _RADIUS + 1).double().square() / (2 * _SIGMA**2))
    normed: Tensor = weights / weights.sum()
    return normed


@lru_cache(maxsize=64)
def _window(side: int, device: torch.device) -> Tensor:
    """The matrix [side, side] of the Gaussian mean along one axis, reflected at the ends."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1)
    places = torch.arange(side)[:, None] + offsets
    places = torch.where(places < 0, -1 - places, places)
    places = torch.where(places >= side, 2 * side - 1 - places, places).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, places, _gaussian().expand(side, -1))
    return matrix.float().to(device)
