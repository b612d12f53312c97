"""What an eye minds in a decoded picture, differentiable: a colour-weighted squared error, and SSIMULACRA2.

`structure` is SSIMULACRA2 2.1 (Sneyers 2022) as a function of pictures in [0, 1]: maps of structural dissimilarity,
of ringing and of blur in the XYB colour space at five scales, their means and fourth-power means, a weighted sum and a
curve. Of its 108 weights those below 0.9 are left out, which changes the score by some tenths; windows reach over the
border by reflection. The sixth scale has no weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
_TOE = 0.04045  # of sRGB's curve, below which it is straight
_OPPONENT = (7.0, -7.0, 0.0), (0.5, 0.5, 0.0), (-0.5, -0.5, 1.0)  # XYB of cube roots, which the bias' is taken from
_SHIFT = (0.42,), (0.01 - _BIAS ** (1 / 3),), (0.55,)
_LUMA = (0.299, 0.587, 0.114)
_LUMA_CHROMA = (
    _LUMA,
    tuple(0.564 * math.sqrt(CHROMA_WEIGHT) * (one - own) for one, own in zip((0, 0, 1), _LUMA, strict=True)),
    tuple(0.713 * math.sqrt(CHROMA_WEIGHT) * (one - own) for one, own in zip((1, 0, 0), _LUMA, strict=True)),
)  # Y, and Cb and Cr by the root of their weight
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
    return _mixed(_matrix(_LUMA_CHROMA, decoded.device, decoded.dtype), decoded - original).square().sum(1).mean((1, 2))


class Structure:
    """SSIMULACRA2 beside originals [B, 3, H, W] in [0, 1]."""

    def __init__(self, original: Tensor) -> None:
        with torch.no_grad():
            self._scales = [_Scale(y, scale) for scale, y in enumerate(_pyramid(_xyb(original.clamp(0, 1))[0]))]

    def __call__(self, decoded: Tensor) -> Tensor:
        """SSIMULACRA2 [B] of decoded pictures, at most 100; the gradient reaches them."""
        score: Tensor = _Differentiated.apply(decoded, self._score)  # type: ignore[no-untyped-call]
        return score

    def _score(self, decoded: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        """The score, and its gradient where that is wanted."""
        clamped = decoded.clamp(0, 1)
        xyb, to_image = _xyb(clamped)
        pyramid = _pyramid(xyb)
        looks = [scale(x) for scale, x in zip(self._scales, pyramid, strict=True)]
        total = _GAIN * torch.stack([value for value, _ in looks]).sum(0)
        linear, square, cube = _CURVE
        curve = linear * total + square * total**2 + cube * total**3
        raised = curve.clamp_min(0) + 1e-6
        score = 100 - 10 * raised**_POWER
        if not wanted:
            return score, None
        slope = (linear + 2 * square * total + 3 * cube * total**2) * (curve >= 0)
        slope = -10 * _POWER * _GAIN * slope * raised ** (_POWER - 1)
        gradient = torch.zeros_like(pyramid[-1])
        for number in reversed(range(len(pyramid))):
            if number < len(pyramid) - 1:
                gradient = _spread(gradient, *pyramid[number].shape[2:])
            gradient[:, self._scales[number].channels] += looks[number][1]()
        gradient = to_image(gradient.mul_(slope[:, None, None, None]))
        return score, gradient.mul_(clamped == decoded)


class _Differentiated(torch.autograd.Function):
    """Numbers [B] of pictures [B, C, H, W], computed with their gradient."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, compute: Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]) -> Tensor:
        value, gradient = compute(pictures, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (own,) = ctx.saved_tensors
        return own * gradient[:, None, None, None], None


def structure(decoded: Tensor, original: Tensor) -> Tensor:
    """SSIMULACRA2 [B] of pictures [B, 3, H, W] in [0, 1], at most 100; the gradient reaches `decoded`."""
    return Structure(original)(decoded)


class _Scale:
    """The maps of one scale beside the original's planes [B, 3, H, W]."""

    def __init__(self, y: Tensor, scale: int) -> None:
        tables = (_SSIM, _RINGING, _BLUR)
        used = [channel for channel in range(3) if any((scale, channel) in table for table in tables)]
        self.channels = slice(used[0], used[-1] + 1)
        self._y = y[:, self.channels]
        self._mean, square = _blurred(torch.cat([self._y, self._y * self._y])).chunk(2)
        self._variance = square - self._mean * self._mean
        self._edge = 1 / (1 + (self._y - self._mean).abs())
        self._kinds = [kind for kind, table in enumerate(tables) if any((scale, c) in table for c in used)]
        weights = [tables[kind].get((scale, c), (0.0, 0.0)) for kind in self._kinds for c in used]
        self._first, self._fourth = y.new_tensor(weights).T

    def __call__(self, x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """The weighted sum [B] of the maps of decoded planes [B, 3, H, W], and what makes the gradient of it at the
        channels in use."""
        x, y, mean_y = x[:, self.channels], self._y, self._mean
        mean, square, product = _blurred(torch.cat([x, x * x, x * y])).chunk(3)
        between = mean - mean_y
        luminance = 1 - between.square()
        spread = self._variance + square - mean * mean + _C2
        ratio = (2 * (product - mean * mean_y) + _C2) / spread
        off = x - mean
        edge = (1 + off.abs()).mul_(self._edge).sub_(1)
        maps = [1 - luminance * ratio, edge, -edge]
        own = torch.cat([maps[kind] for kind in self._kinds], 1).clamp_min_(0)
        cubes = own.square().mul_(own)
        fourth = (cubes * own).mean((2, 3)) + _EPSILON
        total = (self._first * own.mean((2, 3)) + self._fourth * fourth**0.25).sum(1)

        def gradient() -> Tensor:
            size = own.shape[2] * own.shape[3]
            slopes = cubes.mul_((self._fourth / size * fourth**-0.75)[:, :, None, None])
            slopes.add_((self._first / size)[:, None, None]).mul_(own > 0)
            of = dict(zip(self._kinds, slopes.chunk(len(self._kinds), 1), strict=True))
            of_ratio = -luminance * of[0] / spread if 0 in of else torch.zeros_like(spread)
            of_square = -of_ratio * ratio
            of_mean = -2 * (mean * of_square + mean_y * of_ratio)
            if 0 in of:
                of_mean += 2 * between * ratio * of[0]
            of_edge = sum(sign * of[kind] for kind, sign in ((1, 1), (2, -1)) if kind in of)
            direct = off.sign() * self._edge * of_edge
            parts = _blurred_back(torch.cat([of_mean - direct, of_square, 2 * of_ratio])).chunk(3)
            return direct + parts[0] + 2 * x * parts[1] + y * parts[2]

        return total, gradient


def _xyb(image: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """XYB, shifted to be positive, of pictures [B, 3, H, W] in [0, 1]; and what makes of its gradient theirs."""
    base = image.clamp_min(_TOE).add_(0.055).mul_(1 / 1.055)
    power = base**1.4
    toe = image <= _TOE
    linear = torch.where(toe, image / 12.92, power * base)
    absorbance, opponent, shift = (
        _matrix(rows, image.device, image.dtype) for rows in (_ABSORBANCE, _OPPONENT, _SHIFT)
    )
    absorbed = _mixed(absorbance, linear).add_(_BIAS)
    roots = absorbed ** (1 / 3)
    xyb = _mixed(opponent, roots).add_(shift[..., None])

    def to_image(gradient: Tensor) -> Tensor:
        of_absorbed = _mixed(opponent.T, gradient).mul_(roots).div_(absorbed).mul_(1 / 3)
        slope = power.mul_(2.4 / 1.055).masked_fill_(toe, 1 / 12.92)
        return _mixed(absorbance.T, of_absorbed).mul_(slope)

    return xyb, to_image


def _mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """A matrix [3, 3] times the channels of [B, 3, H, W]."""
    flat = planes.flatten(2)
    mixed = (matrix @ flat[0])[None] if len(flat) == 1 else matrix @ flat
    return mixed.reshape(planes.shape)


@lru_cache(maxsize=64)
def _matrix(rows: tuple[tuple[float, ...], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(rows, device=device, dtype=dtype)


def _pyramid(planes: Tensor) -> list[Tensor]:
    """[B, C, H, W] and its halves, while a side has 8 pixels."""
    scales = [planes]
    while len(scales) < _SCALES and min(scales[-1].shape[2:]) >= 16:
        scales.append(F.avg_pool2d(scales[-1], 2, ceil_mode=True, count_include_pad=False))
    return scales


def _spread(gradient: Tensor, rows: int, columns: int) -> Tensor:
    """The gradient at planes [B, C, rows, columns] of one at their half, of means of 2x2 pixels or what there is."""
    shares = gradient / 4
    shares[:, :, rows // 2 :] *= 2
    shares[:, :, :, columns // 2 :] *= 2
    batch, channels, high, wide = shares.shape
    fourfold = shares[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return fourfold.reshape(batch, channels, 2 * high, 2 * wide)[:, :, :rows, :columns]


def _blurred(planes: Tensor) -> Tensor:
    """The Gaussian mean around each pixel of [B, C, H, W], which the ends of a side reflect."""
    if not _by_shifts(planes):
        rows, columns = (_window(side, planes.device, planes.dtype) for side in planes.shape[2:])
        return rows @ planes @ columns.T
    for axis in (2, 3):
        first, last = planes.narrow(axis, 0, _RADIUS), planes.narrow(axis, planes.shape[axis] - _RADIUS, _RADIUS)
        planes = _shifts(torch.cat([first.flip(axis), planes, last.flip(axis)], axis), axis)
    return planes


def _blurred_back(gradient: Tensor) -> Tensor:
    """Its transpose."""
    if not _by_shifts(gradient):
        rows, columns = (_window(side, gradient.device, gradient.dtype) for side in gradient.shape[2:])
        return rows.T @ gradient @ columns
    for axis in (2, 3):
        side = gradient.shape[axis]
        beyond = gradient.new_zeros(*gradient.shape[:axis], 2 * _RADIUS, *gradient.shape[axis + 1 :])
        whole = _shifts(torch.cat([beyond, gradient, beyond], axis), axis)
        gradient = whole.narrow(axis, _RADIUS, side)
        gradient.narrow(axis, 0, _RADIUS).add_(whole.narrow(axis, 0, _RADIUS).flip(axis))
        gradient.narrow(axis, side - _RADIUS, _RADIUS).add_(whole.narrow(axis, _RADIUS + side, _RADIUS).flip(axis))
    return gradient


def _by_shifts(planes: Tensor) -> bool:
    """Whether sums over shifted planes are faster than a product with a matrix for each side."""
    rows, columns = planes.shape[2:]
    return planes.device.type == "cpu" and min(rows, columns) > _RADIUS and max(rows, columns) > _LONG_SIDE


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
def _window(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix [side, side] of the Gaussian mean along one axis, reflected at the ends."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1)
    places = torch.arange(side)[:, None] + offsets
    places = torch.where(places < 0, -1 - places, places)
    places = torch.where(places >= side, 2 * side - 1 - places, places).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, places, _gaussian().expand(side, -1))
    return matrix.to(device, dtype)
