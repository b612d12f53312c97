"""Measuring: errors of 8-bit pictures, code counts, bits, sheets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import CPU, pictures

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.training.evaluation import Evaluation, comparison_sheet, evaluate, pad_to_multiple, to_tensor

CONFIG = NetworkConfig(
    strides=(2, 4, 8),
    channels=(8, 8, 8),
    encoder_blocks=(0, 0, 0),
    decoder_blocks=(0, 0, 0),
    grids=(GridConfig(stride=8, codes=8, dimensions=3), GridConfig(stride=4, codes=16, dimensions=3)),
)


@pytest.fixture(scope="module")
def network() -> StagedAutoencoder:
    torch.manual_seed(0)
    return StagedAutoencoder(CONFIG).train()


class TestEvaluation:
    evaluation = Evaluation(np.array([0.01, 0.0001]), [np.array([4, 4, 0, 0]), np.array([6, 2])], 32)

    def test_errors(self) -> None:
        assert self.evaluation.mse == pytest.approx(0.00505)
        assert self.evaluation.psnr == pytest.approx((20 + 40) / 2)  # the mean over pictures
        assert self.evaluation.summary()["psnr_of_mean_mse"] == pytest.approx(-10 * np.log10(0.00505))

    def test_codes(self) -> None:
        entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
        assert self.evaluation.perplexity == pytest.approx([2.0, np.exp(entropy)])
        assert self.evaluation.utilisation == [0.5, 1.0]
        assert self.evaluation.bits_per_pixel == pytest.approx((8 * 1 + 8 * entropy / np.log(2)) / 32)

    def test_summary(self) -> None:
        summary = self.evaluation.summary()
        assert summary["pictures"] == 2
        assert summary["perplexity_hard"] == self.evaluation.perplexity
        assert summary["bpp_order0"] == self.evaluation.bits_per_pixel

    def test_a_perfect_picture(self) -> None:
        assert Evaluation(np.zeros(1), [np.array([1])], 1).psnr == 100

    def test_codes_never_used(self) -> None:
        assert Evaluation(np.zeros(1), [np.zeros(4, int)], 1).perplexity == [1.0]


def test_to_tensor() -> None:
    pixels = pictures(2)
    tensor = to_tensor(pixels, CPU)
    assert tensor.shape == (2, 3, 16, 16)
    assert float(tensor[1, 2, 3, 4]) == np.float32(pixels[1, 3, 4, 2]) / np.float32(255)


@pytest.mark.parametrize(("height", "width", "padded"), [(8, 8, (8, 8)), (9, 16, (16, 16)), (1, 1, (8, 8))])
def test_padding_repeats_the_edge(height: int, width: int, padded: tuple[int, int]) -> None:
    image = torch.rand(1, 3, height, width)
    result = pad_to_multiple(image, 8)
    assert result.shape[2:] == padded
    assert torch.equal(result[:, :, :height, :width], image)
    assert torch.equal(result[:, :, -1, -1], image[:, :, -1, -1])


def test_evaluate_is_forward_rounded_to_8_bits(network: StagedAutoencoder) -> None:
    pixels = pictures(3)
    result = evaluate(network, [pixels[:2], pixels[2:]], CPU)
    network.eval()
    image = to_tensor(pixels, CPU)
    with torch.no_grad():
        output = network(image)
    network.train()
    expected = ((output.reconstruction.mul(255).round() / 255 - image) ** 2).mean((1, 2, 3))
    assert result.squared_error == pytest.approx(expected.double().numpy(), rel=1e-5)
    for count, stage in zip(result.counts, output.stages, strict=True):
        assert np.array_equal(count, torch.bincount(stage.indices, minlength=len(count)).numpy())
    assert result.pixels == 3 * 16 * 16


def test_evaluate_takes_any_sizes(network: StagedAutoencoder) -> None:
    batches = [pictures(2, side=13), pictures(1, side=8), np.zeros((1, 1, 30, 3), np.uint8)]
    result = evaluate(network, batches, CPU)
    assert len(result.squared_error) == 4
    assert result.pixels == 2 * 169 + 64 + 30
    assert int(result.counts[0].sum()) == 2 * 4 + 1 + 4


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(network: StagedAutoencoder, training: bool) -> None:
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    evaluate(network, [pictures(1)], CPU)
    comparison_sheet(network, pictures(1), CPU)
    assert network.training is training
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.train()


def test_sheet_has_originals_above_reconstructions(network: StagedAutoencoder) -> None:
    pixels = pictures(3, side=13)
    sheet = comparison_sheet(network, pixels, CPU)
    assert sheet.shape == (26, 39, 3)
    assert sheet.dtype == np.uint8
    for number in range(3):
        assert np.array_equal(sheet[:13, 13 * number : 13 * (number + 1)], pixels[number])
    error = float(((sheet[13:].astype(float) - sheet[:13]) ** 2).mean()) / 255**2
    assert error == pytest.approx(evaluate(network, [pixels], CPU).mse, rel=1e-5)
