"""gmvqzip: image compression with trained Gaussian-mixture codebooks and exact range coding.

>>> import gmvqzip
>>> codec = gmvqzip.load("photo")
>>> data = codec.compress("picture.png")
>>> image = codec.decompress(data)

The public names are imported when first used, so that `import gmvqzip` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gmvqzip.errors import FormatError, GmvqError, ImageError, ModelError, OutputError, TrainingError

if TYPE_CHECKING:
    from gmvqzip.codec import Codec, load
    from gmvqzip.engines.files import Compressed
    from gmvqzip.entropy.codes import Codes
    from gmvqzip.facade import compress, decode, decompress, encode
    from gmvqzip.inspection import Info, info

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "Codes",
    "Compressed",
    "FormatError",
    "GmvqError",
    "ImageError",
    "Info",
    "ModelError",
    "OutputError",
    "TrainingError",
    "__version__",
    "compress",
    "decode",
    "decompress",
    "encode",
    "info",
    "load",
]

_HOMES = {
    "gmvqzip.codec": ("Codec", "load"),
    "gmvqzip.facade": ("compress", "decode", "decompress", "encode"),
    "gmvqzip.engines.files": ("Compressed",),
    "gmvqzip.entropy.codes": ("Codes",),
    "gmvqzip.inspection": ("Info", "info"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
