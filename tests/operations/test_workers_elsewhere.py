"""Workers that cannot access a copy of the input raise an error, not compute zeros."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import tifffile
import zarr

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.core.array_parts.selection import Selection
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.shared_array import mark_as_copy
from napari_geosr.measure import blocks, consistency
from napari_geosr.operations.cluster import worker_settings
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.nodes import workers_on_nodes
from napari_geosr.operations.cluster.shared_folders import (
    FOLDERS_OF_JOBS,
    folder_for_copies,
)

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")
nanny = pytest.importorskip("distributed.nanny")

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
    copied = array_for_workers(data, shared)
    other = array_for_workers(np.zeros_like(data), shared)
    pickled = pickle.dumps(copied)
    np.testing.assert_array_equal(pickle.loads(pickled)[:], data)
    one, two = (array.path for array in (copied, other))  # type: ignore[attr-defined]
    shutil.rmtree(one)
    with pytest.raises(FileError, match="can no longer be read"):
        copied[0]
    shutil.copytree(two, one)
    with pytest.raises(FileError, match="NAPARI_GEOSR_SHARED_FOLDER"):
        pickle.loads(pickled)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("is_set", [True, False])
def test_a_copy_that_cannot_be_written_is_not_called_the_result(
    tmp_path: Path, shared: Path, is_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    if not is_set:
        monkeypatch.delenv("NAPARI_GEOSR_SHARED_FOLDER")
    path = tmp_path / "scan.tif"
    rng = np.random.default_rng(0)
    tifffile.imwrite(path, rng.integers(0, 60_000, (16, 128, 128), np.uint16))
    scan = geosr.read(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(FileError) as said:
            array_for_workers(scan.data, folder_for_copies(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = shared if is_set else tmp_path / "cache" / "napari-geosr" / "copies"
    assert str(said.value) == (
        "The temporary copy of the input for the workers could not be written: it "
        f"would exceed the maximum file size in {folder}. Set "
        "NAPARI_GEOSR_SHARED_FOLDER to a folder on another disk, or raise the limit of "
        "the account or batch job (ulimit -f)."
    )
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, r"the disk of .* is full\. Free some space or choose a folder"),
        (errno.EDQUOT, r"is used up\. Delete some .*, or choose a folder for the job"),
    ],
)
def test_a_full_disk_of_a_job_names_the_option_for_its_folder(
    client: Client,
    tmp_path: Path,
    code: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setitem(FOLDERS_OF_JOBS, client, tmp_path)
    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(FileError, match=rf"input .*{reason}.*\(--job-folder\)\.$"):
        array_for_workers(np.ones((2, 3)), folder_for_copies(client))


def test_an_array_that_cannot_be_read_is_not_a_copy_that_cannot_be_written() -> None:
    class Disconnected:
        shape, dtype = SHAPE, np.dtype(np.float32)

        def __getitem__(self, key: object) -> np.ndarray:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        array_for_workers(Disconnected())  # type: ignore[arg-type]


def test_arrays_of_the_user_are_checked_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "mine.zarr"
    data = np.arange(48.0).reshape(3, 4, 4)
    mine = zarr.create_array(path, data=data)
    rows = Selection(mine, np.array([2, 0]), (1, 3))
    arrays = [array_for_workers(array) for array in (mine, rows)]
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
        copied = array_for_workers(np.ones((2, 3)), folder)
        assert len(list(folder.glob(".copy.*.zarr"))) == 1
        del copied
        assert not list(folder.glob(".copy.*.zarr"))
    assert not any(job.iterdir())


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        # as in a thread that reads while the queue is closed
        (TypeError("'NoneType' object cannot be interpreted as an integer"), False),
        (EOFError(), True),  # the process that started the worker has died
    ],
)
def test_the_end_of_a_worker_is_no_error_in_the_log(
    client: Client,
    volume: Volume,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    is_kept: bool,
) -> None:
    measure(volume, client)
    caplog.clear()
    try:
        raise error
    except (TypeError, EOFError):
        # The worker of this client runs in this process.
        nanny.logger.exception("Worker process died unexpectedly")
    nanny.logger.error("Worker failed to start")
    messages = [record.getMessage() for record in caplog.records]
    kept = ["Worker process died unexpectedly"] if is_kept else []
    assert messages == [*kept, "Worker failed to start"]


def test_dask_logs_the_end_of_a_worker_under_the_expected_name() -> None:
    source = Path(nanny.__file__).read_text(encoding="utf-8")
    assert 'logger.exception("Worker process died unexpectedly")' in source
    assert nanny.logger.name == "distributed.nanny"
