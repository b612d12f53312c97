"""The one interface of all quantisers, and the plain form in which each of them ends in a model file.

A stage's head proposes, for each of N sites, a proxy [N, P] and raw weights [N, W]; `QuantizerSettings.widths` says how
wide they are. The quantiser makes of them codewords [N, L] and indices [N] below K. A decoder needs a table of K
codewords and nothing else, so every method has a plain form: GM-VQ's rule

    argmax_c -1/2 sum_i w_i (z_i - mu_ci)^2 + log pi_c                                                 (eq. 16)

with a head, a codebook and log pi_c that give the method's own choice, and codewords that its decoder reads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gmvqzip.quantizers.result import QuantizerResult

UNIT_RAW = math.log(math.e - 1)  # the raw weight whose softplus is 1
# Elements of a [rows, K] block: small enough for the second-level cache, which halves the time on a CPU.
BLOCK_ELEMENTS = 1 << 21


class QuantizerSettings:
    """Settings of one method: a frozen dataclass of plain values, from which the quantiser is built."""

    method: ClassVar[str]  # its name in configurations
    positive: ClassVar[tuple[str, ...]] = ()  # fields that must be above 0
    fractions: ClassVar[tuple[str, ...]] = ()  # fields that must be at most 1

    def widths(self, codes: int, dimensions: int, weights: int) -> tuple[int, int]:
        """Widths of proxy and raw weights for K codes of L dimensions; `weights`: how many a network would give."""
        return dimensions, 0

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError, in one line, where the settings do not fit K codes of L dimensions or each other."""

    def build(self, codes: int, dimensions: int) -> Quantizer:
        """The quantiser. Raises ValueError as `check` does."""
        raise NotImplementedError


@dataclass(frozen=True)
class PlainForm:
    """A stage whose quantiser is the plain one: GM-VQ's rule, codebook and prior.

    codebook: [K, D]; log_prior: [K]; head_weight: [D + W, C] and head_bias: [D + W], the linear map of hidden features
    [N, C] to z_hat and raw weights, W being 1 or D; project_weight: [out, D], the linear map of codewords to the
    decoder's state; precision: scalar factor of the weights.
    """

    codebook: Tensor
    log_prior: Tensor
    head_weight: Tensor
    head_bias: Tensor
    project_weight: Tensor
    precision: Tensor


def nearest_form(codebook: Tensor, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
    """The plain form of a nearest-neighbour rule: one weight of 1 for each site, the uniform prior.

    codebook: [K, L]; head_weight: [L or more, C], of which the first L rows give the proxy; shapes as in `PlainForm`.
    """
    rows = codebook.shape[1]
    weight = torch.cat([head_weight[:rows], torch.zeros_like(head_weight[:1])])
    bias = torch.cat([head_bias[:rows], torch.full_like(head_bias[:1], UNIT_RAW)])
    prior = torch.zeros_like(codebook[:, 0])
    return PlainForm(codebook, prior, weight, bias, project_weight, torch.ones_like(prior[0]))


class Quantizer(nn.Module, ABC):
    """K codes of L dimensions. `settings` may be replaced between steps by others of the same method."""

    settings: Any

    def __init__(self, codes: int, dimensions: int) -> None:
        super().__init__()
        self.codes, self.dimensions = codes, dimensions

    def forward(self, proxy: Tensor, raw_weights: Tensor, *, temperature: float = 1.0) -> QuantizerResult:
        """Quantise N sites: as training does it in training mode, as the codec does it in evaluation.

        proxy: [N, P]; raw_weights: [N, W]; temperature: tau > 0 of a Gumbel-softmax. Float32 also under autocast.
        Evaluation changes no state, and `lookup(result.indices)` equals `result.quantised` bit for bit.
        """
        with torch.autocast(proxy.device.type, enabled=False):
            dtype = torch.promote_types(proxy.dtype, torch.float32)
            return self._quantise(proxy.to(dtype), raw_weights.to(dtype), temperature)

    def assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        """The codes [N] int64 that evaluation picks, without the statistics. See `forward`."""
        with torch.no_grad(), torch.autocast(proxy.device.type, enabled=False):
            dtype = torch.promote_types(proxy.dtype, torch.float32)
            return self._assign(proxy.to(dtype), raw_weights.to(dtype))

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The codewords of `indices` [N], as [N, L]: what a decoder sees."""

    @abstractmethod
    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm | None:
        """The stage in its plain form; None where it has that form already.

        head_weight: [P + W, C]; head_bias: [P + W]; project_weight: [out, L].
        """

    def passing(self, proxy: Tensor) -> Tensor:
        """What an open stage, which does not quantise, passes in the place of codewords: [N, P] to [N, L]."""
        return proxy

    @property
    def wants_proxies(self) -> bool:
        """Whether `initialise` has something to do; methods that start at random have not."""
        return False

    def initialise(self, proxies: Tensor, sharpness: float = 1.0) -> None:
        """Start the codebook from the proxies [N, P] of an open stage. sharpness: of GM-VQ's precision."""

    def after_step(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """What a method does to its codebook after each step of the optimisers."""

    def running_state(self) -> dict[str, Tensor]:
        """The tensors of training that are not in `state_dict`, by name; a checkpoint keeps them."""
        return {name: buffer for name, buffer in self.named_buffers() if name in self._non_persistent_buffers_set}

    def restore_running(self, state: dict[str, Tensor]) -> None:
        """Take over what `running_state` gave."""
        for name, buffer in self.running_state().items():
            buffer.copy_(state[name])

    @abstractmethod
    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult: ...

    @abstractmethod
    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor: ...


def row_blocks(rows: int, codes: int) -> Iterator[slice]:
    """Slices of `rows` rows, as many at once as make a [rows, K] block that the cache holds."""
    step = max(1, BLOCK_ELEMENTS // codes)
    return (slice(start, start + step) for start in range(0, rows, step))


@torch.no_grad()
def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index [N] of the codeword with the smallest Euclidean distance. points: [N, L]; codebook: [K, L]."""
    half = -0.5 * (codebook * codebook).sum(1)
    parts = [torch.addmm(half, points[part], codebook.t()).argmax(1) for part in row_blocks(len(points), len(codebook))]
    return torch.cat(parts)


def gumbel_softmax(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """y = softmax((l + g) / tau), g standard Gumbel noise (arXiv 1611.01144, eq. 2).

    logits: [N, K]; uniform: [N, K], numbers in [0, 1) from which g is made, in their place. Returns [N, K].
    """
    gumbel = uniform.clamp_min_(torch.finfo(logits.dtype).tiny).log_().neg_().log_().neg_()
    return ((logits + gumbel) / temperature).softmax(1)
