"""The training of a staged model: stage starts, objective, schedules."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmvqzip.errors import DivergedError
from gmvqzip.models.network import OPEN, QUANTISE, SKIP, NetworkOutput, StagedAutoencoder
from gmvqzip.models.registry import ModelInfo
from gmvqzip.quantizers import GMVQ, ranks
from gmvqzip.training.config import StagedTraining
from gmvqzip.training.evaluation import comparison_sheet, evaluate
from gmvqzip.training.loop import PictureSet, StepRecord, TrainingLoop, restore_optimizers
from gmvqzip.training.optim import build_optimizers, rate_factor
from gmvqzip.training.schedule import quantizer_settings, temperature
from gmvqzip.training.start import started_network

_KMEANS_SITES = 64  # sites collected per code for the k-means start, at most


class Trainer(TrainingLoop):
    """A run of a staged model: network, its running average, optimisers."""

    config: StagedTraining

    def __init__(
        self,
        config: StagedTraining,
        pictures: PictureSet,
        folder: Path,
        device: torch.device,
        start: ModelInfo | None = None,
    ) -> None:
        """start: a trained model to go on from, of the same network; its stages have had their start."""
        super().__init__(config, pictures, folder, device, start)
        self.network = started_network(start, config) if start else StagedAutoencoder(config.network, config.quantizer)
        self.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        self.average: StagedAutoencoder | None = None
        self.optimizers = build_optimizers(
            self.network,
            muon_rate=config.muon_rate,
            adam_rate=config.adam_rate,
            weight_decay=config.weight_decay,
            use_muon=config.optimizer == "muon",
            codebook_rate=config.codebook_rate,
            product_type=self.precision.product_type,
        )
        self._averaged = 0  # steps in the running average
        self._opening = 0 if start else config.open_steps * len(self.network.quantizers())  # steps
        self._collected: dict[int, list[Tensor]] = {}

    @property
    def ready(self) -> bool:
        """Whether every stage has had its k-means start; before that there is nothing to export."""
        return self.step > self._opening

    @property
    def least_steps(self) -> int:
        """All stages that are to open, one after another, and a step with all of them."""
        return self._opening + 1

    @property
    def exported(self) -> StagedAutoencoder:
        """The network to measure and to ship: the running average once there is one."""
        return self.average or self.network

    def evaluate(self, batches: Iterable[np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Measure the network that would be shipped on batches of pictures."""
        return evaluate(self.exported, batches, self.device).summary()

    def sheet(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Originals above reconstructions."""
        return comparison_sheet(self.exported, pixels, self.device)

    def _train_step(self) -> StepRecord:
        config, progress = self.config, self.progress
        self._start_stages()
        image = self._share(self.step, self.network.config.alignment)
        tau = self._prepare(progress)
        with self._autocast():
            output: NetworkOutput = self.network(image, temperature=tau, modes=self._modes())
        error = ranks.mean(self._errors(output.reconstruction, image).mean())
        distortion = 0.5 * error.log() if config.reconstruction == "log" else config.reconstruction_weight * error
        loss = distortion + sum((stage.loss for stage in output.stages), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call]
        ranks.average_gradients(self.network.parameters())
        value = float(ranks.mean(loss.detach()))
        if not np.isfinite(value):
            raise DivergedError(
                f"the loss is not finite at step {self.step}; the last checkpoint is kept: resume with lower rates"
            )
        self._collect(output)
        for optimizer in self.optimizers:
            if isinstance(optimizer, torch.optim.AdamW):
                torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], config.clip)
            optimizer.step()
            optimizer.zero_grad()
        for quantizer in self.network.quantizers():
            quantizer.after_step(self.optimizers)
        self.step += 1
        self._reseed(progress)
        self._follow(progress)
        return StepRecord(self.step, progress, self._values(value, float(error.detach()), tau, output))

    def _prepare(self, progress: float) -> float:
        """Set rates and sampling for this step; returns the temperature."""
        config = self.config
        factor = rate_factor(progress, warmup=config.warmup, hold=config.hold, floor=config.floor, cosine=config.cosine)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        for quantizer, grid in zip(self.network.quantizers(), self.network.config.stages(), strict=True):
            quantizer.settings = quantizer_settings(config, progress, grid.stride)
        return temperature(config, progress)

    def _modes(self) -> list[str]:
        """Stages open one after another, `open_steps` each, and quantise from then on."""
        count = len(self.network.quantizers())
        turn = self.step // self.config.open_steps if self._opening else count
        return [QUANTISE if stage < turn else OPEN if stage == turn else SKIP for stage in range(count)]

    def _collect(self, output: NetworkOutput) -> None:
        stage = self.step // self.config.open_steps
        if output.proxies and self.network.quantizers()[stage].wants_proxies:
            kept = self._collected.setdefault(stage, [])
            kept.append(ranks.gathered(output.proxies[0]))
            limit = _KMEANS_SITES * self.network.quantizers()[stage].codes
            while len(kept) > 1 and sum(len(part) for part in kept[1:]) >= limit:
                kept.pop(0)

    def _start_stages(self) -> None:
        """The k-means start of the stage whose open steps have just ended."""
        turn, rest = divmod(self.step, self.config.open_steps)
        if rest == 0 and turn - 1 in self._collected:
            proxies = torch.cat(self._collected.pop(turn - 1))
            self.network.quantizers()[turn - 1].initialise(proxies, self.config.sharpness)
            ranks.equalise(self.network.quantizers()[turn - 1])

    def _reseed(self, progress: float) -> None:
        every = self.config.reseed_every
        if every and self.ready and self.step % every == 0 and progress < self.config.rate_full:
            for quantizer in self.network.quantizers():
                if isinstance(quantizer, GMVQ):
                    quantizer.reseed()

    def _follow(self, progress: float) -> None:
        """The running average of the weights, over the second half of the run."""
        if progress < 0.5 or not self.ready:
            return
        if self.average is None:
            self.average = copy.deepcopy(self.network).requires_grad_(False)
        with torch.no_grad():
            self._averaged += 1
            weight = 1 - min(self.config.ema_decay, self._averaged / (10 + self._averaged))
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, weight)
            for held, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
                held.copy_(current)  # priors and precisions are running values already

    def _values(self, loss: float, error: float, temperature: float, output: NetworkOutput) -> dict[str, float]:
        values = {"loss": loss, "mse": error, "psnr": -10 * float(np.log10(max(error, 1e-10)))}
        for number, stage in enumerate(output.stages):
            terms = ranks.mean(torch.stack([term.detach() for term in stage.terms.values()]))
            values |= {f"{name}.{number}": float(term) for name, term in zip(stage.terms, terms, strict=True)}
            values[f"perplexity_soft.{number}"] = float(stage.perplexity_soft)
            values[f"perplexity_hard.{number}"] = float(stage.perplexity_hard)
            values[f"utilisation.{number}"] = float(stage.utilisation)
        values["temperature"] = temperature
        values["learning_rate"] = float(self.optimizers[0].param_groups[0]["lr"])
        return values

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "averaged": self._averaged,
            "average": None if self.average is None else self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "collected": dict(self._collected),
            "running": [quantizer.running_state() for quantizer in self.network.quantizers()],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._averaged = int(state["averaged"])
        if state["average"] is not None:
            self.average = copy.deepcopy(self.network).requires_grad_(False)
            self.average.load_state_dict(state["average"])
        restore_optimizers(self.optimizers, state["optimizers"])
        self._collected = {int(k): list(v) for k, v in state["collected"].items()}
        for quantizer, running in zip(self.network.quantizers(), state["running"], strict=True):
            quantizer.restore_running(running)
