"""What changes in the course of a run, as a function of its done fraction: settings of the quantiser, temperature."""

from __future__ import annotations

import math
from dataclasses import replace

from gmvqzip.quantizers import GMVQSettings, GumbelSettings, QuantizerSettings, SQVAESettings
from gmvqzip.training.config import StagedTraining


def quantizer_settings(config: StagedTraining, progress: float, stride: int) -> QuantizerSettings:
    """The settings of a quantiser whose grid has a cell every `stride` pixels, at `progress` from 0 to 1."""
    settings = config.quantizer
    if isinstance(settings, GMVQSettings):
        return _gmvq(settings, config, progress, stride)
    if isinstance(settings, GumbelSettings) and progress < settings.kl_ramp:
        return replace(settings, kl=settings.kl * progress / settings.kl_ramp)
    if isinstance(settings, SQVAESettings) and config.reconstruction == "log":
        return replace(settings, weight=settings.weight / (3 * stride**2))  # one over the pixel values of a site
    return settings


def _gmvq(settings: GMVQSettings, config: StagedTraining, progress: float, stride: int) -> GMVQSettings:
    if config.entropy_until < 1:
        settings = replace(settings, gamma=settings.gamma * max(0.0, 1 - progress / config.entropy_until))
    if progress >= config.hard_after:
        hard = "straight-through" if settings.sampling == "gumbel" else settings.sampling
        settings = replace(settings, sampling=hard, noise=False)
    ramp = (progress - config.rate_from) / max(config.rate_full - config.rate_from, 1e-9)
    rate = config.rate_weight * min(1.0, max(0.0, ramp))
    return replace(settings, rate=rate / stride**2, learned_prior=rate > 0)


def temperature(config: StagedTraining, progress: float) -> float:
    """tau of the Gumbel-softmax at `progress` from 0 to 1."""
    fall = min(1.0, progress / max(config.temperature_until, 1e-9))
    first, last = config.temperature_start, config.temperature_end
    if config.temperature_fall == "cosine":
        return last + (first - last) * (0.5 + 0.5 * math.cos(math.pi * fall))
    return float(first * (last / first) ** fall)
