"""The paper's figures 3 and 4, measured: numbers as JSON, drawn as PNG.

    python scripts/paper/figures.py bias --json bias.json --plot bias.png
    python scripts/paper/reproduce.py entropy --set cifar10 --data DATA --seeds 0 1 --results runs/entropy.jsonl
    python scripts/paper/figures.py entropy --json runs/entropy.jsonl --plot entropy.png

bias (figure 3, appendix A.1): a random network f with hidden layers of 50 and 5 takes one of 10 actions as a one-hot
and gives a number. The exact gradient of E_{c ~ softmax(l)} f(onehot(c)) by l is compared with the mean of 50
Gumbel-softmax estimates of it. The entropy of softmax(l) is varied by the temperature that divides fixed random logits.
Drawn is the length of the difference, its mean over many networks, on the left as it is, on the right over the mean
length of the exact gradient. What is left after 50 estimates is partly noise: the mean of 10,000 estimates is drawn
besides, thinner; that is bias.

entropy (figure 4): test error and soft perplexity over the weight of the entropy, from the lines that reproduce.py
wrote. A box spans the quartiles over pictures (error) or batches (perplexity), whiskers 5 to 95 %, means over seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from gmvqzip.bench.plot import COLOURS

ACTIONS, HIDDEN = 10, (50, 5)
RUNS, MANY_RUNS = 50, 10_000
TAUS = (1.0, 0.5, 0.1)  # temperatures of the estimates
SHARPNESS = tuple(2.0 ** (step / 2) for step in range(-4, 12))  # factors of the logits
WIDTH, HEIGHT, SCALE = 640, 480, 2  # pixels of a panel; drawn larger and reduced
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 44, 56


def network(generator: torch.Generator) -> nn.Sequential:
    """f: [R, 10] to [R, 1]; weights normal with variance 2 / inputs, ReLU between the layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((ACTIONS, *HIDDEN), (*HIDDEN, 1), strict=True):
        layer = nn.Linear(inputs, outputs).requires_grad_(False)
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) * (2 / inputs) ** 0.5)
        layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def exact_gradient(function: nn.Module, logits: Tensor) -> Tensor:
    """The gradient [10] of sum_c softmax(l)_c f(onehot(c)) by the logits [10], every action being tried."""
    logits = logits.clone().requires_grad_()
    value = logits.softmax(0) @ function(torch.eye(len(logits)))[:, 0]
    return torch.autograd.grad(value, [logits])[0]


def gumbel_gradient(function: nn.Module, logits: Tensor, tau: float, runs: int, generator: torch.Generator) -> Tensor:
    """The mean gradient [10] of f(softmax((l + g) / tau)) by the logits [10] over `runs` draws of Gumbel noise g."""
    logits = logits.clone().requires_grad_()
    uniform = torch.rand(runs, len(logits), generator=generator).clamp_min(1e-30)
    sample = ((logits - (-uniform.log()).log()) / tau).softmax(1)
    return torch.autograd.grad(function(sample).mean(), [logits])[0]


def measure_bias(networks: int, seed: int) -> dict[str, Any]:
    """Entropy in nats, length of the exact gradient, and of its difference from the estimates for each tau.

    For each sharpness of the logits; means over networks.
    """
    generator = torch.Generator().manual_seed(seed)
    entropies, lengths = torch.zeros(len(SHARPNESS)), torch.zeros(len(SHARPNESS))
    few, many = (torch.zeros(len(TAUS), len(SHARPNESS)) for _ in range(2))
    for _ in range(networks):
        function, fixed = network(generator), torch.randn(ACTIONS, generator=generator)
        for place, factor in enumerate(SHARPNESS):
            logits = factor * fixed
            probabilities = logits.softmax(0)
            entropies[place] -= torch.special.xlogy(probabilities, probabilities).sum() / networks
            exact = exact_gradient(function, logits)
            lengths[place] += exact.norm() / networks
            for row, tau in enumerate(TAUS):
                for table, runs in ((few, RUNS), (many, MANY_RUNS)):
                    estimate = gumbel_gradient(function, logits, tau, runs, generator)
                    table[row, place] += (estimate - exact).norm() / networks
    return {
        "actions": ACTIONS,
        "hidden": list(HIDDEN),
        "networks": networks,
        "seed": seed,
        "sharpness": list(SHARPNESS),
        "entropy": entropies.tolist(),
        "tau": list(TAUS),
        "runs": [RUNS, MANY_RUNS],
        "exact": lengths.tolist(),
        "difference": {str(RUNS): few.tolist(), str(MANY_RUNS): many.tolist()},
    }


@dataclass(frozen=True)
class Panel:
    """A coordinate system on a canvas; its left edge is at `left`. With `decades` the vertical axis is logarithmic."""

    draw: ImageDraw.ImageDraw
    left: float
    across: tuple[float, float]
    up: tuple[float, float]
    decades: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the canvas, in its own pixels."""
        (low, high), y = self.up, max(y, 1e-30)
        if self.decades:
            low, high, y = math.log(low), math.log(high), math.log(y)
        u = (x - self.across[0]) / (self.across[1] - self.across[0])
        v = (y - low) / (high - low)
        return (
            SCALE * (self.left + LEFT + u * (WIDTH - LEFT - RIGHT)),
            SCALE * (HEIGHT - BOTTOM - v * (HEIGHT - TOP - BOTTOM)),
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        """A line through points."""
        self.draw.line([self.at(*point) for point in points], fill=colour, width=round(SCALE * width), joint="curve")

    def text(self, x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> None:
        """Text at a place of the finished picture, in pixels from the panel's corner."""
        font = ImageFont.load_default(14 * SCALE)
        self.draw.text((SCALE * (self.left + x), SCALE * y), text, fill=colour, font=font, anchor=anchor)

    def frame(self, title: str, below: str, ticks: Sequence[tuple[float, str]]) -> None:
        """Axes, title, what is on the horizontal axis, its marks; horizontal lines at round numbers."""
        for value in marks(*self.up, decades=self.decades):
            self.line([(self.across[0], value), (self.across[1], value)], "#dddddd", 1)
            self.text(LEFT - 8, self.at(0, value)[1] / SCALE, f"{value:g}", "rm")
        for value, label in ticks:
            self.text(self.at(value, self.up[0])[0] / SCALE - self.left, HEIGHT - BOTTOM + 8, label, "mt")
        (low, high), (bottom, top) = self.across, self.up
        self.line([(low, top), (low, bottom), (high, bottom)], "#333333", 1)
        self.text(LEFT, TOP - 14, title, "lb")
        self.text((WIDTH + LEFT - RIGHT) / 2, HEIGHT - 8, below, "mb")


def marks(low: float, high: float, *, decades: bool) -> list[float]:
    """Round numbers from low to high: 1, 2, 5 of each power of ten, or at most nine in equal steps."""
    if decades:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [v for p in powers for digit in (1, 2, 5) if low <= (v := float(f"{digit}e{p}")) <= high]
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(step * n, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def canvas(panels: int) -> Image.Image:
    """A white picture for so many panels, in the larger pixels."""
    return Image.new("RGB", (WIDTH * panels * SCALE, HEIGHT * SCALE), "white")


def finished(picture: Image.Image) -> bytes:
    """The PNG of a canvas."""
    file = io.BytesIO()
    size = (picture.width // SCALE, picture.height // SCALE)
    picture.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def draw_bias(data: dict[str, Any]) -> bytes:
    """Figure 3 as a PNG."""
    picture = canvas(2)
    few, many = data["runs"]
    top = math.log(data["actions"])
    ticks = [(number / 2, f"{number / 2:g}") for number in range(int(2 * top) + 1)]
    units = {"|mean estimate - exact gradient|": [1.0] * len(data["exact"]), "over |exact gradient|": data["exact"]}
    for number, (title, unit) in enumerate(units.items()):
        tables = {
            runs: [[value / one for value, one in zip(row, unit, strict=True)] for row in data["difference"][str(runs)]]
            for runs in (few, many)
        }
        values = [value for table in tables.values() for row in table for value in row]
        ends = min(values) / 1.5, max(values) * 1.5
        panel = Panel(ImageDraw.Draw(picture), number * WIDTH, (0, top), ends, decades=True)
        panel.frame(title, "entropy in nats", ticks)
        for row, tau in enumerate(data["tau"]):
            for runs, width in ((few, 3.0), (many, 1.2)):
                panel.line(list(zip(data["entropy"], tables[runs][row], strict=True)), COLOURS[row], width)
            if not number:
                label = f"tau = {tau:g}, {few} estimates (thin: {many})"
                panel.text(WIDTH - RIGHT - 8, HEIGHT - BOTTOM - 60 + 20 * row, label, "rm", COLOURS[row])
    return finished(picture)


def read_sweep(path: Path) -> dict[float, list[dict[str, Any]]]:
    """The finished runs of the experiment `entropy` by gamma, ascending. Raises ValueError where there are none."""
    found: dict[float, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut
        if record.get("experiment") == "entropy" and "quantiles" in record:
            found.setdefault(float(record["settings"]["quantizer"]["gamma"]), []).append(record)
    if not found:
        raise ValueError(f"{path} holds no finished run of the experiment entropy")
    return dict(sorted(found.items()))


def draw_entropy(sweep: dict[float, list[dict[str, Any]]]) -> bytes:
    """Figure 4 as a PNG: a box for each weight of the entropy, error on the left, perplexity on the right."""
    picture = canvas(2)
    for number, (name, title) in enumerate((("mse", "MSE x 1000"), ("perplexity_soft", "soft perplexity"))):
        factor = 1000 if name == "mse" else 1
        boxes = [
            [factor * sum(run["quantiles"][name][part] for run in runs) / len(runs) for part in range(5)]
            for runs in sweep.values()
        ]
        means = [factor * sum(run[name] for run in runs) / len(runs) for runs in sweep.values()]
        low, high = min(min(box) for box in boxes), max(max(box) for box in boxes)
        margin = 0.05 * (high - low) or 0.05 * high or 1.0
        panel = Panel(ImageDraw.Draw(picture), number * WIDTH, (-0.5, len(boxes) - 0.5), (low - margin, high + margin))
        panel.frame(title, "weight of the entropy", [(place, f"{gamma:g}") for place, gamma in enumerate(sweep)])
        for place, (box, mean) in enumerate(zip(boxes, means, strict=True)):
            draw_box(panel, place, box)
            panel.line([(place - 0.08, mean), (place + 0.08, mean)], COLOURS[1], 4)
    return finished(picture)


def draw_box(panel: Panel, place: float, box: Sequence[float]) -> None:
    """A box at a place: quantiles 5, 25, 50, 75 and 95 %."""
    lowest, low, middle, high, highest = box
    panel.line([(place, lowest), (place, low)], "#333333", 1)
    panel.line([(place, high), (place, highest)], "#333333", 1)
    sides = [(place - 0.3, low), (place + 0.3, low), (place + 0.3, high), (place - 0.3, high), (place - 0.3, low)]
    panel.line(sides, "#333333", 1)
    panel.line([(place - 0.3, middle), (place + 0.3, middle)], COLOURS[2], 2)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("figure", choices=("bias", "entropy"))
    parser.add_argument("--json", type=Path, required=True, help="bias: written unless it is there; entropy: read")
    parser.add_argument("--plot", type=Path, required=True, help="the PNG")
    parser.add_argument("--networks", type=int, default=100, help="random networks of the bias")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    if options.figure == "entropy":
        try:
            options.plot.write_bytes(draw_entropy(read_sweep(options.json)))
        except ValueError as error:
            parser.error(str(error))
        return
    if not options.json.is_file():
        options.json.write_text(json.dumps(measure_bias(options.networks, options.seed), indent=1), encoding="utf-8")
    options.plot.write_bytes(draw_bias(json.loads(options.json.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
