"""The training of a hyperprior model, in three phases: the transform, the prior of its codes, everything together.

1. Up to `scalar_until` the model is an ordinary codec with scalar rounding and the rate under uniform noise.
2. Its averaged weights are taken, the latent's channels ordered by energy, and every group gets its codebook by k-means
   on residuals; up to `prior_until` only the mixtures are trained.
3. The rest trains everything at `code_rate` times the first rates, on true codes.

Loss: (lambda * 255^2 * MSE + bits per pixel) / sqrt(lambda), mean over pictures, each with its own random quality, so
that neither end of the range starves; from phase 2 on the distance of residuals and codewords on top.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmvqzip.errors import DivergedError
from gmvqzip.models.distortion import PEAK, eye_distortion
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.quality import SECOND
from gmvqzip.models.registry import ModelInfo
from gmvqzip.quantizers import ranks
from gmvqzip.training.channels import order_channels
from gmvqzip.training.config import FROM_SCRATCH, HyperpriorTraining
from gmvqzip.training.evaluation import pad_to_multiple, to_tensor
from gmvqzip.training.first_scales import start_scales
from gmvqzip.training.loop import PictureSet, StepRecord, TrainingLoop, restore_optimizers
from gmvqzip.training.optim import Muon, parameter_groups
from gmvqzip.training.phases import phases
from gmvqzip.training.start import branched_hyperprior, started_hyperprior

EVALUATED = (0.0, 0.25, 0.5, 0.75, 1.0)  # qualities at which validation pictures are measured
_SCALED = 4  # batches whose latents start the scales
_COLLECTED = 24  # batches whose residuals start the codebooks
_PASSES_A_STEP = 3  # without gradients take as long as a step
_LOSS_SCALE = 0.1
_DISTANCE_WEIGHT = 1.0  # of the distance of residuals and codewords, mean over groups
_RATE_RAMP = 500  # steps over which the rate comes in
_HYPER_RAMP = 1000  # steps over which that of the hyper-latent does, so that the hyper-synthesis learns to use it first
_OUTLIER, _OUTLIER_FROM = 4.0, 300  # a loss so many times the typical one is skipped, from this step on
_TYPICAL_DECAY = 0.02
_MIXTURE_RATE, _CODEBOOK_RATE = 1e-2, 1e-3  # AdamW's peak rates of mixtures and codebooks
_MUON_EVERY = 2  # steps: Muon's work is a quarter of a step's, and the loss does not show the difference
_LINEAR_FACTOR = 0.1  # of AdamW's rate for the linear way, whose weights are small and exact from the start


class HyperpriorTrainer(TrainingLoop):
    """A run of a hyperprior model: its parameters, their running average, optimisers of the present phase."""

    config: HyperpriorTraining

    def __init__(
        self,
        config: HyperpriorTraining,
        pictures: PictureSet,
        folder: Path,
        device: torch.device,
        start: ModelInfo | None = None,
    ) -> None:
        """start: a trained model to go on from, of the same network; it skips what the phases' ends say is over."""
        super().__init__(config, pictures, folder, device, start)
        self.network_config = config.network
        self.model = started_hyperprior(start, config.network) if start else HyperpriorModel(config.network)
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.phases = phases(config)
        self.phase = self.phases[0] if start is None else next(phase for phase in self.phases if phase.end)
        self.model.set_rounding(not self.phase.scalar)
        self.average: HyperpriorModel | None = None
        self._averaged, self._skipped = 0, 0
        self._typical = 0.0  # loss; 0 where none is known
        self.optimizers = self._make_optimizers()

    @property
    def ready(self) -> bool:
        """Whether the codebooks have been started and trained at all."""
        return self.phase == self.phases[-1]

    @property
    def least_steps(self) -> int:
        """One step at least is of the last phase."""
        return math.ceil(1 / (1 - self.phases[-1].begin))

    @property
    def awaited_steps(self) -> float:
        """The start of the codebooks: two passes over the pictures without gradients, and k-means."""
        return 2 * _COLLECTED / _PASSES_A_STEP if self.phase.scalar else 0.0

    @property
    def exported(self) -> HyperpriorModel:
        """The model to measure and to ship: the running average once there is one."""
        return self.average or self.model

    def branch(self) -> None:
        """Begin with the weights of the checkpoint that `config.start` names. Raises TrainingError."""
        self.model.load_state_dict(branched_hyperprior(Path(self.config.start), self.network_config).state_dict())

    def evaluate(self, batches: Iterable[np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Estimated bits per pixel and PSNR (mean over pictures) at each of EVALUATED."""
        held = list(batches)
        rates, errors = [], []
        for quality in EVALUATED:
            parts = [measure(self.exported, batch, quality, self.device, self.phase.scalar) for batch in held]
            rates.append(np.concatenate([bits for bits, _ in parts]))
            errors.append(np.concatenate([error for _, error in parts]))
        psnr = [float((-10 * np.log10(np.maximum(error, 1e-10))).mean()) for error in errors]
        return {
            "pictures": len(rates[0]),
            "quality": list(EVALUATED),
            "bpp": [float(rate.mean()) for rate in rates],
            "psnr_mean": psnr,
        }

    def sheet(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Originals above reconstructions at the middle quality."""
        decoded = reconstruct(self.exported, pixels, 0.5, self.device, self.phase.scalar)[0]
        both = np.stack([pixels, decoded.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()])
        sheet: np.ndarray[Any, Any] = both.transpose(0, 2, 1, 3, 4).reshape(
            2 * pixels.shape[1], len(pixels) * pixels.shape[2], 3
        )
        return sheet

    def _train_step(self) -> StepRecord:
        config, progress = self.config, self.progress
        self._enter_phase(progress)
        fresh = self.phase.scalar and config.start == FROM_SCRATCH
        if fresh and self.step == 0:
            start_scales(self.model, [self._share(turn, self.network_config.alignment) for turn in range(_SCALED)])
        image = self._share(self.step, self.network_config.alignment)
        quality = ranks.rand(image.shape[:1], image)
        trade = self.network_config.lambda_of(quality)
        eyes = self._for_eyes(len(image))
        position = torch.where(eyes, quality + SECOND, quality) if self.network_config.distortions == 2 else quality
        with self._autocast():
            output = self.model(image, position, scalar=self.phase.scalar)
        error, pixels = self._errors(output.reconstruction, image), self._pixels(image)
        distortion = PEAK**2 * error
        if eyes.any():
            pleasing = eye_distortion(self._seen(output.reconstruction, image)[eyes], image[eyes])
            distortion = distortion.masked_scatter(eyes, pleasing)
        rate, hyper_rate = (output.bits + output.hyper_bits) / pixels, output.hyper_bits / pixels
        ramp = min(1.0, 0.1 + self.step / _RATE_RAMP) if fresh else 1.0
        free = max(0.0, 1 - self.step / _HYPER_RAMP) if fresh else 0.0  # part of the hyper-latent's rate
        cost = trade * distortion + ramp * (rate - free * hyper_rate)
        loss = _LOSS_SCALE * (cost / trade.sqrt()).mean()
        if self.phase.pulled:
            loss = loss + _DISTANCE_WEIGHT / len(self.network_config.stages()) * output.distance
        factor = self._set_rates(progress)
        value = float(ranks.mean(loss.detach()))
        if self._is_outlier(value):
            self._skipped += 1
        else:
            loss.backward()
            ranks.average_gradients(self.model.parameters())
            for optimizer in self.optimizers:
                if isinstance(optimizer, torch.optim.AdamW):
                    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.clip)
                optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.step += 1
        self._follow(progress)
        means = ranks.mean(torch.stack([error.detach(), rate.detach(), hyper_rate.detach()]).mean(1))
        mean_error, bpp, hyper_bpp = means.tolist()
        values = {
            "loss": value,
            "mse": mean_error,
            "psnr": -10 * float(np.log10(max(mean_error, 1e-10))),
            "bpp": bpp,
            "hyper_bpp": hyper_bpp,
            "learning_rate": config.muon_rate * factor,
            "skipped": float(self._skipped),
        }
        return StepRecord(self.step, progress, values)

    def _for_eyes(self, count: int) -> Tensor:
        """Which of `count` pictures [B] are to please eyes: all or none, or with two distortions every second one."""
        if self.network_config.distortions == 2:
            return torch.arange(count, device=self.device) % 2 == 1
        return torch.full((count,), self.network_config.distortion == "eye", device=self.device)

    def _is_outlier(self, value: float) -> bool:
        """Whether a loss is so far off that its step is left out. Raises TrainingError where losses stay so."""
        finite = bool(np.isfinite(value))
        if not self._typical and finite:
            self._typical = value
        outlier = not finite or (self.step > _OUTLIER_FROM and value > _OUTLIER * self._typical)
        if outlier:
            self._typical *= 1.05  # who stays high becomes typical
            if self._skipped > 100 + self.step // 20 or (not finite and self.step <= _OUTLIER_FROM):
                what = f"too far off too often, {value:.3g}" if finite else "not finite"
                raise DivergedError(
                    f"the loss is {what} at step {self.step}; the last checkpoint is kept: resume with lower rates"
                )
        else:
            self._typical += (_TYPICAL_DECAY if self.step > 50 else 0.2) * (value - self._typical)
        return outlier

    # Phases.

    def _enter_phase(self, progress: float) -> None:
        while self.phase != self.phases[-1] and progress >= self.phase.end:
            if self.phase.scalar:
                with self._long_work():
                    self.start_codes()
            else:
                self._next_phase()

    def _next_phase(self) -> None:
        self.phase = self.phases[self.phases.index(self.phase) + 1]
        self._typical, self.average, self._averaged = 0.0, None, 0

    def start_codes(self) -> None:
        """From the scalar form to codebooks: averaged weights, ordered channels, k-means start."""
        if self.average is not None:
            self.model.load_state_dict(self.average.state_dict())
        self.average, self._averaged = None, 0
        order_channels(self.model, self._residuals())
        self.model.set_rounding(True)
        residuals = self._residuals()
        for number, groups in enumerate(self.model.all_groups()):
            groups.initialise(residuals[number])
        for scales, part in zip(self.model.hyper_scales(), residuals, strict=False):
            spread = part.square().mean(1).reshape(len(part), 2, -1).mean(2).sqrt()  # [G, 2]
            scales.anchors.data.copy_(spread.clamp_min(0.1).log2().flatten())
        ranks.equalise(self.model)
        self._next_phase()
        self.optimizers = self._make_optimizers()

    @torch.no_grad()
    def _residuals(self) -> list[Tensor]:
        """What each part's groups have to quantise [G, N, L] over some batches, under the scalar form."""
        self.model.eval()
        collected: list[list[Tensor]] = [[] for _ in self.model.all_groups()]
        parts = len(self.network_config.hyper)
        for turn in range(_COLLECTED):
            image = self._share(self.step + turn, self.network_config.alignment)
            quality = ranks.rand(image.shape[:1], image)
            output = self.model(image, quality, scalar=True, collect=True)
            for number, residual in enumerate(output.residuals[0]):
                collected[number].append(ranks.gathered(residual, 1))
            for number in range(len(self.network_config.quarter)):
                collected[parts + number] += [ranks.gathered(step[number], 1) for step in output.residuals[1:]]
        self.model.train()
        return [torch.cat(residuals, 1) for residuals in collected]

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the phase: mixtures have AdamW groups of their own, which the scalar form leaves alone."""
        config = self.config
        wide, rest, linear, mixtures, books = parameter_groups(self.model).values()
        if config.optimizer != "muon":
            wide, rest = [], rest + wide
        groups = [
            {"params": rest, "lr": config.adam_rate, "mixture": False},
            {"params": linear, "lr": config.adam_rate * _LINEAR_FACTOR, "mixture": False},
            {"params": mixtures, "lr": _MIXTURE_RATE, "mixture": True},
            {"params": books, "lr": _CODEBOOK_RATE, "mixture": True},
        ]
        optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)]
        if wide:
            decay, kind = config.weight_decay, self.precision.product_type
            optimizers.append(Muon(wide, config.muon_rate, weight_decay=decay, product_type=kind, every=_MUON_EVERY))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["peak"] = group["lr"]
        return optimizers

    def _set_rates(self, progress: float) -> float:
        """Set the learning rates of this step; returns the factor of the network's."""
        mixture = self.phase.shape(progress, self.config)
        factor = self.phase.network_rate * mixture
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (mixture if group.get("mixture") else factor)
        return factor

    def _follow(self, progress: float) -> None:
        """The running average of the weights, over the second half of the phases that have one."""
        config = self.config
        if not self.phase.averaged or progress < (self.phase.begin + self.phase.end) / 2:
            return
        if self.average is None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)
        with torch.no_grad():
            self._averaged += 1
            weight = 1 - min(config.ema_decay, self._averaged / (10 + self._averaged))
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, weight)

    def _state(self) -> dict[str, Any]:
        return {
            "phase": self.phase.name,
            "model": self.model.state_dict(),
            "averaged": self._averaged,
            "average": None if self.average is None else self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "typical": self._typical,
            "skipped": self._skipped,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.phase = next(phase for phase in self.phases if phase.name == state["phase"])
        self.model.load_state_dict(state["model"])
        self.model.set_rounding(not self.phase.scalar)
        self._averaged, self._typical = int(state["averaged"]), float(state["typical"])
        self._skipped = int(state["skipped"])
        if state["average"] is not None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)
            self.average.load_state_dict(state["average"])
        self.optimizers = self._make_optimizers()
        restore_optimizers(self.optimizers, state["optimizers"])


@torch.inference_mode()
def reconstruct(
    model: HyperpriorModel, pixels: np.ndarray[Any, Any], quality: float, device: torch.device, scalar: bool
) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, H, W] in [0, 1] and bits [B] of pixels [B, H, W, 3]; leaves the model's mode as it was."""
    was_training = model.training
    model.eval()
    image = to_tensor(pixels, device)
    padded = pad_to_multiple(image, model.config.alignment)
    output = model(padded, torch.full((len(image),), quality, device=device), scalar=scalar)
    model.train(was_training)
    return output.reconstruction[:, :, : image.shape[2], : image.shape[3]].clamp(0, 1), output.bits + output.hyper_bits


def measure(
    model: HyperpriorModel, pixels: np.ndarray[Any, Any], quality: float, device: torch.device, scalar: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Estimated bits per pixel and mean squared error of 8-bit pictures in [0, 1] units, each [B]."""
    decoded, bits = reconstruct(model, pixels, quality, device, scalar)
    error = (decoded.mul(255).round().div(255) - to_tensor(pixels, device)).square().mean((1, 2, 3))
    return (bits / (pixels.shape[1] * pixels.shape[2])).cpu().numpy(), error.double().cpu().numpy()
