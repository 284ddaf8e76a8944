"""A process that reads damaged files: it may crash, hang or request too much memory."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

#: Reads each file that it is given: opens it, reads its first and last voxels, and all
#: voxels if there are few. It may use 1 GiB more than at the start.
_READER = """
import json, math, resource, sys, traceback
import dask, h5py, imagecodecs, numpy as np, tifffile, zarr
import zarr.codecs, zarr.core.array, imagecodecs.imagecodecs
from napari_geosr import io
from napari_geosr.core.errors import GeoSRError
from napari_geosr.io.formats import ReadOptions, format_of
from napari_geosr.io.projections import read_projections
from pathlib import Path

dask.config.set(scheduler="synchronous")
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, taken + 2**30))


def corners(volume):
    n = volume.nbytes
    if n <= 1 << 24:
        whole = np.asarray(volume.data)
        assert whole.shape == volume.shape and whole.dtype == volume.dtype
        assert whole.dtype.kind in "biuf", whole.dtype
    for key in (0, -1):
        one = np.asarray(volume.data[(slice(key, None if key else 1),) * volume.ndim])
        assert one.size == 1
    assert all(math.isfinite(v) and v > 0 for v in volume.voxel_size)
    assert all(math.isfinite(v) for v in volume.origin)
    repr(volume)


def attempt(action, found):
    try:
        action()
        found["read"] += 1
    except GeoSRError as error:
        said = str(error)
        found["said"].append(said)
        if "Error(" in said or "Traceback" in said or not said.endswith((".", "?")):
            found["faults"].append("no sentence: " + said)
    except BaseException:
        found["faults"].append(traceback.format_exc())


def levels(path):
    for volume in format_of(path).read_levels(path):
        assert volume.ndim == len(volume.shape)


for line in sys.stdin:
    path = Path(json.loads(line))
    found = {"read": 0, "said": [], "faults": []}
    attempt(lambda: corners(io.read(path)), found)
    if path.suffix == ".zarr":
        attempt(lambda: levels(path), found)
    if path.suffix == ".h5":
        attempt(lambda: read_projections(path), found)
    print(json.dumps(found), flush=True)
"""


class ReadingProcess:
    """Reads files in a separate process, which is restarted after a crash."""

    def __init__(self, patience: float = 30.0) -> None:
        self.patience = patience
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", _READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def faults(self, path: Path) -> list[str]:
        """Read a file; return any failure other than an error message."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], self.patience)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return list(json.loads(line)["faults"])
        self._process.kill()
        _, said = self._process.communicate()
        code = self._process.returncode
        self._start()
        if not ready:
            return [f"it hung for {self.patience:g} s"]
        return [f"the process died ({code}): {said[-3000:]}"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
