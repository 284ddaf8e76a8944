"""Restore the preview slice that is shown while a network is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from napari_geosr.core.volume import Volume
from napari_geosr.learning.sampling.patches import Patches, read_slab
from napari_geosr.learning.statistics import GreyScale

#: Maximum edge of the preview, in voxels of the source.
MAX_EDGE = 384
#: Maximum edge of the preview, in voxels of the result.
_MAX_OUTPUT_EDGE = 768
#: Number of slices read around the previewed slice in 3D.
_SLAB_SLICES = 16
#: Minimum number of these slices for large upscale factors.
_MIN_SLAB_SLICES = 8


class TrainingPreview:
    """Restores one slice of the first source while a network is trained.

    Parameters
    ----------
    patches : Patches
    role : str
        Role of the network's input.
    output : GreyScale
        Grey scale of the network's output.
    factor : int
        Output voxels per input voxel.
    index : int or None
        Index of the slice; by default the middle one.
    labels : bool
        Whether the output consists of labels.
    """

    def __init__(
        self,
        patches: Patches,
        role: str,
        output: GreyScale,
        factor: int,
        index: int | None,
        *,
        labels: bool = False,
    ) -> None:
        config = patches.config
        scene = next(s for s in patches.scenes if role in s.volumes)
        self.volume, self.output = scene.volumes[role], output
        self.factor, self.ndim, self.labels = factor, config.ndim, labels
        shape = self.volume.shape
        depth = shape[0] if len(shape) == 3 else 1
        self.z = min(depth - 1, depth // 2 if index is None else index)
        size = [min(MAX_EDGE, _MAX_OUTPUT_EDGE // factor, n) for n in shape[-2:]]
        # Networks with strides need edges that are multiples of the strides.
        size = [n - n % 16 if n >= 16 else n for n in size]
        self.corner = [(n - s) // 2 for n, s in zip(shape[-2:], size, strict=True)]
        window = [slice(c, c + s) for c, s in zip(self.corner, size, strict=True)]
        self.first = self.z
        if config.ndim == 3:
            slab = min(
                _SLAB_SLICES, max(_MIN_SLAB_SLICES, 2 * _SLAB_SLICES // factor), depth
            )
            self.first = min(max(0, self.z - slab // 2), depth - slab)
            raw = np.asarray(
                self.volume.data[(slice(self.first, self.first + slab), *window)]
            )[None]
        else:
            place: list[Any] = (
                window if len(shape) == 2 else [slice(self.z, self.z + 1), *window]
            )
            raw = read_slab(self.volume, place, config.planes)
        self.input = torch.from_numpy(patches.grey[role].standardise(raw))[None]

    def __call__(self, network: nn.Module) -> Volume:
        """Return the restored slice, (1, Y, X) or (Y, X), with its geometry."""
        device = next(network.parameters()).device
        training = network.training
        network.eval()
        with torch.no_grad():
            out = network(self.input.to(device))[0, 0].float().cpu().numpy()
        network.train(training)
        factors: tuple[int, ...] = (1, self.factor, self.factor)
        if self.ndim == 3:
            factors = (self.factor,) * 3
            out = out[(self.z - self.first) * self.factor][None]
        else:
            out = out[None]
        if len(self.volume.shape) == 2:
            out, factors = out[0], factors[1:]
        size, origin = self.volume.upscaled_geometry(factors)
        corner = ([self.z] if len(self.volume.shape) == 3 else []) + self.corner
        place = tuple(
            o + c * v
            for o, c, v in zip(origin, corner, self.volume.voxel_size, strict=True)
        )
        values = self.output.restore(out)
        return Volume(
            values.astype(np.uint8) if self.labels else values,
            self.volume.axes,
            size,
            self.volume.unit,
            place,
            name="preview",
            metadata={"kind": "labels"} if self.labels else {},
        )
