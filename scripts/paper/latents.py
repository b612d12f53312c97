"""Codebooks on equal latents: the criterion triple of Wasserstein VQ beside VQ-VAE's ways of moving codes.

    python scripts/paper/latents.py MODEL --set cifar10 --data DATA --codes 1024 --steps 3000 --results latents.json

The proxies of a trained single-stage model on training pictures are kept fixed; each method moves K codes by its own
loss alone. Printed and written as JSON, on the proxies of test pictures: quantisation error (mean over sites of the
squared distance), utilisation, perplexity. Errors of different methods compare only here, where latents are equal.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmvqzip.errors import TrainingError
from gmvqzip.models import registry
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.store import load_network
from gmvqzip.quantizers import VQ, VQSettings, WassersteinSettings
from gmvqzip.quantizers.wasserstein import criterion_triple
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.evaluation import to_tensor
from gmvqzip.training.imagesets import ImageSet

BATCH = 64  # pictures

# All start at random as Wasserstein VQ does, but for one with the k-means start that training gives to VQ-VAE.
METHODS: dict[str, VQSettings] = {
    "vqvae": VQSettings(kmeans=False, spread=0.01),
    "vqvae+ema": VQSettings(kmeans=False, spread=0.01, ema=0.99),
    "vqvae+replace": VQSettings(kmeans=False, spread=0.01, replace_after=50),
    "vqvae, k-means": VQSettings(),
    "wasserstein": WassersteinSettings(),
    "wasserstein, matching 0.05": WassersteinSettings(matching=0.05),
    "wasserstein, matching 0.005": WassersteinSettings(matching=0.005),
    "wasserstein, matching alone": WassersteinSettings(codebook=0.0),
}


@torch.inference_mode()
def proxies(network: StagedAutoencoder, pictures: ImageSet, count: int) -> Tensor:
    """The proxies [N, L] of the sites of `count` pictures, of a network with one stage at its coarsest level."""
    (stage,) = network.ordered_stages()
    found = []
    for batch in pictures.evaluation_batches(BATCH):
        features = network.encoder(to_tensor(batch, torch.device("cpu")))[-1]
        state = network.start.expand(len(batch), -1, *features.shape[2:])
        found.append(stage.propose(features, state)[0])
        if BATCH * len(found) >= count:
            break
    return torch.cat(found).clone()


def fit(settings: VQSettings, latents: Tensor, codes: int, steps: int, rate: float, sites: int, seed: int) -> VQ:
    """A codebook moved for `steps` steps on random batches of `sites` latents [N, L], at Adam's rate `rate`."""
    torch.manual_seed(seed)
    quantizer = settings.build(codes, latents.shape[1]).train()
    if quantizer.wants_proxies:
        quantizer.initialise(latents[torch.randperm(len(latents))[: 64 * codes]])
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        batch = latents[torch.randint(len(latents), (sites,))]
        loss = quantizer(batch, batch[:, :0]).loss
        if loss.requires_grad:  # not with an EMA codebook
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        quantizer.after_step([optimizer])
    return quantizer.eval()


def compare(training: Tensor, test: Tensor, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A record for each method."""
    records = []
    for name, settings in METHODS.items():
        started = time.monotonic()
        quantizer = fit(settings, training, options.codes, options.steps, options.rate, options.sites, options.seed)
        error, utilisation, perplexity = criterion_triple(test, quantizer.codewords().detach())
        records.append(
            {
                "method": name,
                "quantisation_error": error,
                "utilisation": utilisation,
                "perplexity": perplexity,
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        print(f"{name}: E {error:.4f}, U {utilisation:.1%}, C {perplexity:.1f}", flush=True)
    return records


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="name or path of a single-stage model")
    parser.add_argument("--set", dest="kind", choices=("cifar10", "celeba"), default="cifar10")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4000, help="training pictures whose proxies are used")
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--sites", type=int, default=4096, help="proxies in a step")
    parser.add_argument("--rate", type=float, default=0.02, help="Adam's first rate; it falls to 0 along a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args(words)
    network = load_network(registry.find(options.model))
    if len(network.ordered_stages()) != 1:
        raise SystemExit(f"{options.model} has several stages: one is wanted")
    data = load_dataset(options.kind, options.data, crop=None, say=print)
    if data.test is None:
        raise TrainingError("the data set has no test part")
    training = proxies(network, data.train, options.pictures)
    test = proxies(network, data.test, options.pictures)
    settings = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    variance = float(training.var(0, unbiased=False).sum())
    result = {"settings": settings, "variance": variance, "methods": compare(training, test, options)}
    options.results.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
