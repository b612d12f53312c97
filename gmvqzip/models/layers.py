"""A network's convolutions, as its configuration describes them: what each is for, where it works, how far it looks.

The networks in torch are made of these layers, which a test holds them to. A model's cost, its weights in a file, the
receptive fields and the networks in NumPy go by this description. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution [outputs, inputs, kernel, kernel]."""

    name: str  # its module's in the network, and so its tensors' in a file
    inputs: int
    outputs: int
    kernel: int
    stride: int  # pixels between the sites of its outputs along each axis
    encodes: bool = False  # whether the encoder runs it
    decodes: bool = False  # whether the decoder runs it
    source: int = 0  # pixels between the sites of its inputs; 0: as those of its outputs
    shuffle: int = 1  # its outputs become so many sites along each axis
    used: float = 1.0  # part of its products that are needed

    @property
    def step(self) -> int:
        """Sites of its inputs between two of its outputs, along each axis."""
        return self.stride // (self.source or self.stride)

    @property
    def weights(self) -> int:
        """Numbers in its weight."""
        return self.outputs * self.inputs * self.kernel**2

    @property
    def work(self) -> float:
        """Multiply-accumulates per pixel."""
        return self.used * self.weights / self.stride**2

    @property
    def reach(self) -> int:
        """Pixels that it sees beyond each side of a site."""
        return (self.kernel * (self.source or self.stride) - self.stride) // 2


def encoder(
    name: str, strides: Sequence[int], channels: Sequence[int], counts: Sequence[int], stem_kernel: int
) -> Iterator[Layer]:
    """Of `network.Encoder`; counts: its residual blocks at each level."""
    yield Layer(f"{name}.stem", 3 * strides[0] ** 2, channels[0], stem_kernel, strides[0], encodes=True)
    for level, (stride, width) in enumerate(zip(strides, channels, strict=True)):
        if level:
            fine, narrow = strides[level - 1], channels[level - 1]
            down = f"{name}.down.{level - 1}"
            yield Layer(down, narrow, width, 2 * stride // fine, stride, encodes=True, source=fine)
        yield from blocks(f"{name}.levels.{level}", width, stride, counts[level], encodes=True)


def blocks(
    name: str, width: int, stride: int, count: int, *, encodes: bool = False, decodes: bool = False
) -> Iterator[Layer]:
    """Of `network.residual_blocks`."""
    for number in range(count):
        yield Layer(f"{name}.{number}.spatial", width, width, 3, stride, encodes, decodes)
        yield Layer(f"{name}.{number}.mix", width, width, 1, stride, encodes, decodes)
