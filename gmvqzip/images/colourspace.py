"""Colour spaces that are given by numbers (gamma and primaries, or code points), and the way from them to sRGB.

References: IEC 61966-2-1 (sRGB), ITU-T H.273 (code points), Bradford's adaptation of the white point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmvqzip.images.notes import Notes

Floats = NDArray[np.float64]
Points = tuple[float, ...]  # x and y of white, red, green and blue

D65 = (0.3127, 0.3290)
BT709 = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES: dict[int, Points] = {  # H.273, table 2
    1: BT709,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}  # H.273, table 3: curves that are powers
LIKE_SRGB = (1, 6, 13, 14, 15)  # BT.709 and its kin are shown as sRGB is
HIGH_RANGE = {16: "PQ", 18: "HLG"}
UNSPECIFIED = 2
SRGB_GAMMA = (0.45, 0.46)  # exponents that stand for the curve of sRGB: files that are sRGB say 0.45455
NEAR = 0.0015  # primaries that differ by less are the same
_BAND_ROWS = 128
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True)
class ColourSpace:
    """Samples in [0, 1] become light by a power (None: by the curve of sRGB), of these primaries."""

    gamma: float | None = None
    points: Points = BT709
    narrow: bool = False  # black at 16/255, white at 235/255

    def to_srgb(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples [H, W, 1 or 3] of 8 or 16 bits -> sRGB of 8 bits, rounded; what is outside sRGB is clipped."""
        levels = 1 << (8 * samples.dtype.itemsize)
        light = self._light(np.arange(levels) / (levels - 1))
        if samples.shape[-1] == 1 or _same_points(self.points, BT709):
            table: NDArray[np.uint8] = np.rint(_shown(light) * 255).astype(np.uint8)
            return np.asarray(table[samples])
        matrix = to_bt709(self.points)
        out = np.empty(samples.shape, dtype=np.uint8)
        for top in range(0, len(samples), _BAND_ROWS):
            band = samples[top : top + _BAND_ROWS]
            out[top : top + _BAND_ROWS] = np.rint(_shown(light[band] @ matrix.T) * 255)
        return out

    def convert(self, image: Image.Image, notes: Notes) -> Image.Image:
        """An image of mode L or RGB -> sRGB; any other as it is. `notes` hears of it."""
        if image.mode not in ("L", "RGB"):
            return image
        samples = np.asarray(image)
        levels = self.to_srgb(samples if samples.ndim == 3 else samples[:, :, None])
        space_notes(self, notes, gray=samples.ndim == 2)
        return Image.fromarray(levels if samples.ndim == 3 else levels[..., 0])

    def _light(self, values: Floats) -> Floats:
        if self.narrow:
            values = np.clip((values * 255 - 16) / 219, 0, 1)
        if self.gamma is not None:
            return values**self.gamma
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


SRGB_SPACE = ColourSpace()


def _shown(light: Floats) -> Floats:
    """The curve of sRGB."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _same_points(first: Points, second: Points) -> bool:
    return all(abs(a - b) < NEAR for a, b in zip(first, second, strict=True))


def to_bt709(points: Points) -> Floats:
    """The matrix [3, 3] from light of these primaries to light of sRGB's, whites adapted."""
    white, own_white = _xyz(*points[:2]), _xyz(*D65)
    seen, wanted = _BRADFORD @ white, _BRADFORD @ own_white
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(wanted / seen) @ _BRADFORD
    return np.asarray(np.linalg.inv(_to_xyz(BT709)) @ adapt @ _to_xyz(points))


def _xyz(x: float, y: float) -> Floats:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(points: Points) -> Floats:
    columns = np.stack([_xyz(*points[i : i + 2]) for i in (2, 4, 6)], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, _xyz(*points[:2])))


def gamma_space(exponent: float, points: Points = ()) -> ColourSpace | None:
    """The space of a gAMA (samples are light to this power; 0: not given) and a cHRM (empty: not given).

    None where it is sRGB, or the numbers make no sense.
    """
    if exponent and not 0.05 <= exponent <= 10:
        exponent = 0
    if not _usable(points) or _same_points(points, BT709):
        points = BT709
    gamma = None if not exponent or SRGB_GAMMA[0] <= exponent <= SRGB_GAMMA[1] else 1 / exponent
    space = ColourSpace(gamma, points)
    return None if space == SRGB_SPACE else space


def _usable(points: Points) -> bool:
    if len(points) != 8 or any(
        not 0 < y <= 1 or not 0 <= x <= 1 for x, y in zip(points[::2], points[1::2], strict=True)
    ):
        return False
    red, green, blue = (np.array(points[i : i + 2]) for i in (2, 4, 6))
    across, down = green - red, blue - red
    return abs(float(across[0] * down[1] - across[1] * down[0])) > 0.01  # a triangle, no line


def is_known_space(primaries: int, transfer: int) -> bool:
    """Whether code points say what can be converted to sRGB."""
    return primaries in (*PRIMARIES, UNSPECIFIED) and transfer in (*GAMMAS, *LIKE_SRGB, UNSPECIFIED)


def coded_space(primaries: int, transfer: int, full: int, notes: Notes) -> ColourSpace | None:
    """The space of code points (H.273; cICP, nclx). None where it is sRGB, or cannot be converted, which is noted."""
    if transfer in HIGH_RANGE:
        notes.drop(f"high dynamic range ({HIGH_RANGE[transfer]}) is not converted: colours may look flat")
        return None
    if not is_known_space(primaries, transfer):
        notes.say(f"colours of code points {primaries}/{transfer} are not converted: taken as sRGB")
        return None
    points = PRIMARIES.get(primaries, BT709)
    space = ColourSpace(GAMMAS.get(transfer), BT709 if _same_points(points, BT709) else points, narrow=not full)
    return None if space == SRGB_SPACE else space


def space_notes(space: ColourSpace, notes: Notes, *, gray: bool) -> None:
    """Say what a conversion changes."""
    if gray or _same_points(space.points, BT709):
        notes.say("the curve of the samples converted to sRGB")
    else:
        notes.drop("colours converted to sRGB: what is outside of it is clipped")
