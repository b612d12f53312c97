"""gmvqzip: image compression with trained Gaussian-mixture codebooks and exact range coding.

>>> import gmvqzip
>>> codec = gmvqzip.load("photo")
>>> data = codec.compress("picture.png")
>>> image = codec.decompress(data)

How data flow, in the letters of the literature on learned compression (x a picture, hats for what is decoded):

    x --> g_a --> y ---------------------> Q --> codes c --> range coder --> payload
           |                               ^                     ^
           '--> h_a --> z --> Q --> z_hat --> h_s --> means, p(c | context)
                                                        |
    x_hat <-- g_s <-- y_hat <-- means + codewords of c <-'

Analysis g_a and hyper-analysis h_a are `models.transform.Analysis`, synthesis g_s is `models.transform.Synthesis`, and
in NumPy `models.analysis` and `models.synthesis`, all of which go the way that `models.walks` describes; the
hyper-synthesis h_s and the context networks run in integers (`entropy.context`), so that every machine has the same
tables. The quantiser is the Gaussian mixture: the codes of y are chosen by its MAP rule under the context
(`engines.choice`), in four steps, each of which sees what those before decoded. A staged model has no z: it codes the
residuals of y stage after stage, each under a frozen table.

A picture's way: `codec` (pictures, files) -> `engines.batching` or `engines.tiling` -> a network's `analyse` ->
`entropy.prior.Piece` (codes, sites and y_hat of a tile) -> `engines.coded.Coded` -> `engines.files` -> `format`. What
unpacking gives is the same `Coded`, whose `pixels` ask a network's `synthesise` for x_hat.

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


if not TYPE_CHECKING:  # a type checker finds the names above, and that others are misspelt

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(module), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
