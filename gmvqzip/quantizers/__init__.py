"""Quantisers: one file a method beside its equations, one interface, one result type."""

from gmvqzip.quantizers.base import PlainForm, Quantizer, QuantizerSettings
from gmvqzip.quantizers.fsq import FSQ, FSQSettings
from gmvqzip.quantizers.gmvq import GMVQ, GMVQSettings
from gmvqzip.quantizers.groups import GroupGMVQ
from gmvqzip.quantizers.gumbel import GumbelSettings, GumbelVQ
from gmvqzip.quantizers.lfq import LFQ, LFQSettings
from gmvqzip.quantizers.mvq import MVQ, MVQSettings
from gmvqzip.quantizers.result import QuantizerResult
from gmvqzip.quantizers.shared import SharedGMVQ
from gmvqzip.quantizers.simvq import SimVQ, SimVQSettings
from gmvqzip.quantizers.sqvae import SQVAE, SQVAESettings
from gmvqzip.quantizers.vq import VQ, VQSettings
from gmvqzip.quantizers.wasserstein import WassersteinSettings, WassersteinVQ

METHODS: dict[str, type[QuantizerSettings]] = {
    kind.method: kind
    for kind in (
        GMVQSettings,
        VQSettings,
        SQVAESettings,
        GumbelSettings,
        WassersteinSettings,
        MVQSettings,
        FSQSettings,
        SimVQSettings,
        LFQSettings,
    )
}
"""The settings of every method by its name in configurations."""

__all__ = [
    "FSQ",
    "GMVQ",
    "LFQ",
    "METHODS",
    "MVQ",
    "SQVAE",
    "VQ",
    "FSQSettings",
    "GMVQSettings",
    "GroupGMVQ",
    "GumbelSettings",
    "GumbelVQ",
    "LFQSettings",
    "MVQSettings",
    "PlainForm",
    "Quantizer",
    "QuantizerResult",
    "QuantizerSettings",
    "SQVAESettings",
    "SharedGMVQ",
    "SimVQ",
    "SimVQSettings",
    "VQSettings",
    "WassersteinSettings",
    "WassersteinVQ",
]
