"""Codes as a NumPy `.npz` archive: one array per stage, and what a `.gmvq` file needs besides.

Arrays: `stage_00`, `stage_01`, ... int32 [rows, columns] in coding order; `width`, `height`, `quality` integers, and
`halvings` and `tile` (the side of the tiles in pixels), 0 where they are missing; `gray` a truth value; `model_id` a
text of 64 hexadecimal digits; and, where the picture has them, `alpha` uint8 [H, W], `icc` uint8 [bytes], and
`metadata` uint8 [bytes], the content of a metadata section (docs/format.md); `offsets` int32 [N, 4], see `Codes`; and
`rgb`, a truth value, where a gray picture is to be given out as RGB. Nothing is pickled.
"""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from gmvqzip.entropy.codes import NO_OFFSETS, Codes
from gmvqzip.entropy.extras import Extras
from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.metadata import Metadata, read_metadata, write_metadata

_STAGE = "stage_"
_BYTES_PER_PIXEL = 4  # no archive of ours unpacks to more, transparency included
_SPARE_BYTES = 1 << 25
_MAGIC, _ENDING = b"PK\x03\x04", ".npy"
_DAMAGE = (  # what zipfile and NumPy raise for it
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


def dump_npz(
    codes: Codes,
    *,
    alpha: NDArray[np.uint8] | None = None,
    icc: bytes | None = None,
    metadata: Metadata | None = None,
    as_rgb: bool = False,
) -> bytes:
    """The archive of codes, with the picture's transparency [H, W], colour profile and metadata.

    as_rgb: a gray picture is to be given out as RGB.
    """
    arrays: dict[str, Any] = {f"{_STAGE}{number:02d}": stage for number, stage in enumerate(codes.stages)}
    arrays |= {
        "width": codes.width,
        "height": codes.height,
        "quality": codes.quality,
        "halvings": codes.halvings,
        "tile": codes.tile,
        "gray": codes.gray,
        "model_id": codes.model_id,
    }
    if len(codes.offsets):
        arrays["offsets"] = codes.offsets
    if alpha is not None:
        arrays["alpha"] = alpha
    if icc is not None:
        arrays["icc"] = np.frombuffer(icc, dtype=np.uint8)
    if metadata:
        arrays["metadata"] = np.frombuffer(write_metadata(metadata), dtype=np.uint8)
    if as_rgb:
        arrays["rgb"] = True
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def load_npz(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Codes, Extras]:
    """Read what `dump_npz` wrote: codes, and what goes with them. Raises FormatError for anything else."""
    most = _BYTES_PER_PIXEL * max_pixels + _SPARE_BYTES
    if not data.startswith(_MAGIC):
        raise FormatError("not a .npz archive of codes, or cut")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > most:
                raise FormatError(f"the archive unpacks to {size} bytes, limit {most}: raise it with --max-pixels")
            present = {name.removesuffix(_ENDING) for name in archive.namelist() if name.endswith(_ENDING)}
            codes = _codes(archive, present)
            if codes.width * codes.height > max_pixels:
                raise FormatError(f"{codes.width}x{codes.height} pixels are more than the limit of {max_pixels}")
            alpha = _array(archive, "alpha") if "alpha" in present else None
            icc = _array(archive, "icc").tobytes() if "icc" in present else None
            stored = _array(archive, "metadata").tobytes() if "metadata" in present else None
            as_rgb = bool(_array(archive, "rgb")) if "rgb" in present else False
    except KeyError as error:
        raise FormatError(f"the archive lacks an array: {error.args[0]}") from None
    except _DAMAGE as error:
        raise FormatError(f"not a .npz archive of codes, or damaged: {' '.join(str(error).split())}") from None
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != (codes.height, codes.width)):
        raise FormatError(f"alpha is {alpha.dtype} {list(alpha.shape)}: uint8 [{codes.height}, {codes.width}] expected")
    return codes, Extras(alpha, icc, None if stored is None else read_metadata(stored), as_rgb)


def _codes(archive: zipfile.ZipFile, present: set[str]) -> Codes:
    stages = {name for name in present if name.startswith(_STAGE)}
    names = [f"{_STAGE}{number:02d}" for number in range(len(stages))]  # in coding order, also beyond 99
    if stages != set(names) or not names:
        raise FormatError(f"the archive must hold {_STAGE}00, {_STAGE}01, ... without a gap")
    return Codes(
        stages=tuple(_array(archive, name) for name in names),
        width=int(_array(archive, "width")),
        height=int(_array(archive, "height")),
        model_id=str(_array(archive, "model_id")),
        quality=int(_array(archive, "quality")),
        gray=bool(_array(archive, "gray")),
        halvings=int(_array(archive, "halvings")) if "halvings" in present else 0,
        tile=int(_array(archive, "tile")) if "tile" in present else 0,
        offsets=_array(archive, "offsets") if "offsets" in present else NO_OFFSETS,
    )


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of the archive. NumPy's own reader takes memory for the shape that a file states, however little is in
    it. Raises FormatError where both differ, KeyError where there is none, and whatever is in `_DAMAGE`."""
    file = io.BytesIO(archive.read(name + _ENDING))
    version = format.read_magic(file)
    read_header = format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on headers of Python 2, whose numbers may end in L
        shape, by_columns, dtype = read_header(file)
    content = file.read()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content):
        raise FormatError(f"not a .npz archive of codes, or damaged: {name!r} is not of the size that it states")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
