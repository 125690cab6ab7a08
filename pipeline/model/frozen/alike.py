"""Members of an ensemble whose cores differ by their weights alone, to be computed together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .crop_chain import CropChain
from .encoder import FrozenEncoder


class Alike(nn.Module):
    """Some members with a crop plan, and the chain that does their windows together.

    Attributes
    ----------
    index : list of int
        Which members of the ensemble they are.
    chain : CropChain or None
        None: block by block.
    """

    def __init__(self, members: Sequence[FrozenEncoder], index: list[int]) -> None:
        super().__init__()
        chosen = [members[i] for i in index]
        self.index = index
        self.chain: CropChain | None = None
        if _chained(chosen):
            chains = [member.encoder.core.chain for member in chosen]
            core, plan = chosen[0].encoder.core, chosen[0].windows
            self.chain = CropChain(chains, plan.lengths, core.contrast)


def group_alike(members: Sequence[FrozenEncoder]) -> nn.ModuleList:
    """Return members with crop plans as groups (`Alike`), each as large as can be."""
    groups: list[list[int]] = []
    for index in range(len(members)):
        for group in groups:
            if _chained([members[i] for i in (*group, index)]):
                group.append(index)
                break
        else:
            groups.append([index])
    return nn.ModuleList(Alike(members, group) for group in groups)


def _chained(members: Sequence[FrozenEncoder]) -> bool:
    """Whether one chain can do the cores of all."""
    cores = [member.encoder.core for member in members]
    same = all(member.windows.lengths == members[0].windows.lengths for member in members)
    return same and CropChain.possible(
        [core.chain for core in cores], [core.contrast for core in cores]
    )
