"""Many pictures to codes: in batches of equal size where the model can take several at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmvqzip.codec import Codec
from gmvqzip.engines.staged import StagedEngine
from gmvqzip.entropy.codes import Codes
from gmvqzip.images.picture import Picture
from gmvqzip.rates import DEFAULT_EFFORT

BATCH_PIXELS = 1 << 18  # of all pictures of a batch: enough to keep a processor busy, and little memory


def encodes_batches(codec: Codec) -> bool:
    """Whether the model takes several pictures of one size at once."""
    return isinstance(codec.engine, StagedEngine)


def encode_pictures(
    codec: Codec, pictures: Sequence[Picture], *, quality: int | None = None, effort: int = DEFAULT_EFFORT
) -> list[Codes]:
    """The codes of pictures, in their order; quality and effort as for `Codec.compress`. Raises ModelError."""
    engine = codec.engine
    if not isinstance(engine, StagedEngine):
        return [codec.encode_picture(picture, quality=quality, effort=effort) for picture in pictures]
    field = engine.resolve_quality(quality)
    groups: dict[tuple[int, int], list[int]] = {}
    for number, picture in enumerate(pictures):
        groups.setdefault((picture.height, picture.width), []).append(number)
    found: dict[int, Codes] = {}
    for (height, width), members in groups.items():
        down, right = -height % codec.config.alignment, -width % codec.config.alignment
        most = max(1, BATCH_PIXELS // ((height + down) * (width + right)))
        for start in range(0, len(members), most):
            batch = members[start : start + most]
            pixels = np.stack([pictures[number].pixels for number in batch])
            padded = np.pad(pixels, ((0, 0), (0, down), (0, right), (0, 0)), mode="edge")
            for number, stages in zip(batch, engine.analyse_batch(padded), strict=True):
                found[number] = Codes(stages, width, height, codec.model_id, field, pictures[number].gray)
    return [found[number] for number in range(len(pictures))]
