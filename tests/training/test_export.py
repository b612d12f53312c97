"""From a network to a model file: half-precision weights, frozen tables, measured results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CPU, RATED, TINY, pictures, splits

from gmvqzip.entropy.tables import TOTAL, frequencies, ideal_bits
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import load_network, load_tables, round_weights, verify
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.evaluation import pad_to_multiple, to_tensor
from gmvqzip.training.export import SMOOTHING, Origin, export_model
from gmvqzip.training.imagesets import MixedSet
from gmvqzip.training.splits import DataSplits


def made(seed: int = 0) -> StagedAutoencoder:
    torch.manual_seed(seed)
    network = StagedAutoencoder(TINY.network)
    with torch.no_grad():
        for quantizer in network.quantizers():
            quantizer.precision.fill_(10.0)
            quantizer.log_prior.copy_(torch.linspace(-0.5, 0.5, 8))
    return network


def exported(
    network: StagedAutoencoder, config: TrainConfig = TINY, data: DataSplits | None = None
) -> tuple[bytes, dict[str, Any], list[str]]:
    lines: list[str] = []
    origin = Origin("mine", config, None, {"steps_done": 16, "passes": 3.2}, "made up")
    blob, card, _ = export_model(origin, network, data or splits(), say=lines.append)
    return blob, card, lines


def indices_of(network: StagedAutoencoder, pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [stage.numpy() for stage in network.encode(pad_to_multiple(to_tensor(pixels, CPU), 4))]


@pytest.mark.parametrize(("asked", "counted"), [(0, 20), (7, 7), (99, 20)])
def test_tables_are_smoothed_counts_over_the_training_set(tmp_path: Path, asked: int, counted: int) -> None:
    network = made()
    blob, _, lines = exported(network, replace(TINY, prior_images=asked))
    path = tmp_path / "mine.safetensors"
    path.write_bytes(blob)
    tables = load_tables(read_info(path))
    for table, indices in zip(tables, indices_of(network, pictures(20)[:counted]), strict=True):
        counts = np.bincount(indices.ravel(), minlength=8)
        assert np.array_equal(table, frequencies(counts + SMOOTHING))
        assert int(table.sum()) == TOTAL
    assert lines[0] == f"aggregated prior over {counted} training pictures"


def test_the_file_holds_the_rounded_weights(tmp_path: Path) -> None:
    network = made()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    blob, _, _ = exported(network)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(blob)
    verify(read_info(path))
    loaded = load_network(read_info(path)).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-3, atol=float(before[name].abs().max()) / 200)
        assert torch.equal(value, loaded[name])
    decoder = "levels.0.0.spatial.weight" if "levels.0.0.spatial.weight" in loaded else "final.weight"
    assert torch.equal(loaded[decoder], before[decoder].half().float())


def test_the_encoder_keeps_the_prior_it_was_trained_with(tmp_path: Path) -> None:
    network, before = made(), made()
    round_weights(before)
    blob, _, _ = exported(network, RATED)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(blob)
    verify(read_info(path))
    picked = indices_of(before, pictures(20))
    for quantizer, table, codes in zip(network.quantizers(), load_tables(read_info(path)), picked, strict=True):
        assert torch.equal(quantizer.log_prior, torch.linspace(-0.5, 0.5, 8).half().float())
        assert np.array_equal(table, frequencies(np.bincount(codes.ravel(), minlength=8) + SMOOTHING))


def test_results_are_those_of_the_file(tmp_path: Path) -> None:
    blob, card, _ = exported(made())
    path = tmp_path / "mine.safetensors"
    path.write_bytes(blob)
    network, tables = load_network(read_info(path)), load_tables(read_info(path))
    held_out = pictures(5, 2, 18)
    indices = indices_of(network, held_out)
    bits = sum(ideal_bits(table, index) for table, index in zip(tables, indices, strict=True))
    test = card["results"]["test"]
    assert test["bpp"] == pytest.approx(bits / (5 * 18 * 18))
    decoded = network.decode([torch.from_numpy(index) for index in indices])[:, :, :18, :18]
    error = (decoded.mul(255).round() / 255 - to_tensor(held_out, CPU)).square().mean()
    assert test["mse"] == pytest.approx(float(error), rel=1e-5)
    assert test["pictures"] == 5
    assert card["results"]["validation"]["pictures"] == 4
    assert card["results"]["training"]["pictures"] == 20


def test_without_a_test_part() -> None:
    assert set(exported(made(), data=splits(test=False))[1]["results"]) == {"training", "validation"}


def test_pictures_of_all_sizes() -> None:
    mixed = MixedSet("mixed", [pictures(1, 0, 9)[0], pictures(1, 1, 30)[0][:17]], crop=8)
    data = DataSplits(mixed, mixed, None, "two pictures")
    _, card, _ = exported(made(), replace(TINY, crop=8), data)
    assert card["results"]["validation"]["pictures"] == 2


def test_the_card_tells_everything(tmp_path: Path) -> None:
    blob, card, _ = exported(made())
    path = tmp_path / "mine.safetensors"
    path.write_bytes(blob)
    info = read_info(path)
    assert info.card == json.loads(json.dumps(card))
    assert info.name == card["name"] == "mine"
    assert card["note"] == "made up"
    assert card["trained_on"] == "gradients: 20 pictures"
    assert card["training"]["steps_done"] == 16
    assert card["training"]["muon_rate"] == TINY.muon_rate
    assert card["training"]["quantizer"]["beta"] == TINY.quantizer.beta
    assert "torch" in card["machine"]


def test_equal_networks_give_equal_identities(tmp_path: Path) -> None:
    identities = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(exported(made(seed))[0])
        identities.append(read_info(path).model_id)
    assert identities[0] == identities[1] != identities[2]
