"""Every quantiser without a network around it: sites of three shapes, equal weights, one loop of training for all."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gmvqzip.quantizers import (
    FSQ,
    GMVQ,
    LFQ,
    MVQ,
    SQVAE,
    VQ,
    GumbelVQ,
    Quantizer,
    SimVQ,
    SQVAESettings,
    VQSettings,
    WassersteinVQ,
)

MAKERS = {
    "gmvq": lambda: GMVQ(16, 4),
    "vqvae": lambda: VQ(16, 4),
    "rotation": lambda: VQ(16, 4, VQSettings(rotation=True)),
    "sqvae": lambda: SQVAE(16, 4, SQVAESettings(kmeans=True, start_variance=1.0)),
    "gumbel": lambda: GumbelVQ(16, 4),
    "wasserstein": lambda: WassersteinVQ(16, 4),
    "mvq": lambda: MVQ(15, 4),
    "fsq": lambda: FSQ(16, 2),
    "simvq": lambda: SimVQ(16, 4),
    "lfq": lambda: LFQ(16, 4),
}


def made(kind: str) -> tuple[Quantizer, int]:
    """A quantiser with its defaults, and the width of its proxies."""
    torch.manual_seed(1)
    quantizer = MAKERS[kind]()
    return quantizer, quantizer.settings.widths(quantizer.codes, quantizer.dimensions, 1)[0]


@pytest.mark.parametrize("kind", MAKERS)
class TestEach:
    def test_three_shapes_are_one_thing(self, kind: str) -> None:
        quantizer, width = made(kind)
        quantizer.eval()
        grids = torch.randn(2, width, 3, 5)
        sequences = grids.flatten(2).transpose(1, 2)
        rows = sequences.flatten(0, 1)
        of_rows, of_sequences, of_grids = quantizer(rows), quantizer(sequences), quantizer(grids)
        length = quantizer.dimensions
        assert of_grids.quantised.shape == (2, length, 3, 5) and of_grids.indices.shape == (2, 3, 5)
        assert of_sequences.quantised.shape == (2, 15, length) and of_sequences.indices.shape == (2, 15)
        assert torch.equal(of_sequences.quantised.flatten(0, 1), of_rows.quantised)
        assert torch.equal(of_grids.quantised.flatten(2).transpose(1, 2), of_sequences.quantised)
        assert torch.equal(of_grids.indices.flatten(), of_rows.indices)
        for sites, result in ((rows, of_rows), (sequences, of_sequences), (grids, of_grids)):
            assert torch.equal(quantizer.lookup(result.indices), result.quantised)
            assert torch.equal(quantizer.assign(sites), result.indices)

    def test_weights_may_be_given_in_the_same_shape(self, kind: str) -> None:
        quantizer, width = made(kind)
        weights = quantizer.settings.widths(quantizer.codes, quantizer.dimensions, 1)[1]
        grids, raw = torch.randn(2, width, 3, 5), torch.full((2, weights, 3, 5), quantizer.neutral)
        quantizer.eval()
        assert torch.equal(quantizer(grids, raw).quantised, quantizer(grids).quantised)

    def test_other_shapes_are_refused(self, kind: str) -> None:
        quantizer, width = made(kind)
        for shape in ((width,), (3, width + 1), (2, 3, 5, width + 7), (1, 1, width, 3, 5)):
            with pytest.raises(ValueError, match="takes"):
                quantizer(torch.randn(shape))

    def test_it_learns(self, kind: str) -> None:
        """An encoder and a decoder around it: the error of clustered points falls to half of their variance or less."""
        quantizer, width = made(kind)
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(8, 6, generator=generator)
        encoder, decoder = nn.Linear(6, width), nn.Linear(quantizer.dimensions, 6)

        def batch() -> Tensor:
            chosen = torch.randint(8, (4, 32), generator=generator)
            return centres[chosen] + 0.05 * torch.randn(4, 32, 6, generator=generator)

        if quantizer.wants_proxies:
            quantizer.initialise(encoder(batch()))
        parameters = [*encoder.parameters(), *quantizer.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], 0.01)
        for step in range(250):
            data = batch()
            result = quantizer(encoder(data), temperature=max(0.3, 1 - step / 200))
            loss = ((decoder(result.quantised) - data) ** 2).mean() + 0.1 * result.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            quantizer.after_step([optimizer])
        data = batch()
        error = ((decoder(quantizer.eval()(encoder(data)).quantised) - data) ** 2).mean()
        assert float(error.detach()) < 0.5 * float(data.var())


def test_state_survives_a_copy() -> None:
    quantizer, _ = made("simvq")
    other = copy.deepcopy(quantizer)
    other.load_state_dict(quantizer.state_dict())
    assert not other.codebook.requires_grad and other.mixing.requires_grad


def test_the_rotation_turns_the_gradient() -> None:
    """Along z the gradient is scaled by |mu| / |z|, and turned from the plane of mu to that of z."""
    z = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    quantizer = VQ(2, 3, VQSettings(rotation=True, commitment=0))
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 3.0, 0.0], [0.0, -9.0, 0.0]]))
    result = quantizer(z)
    torch.testing.assert_close(result.quantised, torch.tensor([[0.0, 3.0, 0.0]]))
    (result.quantised * torch.tensor([0.0, 1.0, 2.0])).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.tensor([[1.5, 0.0, 3.0]]))


def test_lfq_tells_signs_and_entropies() -> None:
    quantizer = LFQ(4, 2)
    proxy = torch.tensor([[9.0, 9.0], [-9.0, 9.0], [9.0, -9.0], [-9.0, -9.0]])
    result = quantizer(proxy)
    assert result.indices.tolist() == [3, 2, 1, 0]
    assert float(result.terms["aggregated_entropy"]) == pytest.approx(math.log(4), abs=1e-4)
    with pytest.raises(ValueError, match="log2"):
        LFQ(12, 4)


def test_simvq_moves_every_code_by_one_site() -> None:
    quantizer = SimVQ(8, 3)
    before = quantizer.codewords().detach()
    quantizer(torch.randn(1, 3)).loss.backward()
    with torch.no_grad():
        quantizer.mixing -= 0.1 * quantizer.mixing.grad
    assert bool(((quantizer.codewords() - before).abs().sum(1) > 0).all())


def test_the_document_runs() -> None:
    """docs/library.md, "a quantiser alone", as it stands."""
    document = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
    section = document[document.index("## A quantiser alone") :]
    (code,) = re.findall("```python\n(.*?)```", section[: section.index("\n## ", 1)], re.DOTALL)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(code, names)
    result = names["result"]
    assert result.quantised.shape == (8, 64, 16, 16) and result.indices.shape == (8, 16, 16)
    assert float(names["z"].grad.abs().max()) > 0
