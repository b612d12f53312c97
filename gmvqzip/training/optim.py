"""Optimisers: Muon for convolution weights, AdamW for everything else, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gmvqzip.quantizers import ranks

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic coefficients of Jordan et al. 2024, "Muon"
_NEWTON_SCHULZ_STEPS = 5
GROUPS = ("wide", "rest", "linear", "mixture", "codebook")
_WIDE = 16  # channels at least, in and out, of a convolution whose weight Muon takes
_LONG = 2  # columns to rows, or rows to columns


def orthogonalise(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest semi-orthogonal matrix of `matrix` [R, C], roughly: singular values end between 0.7 and 1.2.

    dtype: of the products. In float32 the iteration of a long matrix X is done on its Gram matrix, of which all of its
    factors are polynomials: X times their product is what it ends in, for a third of the multiplications.
    """
    rows, columns = matrix.shape
    x = (matrix if rows <= columns else matrix.t()).to(dtype)
    long = dtype == torch.float32 and max(rows, columns) >= _LONG * min(rows, columns)
    x = _by_gram(x) if long else _directly(x / (x.norm() + 1e-7))
    result: Tensor = (x if rows <= columns else x.t()).to(matrix.dtype)
    return result


def _directly(x: Tensor) -> Tensor:
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor) -> Tensor:
    """The same for x / ||x||: with G = x x' and p = a + b G + c G^2, x becomes p x and G becomes p G p."""
    a, b, c = _NEWTON_SCHULZ
    gram = x @ x.t()
    square = gram.diagonal().sum() + 1e-14  # of the norm
    gram = gram / square
    factor = None
    for step in range(_NEWTON_SCHULZ_STEPS):
        p = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal().add_(a)
        factor = p / square.sqrt() if factor is None else factor @ p
        if step + 1 < _NEWTON_SCHULZ_STEPS:
            gram = gram @ p @ p
    assert factor is not None
    return factor @ x


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024), for weights of 2 or more axes.

    A convolution's weight [out, in, kh, kw] counts as a matrix [out, in*kh*kw]. The step is scaled by
    sqrt(max(1, rows / columns)).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        product_type: torch.dtype = torch.float32,
        every: int = 1,
    ) -> None:
        """product_type: of the matrices in the iteration; not part of the state, which is float32. every: a weight
        moves at every so many-th step, so many times as far; at each step the weights whose turn it is."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "turn": 0})
        self.product_type, self.every = product_type, every

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients in place; `closure` is not supported and must be None.

        Where processes share a batch, each orthogonalises its part of the matrices for all.
        """
        for group in self.param_groups:
            turn = group["turn"] = group.get("turn", 0) + 1
            present, ahead = [], []
            for place, parameter in enumerate(sorted(group["params"], key=torch.numel)):  # turns of like work
                if parameter.grad is None:
                    continue
                momentum = self._momentum(parameter, group["momentum"])
                if group["lr"] and (turn + place) % self.every == 0:
                    present.append(parameter)
                    ahead.append(_columns(parameter.grad.lerp(momentum, group["momentum"])).flatten(1))  # Nesterov
            updates = ranks.divided(partial(orthogonalise, dtype=self.product_type), ahead, [_work(x) for x in ahead])
            rate = self.every * group["lr"]
            for parameter, update in zip(present, updates, strict=True):
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                parameter.mul_(1 - rate * group["weight_decay"])
                columns = _columns(parameter)
                columns.add_(update.view_as(columns), alpha=-rate * scale)

    def _momentum(self, parameter: Tensor, decay: float) -> Tensor:
        """The running mean of a parameter's gradients, brought up to date."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].view_as(parameter)  # a matrix in older checkpoints
        return momentum.lerp_(parameter.grad, 1 - decay)  # type: ignore[arg-type]


def _columns(weight: Tensor) -> Tensor:
    """[out, in, kh, kw] -> [out, kh, kw, in]: a matrix as it lies, channels last; orthogonalising it knows no order."""
    return weight.movedim(1, -1)


def _work(matrix: Tensor) -> float:
    """Products that its orthogonalisation takes, up to a factor."""
    rows, columns = sorted(matrix.shape)
    return float(rows**2 * columns)


def parameter_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of a network, each in one group, in their order: what the nearest module around it declares as its
    `optimizer_group` ("rest", "linear", "mixture"), "codebook", or else "wide" for a wide convolution's weight."""
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    declared: dict[str, str | None] = {}
    for path, module in network.named_modules():  # outer ones first
        declared[path] = getattr(module, "optimizer_group", declared.get(path.rpartition(".")[0]))
        for name, parameter in module.named_parameters(recurse=False):
            usual = "wide" if parameter.ndim == 4 and min(parameter.shape[:2]) >= _WIDE else "rest"
            groups["codebook" if name == "codebook" else declared[path] or usual].append(parameter)
    covered = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(covered) == sorted(map(id, network.parameters())), "each parameter is in one group"
    return groups


def build_optimizers(
    network: nn.Module,
    *,
    muon_rate: float,
    adam_rate: float,
    weight_decay: float,
    use_muon: bool,
    codebook_rate: float | None = None,
    product_type: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a network, with each group's peak rate kept under the key "peak".

    With Muon: the wide convolutions of encoder and decoder go to it; stems, heads, biases, codebooks go to AdamW.
    codebook_rate: AdamW's rate for codebooks; None: `adam_rate`. product_type: of Muon's matrices.
    """
    groups = parameter_groups(network)
    wide = groups["wide"] if use_muon else []
    codebooks = groups["codebook"] if codebook_rate is not None else []
    kept = {id(parameter) for parameter in (*wide, *codebooks)}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in kept]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.95), weight_decay=weight_decay)
    ]
    if codebooks:
        optimizers[0].add_param_group({"params": codebooks, "lr": codebook_rate})
    if wide:
        optimizers.append(Muon(wide, lr=muon_rate, weight_decay=weight_decay, product_type=product_type))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def rate_factor(progress: float, *, warmup: float, hold: float, floor: float, cosine: bool) -> float:
    """Learning rate as a fraction of its peak. progress, warmup, hold: fractions of the run.

    A linear warm-up from a fifth of the peak, constant until `hold`, then linear (or a cosine) down to `floor`.
    """
    if progress < warmup:
        return 0.2 + 0.8 * progress / warmup
    if progress < hold:
        return 1.0
    left = min(1.0, max(0.0, (1 - progress) / max(1e-9, 1 - max(hold, warmup))))
    shape = 0.5 - 0.5 * math.cos(math.pi * left) if cosine else left
    return floor + (1 - floor) * shape
