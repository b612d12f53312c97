"""Muon, the share of each optimiser, and the learning-rate schedule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.training.optim import Muon, build_optimizers, orthogonalise, rate_factor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (1, 5)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, int], size: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(sum(shape))
    matrix = size * torch.randn(shape)
    result = orthogonalise(matrix, dtype)
    assert (result.shape, result.dtype) == (matrix.shape, matrix.dtype)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.35
    assert (result * matrix).sum() > 0.5 * torch.linalg.matrix_norm(matrix, "nuc")  # the same singular vectors


@pytest.mark.parametrize("shape", [(4, 6), (4, 60), (60, 4)])
def test_the_zero_matrix_stays_zero(shape: tuple[int, int]) -> None:
    assert torch.equal(orthogonalise(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(24, 24), (24, 47), (24, 48), (24, 400), (400, 24)])
@pytest.mark.parametrize("decades", [0, 4])
def test_the_gram_matrix_gives_what_the_iteration_gives(shape: tuple[int, int], decades: int) -> None:
    """Also of a matrix whose singular values are as unlike as gradients' are."""
    torch.manual_seed(sum(shape))
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    x = (u * torch.logspace(0, -decades, 24, dtype=torch.float64)) @ v
    matrix = x.float()
    x = x / x.norm()
    for _ in range(5):  # written out, in float64
        x = 3.4445 * x + (-4.7750 * x @ x.T + 2.0315 * (x @ x.T) @ (x @ x.T)) @ x
    torch.testing.assert_close(orthogonalise(matrix).double(), x, rtol=0, atol=1e-3)


class TestMuon:
    def stepped(self, shape: tuple[int, ...], **options: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(weights before, after, gradient) of one step at rate 0.1."""
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(shape))
        before = weight.detach().clone()
        weight.grad = torch.randn(shape)
        Muon([weight], lr=0.1, **options).step()
        return before, weight.detach(), weight.grad

    def test_a_step_is_orthogonal(self) -> None:
        before, after, gradient = self.stepped((16, 8, 3, 3))
        update = ((before - after) / 0.1).flatten(1)
        torch.testing.assert_close(update @ update.T, torch.eye(16), atol=0.45, rtol=0)
        assert (update * gradient.flatten(1)).sum() > 0

    def test_tall_matrices_take_larger_steps(self) -> None:
        before, after, _ = self.stepped((64, 16))
        values = torch.linalg.svdvals((before - after) / 0.1)
        assert values.max() < 1.35 * 2  # sqrt(64 / 16)
        assert values.median() > 0.7 * 2

    def test_weight_decay_shrinks(self) -> None:
        plain, decayed = self.stepped((8, 8))[1], self.stepped((8, 8), weight_decay=0.5)[1]
        before = self.stepped((8, 8))[0]
        torch.testing.assert_close(plain - decayed, 0.1 * 0.5 * before)

    def test_momentum_carries_on(self) -> None:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.zeros(8, 8))
        optimizer = Muon([weight], lr=0.1)
        weight.grad = torch.eye(8)
        optimizer.step()
        once = weight.detach().clone()
        weight.grad = -0.01 * torch.eye(8)
        optimizer.step()
        assert (weight.diag() < once.diag()).all()  # still downhill along the first gradient

    def test_the_memory_format_does_not_matter(self) -> None:
        torch.manual_seed(0)
        weight, gradient, steps = torch.randn(8, 6, 3, 3), torch.randn(8, 6, 3, 3), []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            parameter = nn.Parameter(weight.clone(memory_format=memory_format))
            parameter.grad = gradient.clone(memory_format=memory_format)
            optimizer = Muon([parameter], lr=0.1)
            optimizer.step()
            optimizer.step()
            steps.append(parameter.detach() - weight)
        torch.testing.assert_close(*steps, rtol=0, atol=1e-6)

    def test_at_rate_zero_the_momentum_goes_on_alone(self) -> None:
        weight = nn.Parameter(torch.ones(4, 4))
        weight.grad = torch.eye(4)
        optimizer = Muon([weight], lr=0.0, weight_decay=0.5)
        optimizer.step()
        assert torch.equal(weight.detach(), torch.ones(4, 4))
        torch.testing.assert_close(optimizer.state[weight]["momentum"], 0.05 * torch.eye(4))

    def test_the_momentum_of_an_older_checkpoint_is_a_matrix(self) -> None:
        torch.manual_seed(0)
        start, gradient, momentum = torch.randn(3, 8, 6, 3, 3)
        steps = []
        for held in (momentum, momentum.flatten(1)):
            weight = nn.Parameter(start.clone(memory_format=torch.channels_last))
            weight.grad = gradient.clone(memory_format=torch.channels_last)
            optimizer = Muon([weight], lr=0.1)
            optimizer.state[weight]["momentum"] = held.clone()
            optimizer.step()
            steps.append(weight.detach())
        torch.testing.assert_close(*steps)

    def test_each_weight_moves_at_its_turn_and_as_far(self) -> None:
        """Under one gradient two weights of turns move alternately, in all as far as without turns, by the same way."""
        torch.manual_seed(0)
        gradients = torch.randn(2, 6, 9)
        ends, moved = [], []
        for every in (1, 2):
            weights = [nn.Parameter(torch.zeros(6, 9)) for _ in range(2)]
            optimizer = Muon(weights, lr=0.1, every=every)
            for _ in range(6):
                before = [weight.detach().clone() for weight in weights]
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.grad = gradient.clone()
                optimizer.step()
                moved.append([not torch.equal(weight, old) for weight, old in zip(weights, before, strict=True)])
            ends.append([weight.detach() for weight in weights])
        assert moved == [[True, True]] * 6 + [[False, True], [True, False]] * 3
        torch.testing.assert_close(ends[0], ends[1])

    def test_the_turn_is_part_of_the_state(self) -> None:
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.zeros(6, 9)) for _ in range(2)]
        first = Muon(weights, lr=0.1, every=2)
        for weight in weights:
            weight.grad = torch.randn(6, 9)
        first.step()
        second = Muon(weights, lr=0.1, every=2)
        second.load_state_dict(first.state_dict())
        before = [weight.detach().clone() for weight in weights]
        second.step()
        assert [not torch.equal(weight, old) for weight, old in zip(weights, before, strict=True)] == [True, False]

    def test_parameters_without_gradient_stay(self) -> None:
        weight = nn.Parameter(torch.ones(4, 4))
        optimizer = Muon([weight], lr=0.1)
        optimizer.step()
        assert torch.equal(weight.detach(), torch.ones(4, 4))
        assert not optimizer.state


CONFIG = NetworkConfig(
    strides=(2, 4),
    channels=(8, 16),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
    grids=(GridConfig(stride=4, codes=8, dimensions=16),),
)


class TestBuild:
    def split(self, use_muon: bool) -> dict[str, set[str]]:
        """Names of the parameters of each optimiser."""
        network = StagedAutoencoder(CONFIG)
        names = {id(value): name for name, value in network.named_parameters()}
        made = build_optimizers(network, muon_rate=0.1, adam_rate=0.01, weight_decay=0.3, use_muon=use_muon)
        found = {type(o).__name__: [names[id(p)] for g in o.param_groups for p in g["params"]] for o in made}
        everything = [name for part in found.values() for name in part]
        assert sorted(everything) == sorted(names.values())  # each once, none forgotten
        for optimizer in made:
            (group,) = optimizer.param_groups
            assert group["peak"] == group["lr"] == (0.1 if isinstance(optimizer, Muon) else 0.01)
            assert group["weight_decay"] == 0.3  # the same for codebook and network
        return {name: set(part) for name, part in found.items()}

    def test_muon_takes_wide_inner_convolutions(self) -> None:
        found = self.split(True)
        assert "encoder.levels.1.0.spatial.weight" in found["Muon"]
        assert "stages.1.0.project.weight" in found["Muon"]
        assert all(name.endswith("weight") for name in found["Muon"])
        for name in ("encoder.stem.weight", "encoder.levels.0.0.mix.weight", "final.weight", "start"):
            assert name in found["AdamW"]
        assert {"stages.1.0.head.weight", "stages.1.0.quantizer.codebook"} <= found["AdamW"]

    def test_adamw_alone(self) -> None:
        assert set(self.split(False)) == {"AdamW"}


class TestRateFactor:
    def factor(self, progress: float, *, cosine: bool = False, warmup: float = 0.1, hold: float = 0.5) -> float:
        return rate_factor(progress, warmup=warmup, hold=hold, floor=0.02, cosine=cosine)

    def test_warm_up_from_a_fifth(self) -> None:
        assert self.factor(0) == pytest.approx(0.2)
        assert self.factor(0.05) == pytest.approx(0.6)
        assert self.factor(0.1) == pytest.approx(1)

    def test_constant_then_down_to_the_floor(self) -> None:
        assert self.factor(0.3) == 1
        assert self.factor(0.5) == pytest.approx(1)
        assert self.factor(0.75) == pytest.approx(0.02 + 0.98 / 2)
        assert self.factor(1) == pytest.approx(0.02)

    def test_cosine(self) -> None:
        assert self.factor(0.75, cosine=True) == pytest.approx(0.02 + 0.98 / 2)
        assert self.factor(0.625, cosine=True) == pytest.approx(0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi / 4)))
        assert self.factor(1, cosine=True) == pytest.approx(0.02)

    @pytest.mark.parametrize("cosine", [False, True])
    @pytest.mark.parametrize(("warmup", "hold"), [(0.0, 0.0), (0.3, 0.1), (0.0, 1.0), (0.5, 0.5)])
    def test_it_is_continuous_and_bounded(self, cosine: bool, warmup: float, hold: float) -> None:
        values = [self.factor(i / 1000, cosine=cosine, warmup=warmup, hold=hold) for i in range(1000)]
        assert 0.02 <= min(values) <= max(values) <= 1 + 1e-12
        assert max(abs(a - b) for a, b in pairwise(values)) < 0.01
