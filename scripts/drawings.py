#!/usr/bin/env python3
"""Makes pictures of text, drawings, screens and gradients: what a folder of photographs lacks for training.

    python scripts/drawings.py FOLDER --count 110

The same seed gives the same pictures as long as the fonts are the same: DejaVu where it is installed, and Pillow's own.
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 640
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSerif-Italic", "DejaVuSansCondensed")
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
FREQUENCY = np.array(
    [12, 9, 8, 7.5, 7, 7, 6, 6, 6, 4, 4, 3, 3, 2.5, 2.2, 2.3, 2, 2, 1, 1.5, 2, 0.8, 0.1, 0.2, 0.2, 0.1]
)
Colour = tuple[int, int, int]


def font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One of FONTS at `size` pixels, or Pillow's own."""
    if rng.random() < 0.8:
        try:
            return ImageFont.truetype(f"{rng.choice(FONTS)}.ttf", size)
        except OSError:
            pass
    return ImageFont.load_default(size)


def colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> Colour:
    """Grey half of the time."""
    values = rng.integers(low, high, 3)
    return (int(values[0]),) * 3 if rng.random() < 0.5 else (int(values[0]), int(values[1]), int(values[2]))


def pair(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Ground and ink: mostly black on white, else far apart in brightness."""
    ground, ink = ((255, 255, 255), (0, 0, 0)) if rng.random() < 0.4 else (colour(rng, 190), colour(rng, 0, 90))
    return (ink, ground) if rng.random() < 0.25 else (ground, ink)


def words(rng: np.random.Generator, count: int) -> str:
    """Words of letters at about their frequency in English, some capitals, figures and signs."""
    made = []
    for _ in range(count):
        letters = rng.choice(list(LETTERS), int(rng.integers(1, 11)), p=FREQUENCY / FREQUENCY.sum())
        word = "".join(letters)
        kind = rng.random()
        if kind < 0.1:
            word = str(rng.integers(0, 100_000))
        elif kind < 0.25:
            word = word.capitalize()
        elif kind < 0.3:
            word = word.upper()
        made.append(word + (rng.choice(list(string.punctuation)) if rng.random() < 0.12 else ""))
    return " ".join(made)


def text(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: Colour) -> None:
    """Lines of words at one size within (left, top, right, bottom)."""
    size = int(np.exp(rng.uniform(np.log(9), np.log(48))))
    face, top = font(rng, size), box[1]
    while top + size < box[3]:
        line = words(rng, 1 + (box[2] - box[0]) // (3 * size))
        while line and draw.textlength(line, face) > box[2] - box[0]:
            line = line.rpartition(" ")[0]
        draw.text((box[0], top), line, ink, face)
        top += int(size * rng.uniform(1.15, 1.5))


def page(rng: np.random.Generator) -> Image.Image:
    """Text in one to three columns."""
    ground, ink = pair(rng)
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    draw, columns = ImageDraw.Draw(picture), int(rng.integers(1, 4))
    width = SIDE // columns
    for column in range(columns):
        top = int(rng.integers(0, 60))
        while top < SIDE - 60:
            bottom = min(SIDE, top + int(rng.integers(60, SIDE)))
            text(rng, draw, (column * width + 12, top, (column + 1) * width - 12, bottom), ink)
            top = bottom + 10
    return picture


def drawing(rng: np.random.Generator) -> Image.Image:
    """Flat shapes and lines of all widths, smooth or in steps, some words."""
    ground, ink = pair(rng)
    scale = 2 if rng.random() < 0.7 else 1  # drawn larger and reduced: smooth edges
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), ground)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 40))):
        x, y = rng.integers(0, SIDE * scale, 2)
        width, height = np.exp(rng.uniform(np.log(8), np.log(SIDE / 2), 2)) * scale
        box, line = (int(x), int(y), int(x + width), int(y + height)), int(rng.integers(1, 7)) * scale
        fill, edge = colour(rng) if rng.random() < 0.6 else None, ink if rng.random() < 0.6 else colour(rng)
        shape = rng.integers(0, 5)
        if shape == 0:
            draw.rectangle(box, fill, edge, line)
        elif shape == 1:
            draw.ellipse(box, fill, edge, line)
        elif shape == 2:
            draw.line(
                [(int(a), int(b)) for a, b in rng.integers(0, SIDE * scale, (int(rng.integers(2, 9)), 2))], edge, line
            )
        elif shape == 3:
            draw.arc(box, float(rng.uniform(0, 360)), float(rng.uniform(0, 360)), edge, line)
        else:
            corners = [(int(x + width * a), int(y + height * b)) for a, b in rng.random((int(rng.integers(3, 7)), 2))]
            draw.polygon(corners, fill, edge, line)
    picture = picture.reduce(scale) if scale > 1 else picture
    text(rng, ImageDraw.Draw(picture), (20, 20, SIDE - 20, int(rng.integers(40, 200))), ink)
    return picture


def screen(rng: np.random.Generator) -> Image.Image:
    """Windows, tables and buttons: flat boxes with thin edges and text of one size each."""
    ground, _ = pair(rng)
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 10))):
        x, y = (int(v) for v in rng.integers(0, SIDE - 80, 2))
        right, bottom = x + int(rng.integers(80, SIDE)), y + int(rng.integers(30, SIDE // 2))
        fill, ink = pair(rng)
        draw.rectangle((x, y, right, bottom), fill, colour(rng), int(rng.integers(0, 3)))
        if rng.random() < 0.4:
            for line in range(y, bottom, int(rng.integers(12, 40))):
                draw.line((x, line, right, line), colour(rng, 100))
        text(rng, draw, (x + 6, y + 4, min(right, SIDE) - 4, min(bottom, SIDE) - 2), ink)
    return picture


def gradient(rng: np.random.Generator) -> Image.Image:
    """A smooth ground of a few waves and ramps in colour, or a flat one; sometimes shapes upon it."""
    grid = np.linspace(0, 1, SIDE)
    x, y = np.meshgrid(grid, grid)
    channels = []
    for _ in range(3):
        angle, wave = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 3)
        ramp = x * np.cos(angle) + y * np.sin(angle)
        channels.append(rng.uniform(20, 235) + rng.uniform(0, 80) * np.sin(wave * ramp * 2 + rng.uniform(0, 6)))
    if rng.random() < 0.3:
        channels = [np.full_like(x, rng.integers(0, 256)) for _ in range(3)]
    picture = Image.fromarray(np.clip(np.stack(channels, 2).round(), 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        text(rng, ImageDraw.Draw(picture), (40, 40, SIDE - 40, 240), colour(rng))
    return picture


KINDS = (page, page, drawing, drawing, screen, gradient)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=110, help="pictures, of 640x640 pixels (default: 110)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        rng = np.random.default_rng((arguments.seed, number))
        KINDS[number % len(KINDS)](rng).save(arguments.folder / f"drawing-{number:04}.png")


if __name__ == "__main__":
    main()
