"""The transforms of a hyperprior model, and the linear way beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from tiny_hyperprior import CONFIG

from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.transform import Transform, dct_basis

LINEAR = replace(CONFIG, linear=True)
WHOLE = replace(LINEAR, quarter=(GroupsConfig(96, 16, 2),))  # as many latents as a block has numbers
QUALITY = torch.tensor([0.3])


@pytest.mark.parametrize(("side", "count"), [(4, 48), (8, 64), (16, 768)])
def test_the_basis_is_orthonormal(side: int, count: int) -> None:
    basis = dct_basis(side, count)
    torch.testing.assert_close(basis @ basis.T, torch.eye(count), atol=1e-5, rtol=0)


def test_gray_blocks_have_the_coefficients_of_a_dct() -> None:
    block = torch.rand(8, 8, dtype=torch.float64)
    gray = F.pixel_unshuffle(block.expand(1, 3, 8, 8), 8)[0, :, 0, 0].float()
    found = (dct_basis(8, 192) @ gray).sort().values
    wanted = torch.from_numpy(dctn(block.numpy(), norm="ortho")).flatten().float() * 3**0.5
    wanted = torch.cat([wanted, torch.zeros(128)]).sort().values  # the colours' are zero
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_quarters_take_turns() -> None:
    """The five lowest are gray: flat, two slopes, the saddle and a curve; then the flat colours."""
    quarters = dct_basis(16, 160).reshape(4, 40, -1)
    flat = quarters.reshape(4, 40, 3, -1).mean(3).abs().amax(2) > 0.01
    assert flat.nonzero().tolist()[0] == [0, 0]
    assert int(flat.sum()) == 3
    assert all(place[1] <= 1 for place in flat.nonzero().tolist())


def test_rows_beyond_the_basis_are_zero() -> None:
    rows = dct_basis(2, 16)
    assert int((rows.abs().sum(1) > 0).sum()) == 12


def test_the_linear_way_alone_returns_the_picture() -> None:
    transform = Transform(WHOLE)
    with torch.no_grad():
        transform.analysis.latent.weight.zero_()
        transform.analysis.latent.bias.zero_()  # type: ignore[union-attr]
        transform.synthesis.final.weight[:, : WHOLE.channels[0]].zero_()
        transform.synthesis.final.bias.zero_()  # type: ignore[union-attr]
        image = torch.rand(1, 3, 64, 96)
        latent, _ = transform.analyse(image, QUALITY)
        torch.testing.assert_close(transform.synthesise(latent, QUALITY), image, atol=1e-5, rtol=0)


def test_without_it_nothing_is_added() -> None:
    names = {name for name, _ in Transform(CONFIG).named_parameters()}
    added = {name for name, _ in Transform(LINEAR).named_parameters()} - names
    assert added == {"analysis.linear.weight", "synthesis.linear.weight", "synthesis.join.weight"}
    assert HyperpriorConfig.from_dict({k: v for k, v in CONFIG.to_dict().items() if k != "linear"}) == CONFIG


@pytest.mark.parametrize("config", [CONFIG, LINEAR])
def test_fast_is_near(config: HyperpriorConfig) -> None:
    torch.manual_seed(0)
    transform = Transform(config).eval()
    with torch.inference_mode():
        latent, _ = transform.analyse(torch.rand(1, 3, 64, 64), QUALITY)
        exact = transform.synthesise(latent, QUALITY)
        fast = transform.synthesise(latent, QUALITY, fast=True)
    assert not torch.equal(exact, fast)
    assert fast.dtype == torch.float32
    assert float((exact - fast).square().mean()) < 1e-5 * float(exact.square().mean())
