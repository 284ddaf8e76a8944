"""Start a network of more planes from the weights of one with fewer."""

from __future__ import annotations

import torch


def more_planes(state: dict[str, torch.Tensor], planes: int) -> dict[str, torch.Tensor]:
    """Weights of the MSD-net on `planes` planes that computes what `state` computes.

    The planes that are new, at both ends of the slab, get zero weights.

    Parameters
    ----------
    state : dict
        Weights of a 2.5D MSD-net: ``weights.i`` of shape (width, planes + width · i, 3,
        3), ``final_weight`` of shape (planes + width · depth,).
    planes : int
        Odd, at least as many as `state` has.

    Raises
    ------
    ValueError
        If `planes` is smaller, or not as odd as the number in `state`.
    """
    old = state["weights.0"].shape[1]
    added = planes - old
    if added < 0 or added % 2:
        raise ValueError(f"{old} planes cannot become {planes}")
    grown = {}
    for name, value in state.items():
        axis = {"weights": 1, "final_weight": 0}.get(name.split(".")[0])
        if axis is not None and added:
            shape = list(value.shape)
            shape[axis] = added // 2
            zeros = value.new_zeros(shape)
            first, rest = value.split([old, value.shape[axis] - old], dim=axis)
            value = torch.cat([zeros, first, zeros, rest], dim=axis)
        grown[name] = value.contiguous()
    return grown
