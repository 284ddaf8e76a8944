"""The sphere does not move, for any upscale factor and any dimensions.

As in ``test_alignment.py``, for every network that makes voxels finer. Without details,
such a network interpolates, and the positions of voxels are tested: tiles, files, voxel
size and origin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle, zoo
from napari_geosr.networks import NETWORKS, build_network
from napari_geosr.operations.restore import RestoreConfig, preview_steps, restore_steps
from napari_geosr.operations.restore.preparation import prepare_steps

VOXEL = (3.0, 2.0, 2.5)
ORIGIN = (10.0, -4.0, 7.0)
CENTRE = (28.3, 13.4, 30.1)
RADIUS = 11.0
SHAPE = (13, 17, 19)
NETWORK_OF = {2: "light_sr", 4: "msdnet_sr", 8: "rep_sr"}
#: Settings for quick tests; all have a skip from the input to the output.
SMALL: dict[str, dict[str, Any]] = {
    "light_sr": {"features": 2, "blocks": 1},
    "msdnet_sr": {"features": 2, "depth": 2, "width": 2},
    "rep_sr": {"features": 2, "blocks": 1, "merged": True},
    "residual_diffusion": {"features": 8, "levels": 1},
    "resnet": {"features": 2, "blocks": 1},
    "unet": {"features": 2, "levels": 1, "residual": True},
}
FINER = [
    name
    for name in NETWORKS.names()
    if "upscale_factor" in NETWORKS.load(name).NetworkConfig.model_fields
]


def distances(volume: Volume) -> list[np.ndarray]:
    """Coordinates along each axis from the sphere's centre, for broadcasting."""
    n = len(volume.shape)
    found = []
    for axis in range(n):
        place = volume.origin[axis] + volume.voxel_size[axis] * np.arange(
            volume.shape[axis]
        )
        shape = [-1 if i == axis else 1 for i in range(n)]
        found.append((place - CENTRE[3 - n + axis]).reshape(shape))
    return found


def ball(axes: str) -> Volume:
    """A dark sphere, or its middle as a disc, in a bright block with partial voxels."""
    n = len(axes)
    empty = Volume(
        np.zeros(SHAPE[-n:], np.float32), axes, VOXEL[-n:], "µm", ORIGIN[-n:], "ball"
    )
    distance = np.sqrt(sum(d**2 for d in distances(empty)))
    edge = np.clip((distance - RADIUS) / 2.5 + 0.5, 0, 1)
    return empty.replace(data=(0.2 + 0.6 * edge).astype(np.float32))


def off_centre(volume: Volume) -> np.ndarray:
    """Vector from the centre to the centre of the dark voxels, in input voxels."""
    apart = distances(volume)
    weight = np.clip(0.8 - np.asarray(volume.data[...], np.float64), 0, None)
    weight = weight * (sum(d**2 for d in apart) < (RADIUS + 6) ** 2)
    found = [float((weight * d).sum() / weight.sum()) for d in apart]
    return np.abs(found) / VOXEL[-len(found) :]


def model(folder: Path, name: str, **kwargs: Any) -> Path:
    """A bundle of a network that only interpolates."""
    network = build_network(name, **SMALL.get(name, {}), **kwargs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    spec = network.spec
    card = zoo.find("foam-sr-x2").card.model_copy(
        update={
            "name": "finer",
            "network": name,
            "network_kwargs": network.config.model_dump(mode="json"),
            "axes": spec.axes,
            "adjacent_slices": spec.adjacent_slices,
            "upscale_factor": spec.upscale_factor[0],
            "halo": max(spec.halo),
            "local": spec.local,
        }
    )
    bundle.save(folder, card, network)
    bundle.verify(folder)
    return folder


def expected_geometry(given: Volume, factors: tuple[int, ...]) -> dict[str, Any]:
    """By the half-voxel rule, outer edges are kept."""
    size = [v / s for v, s in zip(given.voxel_size, factors, strict=True)]
    edges = [o - v / 2 for o, v in zip(given.origin, given.voxel_size, strict=True)]
    origin = [e + v / 2 for e, v in zip(edges, size, strict=True)]
    shape = tuple(n * s for n, s in zip(given.shape, factors, strict=True))
    return {"shape": shape, "voxel_size": size, "origin": origin}


def check(volume: Volume, given: Volume, factors: tuple[int, ...]) -> None:
    expected = expected_geometry(given, factors)
    assert volume.shape == expected["shape"]
    assert volume.voxel_size == pytest.approx(expected["voxel_size"], rel=1e-6)
    assert volume.origin == pytest.approx(expected["origin"], rel=1e-6)
    assert volume.unit == "µm"
    assert off_centre(volume).max() < 0.1


def moved(result: Volume, given: Volume) -> float:
    """Shift of the centre of all dark voxels, in voxels of the input.

    Cubic interpolation preserves the sum and the first moment of everything at least
    two voxels from the border, so only rounding errors remain.
    """
    centres = []
    for volume in (result, given):
        weight = 0.8 - np.asarray(volume.data[...], np.float64)
        parts = [float((weight * d).sum() / weight.sum()) for d in distances(volume)]
        centres.append(np.array(parts) / VOXEL[-len(parts) :])
    return float(np.abs(centres[0] - centres[1]).max())


@pytest.mark.every(5)
@pytest.mark.parametrize("dimensions", ["2D", "2.5D", "3D", "image"])
@pytest.mark.parametrize(
    ("factor", "suffix"), [(2, ".tif"), (4, ".ome.tif"), (8, ".ome.zarr")]
)
def test_the_ball_stays_where_it_is(
    tmp_path: Path, factor: int, suffix: str, dimensions: str
) -> None:
    """All sizes are odd; the thickness and spacing of planes do not change."""
    given = ball("YX" if dimensions == "image" else "ZYX")
    assert off_centre(given).max() < 0.1
    ndim = 3 if dimensions == "3D" else 2
    kwargs = {"adjacent_slices": 3} if dimensions == "2.5D" else {}
    path = model(
        tmp_path / "m", NETWORK_OF[factor], ndim=ndim, upscale_factor=factor, **kwargs
    )
    out = tmp_path / f"result{suffix}"
    config = RestoreConfig(model=str(path), threads=1)
    result = run_to_end(restore_steps(given, config, out=out))
    factors = (1,) * (len(given.shape) - ndim) + (factor,) * ndim
    for volume in (result.volume, io.read(out)):
        check(volume, given, factors)
        assert moved(volume, given) < 1e-4
    assert result.volume.name.endswith(f"×{factor}")


#: A U-Net works on the fine grid throughout, so it is slow, and one factor is enough.
WHOLE = [
    (name, ndim, factor)
    for name in FINER
    for ndim in (2, 3)
    for factor in (2, 4, 8)
    if name != "unet" or factor == 2
]


@pytest.mark.every(8)
@pytest.mark.parametrize(("name", "ndim", "factor"), WHOLE)
def test_every_network_keeps_the_centre(
    tmp_path: Path, name: str, ndim: int, factor: int
) -> None:
    """In tiles of odd sizes; a shift by half a fine voxel would be at least 1/16."""
    given = ball("ZYX")
    path = model(tmp_path / "m", name, ndim=ndim, upscale_factor=factor)
    config = RestoreConfig(model=str(path), threads=1)
    result = run_to_end(restore_steps(given, config)).volume
    check(result, given, (1,) * (3 - ndim) + (factor,) * ndim)
    assert moved(result, given) < 1e-4


@pytest.mark.parametrize(
    ("factor", "dimensions", "unit"),
    [(2, "3D", "nm"), (4, "2.5D", "µm"), (8, "2D", "mm")],
)
def test_by_the_command_line_from_file_to_file(
    tmp_path: Path, factor: int, dimensions: str, unit: str
) -> None:
    """OME-TIFF input and output: voxel size, unit and origin are read, divided,
    written.
    """
    ndim = 3 if dimensions == "3D" else 2
    kwargs = {"adjacent_slices": 5} if dimensions == "2.5D" else {}
    name = NETWORK_OF[factor]
    path = model(tmp_path / "m", name, ndim=ndim, upscale_factor=factor, **kwargs)
    scan = ball("ZYX").replace(unit=unit)
    source, out = tmp_path / "scan.ome.tif", tmp_path / "finer.ome.tif"
    io.write(scan, source)
    flags = ["--model", str(path), "--out", str(out), "--threads", "1"]
    assert run(["restore", str(source), *flags]) == 0
    found, given = io.read(out), io.read(source)
    assert found.unit == given.unit
    factors = (1,) * (3 - ndim) + (factor,) * ndim
    for volume, expected in ((found, factors), (given, (1, 1, 1))):
        sized = {
            key: tuple(convert_length(v, volume.unit, unit) for v in value)
            for key in ("voxel_size", "origin")
            for value in [getattr(volume, key)]
        }
        # From here on, numbers are those of the sphere, whatever the unit.
        check(volume.replace(unit="µm", **sized), scan, expected)
    assert moved(found, given) < 1e-4


@pytest.mark.every(7)
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("name", FINER)
def test_every_network_and_its_preview(tmp_path: Path, name: str, factor: int) -> None:
    given = ball("ZYX")
    path = model(tmp_path / "m", name, ndim=2, upscale_factor=factor)
    config = RestoreConfig(model=str(path), threads=1)
    prepared = run_to_end(prepare_steps(given, config))
    region = (slice(2, 12), slice(0, 17), slice(1, 18))
    part = run_to_end(preview_steps(prepared, region))
    corner = tuple(
        o + r.start * v for o, r, v in zip(ORIGIN, region, VOXEL, strict=True)
    )
    cut = given.replace(data=given.data[region], origin=corner)
    check(part, cut, (1, factor, factor))
