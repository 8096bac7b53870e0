"""A profile of structures: which level each half of each block gets, what it takes by the table, and the best for a time.

A profile has the halves of block 0, then those of block 1, and so on; level 0 is the dense one. Torch-free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compression.goals.knapsack import allocate
from compression.goals.search import Profile
from compression.structure.timing import LatencyTable
from compression.structure.units import BlockKept

Levels = tuple[tuple[int, ...], tuple[int, ...]]
"""Units kept by level, of attention and feed-forward; falling, from all to none."""


@dataclass(frozen=True)
class Profiles:
    """The choices under any time.

    Args: harms: rise of the loss that each level of each half is expected to bring.
    """

    table: LatencyTable
    levels: Levels
    harms: tuple[tuple[float, ...], ...]

    @property
    def blocks(self) -> int:
        return len(self.harms) // 2

    def kept(self, profile: Profile) -> tuple[tuple[int, int], ...]:
        """Units of attention and feed-forward, block by block."""
        attention, ffn = self.levels
        return tuple((attention[a], ffn[f]) for a, f in zip(profile[::2], profile[1::2], strict=True))

    def blocks_kept(self, profile: Profile) -> tuple[BlockKept, ...]:
        return tuple(BlockKept(attention, ffn) for attention, ffn in self.kept(profile))

    def predicted_s(self, profile: Profile) -> float:
        return self.table.predicted_s(self.kept(profile))

    def harm(self, profile: Profile) -> float:
        """Expected rise of the loss."""
        return math.fsum(harms[level] for harms, level in zip(self.harms, profile, strict=True))

    def best(self, within_s: float, weights: Sequence[float] | None = None) -> Profile | None:
        """The profile of least expected harm, or None where nothing is so fast. Args: within_s: seconds of a forward."""
        times = [self.table.attention_s, self.table.ffn_s]
        costs = [[times[choice % 2][kept] for kept in self.levels[choice % 2]] for choice in range(len(self.harms))]
        weights = weights or [1.0] * len(self.harms)
        harms = [[weight * harm for harm in levels] for weight, levels in zip(weights, self.harms, strict=True)]
        return allocate(costs, harms, within_s - self.table.fixed_s)

    def uniform(self, within_s: float, heads: Sequence[int]) -> list[Profile]:
        """Profiles with the same levels in all blocks and nothing gone: for each number of heads the widest in time."""
        found = []
        for kept in heads:
            for level, columns in enumerate(self.levels[1]):
                if columns and self.table.predicted_s([(kept, columns)] * self.blocks) <= within_s:
                    found.append((self.levels[0].index(kept), level) * self.blocks)
                    break
        return found

    def least_uniform_s(self, heads: Sequence[int]) -> float:
        """Seconds of the fastest of them."""
        pairs = [(kept, columns) for kept in heads for columns in self.levels[1] if columns]
        return min(self.table.predicted_s([pair] * self.blocks) for pair in pairs)
