"""Extract features from a diffusion model that was trained on similar images.

The scan is given to the network with a little noise, as during training, and the
feature maps of its decoder are taken at three time steps of the noise schedule [1]_.

References
----------
.. [1] Baranchuk et al. Label-efficient semantic segmentation with diffusion models.
   ICLR (2022). arXiv:2112.03126
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from napari_geosr.core.errors import ModelError, VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.sampling import noise_field, schedule_of
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models.bundle import Model
from napari_geosr.models.distribution import check_grey_scale

#: Time steps of the noise schedule (0 … 999) at which features are extracted.
_TIMES = (50, 150, 250)
#: Maximum number of voxels of a slice, because the features of a whole slice are held
#: in memory.
_MAX_VOXELS = 1 << 21


class PriorFeatures:
    """Feature maps of the decoder of a diffusion model.

    The noise is the same for all slices.

    Parameters
    ----------
    model : Model
        Model trained with ``train ddpm``, for single slices.
    seed : int
        Seed for the noise.
    device : str
        Device on which features are computed.

    Raises
    ------
    ModelError
        If the model is not a diffusion model, or is one for volumes or several slices.
    """

    def __init__(self, model: Model, seed: int = 0, device: str = "cpu") -> None:
        card = model.card
        if card.task != "generate":
            raise ModelError(
                f"The model {card.name!r} is not a diffusion model: its task is "
                f"{card.task}. Train one with napari-geosr train ddpm, or segment "
                "without a model."
            )
        if card.axes != "YX" or card.adjacent_slices > 1:
            raise ModelError(
                f"The model {card.name!r} does not work on single slices. Train a "
                "model with napari-geosr train ddpm --dimensions 2D."
            )
        scale = card.normalisation
        assert scale.mean is not None
        assert scale.std is not None
        self.card, self.grey = card, GreyScale(scale.mean, scale.std)
        self.seed, self.device = seed, device
        self.record = {"name": card.name, "weights_sha256": card.weights_sha256}
        self._network: Any = model.network().to(device).eval()
        self._schedule = schedule_of(self._network)

    def check_scan(self, scan: Volume, grey: GreyScale) -> list[str]:
        """Refuse a scan with a grey scale other than that of the training data.

        Parameters
        ----------
        scan : Volume
        grey : GreyScale
            Mean and standard deviation of the scan.

        Returns
        -------
        list of str
            Warnings as sentences.

        Raises
        ------
        ModelError
            If the grey scales differ.
        """
        return check_grey_scale(self.card, scan.title, grey.mean, grey.std)

    def __call__(self, plane: AnyArray) -> AnyArray:
        """Return the features of all voxels of a slice.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Grey values of the scan.

        Returns
        -------
        ndarray of shape (F, Y, X)
            float16.

        Raises
        ------
        VolumeError
            If the slice is too large.
        """
        if plane.size > _MAX_VOXELS:
            raise VolumeError(
                f"Slices of {plane.shape[0]} × {plane.shape[1]} voxels are too large "
                f"for the features of a model (limit: {_MAX_VOXELS:,} voxels). Crop "
                "the scan, or segment without a model."
            )
        image = torch.from_numpy(self.grey.standardise(plane))[None, None]
        image = image.to(self.device)
        box = [slice(0, n) for n in plane.shape]
        maps: list[torch.Tensor] = []
        hooks = [
            block.register_forward_hook(lambda *given: maps.append(given[-1]))
            for block in self._network.up
        ]
        try:
            with torch.no_grad():
                for time in _TIMES:
                    field = noise_field((self.seed, time), box)
                    noise = torch.from_numpy(field)[None, None].to(self.device)
                    at = torch.tensor([time])
                    self._network.output(self._schedule.noised(image, noise, at), at)
                levels = len(self._network.up)
                found = [
                    _at_full_size(part, 2 ** (levels - 1 - i % levels), plane.shape)
                    for i, part in enumerate(maps)
                ]
        finally:
            for hook in hooks:
                hook.remove()
        return np.concatenate(found)


def _at_full_size(maps: torch.Tensor, factor: int, shape: tuple[int, ...]) -> AnyArray:
    """Return the feature maps (1, C, y, x) interpolated to the voxels of the slice."""
    if factor > 1:
        maps = functional.interpolate(
            maps, scale_factor=factor, mode="bilinear", align_corners=False
        )
    # Crop: the network pads the end of each axis to a multiple of its stride.
    whole: AnyArray = maps[0, :, : shape[0], : shape[1]].half().cpu().numpy()
    return whole
