"""Compare gradient estimators for the codes of a hyperprior model: one start, one budget, one table.

    python scripts/estimators.py --start START.pt --data DIR --steps 400

DIR holds photographs, of which every 50th is held back. START.pt is a torch file with a model in its scalar form:
`config`, its network's as a dictionary, and `model`, its state. Codebooks are started and their mixtures trained once;
from there each estimator trains everything for as many steps, on the same batches.

How the gradient of the distortion gets from the decoder's input to the residual r with its codeword mu:

    straight-through  mu + r - sg(r): the identity
    rotation          the rotation and scaling that take r to mu, held constant (arXiv 2410.06424); the identity where
                      mu is zero, which would let nothing through
    noise             eq. (18) of GM-VQ on top of the identity: mu + s * eps, s^2 = |r - mu|^2 / L
    sphere            the encoder sees a decoder, held constant, at r + |r - mu| * u with u uniform on the sphere; the
                      decoder sees true codes, for which a second pass through it is paid
    gumbel            eq. (17): softmax((logits + g) / tau) of the codewords, tau from 1 to 0.2, for 80 % of the steps
    none              no gradient: the encoder learns from the rate and the commitment alone

Prints bits per pixel (estimated) and PSNR at five qualities, the mean rate difference from straight-through at equal
PSNR, and the seconds; --json FILE keeps them.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from gmvqzip.bench.rates import rate_difference
from gmvqzip.models import hyperprior
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.transform import Transform
from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES, CLASSES_PER_OCTAVE, GroupGMVQ
from gmvqzip.training import hyperprior as training
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.hyperprior import HyperpriorTrainer

CROP, HELD_CROP, HELD_BATCH = 128, 384, 4
GUMBEL_TAU, GUMBEL_UNTIL = (1.0, 0.2), 0.8
PAIR = 2  # dimensions of the latent's groups

Straight = Callable[[Tensor, Tensor], Tensor]


def identity(word: Tensor, residual: Tensor) -> Tensor:
    """Straight-through."""
    return word + residual - residual.detach()


def rotation(word: Tensor, residual: Tensor) -> Tensor:
    """R r |mu| / |r| with R the rotation in the plane of r and mu, held constant; its value is mu."""
    with torch.no_grad():
        lengths = residual.norm(dim=2, keepdim=True), word.norm(dim=2, keepdim=True)
        moved = (lengths[0] > 1e-6) & (lengths[1] > 1e-6)
        a, b = residual / lengths[0].clamp_min(1e-6), word / lengths[1].clamp_min(1e-6)
        middle = F.normalize(a + b, dim=2)
        factor = lengths[1] / lengths[0].clamp_min(1e-6)
    turned = residual - 2 * (residual * middle).sum(2, keepdim=True) * middle
    turned = turned + 2 * (residual * a).sum(2, keepdim=True) * b
    through = factor * turned
    own = word + through - through.detach()
    return torch.where(moved, own, identity(word, residual))


def noise(word: Tensor, residual: Tensor) -> Tensor:
    """Eq. (18) on top of the identity."""
    spread = (residual - word.detach()).square().mean(2, keepdim=True).clamp_min(1e-12).sqrt()
    return identity(word, residual) + spread * torch.randn_like(residual)


def nothing(word: Tensor, residual: Tensor) -> Tensor:
    """The codeword alone."""
    return word


@contextmanager
def straight(function: Straight) -> Iterator[None]:
    """Let gradients pass by `function`."""
    with patch.object(hyperprior, "_straight", function):
        yield


@contextmanager
def sphere() -> Iterator[None]:
    """Add the encoder's own pass to each training step; codewords pass no gradient."""
    forward, analyse, synthesise = HyperpriorModel.forward, Transform.analyse, Transform.synthesise
    seen: dict[str, Tensor] = {}

    def analysed(transform: Transform, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        seen["latent"], hyper = analyse(transform, image, quality)
        return seen["latent"], hyper

    def synthesised(transform: Transform, latent: Tensor, quality: Tensor, **options: Any) -> Tensor:
        seen["coded"] = latent
        return synthesise(transform, latent, quality, **options)

    def both(model: HyperpriorModel, image: Tensor, quality: Tensor, **options: Any) -> Any:
        output = forward(model, image, quality, **options)
        if not model.training:
            return output
        latent = seen["latent"]
        error = (seen["coded"] - latent).detach().unflatten(1, (-1, PAIR))
        angle = 2 * math.pi * torch.rand_like(error[:, :, :1])
        offset = error.norm(dim=2, keepdim=True) * torch.cat([angle.cos(), angle.sin()], 2)
        frozen = {name: parameter.detach() for name, parameter in model.transform.named_parameters()}
        place = latent + offset.flatten(1, 2)
        with patch.object(Transform, "forward", synthesise, create=True):
            picture = functional_call(model.transform, frozen, (place, quality))
        trade = model.config.lambda_of(quality)
        own = (trade.sqrt() * 255**2 * (picture - image).square().mean((1, 2, 3))).mean()
        scale = training._LOSS_SCALE / training._DISTANCE_WEIGHT * len(model.config.stages())
        output.distance = output.distance + scale * (own - own.detach())
        return output

    with (
        straight(nothing),
        patch.object(HyperpriorModel, "forward", both),
        patch.object(Transform, "analyse", analysed),
        patch.object(Transform, "synthesise", synthesised),
    ):
        yield


@contextmanager
def gumbel(trainer: HyperpriorTrainer) -> Iterator[None]:
    """Relaxed codewords; their bits and indices stay those of the MAP codes."""
    plain = GroupGMVQ.forward
    relaxed = False

    def forward(groups: GroupGMVQ, residual: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal relaxed
        words, bits, indices = plain(groups, residual, scale)
        relaxed = groups.training and trainer.progress < GUMBEL_UNTIL and groups.dimensions == PAIR
        if not relaxed:
            return words, bits, indices
        with torch.no_grad():
            classes = (CLASSES_PER_OCTAVE * scale + CLASS_OFFSET).clamp(0, CLASSES - 1)
            prior = groups.log_prior(classes)
        logits = prior - groups.weight[:, None, None] / 2 * groups.squared_distance(residual)
        first, last = GUMBEL_TAU
        tau = first * (last / first) ** (trainer.progress / GUMBEL_UNTIL)
        return torch.bmm(F.gumbel_softmax(logits, tau, dim=2), groups.codewords()), bits, indices

    def passed(word: Tensor, residual: Tensor) -> Tensor:
        return word if relaxed else identity(word, residual)

    with straight(passed), patch.object(GroupGMVQ, "forward", forward):
        yield


ESTIMATORS: dict[str, Any] = {
    "straight-through": lambda trainer: straight(identity),
    "rotation": lambda trainer: straight(rotation),
    "noise": lambda trainer: straight(noise),
    "sphere": lambda trainer: sphere(),
    "gumbel": gumbel,
    "none": lambda trainer: straight(nothing),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="torch file with config and model")
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--steps", type=int, default=400, help="of each estimator")
    parser.add_argument("--prior-steps", type=int, default=150, help="of the mixtures alone, before")
    parser.add_argument("--batch", type=int, default=12, help="crops of 128x128 a step")
    parser.add_argument("--held", type=int, default=16, help="pictures that are measured, crops of 384x384")
    parser.add_argument("--only", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = torch.load(options.start, map_location="cpu", weights_only=True)
    total = options.prior_steps + options.steps
    config = TrainConfig(
        network=HyperpriorConfig.from_dict(start["config"]),
        crop=CROP,
        batch_size=options.batch,
        steps=total,
        muon_rate=0.0015,
        weight_decay=0.1,
        scalar_until=1e-9,
        prior_until=options.prior_steps / total,
        ema_decay=0.99,
        evaluate_every=10**9,
    )
    data = load_dataset("folder", options.data, crop=CROP, say=print)
    held = [
        batch for batch, _ in zip(data.validation.evaluation_batches(1, HELD_CROP), range(options.held), strict=False)
    ]
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        shared = Path(folder, "shared")
        shared.mkdir()
        trainer = HyperpriorTrainer(config, data.train, shared, torch.device("cpu"))
        trainer.model.load_state_dict(start["model"])
        trainer.start_codes()
        run(trainer, lambda: trainer.step >= options.prior_steps)
        for name in options.only:
            own = Path(folder, name)
            shutil.copytree(shared, own)
            trainer = HyperpriorTrainer(config, data.train, own, torch.device("cpu"))
            trainer.resume()
            began = time.monotonic()
            with ESTIMATORS[name](trainer):
                run(trainer, lambda: False)
            seconds = time.monotonic() - began
            results[name] = trainer.evaluate(held) | {"seconds": seconds}
            curves = {key: list(zip(value["bpp"], value["psnr_mean"], strict=True)) for key, value in results.items()}
            points = "  ".join(f"{bpp:.4f}/{psnr:.2f}" for bpp, psnr in curves[name])
            line = f"{name:18s} {points}  {seconds:5.0f} s"
            if len(results) > 1:
                difference = rate_difference(curves[options.only[0]], curves[name])
                results[name]["rate_percent"] = difference.percent
                line += f"  {difference.percent:+.1f} %" if difference.percent is not None else f"  {difference.note}"
            print(line, flush=True)
            shutil.rmtree(own)
    if options.json is not None:
        options.json.write_text(json.dumps({"steps": options.steps, "results": results}, indent=1) + "\n")


def run(trainer: HyperpriorTrainer, stop: Callable[[], bool]) -> None:
    """Train to the end, or until `stop`."""
    trainer.run(on_step=lambda record: None, on_evaluation=lambda: None, stop=stop)


if __name__ == "__main__":
    main()
