"""A picture in codes: nothing on its way is done twice, and contexts that are not kept are found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_hyperprior import smooth

import gmvqzip
from gmvqzip.codec import Codec
from gmvqzip.engines import coded as module
from gmvqzip.engines.coded import Coded
from gmvqzip.engines.files import file_of
from gmvqzip.entropy import extras
from gmvqzip.entropy.context import ContextModel
from gmvqzip.errors import ModelError
from gmvqzip.format import container
from gmvqzip.images.pixels import Picture

Counted = Callable[[Any, str], list[None]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Notes the calls of a function of a module or class."""

    def wrap(owner: Any, name: str) -> list[None]:
        calls: list[None] = []
        whole = getattr(owner, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            calls.append(None)
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)
        return calls

    return wrap


@pytest.fixture
def picture() -> Picture:
    pixels = smooth(100, 150)
    return Picture(pixels, alpha=pixels[:, :, 0])


@pytest.mark.parametrize("tile", [0, 64])
def test_a_file_is_made_by_one_walk_and_read_by_one(
    hyper: Codec, hyper_path: Path, picture: Picture, tile: int, counted: Counted
) -> None:
    walks, planes = counted(ContextModel, "walk"), counted(extras.alpha, "compress_alpha")
    done = hyper.compress_picture(picture, effort=1, tile=tile)
    tiles = 6 if tile else 1
    assert (len(walks), len(planes)) == (tiles, 1)
    headers = counted(container, "read_header")
    image = gmvqzip.decompress(done.data, model=hyper_path, device="cpu")
    assert image.mode == "RGBA"
    assert (len(walks), len(headers)) == (2 * tiles, 1)
    gmvqzip.decompress(done.data, model=hyper_path, device="cpu", region=(0, 0, 9, 9))
    assert len(headers) == 2
    assert len(walks) <= 3 * tiles


@pytest.mark.parametrize("tile", [0, 64])
def test_contexts_that_are_not_kept_are_found_again(
    hyper: Codec, picture: Picture, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(coded: Coded) -> tuple[bytes, tuple[float, ...], bytes]:
        return file_of(coded, {}), coded.bits(), coded.pixels().pixels.tobytes()

    kept = seen(next(hyper.analyse([picture], effort=1, tile=tile))[1])
    assert seen(next(hyper.analyse([picture], effort=1, tile=tile))[1].packed()) == kept
    monkeypatch.setattr(module, "_KEPT_CODES", 0)
    assert seen(next(hyper.analyse([picture], effort=1, tile=tile))[1]) == kept
    opened = hyper.open(container.unpack(kept[0]))
    assert seen(opened) == kept
    assert seen(hyper.follow(opened.codes)) == kept


def test_bits_are_those_of_the_file(tiny: Codec, hyper: Codec, picture: Picture) -> None:
    for codec in (tiny, hyper):
        done = codec.compress_picture(picture)
        coded = codec.open(container.unpack(done.data))
        assert coded.bits() == done.stage_bits
        assert [float(site.sum(dtype=np.float64)) for site in coded.site_bits()] == pytest.approx(coded.bits())


def test_codes_of_another_model_are_refused(tiny: Codec, hyper: Codec, picture: Picture) -> None:
    with pytest.raises(ModelError, match="codes of model"):
        tiny.follow(hyper.encode(picture.pixels))
