"""Scans that are shifted against each other are paired by position, not by index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.operations.train import TrainJob, train_steps
from napari_geosr.operations.train import run as train_run
from napari_geosr.operations.train.shared_region import SharedRegions, share_regions

SMALL: dict[str, Any] = {
    "layers": 2,
    "batch_size": 1,
    "patch": 16,
    "steps": 1,
    "device": "cpu",
}
EDGE = 2.0
Volumes = dict[str, list[Volume]]
FILES: dict[str, tuple[Path, ...]] = {"source": (Path("a"),), "target": (Path("b"),)}


def scan(start: int, stop: int, *, axis: int = 1, name: str = "scan") -> Volume:
    """Part of a volume with different values in all voxels, at its position."""
    whole = np.random.default_rng(0).normal(size=(24, 64, 48)).astype(np.float32)
    origin = [5.0, 5.0, 5.0]
    origin[axis] += start * EDGE
    part = np.take(whole, range(start, stop), axis)
    return Volume(part, "ZYX", (EDGE,) * 3, "µm", tuple(origin), name=name)


def values(volume: Volume) -> npt.NDArray[np.float32]:
    return np.asarray(volume.data)


def shared(
    volumes: Volumes, method: str = "noise2noise", **settings: Any
) -> SharedRegions:
    files = {role: FILES[role] * len(given) for role, given in volumes.items()}
    training = config_class(method).create(**(SMALL | files | settings))
    return share_regions(METHODS.load(method).Method(training), volumes)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> Volumes:
    """The volumes from which patches are drawn."""
    found: Volumes = {}
    patches = train_run.Patches

    def note(volumes: Any, *args: Any, **kwargs: Any) -> Any:
        found.update({role: list(given) for role, given in volumes.items()})
        return patches(volumes, *args, **kwargs)

    monkeypatch.setattr(train_run, "Patches", note)
    return found


def assert_same_region(volumes: Volumes, shape: tuple[int, ...]) -> None:
    (source,), (target,) = volumes["source"], volumes["target"]
    assert source.shape == shape
    assert np.array_equal(values(source), values(target))
    assert source.origin == target.origin


def test_shifted_volumes_in_python(trained_on: Volumes, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="24 × 40 × 48 of the 24 × 48 × 48 voxels"):
        geosr.train("noise2noise", tmp_path, scan(0, 48), scan(8, 64), **SMALL)
    assert_same_region(trained_on, (24, 40, 48))


def test_shifted_files(trained_on: Volumes, tmp_path: Path) -> None:
    paths = [
        io.write(part, tmp_path / f"{name}.ome.zarr")
        for name, part in (("a", scan(8, 64)), ("b", scan(0, 48)))
    ]
    training = config_class("noise2noise").create(
        source=paths[:1], target=paths[1:], name="mine", **SMALL
    )
    job = TrainJob(method="noise2noise", training=training)
    run_to_end(train_steps(job, tmp_path / "job", opened=job.check()))
    assert_same_region(trained_on, (24, 40, 48))


def test_a_fraction_of_a_voxel_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = scan(8, 56)
    moved = moved.replace(origin=(5.0, moved.origin[1] + 0.5 * EDGE, 5.0))
    one, two = (
        str(io.write(each, tmp_path / f"{name}.ome.zarr"))
        for name, each in (("a", scan(0, 48)), ("b", moved))
    )
    words = ["train", "noise2noise", "--source", one, "--target", two]
    assert run([*words, "-o", str(tmp_path / "job")]) == 2
    said = capsys.readouterr().err
    assert "b.ome.zarr is shifted by +0, +8.5, +0 voxels (Z, Y, X) from a.ome" in said
    assert "Align them first (napari-geosr pairs --low PATH --high PATH)." in said
    assert not (tmp_path / "job").exists()


def test_other_regions_and_other_directions_are_refused() -> None:
    with pytest.raises(VolumeError, match="'b' and 'a' do not overlap: 'b' is shifted"):
        shared({"source": [scan(0, 20, name="a")], "target": [scan(20, 40, name="b")]})
    one, other = (
        scan(0, 20).replace(metadata={"orientation": letters})
        for letters in ("RAS", "LPS")
    )
    with pytest.raises(VolumeError, match="X to the left and Y to the back"):
        shared({"source": [one], "target": [other]})


def test_finer_targets_are_cropped_to_whole_voxels() -> None:
    source = scan(0, 32)
    size, origin = source.upscaled_geometry(2)
    fine = values(source).repeat(2, 0).repeat(2, 1).repeat(2, 2)[:, 12:]
    target = Volume(fine, "ZYX", size, "µm", (origin[0], origin[1] + 12, origin[2]))
    settings = {"upscale_factor": 2, "network": "light_sr", "dimensions": "3D"}
    # Some programs state the position of the outer edge of the first voxel.
    edges = target.replace(origin=(5.0, 5.0 + 12, 5.0))
    for each in (target, edges):
        found = shared({"source": [source], "target": [each]}, "supervised", **settings)
        (low,), (high,) = found.volumes["source"], found.volumes["target"]
        assert (low.shape, high.shape) == ((24, 26, 48), (48, 52, 96))
        assert np.array_equal(values(high)[::2, ::2, ::2], values(low))


def test_all_parts_of_one_object_are_cropped() -> None:
    parts = [scan(0, 40), scan(4, 44), scan(2, 42)]
    found = shared({"source": parts}, "noise2inverse")
    first, *others = found.volumes["source"]
    assert first.shape == (24, 36, 48)
    assert all(np.array_equal(values(first), values(other)) for other in others)


def test_scans_that_agree_or_state_no_position_are_unchanged() -> None:
    one, other = scan(0, 40), scan(0, 40)
    unknown = scan(8, 48).replace(metadata={"origin_unknown": True})
    for target in (other, unknown):
        found = shared({"source": [one], "target": [target]})
        assert not found.notes
        assert found.volumes["target"][0] is target


def test_the_preview_shows_the_chosen_slice() -> None:
    """Counted in the source; outside the region, the nearest slice is shown."""
    source, target = scan(0, 20, axis=0), scan(6, 24, axis=0)
    found = shared({"source": [source], "target": [target]})
    assert [found.used_slice(z) for z in (None, 10, 2, 19)] == [None, 4, 0, 13]
    assert np.array_equal(values(found.volumes["source"][0])[4], values(source)[10])
