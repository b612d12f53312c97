"""Quantisers: one file a method beside its equations, one interface, one result type."""

from gmvqzip.quantizers.gmvq import GMVQ, GMVQSettings
from gmvqzip.quantizers.result import QuantizerResult

__all__ = ["GMVQ", "GMVQSettings", "QuantizerResult"]
