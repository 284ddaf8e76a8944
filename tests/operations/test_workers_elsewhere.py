"""Workers that cannot access a copy of the input raise an error, not compute zeros."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import zarr

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.core.array_parts.selection import Selection
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.shared_array import mark_as_copy
from napari_geosr.measure import blocks, consistency
from napari_geosr.operations import storage
from napari_geosr.operations.cluster import worker_settings
from napari_geosr.operations.cluster.nodes import workers_on_nodes
from napari_geosr.operations.cluster.shared_folders import folder_for_copies

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")

SHAPE = (24, 32, 32)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A worker in this process, which needs no time to start."""
    with (
        dask.config.set(worker_settings(1)),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            silence_logs=60,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user has set; the volume has several slabs and boxes."""
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 8 * 32 * 32)
    monkeypatch.setattr(consistency, "_SHARED_EDGE", 16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_geosr.operations.reconstruct.workers._SENT_BYTES", 0)
    folder = tmp_path / "shared"
    monkeypatch.setenv("NAPARI_GEOSR_SHARED_FOLDER", str(folder))
    return folder


@pytest.mark.parametrize("dtype", [">u2", "<f4", "u1"])
def test_a_copy_is_recognised_with_any_byte_order(tmp_path: Path, dtype: str) -> None:
    data = np.arange(64, dtype=dtype).reshape(4, 4, 4)
    array = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(2, 2, 2))
    reopened = pickle.loads(pickle.dumps(mark_as_copy(array)))
    np.testing.assert_array_equal(reopened, data)


@pytest.fixture
def volume(rng: np.random.Generator) -> Volume:
    data = rng.normal(100, 4, SHAPE).astype(np.float32)
    data[5:20, 8:20, 10:24] -= 60
    return Volume(data, "ZYX", (1.0, 1.0, 1.0), "µm")


def measure(volume: Volume, workers: Any) -> object:
    return geosr.measure_porosity(volume, workers=workers).porosity


def measure_in_mask(volume: Volume, workers: Any) -> object:
    mask = volume.replace(data=np.ones(SHAPE, np.uint8))
    return geosr.measure_porosity(volume, mask=mask, workers=workers).porosity


def restore(volume: Volume, workers: Any) -> object:
    found = geosr.restore(volume, "gaussian", workers=workers)
    return float(np.asarray(found.data).mean())


def check(volume: Volume, workers: Any) -> object:
    smooth = volume.replace(data=np.round(np.asarray(volume.data), -1))
    return geosr.check_consistency(volume, smooth, workers=workers).figures.residual_rms


def reconstruct(volume: Volume, workers: Any) -> object:
    counts = 1000 * np.exp(-np.asarray(volume.data).swapaxes(0, 1) / 100)
    scan = geosr.Projections(counts, np.linspace(0, 180, SHAPE[1], endpoint=False))
    found = geosr.reconstruct(scan, workers=workers)
    return float(np.asarray(found.data).mean())


@pytest.mark.parametrize(
    "operation", [measure, measure_in_mask, restore, check, reconstruct]
)
def test_a_worker_that_cannot_see_the_copy_says_so(
    client: Client,
    volume: Volume,
    shared: Path,
    operation: Callable[[Volume, Any], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert operation(volume, client) == pytest.approx(operation(volume, None))
    assert shared.is_dir()
    assert not any(shared.iterdir())
    opened = zarr.open_array

    def elsewhere(path: Path, *given: Any, **more: Any) -> Any:
        """Another computer has nothing under the path of a copy."""
        if Path(path).is_relative_to(shared):
            path = path.with_name("missing.zarr")
        return opened(path, *given, **more)

    monkeypatch.setattr(zarr, "open_array", elsewhere)
    with pytest.raises(FileError, match=r"The worker on .* cannot access .*shared\."):
        operation(volume, client)


def test_a_copy_is_recognised_after_it_was_replaced(shared: Path) -> None:
    data = np.arange(48.0).reshape(3, 4, 4)
    copied = storage.array_for_workers(data, shared)
    other = storage.array_for_workers(np.zeros_like(data), shared)
    pickled = pickle.dumps(copied)
    np.testing.assert_array_equal(pickle.loads(pickled)[:], data)
    one, two = (array.path for array in (copied, other))  # type: ignore[attr-defined]
    shutil.rmtree(one)
    with pytest.raises(FileError, match="can no longer be read"):
        copied[0]
    shutil.copytree(two, one)
    with pytest.raises(FileError, match="NAPARI_GEOSR_SHARED_FOLDER"):
        pickle.loads(pickled)


def test_arrays_of_the_user_are_checked_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "mine.zarr"
    data = np.arange(48.0).reshape(3, 4, 4)
    mine = zarr.create_array(path, data=data)
    rows = Selection(mine, np.array([2, 0]), (1, 3))
    arrays = [storage.array_for_workers(array) for array in (mine, rows)]
    pickled = [pickle.dumps(array) for array in arrays]
    np.testing.assert_array_equal(pickle.loads(pickled[0])[:], data)
    np.testing.assert_array_equal(pickle.loads(pickled[1])[:], data[[2, 0], 1:3])
    path.rename(tmp_path / "moved.zarr")
    for each in pickled:
        with pytest.raises(FileError, match=r"cannot access .*mine\.zarr"):
            pickle.loads(each)


def test_a_zarr_that_disappears_is_not_read_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "scan.zarr"
    zarr.create_array(path, data=np.ones(SHAPE), chunks=(8, 32, 32))
    data = io.read(path).data
    assert np.asarray(data[0]).all()
    path.rename(tmp_path / "moved.zarr")
    with pytest.raises(FileError, match=r"scan\.zarr can no longer be read"):
        data[20]


def test_copies_for_several_nodes_are_in_the_folder_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_geosr.operations.cluster.nodes._wait_for_workers", lambda *_: None
    )
    job = tmp_path / "scan.job"
    job.mkdir()
    with workers_on_nodes(job, lambda *_: [], 1, 1, lambda: False) as client:
        folder = folder_for_copies(client)
        assert folder is not None
        assert folder.parent == job
        copied = storage.array_for_workers(np.ones((2, 3)), folder)
        assert len(list(folder.glob(".copy.*.zarr"))) == 1
        del copied
        assert not list(folder.glob(".copy.*.zarr"))
    assert not any(job.iterdir())
