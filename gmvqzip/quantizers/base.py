"""The one interface of all quantisers, and the plain form in which each of them ends in a model file.

A quantiser is usable alone: `GMVQ(1024, 64)(z)` on z [N, L], [B, T, L] or [B, L, H, W] gives a `QuantizerResult` of the
same shape; `initialise` starts its codebook where it has a k-means start, `after_step` follows each step of an
optimiser.

In a network, a stage's head proposes, for each of N sites, a proxy [N, P] and raw weights [N, W];
`QuantizerSettings.widths` says how wide they are. The quantiser makes of them codewords [N, L] and indices [N] below K.
A decoder needs a table of K codewords and nothing else, so every method has a plain form: GM-VQ's rule

    argmax_c -1/2 sum_i w_i (z_i - mu_ci)^2 + log pi_c                                                 (eq. 16)

with a head, a codebook and log pi_c that give the method's own choice, and codewords that its decoder reads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.errors import range_fault
from gmvqzip.quantizers.blocks import affine, argmax_, row_blocks
from gmvqzip.quantizers.result import QuantizerResult

UNIT_RAW = math.log(math.e - 1)  # the raw weight whose softplus is 1


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
    """K codes of L dimensions. `settings` may be replaced between steps by others of the same method.

    "Sites" below are N rows [N, L], B sequences [B, T, L] or B grids [B, L, H, W], L being P for proxies.
    """

    __call__: Callable[..., QuantizerResult]
    settings: Any
    codebook: Tensor
    neutral: ClassVar[float] = 0.0  # the raw weight where none is given
    fast = False  # whether a training step may make its sums over codes in bfloat16

    def __init__(self, codes: int, dimensions: int, settings: QuantizerSettings) -> None:
        """Raises ValueError where the settings are out of range, or do not fit."""
        super().__init__()
        if min(codes, dimensions) < 1:
            raise ValueError(f"{codes} codes of {dimensions} dimensions: 1 or more of each are wanted")
        fault = range_fault(settings, settings.positive, settings.fractions)
        if fault:
            raise ValueError(fault)
        settings.check(codes, dimensions)
        self.codes, self.dimensions, self.settings = codes, dimensions, settings

    def forward(self, proxy: Tensor, raw_weights: Tensor | None = None, *, temperature: float = 1.0) -> QuantizerResult:
        """Quantise sites: as training does it in training mode, as the codec does it in evaluation.

        proxy: sites; raw_weights: [N, W], or as the proxy with W in the place of P, equal ones where there are none;
        temperature: tau > 0 of a Gumbel-softmax. Float32 also under autocast; what is summed over codes in training,
        probabilities times codewords and gradients, is in bfloat16 then. Evaluation changes no state, and
        `lookup(result.indices)` equals `result.quantised` bit for bit. Raises ValueError for other shapes and
        temperatures, and where there are no sites.
        """
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.fast = torch.is_autocast_enabled(proxy.device.type)
        with torch.autocast(proxy.device.type, enabled=False):
            result = self._quantise(*self._rows(proxy, raw_weights), temperature)
        if proxy.dim() == 2:
            return result
        return replace(
            result,
            quantised=_as_sites(result.quantised, proxy.shape),
            indices=result.indices.reshape(_grid(proxy.shape)),
        )

    def assign(self, proxy: Tensor, raw_weights: Tensor | None = None) -> Tensor:
        """The codes that evaluation picks, int64 [N], [B, T] or [B, H, W], without the statistics. See `forward`."""
        with torch.no_grad(), torch.autocast(proxy.device.type, enabled=False):
            return self._assign(*self._rows(proxy, raw_weights)).reshape(_grid(proxy.shape))

    def lookup(self, indices: Tensor) -> Tensor:
        """What a decoder sees: of indices [N], [B, T] or [B, H, W] the codewords [N, L], [B, T, L] or [B, L, H, W]."""
        words = self._lookup(indices.flatten())
        words = words.reshape(*indices.shape, words.shape[1])
        return words.movedim(3, 1) if indices.dim() == 3 else words

    def _rows(self, proxy: Tensor, raw_weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Proxies [N, P] and raw weights [N, W] of sites, both at least float32."""
        dtype = torch.promote_types(proxy.dtype, torch.float32)
        width, weights = self.settings.widths(self.codes, self.dimensions, 1)
        rows = sites_as_rows(proxy.to(dtype), width)
        if raw_weights is None:
            return rows, rows.new_full((len(rows), weights), self.neutral)
        raw = sites_as_rows(raw_weights.to(dtype), None)
        widths = {self.settings.widths(self.codes, self.dimensions, given)[1] for given in (1, self.dimensions)}
        if len(raw) != len(rows) or raw.shape[1] not in widths:
            wanted = " or ".join(f"[{len(rows)}, {own}]" for own in sorted(widths))
            raise ValueError(f"{wanted} raw weights are wanted, not {list(raw.shape)}")
        return rows, raw

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

    @torch.no_grad()
    def initialise(self, proxies: Tensor, sharpness: float = 1.0) -> None:
        """Start the codebook from the proxies of sites, where `wants_proxies`. sharpness: of GM-VQ's precision.

        Raises ValueError for other shapes, and where there are no sites.
        """
        self._initialise(sites_as_rows(proxies, self.settings.widths(self.codes, self.dimensions, 1)[0]), sharpness)

    def after_step(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """What a method does to its codebook after each step of the optimisers; nothing in most."""

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

    def codewords(self) -> Tensor:
        """The codes [K, L] that the decoder reads."""
        return self.codebook

    def _lookup(self, indices: Tensor) -> Tensor:
        """The codewords of indices [N], as [N, L]."""
        return F.embedding(indices, self.codewords())

    def _initialise(self, proxies: Tensor, sharpness: float) -> None:
        """See `initialise`. proxies: [N, P]."""


def sites_as_rows(sites: Tensor, width: int | None) -> Tensor:
    """[N, L] of sites [N, L], [B, T, L] or [B, L, H, W]; ValueError where they have not `width` as L, or are none."""
    if sites.dim() not in (2, 3, 4) or (width is not None and sites.shape[1 if sites.dim() == 4 else -1] != width):
        last = "W" if width is None else width
        wanted = f"[N, {last}], [B, T, {last}] or [B, {last}, H, W]"
        raise ValueError(f"the quantiser takes {wanted}, not {list(sites.shape)}")
    if sites.dim() == 4:
        sites = sites.movedim(1, 3)
    count = math.prod(sites.shape[:-1])
    if not count:
        raise ValueError(f"{list(sites.shape)} has no sites to quantise")
    return sites.reshape(count, sites.shape[-1])


def _grid(shape: torch.Size) -> tuple[int, ...]:
    """The shape of the indices of sites of that shape."""
    return (shape[0], *shape[2:]) if len(shape) == 4 else tuple(shape[:-1])


def _as_sites(rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows [N, L] as sites, where the proxies had that shape."""
    words = rows.reshape(*_grid(shape), -1)
    return words.movedim(3, 1) if len(shape) == 4 else words


@torch.no_grad()
def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index [N] of the codeword with the smallest Euclidean distance. points: [N, L]; codebook: [K, L]."""
    half = -0.5 * (codebook * codebook).sum(1)
    parts = row_blocks(len(points), len(codebook), points.device)
    return torch.cat([argmax_(affine(points[part], codebook, half)) for part in parts])
