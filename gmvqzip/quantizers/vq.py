"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) and what was proposed to keep its codebook alive.

The nearest code is taken and the gradient goes straight through it, sg being the stop-gradient:

    c = argmin_c ||z - mu_c||^2,    z_q = z + sg(mu_c - z)                                       (eq. 1, 2 and sec. 3.2)
    loss = a ||sg z - mu_c||^2 + b ||z - sg mu_c||^2                                                             (eq. 3)

both means over sites and dimensions. In the split form alpha [(1 - beta) ||z - sg mu||^2 + beta ||sg z - mu||^2],
a = alpha beta and b = alpha (1 - beta). The options, which combine:

- EMA (ibid., appendix A.1): codes are moving averages of the proxies that pick them, in the place of the first term.
- l2 (Yu et al. 2021, arXiv 2110.04627, sec. 3.2): z and mu on the unit sphere, so the distance is 2 - 2 cos.
- replace (random restarts: Dhariwal et al. 2020, arXiv 2005.00341, sec. 3): a code that was not picked for some steps
  becomes a random present z plus 1 % noise, and what optimisers remember of it is forgotten.
- affine (Huh et al. 2023, "Straightening out the straight-through estimator", arXiv 2305.08842): codes are
  (1 + s t_s) mu + s t_b with t_s, t_b [L] shared by all codes, learned, zero at the start.
- OPT (ibid., alternated optimisation): within the forward pass one step of gradient descent moves the codes
  on mean ||mu_c - sg z||^2; the same indices are then looked up in the moved codebook. The first term of eq. (3) is
  left to the shared affine map, where there is one; published without the second, b = 0.
- synchronised (ibid.): z_q gets v (mu_c - sg mu_c) besides, so that codes see the task's gradient.
- rotation (Fifty et al. 2024, "Restructuring vector quantization with the rotation trick", arXiv 2410.06424, sec. 4):
  instead of the straight-through z + sg(mu_c - z),
  z_q = sg[|mu_c| / |z| R] z with R the rotation from z to mu_c in their plane, by Householder reflections
  R = I - 2 r r^T + 2 u v^T, v = z / |z|, u = mu_c / |mu_c|, r = (v + u) / |v + u|: the same value, another gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.base import PlainForm, Quantizer, QuantizerSettings, nearest, nearest_form
from gmvqzip.quantizers.gmvq import kmeans
from gmvqzip.quantizers.result import QuantizerResult, hard_result

_EMA_FLOOR = 1e-5  # added to the running counts, as in the authors' code
_NORM_FLOOR = 1e-6  # of a proxy, which the rotation divides by
_REPLACE_NOISE = 0.01  # of a replaced code, in standard deviations of the proxies


@dataclass(frozen=True)
class VQSettings(QuantizerSettings):
    """Settings of a VQ-VAE; 0 switches an option off."""

    method: ClassVar[str] = "vqvae"
    fractions: ClassVar[tuple[str, ...]] = ("ema", "inner_momentum")

    codebook: float = 1.0  # a, weight of the codebook's term
    commitment: float = 0.25  # b, weight of the encoder's term
    kmeans: bool = True  # start of the codebook by k-means on proxies; without it normal with deviation `spread`
    spread: float = 1.0  # of a random start
    ema: float = 0.0  # decay of the running means of the EMA codebook, 0.99 in the paper
    l2: bool = False  # proxies and codes on the unit sphere
    replace_after: int = 0  # steps after which an unused code is replaced, 20 to 100
    affine: float = 0.0  # s, scale of the shared affine map, 2 to 10
    inner_rate: float = 0.0  # OPT: rate of the inner step, 10 to 100
    inner_momentum: float = 0.9  # of the inner step
    synchronised: float = 0.0  # v, 0.2 to 2
    rotation: bool = False  # the rotation trick in the place of the straight-through gradient

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError for an EMA codebook together with what moves codes in another way."""
        if self.ema and (self.affine or self.inner_rate or self.synchronised):
            raise ValueError("ema excludes affine, inner_rate and synchronised, which move the codebook by gradients")
        if self.ema == 1:
            raise ValueError("ema must be below 1: the codebook would never move")

    def build(self, codes: int, dimensions: int) -> VQ:
        """The quantiser. Raises ValueError as `check` does."""
        return VQ(codes, dimensions, self)


def rotated(z: Tensor, words: Tensor) -> Tensor:
    """sg[|mu| / |z| R] z, whose value is mu but for rounding. z: [N, L]; words: mu [N, L]. Returns [N, L].

    Where z and mu point apart, there is no one rotation, and r is as good as zero: the gradient is then a reflection's.
    """
    with torch.no_grad():
        v, u = F.normalize(z, dim=1), F.normalize(words, dim=1)
        r = F.normalize(v + u, dim=1)
        scale = words.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
    turned = z - 2 * (z * r).sum(1, keepdim=True) * r + 2 * (z * v).sum(1, keepdim=True) * u
    passed: Tensor = scale * turned
    moved: Tensor = passed + (words - passed).detach()
    return moved


class VQ(Quantizer):
    """Quantiser with K codes of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: VQSettings
    idle: Tensor
    momentum: Tensor
    ema_count: Tensor
    ema_sum: Tensor

    def __init__(self, codes: int, dimensions: int, settings: VQSettings | None = None) -> None:
        settings = settings or VQSettings()
        super().__init__(codes, dimensions, settings)
        self.codebook = nn.Parameter(settings.spread * torch.randn(codes, dimensions))
        if settings.affine:
            self.affine_scale = nn.Parameter(torch.zeros(dimensions))  # t_s
            self.affine_shift = nn.Parameter(torch.zeros(dimensions))  # t_b
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.int64))  # steps since each code was picked
        rows = (codes if settings.inner_rate else 0, dimensions)
        self.register_buffer("momentum", torch.zeros(rows))  # of the inner step
        rows = (codes if settings.ema else 0, dimensions)
        self.register_buffer("ema_count", torch.ones(rows[0]))
        self.register_buffer("ema_sum", self.codebook.detach()[: rows[0]].clone())
        self._recent: tuple[Tensor, Tensor] | None = None  # proxies and codes of the forward pass, for `after_step`

    @property
    def wants_proxies(self) -> bool:
        """Whether there is a k-means start."""
        return self.settings.kmeans

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        settings = self.settings
        z = self.passing(proxy)
        indices = nearest(z, self.codewords())
        if not self.training:
            words = self._lookup(indices)
            return hard_result(words, indices, torch.zeros_like(words[0, 0]), self._distances(z, words), self.codes)
        if settings.inner_rate:
            self._inner_step(z.detach(), indices)
        words = F.embedding(indices, self.codewords(frozen=bool(settings.inner_rate)))  # [N, L]
        quantised = rotated(z, words.detach()) if settings.rotation else z + (words - z).detach()
        if settings.synchronised:
            task = F.embedding(indices, self.codewords())
            quantised = quantised + settings.synchronised * (task - task.detach())
        terms = self._distances(z, words)
        loss = settings.commitment * terms["distance"]
        if not settings.ema:
            loss = loss + settings.codebook * ((words - z.detach()) ** 2).mean()
        self.idle.add_(1).masked_fill_(ranks.total(torch.bincount(indices, minlength=self.codes)) > 0, 0)
        self._recent = z.detach(), indices
        return hard_result(quantised, indices, loss + self._extra(z), terms, self.codes)

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return nearest(self.passing(proxy), self.codewords())

    def _distances(self, z: Tensor, words: Tensor) -> dict[str, Tensor]:
        """The mean over sites and dimensions of ||z - sg mu||^2; its gradient is the commitment's."""
        return {"distance": ((z - words.detach()) ** 2).mean()}

    def _extra(self, z: Tensor) -> Tensor:
        """A further term of the loss on the proxies [N, L] of a training step."""
        return torch.zeros_like(z[0, 0])

    def passing(self, proxy: Tensor) -> Tensor:
        """The proxies [N, L] as they are compared with the codes: of unit length with l2."""
        return self._on_sphere(proxy)

    def _on_sphere(self, points: Tensor) -> Tensor:
        return F.normalize(points, dim=1) if self.settings.l2 else points

    def codewords(self, *, frozen: bool = False) -> Tensor:
        """The codes [K, L] that the decoder reads; frozen: without a gradient to the codebook below the affine map."""
        words = self.codebook.detach() if frozen else self.codebook
        if self.settings.affine:
            scale = self.settings.affine
            words = (1 + scale * self.affine_scale) * words + scale * self.affine_shift
        return self._on_sphere(words)

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The nearest codeword. On the unit sphere it is the same whether z is normalised or not."""
        return nearest_form(self.codewords().detach(), head_weight, head_bias, project_weight)

    def _inner_step(self, z: Tensor, indices: Tensor) -> None:
        """One step of gradient descent with momentum on mean ||mu_c - z||^2, of the codebook alone."""
        with torch.enable_grad():
            loss = ((F.embedding(indices, self.codewords()) - z) ** 2).mean()
            (gradient,) = torch.autograd.grad(loss, [self.codebook])
        with torch.no_grad():
            self.momentum.mul_(self.settings.inner_momentum).add_(ranks.mean(gradient))
            self.codebook.sub_(self.settings.inner_rate * self.momentum)

    def _initialise(self, proxies: Tensor, sharpness: float) -> None:
        """k-means start of the codebook on proxies [N, L]."""
        self.codebook.copy_(kmeans(self.passing(proxies.to(self.codebook.dtype)), self.codes))
        self.ema_sum.copy_(self.codebook[: len(self.ema_sum)])

    @torch.no_grad()
    def after_step(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """The moving average of an EMA codebook, then the replacement of idle codes."""
        if self._recent is None:
            return
        (z, indices), self._recent = self._recent, None
        if self.settings.ema:
            self._average(z, indices)
        if self.settings.replace_after:
            self._replace(z, list(optimizers))

    def _average(self, z: Tensor, indices: Tensor) -> None:
        """N_c <- d N_c + (1 - d) n_c, m_c <- d m_c + (1 - d) sum of z, mu_c = m_c / N_c (appendix A.1)."""
        weight = 1 - self.settings.ema
        self.ema_count.lerp_(ranks.total(torch.bincount(indices, minlength=self.codes)).to(z.dtype), weight)
        self.ema_sum.lerp_(ranks.total(torch.zeros_like(self.ema_sum).index_add_(0, indices, z)), weight)
        total = self.ema_count.sum()
        smooth = (self.ema_count + _EMA_FLOOR) / (total + self.codes * _EMA_FLOOR) * total
        self.codebook.copy_(self.ema_sum / smooth[:, None])

    def _replace(self, z: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        dead = (self.idle >= self.settings.replace_after).nonzero()[:, 0]
        if not len(dead):
            return
        z = ranks.gathered(z)
        chosen = z[torch.randint(len(z), (len(dead),), device=z.device)]
        fresh = chosen + _REPLACE_NOISE * z.std(0, unbiased=False) * torch.randn_like(chosen)
        if self.settings.affine:
            fresh = (fresh - self.settings.affine * self.affine_shift) / (1 + self.settings.affine * self.affine_scale)
        self.codebook[dead] = fresh
        self.idle[dead] = 0
        memories = [self.momentum] if len(self.momentum) else []
        for optimizer in optimizers:
            memories += [held for held in optimizer.state.get(self.codebook, {}).values() if isinstance(held, Tensor)]
        for memory in memories:
            if memory.shape == self.codebook.shape:
                memory[dead] = 0
        if self.settings.ema:
            self.ema_sum[dead] = fresh
            self.ema_count[dead] = 1
