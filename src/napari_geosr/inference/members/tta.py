"""Flips and quarter turns of the volume (test-time augmentation).

The orientation of the sample in the scanner should not change how a structure is
restored, so differences between orientations reveal errors of the model. Each member
flips or rotates the window, runs the network and transforms the result back.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.members._symmetry import Symmetry
from napari_geosr.inference.memory import network_spec
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from napari_geosr.inference.members import EnsembleInputs
    from napari_geosr.inference.members._networks import EnsembleNetwork

TITLE = "flips and rotations"
HELP = "the model applied to the volume as it is, mirrored, and rotated by 90°"
NEEDS_OTHERS = False

#: Default number of members.
_N_DEFAULT = 8
#: Relative difference below which the edge lengths of a pixel count as equal.
_SQUARE = 1e-3


def symmetries(spec: NetworkSpec, voxel_size: tuple[float, ...]) -> list[Symmetry]:
    """Return all symmetries allowed by the network and the voxel size.

    Quarter turns require square pixels and a network that treats rows and columns
    alike; reversing the planes requires a network that processes several planes. The
    first half of the list and its first four entries also form groups, so that a
    smaller number of members is just as well balanced.
    """
    sizes = voxel_size[-2:]
    turns = math.isclose(*sizes, rel_tol=_SQUARE) and all(
        values[-2] == values[-1] for values in (spec.stride, spec.upscale_factor)
    )
    plane = [(k, mirrored) for mirrored in (False, True) for k in (0, 2)]
    if turns:
        plane += [(k, mirrored) for mirrored in (False, True) for k in (1, 3)]
    if spec.axes == "YX" and spec.adjacent_slices == 1:
        return [Symmetry(k, mirrored, False) for k, mirrored in plane]
    # Plane reversal first appears combined with a 90° turn or a reflection, then alone.
    return [
        Symmetry(k, mirrored, (bool(k % 2) if turns else mirrored) is not is_separate)
        for is_separate in (False, True)
        for k, mirrored in plane
    ]


def make(inputs: EnsembleInputs) -> EnsembleNetwork:
    """Return the members for the first model.

    Raises
    ------
    ConfigError
        If more members are requested than there are symmetries.
    """
    from napari_geosr.inference.members._networks import EnsembleNetwork, SymmetryView

    network = inputs.models[0].restorer()
    spec = network_spec(network)
    known = symmetries(spec, inputs.voxel_size)
    n = inputs.n_members or min(_N_DEFAULT, len(known))
    if n > len(known):
        raise ConfigError(
            f"Mirroring and rotation by 90° give {len(known)} members for this model "
            f"and voxels of {_size_text(inputs.voxel_size)}, not {n}: set the number "
            "of "
            f"members (--uncertainty-members) to at most {len(known)}."
        )
    chosen = known[:n]
    members = [SymmetryView(network, symmetry) for symmetry in chosen]
    return EnsembleNetwork(members, _spec_of(spec, chosen), [str(s) for s in chosen])


def _spec_of(spec: NetworkSpec, chosen: list[Symmetry]) -> NetworkSpec:
    """Return a spec that is valid for all symmetries, including swapped axes."""
    halo, min_size = spec.halo, spec.minimum_size
    if any(symmetry.quarter_turns % 2 for symmetry in chosen):
        halo = (*halo[:-2], *(max(halo[-2:]),) * 2)
        min_size = (*min_size[:-2], *(max(min_size[-2:]),) * 2)
    return replace(spec, halo=halo, minimum_size=min_size, n_outputs=2)


def _size_text(voxel_size: tuple[float, ...]) -> str:
    return " × ".join(f"{edge:g}" for edge in voxel_size)
