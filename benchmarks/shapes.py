"""Shapes that nobody tuned for: drawn anew from the ranges below, by a seed."""

import random
from math import prod
from typing import NamedTuple

#: Sides of planes, each range as often as the others: late layers, middle ones, early ones and images, rasters.
SIDES = ((6, 16), (18, 64), (60, 260), (500, 1200))
#: Sides that networks have, and what they are pooled to; drawn for a third of the planes of each range.
TYPICAL = (
    *((7, 1), (7, 2), (8, 1), (8, 4), (12, 3), (13, 6), (14, 1), (14, 4), (14, 7), (16, 4), (16, 8)),
    *((24, 6), (28, 1), (28, 7), (28, 14), (32, 4), (35, 5), (35, 8), (56, 4), (56, 7), (64, 8)),
    *((112, 7), (112, 14), (128, 16), (224, 7), (224, 14), (256, 32), (512, 16), (512, 64), (1024, 256)),
)
#: Elements of an array, from 3 to 100 MB of float32: some fit a cache, most are larger.
ELEMENTS = (750_000, 25_000_000)


class Case(NamedTuple):
    """An array (N, C, H, W), and the (H, W) that it is pooled to."""

    shape: tuple[int, int, int, int]
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} → {'×'.join(map(str, self.size))}"


def draw(seed: int, each: int) -> list[Case]:
    """So many cases of each range of sides; windows have at least four cells."""
    chance = random.Random(seed)
    return [_case(chance, low, high, i % 3) for low, high in SIDES for i in range(each)]


def _case(chance: random.Random, low: int, high: int, kind: int) -> Case:
    """A typical plane (kind 0), a square one (1), or one of two different sides (2)."""
    if kind == 0:
        side, out = chance.choice([pair for pair in TYPICAL if low <= pair[0] <= high])
        plane, size = (side, side), (out, out)
    else:
        plane = (
            tuple(chance.randint(low, high) for _ in range(2))
            if kind == 2
            else (chance.randint(low, high),) * 2
        )
        size = tuple(chance.randint(1, side // 2) for side in plane)
        size = size if kind == 2 else (size[0],) * 2
    least, most = ELEMENTS
    elements = least * (most / least) ** chance.random()
    planes = max(1, round(elements / prod(plane)))
    channels = min(planes, chance.choice((1, 3, 16, 48, 64, 96, 192, 256, 384, 512, 768, 1024, 2048)))
    return Case((max(1, planes // channels), channels, *plane), size)
