"""The staged autoencoder: codes against forward, sizes, stages, modes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import OPEN, QUANTISE, SKIP, ResidualBlock, StagedAutoencoder
from gmvqzip.quantizers import GMVQSettings

SINGLE = NetworkConfig(
    strides=(4,),
    channels=(8,),
    encoder_blocks=(1,),
    decoder_blocks=(1,),
    grids=(GridConfig(stride=4, codes=16, dimensions=4),),
)
PAPER = NetworkConfig(
    strides=(2, 4),
    channels=(8, 12),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
    grids=(GridConfig(stride=4, codes=16, dimensions=4),),
)
STAGED = NetworkConfig(
    strides=(2, 4, 8),
    channels=(8, 10, 12),
    encoder_blocks=(1, 0, 1),
    decoder_blocks=(0, 1, 1),
    grids=(GridConfig(stride=8, stages=2, codes=8, dimensions=3), GridConfig(stride=4, codes=16, dimensions=4)),
    weight_per_dimension=False,
)
# A level above the coarsest grid, a level without a grid between two, and a step of four.
SPARSE = NetworkConfig(
    strides=(1, 4, 8, 16),
    channels=(4, 8, 8, 12),
    encoder_blocks=(0, 1, 0, 1),
    decoder_blocks=(1, 0, 1, 1),
    grids=(GridConfig(stride=8, codes=8, dimensions=3), GridConfig(stride=1, codes=4, dimensions=2)),
    stage_blocks=0,
)
CONFIGS = {"single": SINGLE, "paper": PAPER, "staged": STAGED, "sparse": SPARSE}


@pytest.fixture(params=CONFIGS, scope="module")
def network(request: pytest.FixtureRequest) -> StagedAutoencoder:
    torch.manual_seed(0)
    made = StagedAutoencoder(CONFIGS[request.param]).eval()
    with torch.no_grad():
        made.start.normal_()
        for quantizer in made.quantizers():
            quantizer.precision.fill_(4.0)
            quantizer.log_prior.normal_()
    return made


def image(rows: int, columns: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, rows, columns, generator=torch.Generator().manual_seed(rows * columns))


@pytest.mark.parametrize("cells", [(1, 1), (1, 3), (2, 2), (5, 1)])
def test_decoded_codes_equal_forward_bit_for_bit(network: StagedAutoencoder, cells: tuple[int, int]) -> None:
    side = network.config.alignment
    x = image(cells[0] * side, cells[1] * side)
    with torch.no_grad():
        output = network(x)
    indices = network.encode(x)
    assert torch.equal(network.decode(indices), output.reconstruction)
    for stage, index in zip(output.stages, indices, strict=True):
        assert torch.equal(stage.indices, index.flatten())


def test_shapes_types_and_range(network: StagedAutoencoder) -> None:
    side = network.config.alignment
    x = image(2 * side, 3 * side)
    indices = network.encode(x)
    shapes = network.config.stage_shapes(3 * side, 2 * side)
    assert [tuple(index.shape) for index in indices] == [(2, *shape) for shape in shapes]
    for index, grid in zip(indices, network.config.stages(), strict=True):
        assert index.dtype == torch.int64
        assert 0 <= int(index.min()) <= int(index.max()) < grid.codes
    decoded = network.decode(indices)
    assert decoded.shape == x.shape
    assert decoded.dtype == torch.float32
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1


def test_random_codes_decode(network: StagedAutoencoder) -> None:
    side = network.config.alignment
    generator = torch.Generator().manual_seed(1)
    shapes = zip(network.config.stages(), network.config.stage_shapes(side, 2 * side), strict=True)
    indices = [torch.randint(grid.codes, (1, *shape), generator=generator) for grid, shape in shapes]
    assert network.decode(indices).shape == (1, 3, 2 * side, side)


def test_a_picture_does_not_depend_on_its_batch(network: StagedAutoencoder) -> None:
    side = network.config.alignment
    x = image(2 * side, 2 * side, batch=3)
    together = network.decode(network.encode(x))
    alone = network.decode(network.encode(x[1:2]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


def test_decode_stays_in_range_in_training_mode(network: StagedAutoencoder) -> None:
    x = image(network.config.alignment, network.config.alignment)
    indices = network.encode(x)
    expected = network.decode(indices)
    network.train()
    try:
        assert torch.equal(network.decode(indices), expected)
        assert all(torch.equal(a, b) for a, b in zip(network.encode(x), indices, strict=True))
    finally:
        network.eval()


def test_evaluation_changes_no_state(network: StagedAutoencoder) -> None:
    x = image(network.config.alignment, network.config.alignment)
    before = {name: value.clone() for name, value in [*network.named_parameters(), *network.named_buffers()]}
    generator = torch.get_rng_state()
    with torch.no_grad():
        network(x)
    network.decode(network.encode(x))
    assert torch.equal(torch.get_rng_state(), generator)
    after = dict([*network.named_parameters(), *network.named_buffers()])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stages_come_coarse_to_fine(network: StagedAutoencoder) -> None:
    assert [quantizer.codes for quantizer in network.quantizers()] == [g.codes for g in network.config.stages()]
    assert [stage.dimensions for stage in network.ordered_stages()] == [g.dimensions for g in network.config.stages()]


class TestTraining:
    def network(self, config: NetworkConfig = STAGED) -> StagedAutoencoder:
        torch.manual_seed(0)
        return StagedAutoencoder(config, GMVQSettings(beta=0.3)).train()

    def test_every_parameter_learns(self) -> None:
        network = self.network(SPARSE)
        output = network(image(16, 16))
        loss = ((output.reconstruction - image(16, 16)) ** 2).mean() + sum(stage.loss for stage in output.stages)
        loss.backward()
        # What lies above the coarsest grid has no way to the picture.
        unused = {name for name, value in network.named_parameters() if value.grad is None}
        assert all(name.startswith(("encoder.down.2", "encoder.levels.3")) for name in unused)
        assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)

    def test_settings_reach_every_quantiser(self) -> None:
        assert [quantizer.settings.beta for quantizer in self.network().quantizers()] == [0.3] * 3

    def test_training_is_not_clamped(self) -> None:
        network = self.network(SINGLE)
        with torch.no_grad():
            network.state_dict()["final.bias"].fill_(5.0)
        assert float(network(image(8, 8)).reconstruction.min().detach()) > 1
        assert float(network.eval()(image(8, 8)).reconstruction.max().detach()) == 1

    def test_quantise_is_the_default(self) -> None:
        network = self.network()
        torch.manual_seed(1)
        first = network(image(8, 8))
        torch.manual_seed(1)
        second = network(image(8, 8), modes=[QUANTISE] * 3)
        assert torch.equal(first.reconstruction, second.reconstruction)
        assert len(first.stages) == 3
        assert first.proxies == []

    def test_an_open_stage_passes_the_proxy_with_a_little_noise(self) -> None:
        network = self.network()
        output = network(image(16, 16), modes=[QUANTISE, OPEN, SKIP])
        assert len(output.stages) == 1
        (proxy,) = output.proxies
        assert proxy.shape == (2 * 2 * 2, 3)
        assert not proxy.requires_grad
        output.reconstruction.sum().backward()
        stages = network.ordered_stages()
        assert stages[1].head.weight.grad is not None
        assert stages[1].quantizer.codebook.grad is None
        assert all(value.grad is None for value in stages[2].parameters())

    def test_the_noise_of_an_open_stage_has_a_tenth_of_the_spread(self) -> None:
        network = self.network(replace(SINGLE, stage_blocks=0, decoder_blocks=(0,)))
        stage = network.ordered_stages()[0]
        seen: list[Tensor] = []
        stage.project.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        output = network(image(128, 128), modes=[OPEN])
        noise = seen[0].permute(0, 2, 3, 1).reshape(-1, 4).detach() - output.proxies[0]
        torch.testing.assert_close(noise.std(0), 0.1 * output.proxies[0].std(0), rtol=0.1, atol=0)

    def test_a_skipped_stage_leaves_the_state(self) -> None:
        network = self.network(SINGLE)
        output = network(image(8, 8), modes=[SKIP])
        assert output.stages == output.proxies == []
        other = network(image(8, 8).flip(0), modes=[SKIP])
        assert torch.equal(output.reconstruction, other.reconstruction)  # nothing of the picture got through

    def test_the_temperature_reaches_the_quantisers(self) -> None:
        network = self.network(SINGLE)
        for quantizer in network.quantizers():
            quantizer.settings = GMVQSettings(noise=False)
        for tau, near in ((1e-3, True), (5.0, False)):
            torch.manual_seed(0)
            result = network(image(16, 16), temperature=tau).stages[0]
            distance = (result.quantised - network.quantizers()[0].lookup(result.indices)).abs().max()
            assert (float(distance.detach()) < 0.05) is near

    def test_autocast_keeps_picture_and_quantiser_in_float32(self) -> None:
        network = self.network(SINGLE)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(image(8, 8))
        assert output.reconstruction.dtype == torch.float32
        assert output.stages[0].quantised.dtype == torch.float32


def test_weights_per_site_or_dimension() -> None:
    for per_dimension, width in ((True, 8), (False, 5)):
        network = StagedAutoencoder(replace(SINGLE, weight_per_dimension=per_dimension))
        stage = network.ordered_stages()[0]
        assert stage.head.out_channels == width
        proxy, raw = stage.propose(torch.zeros(1, 8, 2, 3), torch.zeros(1, 8, 2, 3))
        assert proxy.shape == (6, 4)
        assert raw.shape == (6, width - 4)


def test_a_residual_block_starts_near_identity() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        change = ResidualBlock(16)(x) - x
    assert float(change.norm()) < 0.2 * float(x.norm())
