"""Reproducible sample volumes for trying out the package."""

from __future__ import annotations

from napari_geosr.core.volume import Volume
from napari_geosr.physics.scans import Imaging, scan
from napari_geosr.physics.specimens.phantoms import Shape, sphere_foam

FOAM_VOXEL_SIZE = 4.0
#: Grey value of the solid.
_GREY_SOLID = 0.8
#: Grey value of pores.
_GREY_PORE = 0.2


def noisy_foam(shape: Shape = (64, 128, 128), seed: int = 11) -> tuple[Volume, Volume]:
    """Simulate a foam scanned with few photons, and the foam without noise or blur.

    A CT scan with 120 projections and Poisson noise is simulated slice by slice and
    reconstructed by filtered back-projection.

    Parameters
    ----------
    shape : tuple of int
        (Z, Y, X); slices must be square.
    seed : int
        Seed of foam and noise.

    Returns
    -------
    noisy, clean : Volume
        float32, with voxels of 4 µm and the same origin.
    """
    foam = sphere_foam(shape, porosity=0.14, radius=(2.5, 8.0), gap=1.0, seed=seed)
    imaging = Imaging(
        noise=0.45, noise_kind="few-photons", blur=0.7, cutoff=1.6, n_angles=120
    )
    made = scan(foam, imaging, solid=_GREY_SOLID, pore=_GREY_PORE, seed=seed)
    voxel_size = (FOAM_VOXEL_SIZE,) * 3
    return (
        Volume(made.noisy, "ZYX", voxel_size, "µm", name="noisy foam"),
        Volume(made.clean, "ZYX", voxel_size, "µm", name="clean foam"),
    )


def resolution_pair(
    shape: Shape = (48, 48, 48), seed: int = 12
) -> tuple[Volume, Volume]:
    """Simulate a low-resolution scan of a foam, and the foam with half the voxel size.

    Parameters
    ----------
    shape : tuple of int
        Shape of the low-resolution scan (Z, Y, X).
    seed : int
        Seed of foam and noise.

    Returns
    -------
    low, high : Volume
        float32, with voxels of 8 µm and 4 µm. Both fill the same box, so the origins
        differ by half a voxel of the high-resolution scan.
    """
    fine: Shape = (2 * shape[0], 2 * shape[1], 2 * shape[2])
    foam = sphere_foam(fine, porosity=0.2, radius=(3.0, 12.0), gap=1.5, seed=seed)
    imaging = Imaging(
        noise=0.15, noise_kind="reconstruction", blur=0.5, cutoff=1.6, downsample=2
    )
    made = scan(foam, imaging, solid=_GREY_SOLID, pore=_GREY_PORE, seed=seed)
    low = Volume(
        made.noisy, "ZYX", (2 * FOAM_VOXEL_SIZE,) * 3, "µm", name="low-resolution foam"
    )
    voxel_size, origin = low.upscaled_geometry(2)
    return low, Volume(
        made.clean, "ZYX", voxel_size, "µm", origin, name="high-resolution foam"
    )
