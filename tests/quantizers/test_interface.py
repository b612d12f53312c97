"""What every quantiser keeps: shapes, the result's statistics, evaluation equal to a table look-up, the plain form."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.quantizers import (
    GMVQ,
    METHODS,
    FSQSettings,
    GMVQSettings,
    GumbelSettings,
    GumbelVQ,
    MVQSettings,
    Quantizer,
    QuantizerSettings,
    SimVQSettings,
    SQVAESettings,
    VQSettings,
    WassersteinSettings,
    blocks,
)
from gmvqzip.quantizers.base import nearest
from gmvqzip.quantizers.gmvq import gmvq_logits

CODES, DIMENSIONS, SITES, HIDDEN = 12, 2, 80, 5
KINDS: dict[str, QuantizerSettings] = {
    "gmvq": GMVQSettings(),
    "gmvq, equal weights": GMVQSettings(learned_weights=False),
    "vqvae": VQSettings(),
    "vqvae, all": VQSettings(l2=True, affine=2.0, inner_rate=5.0, replace_after=3, synchronised=0.5),
    "vqvae, ema": VQSettings(ema=0.9),
    "sqvae": SQVAESettings(),
    "sqvae, site": SQVAESettings(variance="site"),
    "gumbel": GumbelSettings(),
    "wasserstein": WassersteinSettings(spread=1.0),
    "mvq": MVQSettings(units=2),
    "fsq": FSQSettings((3, 4)),
    "vqvae, rotation": VQSettings(rotation=True),
    "simvq": SimVQSettings(),
}


def made(kind: str) -> tuple[Quantizer, Tensor, Tensor]:
    """A quantiser with 12 codes of 2 dimensions, and proxies and raw weights of 80 sites for it."""
    torch.manual_seed(3)
    settings = KINDS[kind]
    proxy, raw = settings.widths(CODES, DIMENSIONS, DIMENSIONS)
    quantizer = settings.build(CODES, DIMENSIONS)
    return quantizer, torch.randn(SITES, proxy, requires_grad=True), torch.randn(SITES, raw)


@pytest.mark.parametrize("kind", KINDS)
class TestEach:
    def test_the_result(self, kind: str) -> None:
        quantizer, proxy, raw = made(kind)
        for mode in (True, False):
            result = quantizer.train(mode)(proxy, raw)
            assert result.quantised.shape == (SITES, DIMENSIONS)
            assert (result.indices.shape, result.indices.dtype) == ((SITES,), torch.int64)
            assert 0 <= int(result.indices.min()) <= int(result.indices.max()) < CODES
            assert result.loss.shape == () and torch.isfinite(result.loss)
            assert all(term.shape == () for term in result.terms.values())
            torch.testing.assert_close(result.posterior.sum(), torch.ones(()))
            assert (
                0 <= float(result.terms["conditional_entropy"].detach()) <= float(result.perplexity_soft.log()) + 1e-5
            )
            used = len(result.indices.unique()) / CODES
            assert float(result.utilisation) == pytest.approx(used)
            assert 1 <= float(result.perplexity_hard) <= CODES * used + 1e-3

    def test_training_reaches_the_encoder(self, kind: str) -> None:
        quantizer, proxy, raw = made(kind)
        target = torch.randn(SITES, DIMENSIONS)
        ((quantizer.train()(proxy, raw).quantised - target) ** 2).sum().backward()
        assert proxy.grad is not None and float(proxy.grad.abs().max()) > 1e-3

    def test_evaluation_is_a_table(self, kind: str) -> None:
        quantizer, proxy, raw = made(kind)
        before = {name: value.clone() for name, value in quantizer.state_dict().items()}
        result = quantizer.eval()(proxy, raw)
        assert torch.equal(result.quantised, quantizer.lookup(result.indices))
        assert torch.equal(result.indices, quantizer.assign(proxy, raw))
        assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
        table = quantizer.lookup(torch.arange(CODES))
        assert torch.equal(table[result.indices], result.quantised)

    def test_blocks_change_nothing(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        quantizer, proxy, raw = made(kind)
        whole = quantizer.eval()(proxy, raw)
        monkeypatch.setattr(blocks, "_BLOCK", 7 * CODES)
        parts = quantizer(proxy, raw)
        assert torch.equal(parts.indices, whole.indices)
        torch.testing.assert_close(parts.loss, whole.loss)
        torch.testing.assert_close(parts.posterior, whole.posterior)

    def test_autocast_changes_nothing(self, kind: str) -> None:
        quantizer, proxy, raw = made(kind)
        quantizer.eval()
        with torch.autocast("cpu", torch.bfloat16):
            lower = quantizer(proxy, raw)
        assert torch.equal(lower.quantised, quantizer(proxy, raw).quantised)

    def test_the_plain_form_makes_the_same_choice(self, kind: str) -> None:
        """A head of random weights on random features: the form's rule picks the method's codes, and its projection
        of its codewords is the projection of the method's."""
        quantizer, _, _ = made(kind)
        quantizer.eval()
        widths = KINDS[kind].widths(CODES, DIMENSIONS, DIMENSIONS)
        hidden, weight, bias = torch.randn(SITES, HIDDEN), torch.randn(sum(widths), HIDDEN), torch.randn(sum(widths))
        project = torch.randn(7, DIMENSIONS)
        mine = quantizer.assign(*(hidden @ weight.t() + bias).split(list(widths), 1))
        with torch.no_grad():
            form = quantizer.plain(weight, bias, project)
        if form is None:
            assert kind == "gmvq"
            return
        size = form.codebook.shape[1]
        out = hidden @ form.head_weight.t() + form.head_bias
        logits = gmvq_logits(out[:, :size], form.precision * F.softplus(out[:, size:]), form.codebook) + form.log_prior
        theirs = logits.argmax(1)
        assert torch.equal(theirs, mine)
        assert len(mine.unique()) > 2
        words = quantizer.lookup(torch.arange(CODES)) @ project.t()
        torch.testing.assert_close(form.codebook @ form.project_weight.t(), words, atol=1e-5, rtol=1e-4)

    def test_running_state_comes_back(self, kind: str) -> None:
        quantizer, proxy, raw = made(kind)
        quantizer.train()(proxy, raw)
        state = {name: value.clone() for name, value in quantizer.running_state().items()}
        other, _, _ = made(kind)
        other.restore_running(state)
        assert state.keys() == other.running_state().keys()
        assert all(torch.equal(value, state[name]) for name, value in other.running_state().items())


class TestRefusals:
    """One line of ValueError, whatever the method."""

    @pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_sites(self, kind: str, mode: bool) -> None:
        quantizer, proxy, raw = made(kind)
        quantizer.train(mode)
        width, own = proxy.shape[1], raw.shape[1]
        for temperature in (0, -1.0, float("nan"), torch.tensor(0.0)):
            with pytest.raises(ValueError, match="the temperature must be above 0"):
                quantizer(proxy, temperature=temperature)
        for none in (proxy[:0], torch.zeros(2, 0, width), torch.zeros(2, width, 0, 3)):
            for call in (quantizer, quantizer.assign, quantizer.initialise):
                with pytest.raises(ValueError, match="has no sites to quantise"):
                    call(none)
        for wrong in (raw[:-1], torch.zeros(SITES, own + DIMENSIONS), torch.zeros(2, 3)):
            for call in (quantizer, quantizer.assign):
                with pytest.raises(ValueError, match=r"\[80, [012]\].* raw weights are wanted, not"):
                    call(proxy, wrong)
        for call in (quantizer, quantizer.assign, quantizer.initialise):
            with pytest.raises(ValueError, match=f"the quantiser takes .N, {width}"):
                call(torch.zeros(SITES, width + 1))

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_sizes_and_settings(self, kind: str) -> None:
        settings = KINDS[kind]
        for codes, dimensions in ((0, DIMENSIONS), (-1, DIMENSIONS), (CODES, 0), (CODES, -2)):
            with pytest.raises(ValueError, match="1 or more of each are wanted"):
                settings.build(codes, dimensions)
        numbers = [item.name for item in fields(settings) if isinstance(getattr(settings, item.name), int | float)]
        for name in numbers:
            for value in (-1, float("nan"), float("inf")):
                with pytest.raises(ValueError, match=f"{name} must be "):
                    replace(settings, **{name: value}).build(CODES, DIMENSIONS)

    def test_of_a_constructor_as_of_build(self) -> None:
        with pytest.raises(ValueError, match="sampling must be one of"):
            GMVQ(CODES, DIMENSIONS, GMVQSettings(sampling="both"))
        with pytest.raises(ValueError, match="noise_scale must be above 0"):
            GMVQ(CODES, DIMENSIONS, GMVQSettings(noise_scale=0))
        with pytest.raises(ValueError, match="kl_ramp must be at most 1"):
            GumbelVQ(CODES, DIMENSIONS, GumbelSettings(kl_ramp=2))

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_indices_have_no_codewords(self, kind: str) -> None:
        assert made(kind)[0].lookup(torch.zeros(3, 0, dtype=torch.int64)).shape == (3, 0, DIMENSIONS)


def test_every_method_has_a_name_of_its_own() -> None:
    assert list(METHODS) == ["gmvq", "vqvae", "sqvae", "gumbel", "wasserstein", "mvq", "fsq", "simvq", "lfq"]
    assert {settings.method for settings in KINDS.values()} | {"lfq"} == set(METHODS)


def test_nearest_is_the_smallest_distance() -> None:
    torch.manual_seed(0)
    points, codebook = torch.randn(200, 6).double(), torch.randn(30, 6).double()
    assert torch.equal(nearest(points, codebook), torch.cdist(points, codebook).argmin(1))
