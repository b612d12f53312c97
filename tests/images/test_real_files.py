"""Odd files of real formats: right, or refused in one line, or with a note; never silently wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
from leftover_cases import LEFTOVERS
from odd_cases import Case
from PIL import Image
from real_cases import PARTS, all_cases

from gmvqzip.codec import Codec
from gmvqzip.errors import ImageError
from gmvqzip.images.picture import read_picture

EVERY_PART = (*PARTS, *LEFTOVERS)


def judged(case: Case) -> str:
    """What is wrong with the reading of a file; nothing where it is right."""
    try:
        picture = read_picture(case.data)
    except ImageError as error:
        line = str(error)
        if case.pixels is not None:
            return f"refused: {line}"
        missing = [words for words in case.says if words not in line]
        return f"the refusal lacks {missing}: {line}" if missing or "\n" in line else ""
    if case.pixels is None:
        return "read, though it has no agreed meaning"
    wrong = []
    if picture.pixels.shape != case.pixels.shape:
        return f"of shape {picture.pixels.shape}"
    off = np.abs(picture.pixels.astype(int) - case.pixels).max(axis=2)
    seen = off if picture.alpha is None else off[picture.alpha > 0]
    if seen.size and seen.max() > case.within:
        wrong.append(f"{seen.max()} levels off")
    if (picture.alpha is None) != (case.alpha is None) and not (case.alpha == 255).all():
        wrong.append(f"alpha {picture.alpha is not None}")
    elif picture.alpha is not None and not np.array_equal(picture.alpha, case.alpha):
        wrong.append("another alpha")
    wrong += [f"not said: {words}" for words in case.says if not any(words in line for line in picture.warnings)]
    if case.quiet and len(picture.warnings) > len(case.says):
        wrong.append(f"said: {picture.warnings}")
    return "; ".join(wrong)


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: part.__name__)
def test_each_is_right_or_refused(part):
    wrong = {case.name: verdict for case in part() if (verdict := judged(case))}
    assert not wrong, "\n".join(f"{name}: {verdict}" for name, verdict in wrong.items())


def test_there_are_more_than_two_hundred():
    names = [case.name for case in all_cases()]
    assert len(names) >= 200 and len(set(names)) == len(names)


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: part.__name__)
def test_there_and_back(tiny: Codec, part):
    """Size, mode and alpha come back; the pixels are the model's affair."""
    cases = [case for case in part() if case.pixels is not None]
    for case, data in zip(cases, tiny.compress_batch([case.data for case in cases], effort=1), strict=True):
        image = tiny.decompress(data)
        assert (image.height, image.width) == case.pixels.shape[:2]
        if case.alpha is not None and not (case.alpha == 255).all():
            assert np.array_equal(np.asarray(image.getchannel("A")), case.alpha)


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: part.__name__)
def test_an_image_that_pillow_has_opened_is_read_the_same(part):
    """As long as Pillow can open it at all, and has not loaded it."""
    for case in part():
        try:
            image = Image.open(io.BytesIO(case.data))
        except Exception:  # Pillow's own matter
            continue
        with image:
            if "preview" in case.name:  # what is opened is what counts
                continue
            if case.pixels is None:
                with pytest.raises(ImageError):
                    read_picture(image)
            elif image.tell() == 0:
                picture, again = read_picture(image), read_picture(case.data)
                assert np.array_equal(picture.pixels, again.pixels), case.name
                assert (picture.dropped, picture.metadata) == (again.dropped, again.metadata), case.name


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: part.__name__)
def test_an_image_opened_by_its_path_is_read_again_and_again(tmp_path, part):
    """Pillow closes the file that it opened itself as soon as the pixels are loaded."""
    for case in part():
        path = tmp_path / "picture"
        path.write_bytes(case.data)
        try:
            image = Image.open(path)
        except Exception:  # Pillow's own matter
            continue
        with image:
            if case.pixels is None or image.tell() or "preview" in case.name:
                continue
            first, again = read_picture(image), read_picture(image)
            assert np.array_equal(first.pixels, read_picture(path).pixels), case.name
            assert first.pixels.shape[:2] == again.pixels.shape[:2], case.name


def test_damaged_files_end_in_one_line_or_a_picture():
    rng = np.random.default_rng(3)
    for case in [*all_cases()[::4], *(case for part in LEFTOVERS for case in part())]:
        for _ in range(3):
            data = bytearray(case.data)
            for place in rng.integers(0, min(len(data), 400), 2):
                data[place] ^= int(rng.integers(1, 256))
            try:
                read_picture(bytes(data), max_pixels=1 << 18)
            except ImageError as error:
                assert str(error) and "\n" not in str(error)
