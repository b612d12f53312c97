"""The staged convolutional autoencoder: features bottom-up, codes and state top-down.

The encoder makes features at each level's stride. The decoder holds a state that starts at the coarsest grid from a
learned constant; each stage reads (features, state), quantises one vector per site, adds its projection to the state
and refines it; the state is then brought to the next finer level. A single-grid, single-stage model is the paper's
network; more grids and stages are the same code. No operation sees the whole image, so any size works that is a
multiple of the configuration's alignment. Shapes are [B, C, H, W]; images are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.models import walks
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.quantizers import GMVQSettings, Quantizer, QuantizerResult, QuantizerSettings, ranks

_FEW_SITES = 64


class EdgeConv2d(nn.Conv2d):
    """A convolution at an end of a network: what it reads or makes is no feature map."""

    optimizer_group = "rest"


class ResidualBlock(nn.Module):
    """x + conv1x1(gelu(conv3x3(x))). The second convolution starts small, so that deep stacks start near identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            self.mix.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.mix(F.gelu(self.spatial(x), approximate="tanh"))
        return x + residual


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks of `channels` channels."""
    return nn.Sequential(*[ResidualBlock(channels) for _ in range(count)])


class Encoder(nn.Module):
    """Features of an image at each level, fine to coarse."""

    def __init__(self, config: NetworkConfig | HyperpriorConfig, stem_kernel: int = 3) -> None:
        super().__init__()
        self.patch = config.strides[0]
        self.stem = EdgeConv2d(3 * self.patch**2, config.channels[0], stem_kernel, padding=stem_kernel // 2)
        pairs = zip(config.channels, config.encoder_blocks, strict=True)
        self.levels = nn.ModuleList([residual_blocks(channels, count) for channels, count in pairs])
        steps = zip(config.strides, config.strides[1:], config.channels, config.channels[1:], strict=False)
        self.down = nn.ModuleList([ReducingConv2d(coarse // fine, a, b) for fine, coarse, a, b in steps])

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.pixel_unshuffle(image - 0.5, self.patch).contiguous(memory_format=torch.channels_last)
        features = [self.levels[0](self.stem(x))]
        for down, level in zip(self.down, list(self.levels)[1:], strict=True):
            features.append(level(down(features[-1])))
        return features


class ReducingConv2d(nn.Conv2d):
    """A convolution that makes one site of `factor` x `factor`, and sees as much again around them."""

    def __init__(self, factor: int, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 2 * factor, stride=factor, padding=factor // 2)

    def forward(self, x: Tensor) -> Tensor:
        sites = len(x) * x.shape[2] * x.shape[3] // self.stride[0] ** 2
        if sites > _FEW_SITES or torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        side, step = self.kernel_size[0], self.stride[0]  # of few sites, a product with their patches is faster
        padded = F.pad(x, [self.padding[0]] * 4).permute(0, 2, 3, 1)  # type: ignore[list-item]
        patches = padded.unfold(1, side, step).unfold(2, side, step).permute(0, 1, 2, 4, 5, 3)
        out = F.linear(patches.flatten(3), self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return out.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """One codebook on one grid: proposes z_hat and w, quantises, adds the projection to the state and refines it."""

    quantizer: Quantizer

    def __init__(self, grid: GridConfig, channels: int, config: NetworkConfig, settings: QuantizerSettings) -> None:
        super().__init__()
        weights = grid.dimensions if config.weight_per_dimension else 1
        self.dimensions = grid.dimensions
        self.widths = settings.widths(grid.codes, grid.dimensions, weights)  # of proxy and raw weights
        self.mix = nn.Conv2d(2 * channels, channels, 1)
        self.head = EdgeConv2d(channels, sum(self.widths), 1)
        self.quantizer = settings.build(grid.codes, grid.dimensions)
        self.project = nn.Conv2d(grid.dimensions, channels, 1)
        self.refine = residual_blocks(channels, config.stage_blocks)

    def propose(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Proxy and raw weights of all N = B*H*W sites, from features and state [B, C, H, W].

        For GM-VQ they are z_hat [N, L] and [N, L or 1]; other quantisers have widths of their own.
        """
        hidden = F.gelu(self.mix(torch.cat([features, state], 1)), approximate="tanh")
        out = self.head(hidden).float().permute(0, 2, 3, 1)  # [B, H, W, proxy + weights]
        proxy, weights = out.reshape(-1, out.shape[-1]).split(list(self.widths), 1)
        return proxy, weights

    def update(self, state: Tensor, quantised: Tensor) -> Tensor:
        """The state after the codewords `quantised` [N, L] of all sites."""
        batch, _, rows, columns = state.shape
        image = quantised.reshape(batch, rows, columns, self.dimensions).permute(0, 3, 1, 2)
        refined: Tensor = self.refine(state + self.project(image))
        return refined


@dataclass
class NetworkOutput:
    """Result of a forward pass: reconstruction [B, 3, H, W] (in evaluation clamped to [0, 1]), one result for each
    quantising stage in coding order, and the proxies (GM-VQ: z_hat [N, L]) of open stages."""

    reconstruction: Tensor
    stages: list[QuantizerResult]
    proxies: list[Tensor] = field(default_factory=list)


QUANTISE, OPEN, SKIP = "quantise", "open", "skip"
OPEN_NOISE = 0.1  # noise of an open stage, in standard deviations of each latent dimension
Visitor = Callable[[Stage, int, Tensor], Tensor]


class StagedAutoencoder(nn.Module):
    """The codec's network. `forward` for training, `encode` and `decode` for use."""

    def __init__(self, config: NetworkConfig, settings: QuantizerSettings | None = None) -> None:
        super().__init__()
        settings = settings or GMVQSettings()
        self.config = config
        self.encoder = Encoder(config)
        grids = {grid.stride: grid for grid in config.grids}
        levels = len(config.stage_counts)
        strides, widths, counts = config.strides[:levels], config.channels[:levels], config.decoder_blocks[:levels]
        self.start = nn.Parameter(torch.zeros(1, widths[-1], 1, 1))
        self.stages = nn.ModuleList()  # one list a decoder level, fine to coarse, empty where the level has no grid
        for stride, width, count in zip(strides, widths, config.stage_counts, strict=True):
            self.stages.append(nn.ModuleList([Stage(grids[stride], width, config, settings) for _ in range(count)]))
        self.levels = nn.ModuleList(
            [residual_blocks(width, count) for width, count in zip(widths, counts, strict=True)]
        )
        factors = [coarse // fine for fine, coarse in pairwise(strides)]
        steps = zip(widths[1:], widths, factors, strict=False)
        self.up = nn.ModuleList([nn.Conv2d(wide, narrow * factor**2, 1) for wide, narrow, factor in steps])
        self.final = EdgeConv2d(widths[0], 3 * strides[0] ** 2, 3, padding=1)

    def ordered_stages(self) -> list[Stage]:
        """All stages in coding order, coarse to fine."""
        return [stage for level in reversed(self.stages) for stage in _stages(level)]

    def quantizers(self) -> list[Quantizer]:
        """The quantisers of all stages, in coding order."""
        return [stage.quantizer for stage in self.ordered_stages()]

    def forward(self, image: Tensor, *, temperature: float = 1.0, modes: Sequence[str] | None = None) -> NetworkOutput:
        """Encode, quantise and decode `image` [B, 3, H, W], sides multiples of the alignment.

        modes: what each stage does, in coding order, all "quantise" where it is not given. "open" passes z_hat, or what
        the quantiser's `passing` makes of it, with a little noise and keeps z_hat in the output's `proxies` (the
        plain-autoencoder start of training); "skip" leaves the stage out. Only quantising stages appear in the
        output's `stages`.
        """
        features = self.encoder(image)
        output = NetworkOutput(image, [])
        queue = iter(modes or [QUANTISE] * len(self.ordered_stages()))

        def visit(stage: Stage, level: int, state: Tensor) -> Tensor:
            mode = next(queue)
            if mode == SKIP:
                return state
            proxy, weights = stage.propose(features[level], state)
            if mode == OPEN:
                output.proxies.append(proxy.detach())
                passed = stage.quantizer.passing(proxy)
                deviation = ranks.gathered(passed.detach()).std(0)
                return stage.update(state, passed + OPEN_NOISE * deviation * ranks.randn(passed.shape, passed))
            output.stages.append(stage.quantizer(proxy, weights, temperature=temperature))
            return stage.update(state, output.stages[-1].quantised)

        output.reconstruction = self._image(self._descend(self._start(image), visit))
        return output

    @torch.no_grad()
    def encode(self, image: Tensor) -> list[Tensor]:
        """Code indices, one int64 array [B, h, w] a stage in coding order, of `image` [B, 3, H, W]."""
        features = self.encoder(image)
        indices: list[Tensor] = []
        last = self.ordered_stages()[-1]

        def visit(stage: Stage, level: int, state: Tensor) -> Tensor:
            codes = stage.quantizer.assign(*stage.propose(features[level], state))
            indices.append(codes.reshape(len(image), *state.shape[2:]))
            return state if stage is last else stage.update(state, stage.quantizer.lookup(codes))

        self._descend(self._start(image), visit, stages_only=True)
        return indices

    @torch.no_grad()
    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """The image [B, 3, H, W] in [0, 1] of `encode`'s indices; bit for bit what `forward` gives in evaluation."""
        stages = zip(self.quantizers(), indices, strict=True)
        return self.synthesise([quantizer.lookup(i.flatten()).reshape(*i.shape, -1) for quantizer, i in stages])

    def synthesise(self, words: Sequence[Tensor]) -> Tensor:
        """The image [B, 3, H, W] in [0, 1] of codewords, one array [B, h, w, L] a stage in coding order."""
        queue = iter(words)
        batch, rows, columns, _ = words[0].shape

        def visit(stage: Stage, level: int, state: Tensor) -> Tensor:
            return stage.update(state, next(queue).flatten(0, 2))

        return self._image(self._descend(self.start.expand(batch, -1, rows, columns), visit)).clamp(0, 1)

    def _start(self, image: Tensor) -> Tensor:
        stride = self.config.grids[0].stride
        return self.start.expand(len(image), -1, image.shape[2] // stride, image.shape[3] // stride)

    def _descend(self, state: Tensor, visit: Visitor, *, stages_only: bool = False) -> Tensor:
        """As `walks.descend`, of this network's modules."""

        def visit_named(name: str, level: int, state: Tensor) -> Tensor:
            stage = self.get_submodule(name)
            assert isinstance(stage, Stage)
            return visit(stage, level, state)

        out: Tensor = walks.descend(Modules(self), self.config, state, visit_named, stages_only=stages_only)
        return out

    def _image(self, state: Tensor) -> Tensor:
        image: Tensor = walks.finish(Modules(self), self.config, state) + 0.5
        return image if self.training else image.clamp(0, 1)


class Modules:
    """A network's modules, as `walks.Layers`. ends: those whose outputs are float32, whatever they compute in."""

    def __init__(self, network: nn.Module, ends: Sequence[str] = ("final",)) -> None:
        self.network, self.ends = network, ends

    def run(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.called(name, self.network.get_submodule(name), x)
        return out.float() if name in self.ends else out

    def called(self, name: str, module: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = module(x)
        return out

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    def unshuffle(self, x: Tensor, factor: int) -> Tensor:
        return F.pixel_unshuffle(x, factor).contiguous(memory_format=torch.channels_last)

    def shuffle(self, x: Tensor, factor: int) -> Tensor:
        return F.pixel_shuffle(x, factor).contiguous(memory_format=torch.channels_last)

    def concatenate(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b.to(a.dtype)], 1)


def _stages(level: nn.Module) -> Iterator[Stage]:
    for stage in level.children():
        if isinstance(stage, Stage):
            yield stage
