"""Codes as a NumPy `.npz` archive: one array per stage, and what a `.gmvq` file needs besides.

Arrays: `stage_00`, `stage_01`, ... int32 [rows, columns] in coding order; `width`, `height`, `quality` integers, and
`halvings`, 0 where it is missing; `gray` a truth value; `model_id` a text of 64 hexadecimal digits; and, where the
picture has them, `alpha` uint8 [H, W] and `icc` uint8 [bytes]. Nothing is pickled.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_PIXELS

_STAGE = "stage_"
_BYTES_PER_PIXEL = 16  # no archive of ours unpacks to more, transparency included
_SPARE_BYTES = 1 << 25


def dump_npz(codes: Codes, *, alpha: NDArray[np.uint8] | None = None, icc: bytes | None = None) -> bytes:
    """The archive of codes, with the picture's transparency [H, W] and colour profile."""
    arrays: dict[str, Any] = {f"{_STAGE}{number:02d}": stage for number, stage in enumerate(codes.stages)}
    arrays |= {
        "width": codes.width,
        "height": codes.height,
        "quality": codes.quality,
        "halvings": codes.halvings,
        "gray": codes.gray,
        "model_id": codes.model_id,
    }
    if alpha is not None:
        arrays["alpha"] = alpha
    if icc is not None:
        arrays["icc"] = np.frombuffer(icc, dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def load_npz(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Codes, NDArray[np.uint8] | None, bytes | None]:
    """Read what `dump_npz` wrote: codes, transparency, colour profile. Raises FormatError for anything else."""
    most = _BYTES_PER_PIXEL * max_pixels + _SPARE_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise FormatError(f"the archive unpacks to {size} bytes, limit {most}: raise it with --max-pixels")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            codes = _codes(arrays)
            if codes.width * codes.height > max_pixels:
                raise FormatError(f"{codes.width}x{codes.height} pixels are more than the limit of {max_pixels}")
            alpha = arrays.get("alpha")
            icc = arrays["icc"].tobytes() if "icc" in arrays else None
    except KeyError as error:
        raise FormatError(f"the archive lacks an array: {error}") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, OSError, NotImplementedError) as error:
        raise FormatError(f"not a .npz archive of codes, or damaged: {error}") from None
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != (codes.height, codes.width)):
        raise FormatError(f"alpha is {alpha.dtype} {list(alpha.shape)}: uint8 [{codes.height}, {codes.width}] expected")
    return codes, alpha, icc


def _codes(arrays: Any) -> Codes:
    present = {name for name in arrays if name.startswith(_STAGE)}
    names = [f"{_STAGE}{number:02d}" for number in range(len(present))]  # in coding order, also beyond 99
    if present != set(names) or not names:
        raise FormatError(f"the archive must hold {_STAGE}00, {_STAGE}01, ... without a gap")
    return Codes(
        stages=tuple(arrays[name] for name in names),
        width=int(arrays["width"]),
        height=int(arrays["height"]),
        model_id=str(arrays["model_id"]),
        quality=int(arrays["quality"]),
        gray=bool(arrays["gray"]),
        halvings=int(arrays.get("halvings", 0)),
    )
