"""BM3D and BM4D for ``bench_methods.py``, in a separate environment.

Their licence does not allow commercial use, so napari-geosr neither needs nor imports
them: this file is run by another Python with only numpy, bm3d and bm4d.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: Noise levels to try, relative to the true one; the best is chosen by ground truth.
STRENGTHS = (0.8, 1.0, 1.25, 1.6)
CROP = (slice(8, 16), slice(32, 96), slice(32, 96))


def block_matching(python: Path, **data: Any) -> list[dict[str, Any]]:
    """Run this file with another Python.

    Parameters
    ----------
    python : Path
        Python of an environment with ``pip install bm3d bm4d "numpy<2.4"``.
    **data
        ``noisy`` and ``clean`` for tuning, ``noise`` (another scan minus the first)
        and ``test``: arrays (Z, Y, X); ``sd`` of the noise; ``correlated``: whether to
        try BM4D with the noise spectrum as well.

    Returns
    -------
    list of dict
        ``method``, ``volume`` and ``seconds``.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "result.npz"
        np.savez(given, **data)
        subprocess.run(
            [str(python), __file__, str(given), str(result)],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        found = np.load(result)
        rows = json.loads(str(found["rows"]))
        return [row | {"volume": found[f"volume{i}"]} for i, row in enumerate(rows)]


def _spectrum(noise: Any, shape: tuple[int, ...]) -> Any:
    """Power spectrum of noise that is independent between slices, for a given shape."""
    n_slices, rows, columns = shape
    n = (
        noise[:, :rows, :columns]
        - noise[:, :rows, :columns].mean((1, 2))[:, None, None]
    )
    power = (np.abs(np.fft.fft2(n)) ** 2).mean(0)
    return np.broadcast_to(n_slices * power, shape).copy()


def _methods(data: Mapping[str, Any]) -> dict[str, Callable[[Any, float], Any]]:
    from bm3d import bm3d
    from bm4d import bm4d

    sd = float(data["sd"])

    def planes(volume: Any, strength: float) -> Any:
        return np.stack([np.squeeze(bm3d(z, strength * sd)) for z in volume])

    def volumes(volume: Any, strength: float) -> Any:
        return bm4d(volume, strength * sd)

    def coloured(volume: Any, strength: float) -> Any:
        return bm4d(volume, strength**2 * _spectrum(data["noise"], volume.shape))

    found = {"BM3D (plane by plane)": planes, "BM4D": volumes}
    if data["correlated"]:
        found["BM4D (noise spectrum)"] = coloured
    return found


def main(given: str, result: str) -> None:
    """Tune on a crop with known ground truth, then restore the test volume."""
    data = {k: v.astype(float) for k, v in np.load(given).items()}
    noisy, clean = data["noisy"][CROP], data["clean"][CROP]
    rows, volumes = [], {}
    for name, run in _methods(data).items():
        errors = [((run(noisy, s) - clean) ** 2).mean() for s in STRENGTHS]
        best = STRENGTHS[int(np.argmin(errors))]
        began = time.process_time()
        volume = run(data["test"], best)
        seconds = time.process_time() - began
        volumes[f"volume{len(rows)}"] = np.asarray(volume, np.float32)
        rows.append({"method": f"{name} {best:g}", "seconds": seconds})
    np.savez(result, rows=json.dumps(rows), **volumes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
