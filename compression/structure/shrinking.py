"""What a profile of structures makes of blocks, for whoever judges profiles; what was solved for one serves the next."""

from collections import OrderedDict

from torch import nn

from compression.families.structure import Half
from compression.goals.search import Profile
from compression.structure.database import HalfRemovals, Structures, output_weight
from compression.structure.shrink import Cut, Cuts, shrunk_block

REMEMBERED_BYTES = 2**29  # of solved weights


class Shrinking:
    """Blocks with the weights of a database, on the dense model's inputs."""

    def __init__(self, structures: Structures) -> None:
        self._structures = structures
        self._solved: OrderedDict[tuple[int, str, int], Cut] = OrderedDict()  # least recently used first
        self._bytes = 0
        self.blocks = tuple(choice // 2 for choice in range(2 * structures.architecture.blocks))

    def applied(self, block: nn.Module, index: int, profile: Profile) -> nn.Module:
        """Raises: InvalidOptions: the database is damaged. NumericalError."""
        levels = profile[2 * index], profile[2 * index + 1]
        if levels == (0, 0):
            return block
        return shrunk_block(block, index, self._structures.architecture, self.cuts(block, index, levels))

    def cuts(self, block: nn.Module, index: int, levels: tuple[int, int]) -> Cuts:
        """What becomes of a block's halves at these levels. Args: block: dense."""
        attention, ffn = self._structures.halves
        return self._cut(block, index, attention, levels[0]), self._cut(block, index, ffn, levels[1])

    def _cut(self, block: nn.Module, index: int, half: Half, level: int) -> Cut:
        key = index, half.name, level
        if key in self._solved:
            self._solved.move_to_end(key)
            return self._solved[key]
        units = self._structures.levels_of(half)[level]
        if units in (0, half.units):
            return Cut(tuple(range(units)))
        removals: HalfRemovals = self._structures.removals(index, half)
        found = removals.cut(level, half, output_weight(block, self._structures.architecture, half))
        self._remember(key, found)
        return found

    def _remember(self, key: tuple[int, str, int], found: Cut) -> None:
        self._solved[key] = found
        self._bytes += _size_bytes(found)
        while self._bytes > REMEMBERED_BYTES and len(self._solved) > 1:
            _, gone = self._solved.popitem(last=False)
            self._bytes -= _size_bytes(gone)


def _size_bytes(cut: Cut) -> int:
    return 0 if cut.weights_RK is None else cut.weights_RK.nbytes
