"""Measuring a network on pictures: error, code counts, and a sheet of originals beside reconstructions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.models.network import StagedAutoencoder

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def first_pictures(batches: Iterable[Pixels], count: int) -> Iterator[Pixels]:
    """Batches with the first `count` pictures of `batches`, of which no more are made than that takes."""
    for batch in batches:
        yield batch[:count]
        count -= len(batch)
        if count <= 0:
            return


@dataclass
class Evaluation:
    """Errors and code counts over a set of pictures.

    squared_error: [pictures] mean squared error of each picture, 8-bit reconstructions, in [0, 1] units; counts: for
    each stage [K] uses of each code; pixels: number of pixels in all.
    """

    squared_error: np.ndarray[Any, np.dtype[np.float64]]
    counts: list[np.ndarray[Any, np.dtype[np.int64]]]
    pixels: int

    @property
    def mse(self) -> float:
        """Mean over pictures of the mean squared error, in [0, 1] units."""
        return float(self.squared_error.mean())

    @property
    def psnr(self) -> float:
        """Mean over pictures of each picture's PSNR in dB (not the PSNR of the mean error)."""
        return float((-10 * np.log10(np.maximum(self.squared_error, 1e-10))).mean())

    @property
    def perplexity(self) -> list[float]:
        """exp of the entropy of the code counts of each stage."""
        return [float(np.exp(_entropy(count))) for count in self.counts]

    @property
    def utilisation(self) -> list[float]:
        """Fraction of each stage's codes that were used at all."""
        return [float((count > 0).mean()) for count in self.counts]

    @property
    def bits_per_pixel(self) -> float:
        """Order-0 entropy of all indices under their own counts, over pixels: a lower bound of the payload."""
        return sum(_entropy(count) / float(np.log(2)) * int(count.sum()) for count in self.counts) / self.pixels

    def summary(self) -> dict[str, Any]:
        """The figures, JSON-ready, with the names used in logs and cards."""
        return {
            "pictures": len(self.squared_error),
            "mse": self.mse,
            "psnr_mean": self.psnr,
            "psnr_of_mean_mse": -10 * float(np.log10(max(self.mse, 1e-10))),
            "bpp_order0": self.bits_per_pixel,
            "perplexity_hard": self.perplexity,
            "utilisation": self.utilisation,
        }


def _entropy(counts: np.ndarray[Any, Any]) -> float:
    p = counts[counts > 0] / max(1, counts.sum())
    return float(-(p * np.log(p)).sum())


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [0, 1], channels last."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)


def pad_to_multiple(image: Tensor, alignment: int) -> Tensor:
    """Replicate the bottom and right edges of [B, 3, H, W] until both sides are multiples of `alignment`."""
    bottom, right = -image.shape[2] % alignment, -image.shape[3] % alignment
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


@torch.inference_mode()
def evaluate(network: StagedAutoencoder, batches: Iterable[Pixels], device: torch.device) -> Evaluation:
    """Encode and decode every picture by hard codes, in float32. Leaves the network's mode as it was.

    batches: uint8 arrays [B, H, W, 3], of any size each.
    """
    was_training = network.training
    network.eval()
    errors: list[np.ndarray[Any, Any]] = []
    counts = [np.zeros(quantizer.codes, dtype=np.int64) for quantizer in network.quantizers()]
    pixels = 0
    for batch in batches:
        image = to_tensor(batch, device)
        height, width = image.shape[2:]
        indices = network.encode(pad_to_multiple(image, network.config.alignment))
        decoded = network.decode(indices)[:, :, :height, :width]
        rounded = decoded.mul(255).round_().div_(255)
        errors.append(((rounded - image) ** 2).flatten(1).mean(1).double().cpu().numpy())
        for count, index in zip(counts, indices, strict=True):
            count += np.bincount(index.flatten().cpu().numpy(), minlength=len(count))
        pixels += len(batch) * height * width
    network.train(was_training)
    return Evaluation(np.concatenate(errors), counts, pixels)


@torch.inference_mode()
def soft_measures(
    network: StagedAutoencoder, batches: Iterable[Pixels], device: torch.device
) -> tuple[list[float], float]:
    """The perplexity of the probabilities of each batch, and E H(q(c | x)), of a network of one stage, in evaluation.

    The first is exp(H(q_bar)), q_bar the mean of q(c | x) over the sites of a batch. It depends on the batch's size, so
    only batches as large as the first are in it. The second is a mean over all sites, in nats. batches: uint8 arrays
    [B, H, W, 3] whose sides are multiples of the alignment. Leaves the network's mode as it was.
    """
    was_training = network.training
    network.eval()
    perplexities: list[float] = []
    entropies: list[float] = []
    sizes: list[int] = []
    for batch in batches:
        (stage,) = network(to_tensor(batch, device)).stages
        if not sizes or len(batch) == sizes[0]:
            perplexities.append(float(stage.perplexity_soft))
        entropies.append(float(stage.terms["conditional_entropy"]))
        sizes.append(len(batch))
    network.train(was_training)
    return perplexities, float(np.average(entropies, weights=sizes))


@torch.inference_mode()
def comparison_sheet(network: StagedAutoencoder, pixels: Pixels, device: torch.device) -> Pixels:
    """Originals above their reconstructions, [2H, B*W, 3], of a batch [B, H, W, 3]."""
    was_training = network.training
    network.eval()
    image = to_tensor(pixels, device)
    height, width = image.shape[2:]
    padded = pad_to_multiple(image, network.config.alignment)
    decoded = network.decode(network.encode(padded))[:, :, :height, :width]
    network.train(was_training)
    both = torch.stack([image, decoded]).mul(255).round().to(torch.uint8)  # [2, B, 3, H, W]
    sheet: Pixels = both.permute(0, 3, 1, 4, 2).reshape(2 * height, len(pixels) * width, 3).cpu().numpy()
    return sheet
