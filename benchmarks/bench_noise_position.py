"""Detection of noise that depends on the position, and its measured strength.

    python benchmarks/bench_noise_position.py [--data ../shared/data]
        [--out docs/evidence/noise.md]

Noise with a level that depends on the position is added to crops of real volumes. For
comparison, uniform noise is added to the same volumes and to
all structures of ``bench_noise_estimation.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from _document import replace_section
from bench_noise_estimation import (
    LEVELS,
    RECONSTRUCTED,
    ROOT,
    WIDTHS,
    measure,
    noise_of,
    structures,
)
from napari_geosr.measure.noise.remarks import POSITION

Array = npt.NDArray[np.float64]
VOLUMES = ("bone", "cement", "Berea sandstone")


def ramp(low: float, high: float) -> Callable[[tuple[int, ...]], Array]:
    """Noise that increases along Y."""

    def made(shape: tuple[int, ...]) -> Array:
        along = np.linspace(low, high, shape[1])[:, None]
        return np.broadcast_to(along, shape)

    return made


def towards_corners(low: float, high: float) -> Callable[[tuple[int, ...]], Array]:
    """Noise that increases with the squared distance from the axis of the volume."""

    def made(shape: tuple[int, ...]) -> Array:
        y, x = np.ogrid[: shape[1], : shape[2]]
        middle = (shape[1] - 1) / 2, (shape[2] - 1) / 2
        squared = (y - middle[0]) ** 2 + (x - middle[1]) ** 2
        return np.broadcast_to(low + (high - low) * squared / squared.max(), shape)

    return made


def halves(low: float, high: float) -> Callable[[tuple[int, ...]], Array]:
    """Two exposures, each in one half of the volume."""

    def made(shape: tuple[int, ...]) -> Array:
        is_first = np.arange(shape[2]) < shape[2] // 2
        return np.broadcast_to(np.where(is_first, low, high), shape)

    return made


CASES = {
    "5 to 10 % along Y": ramp(0.05, 0.1),
    "5 to 25 % along Y": ramp(0.05, 0.25),
    "3 %, increasing to 30 % in the corners": towards_corners(0.03, 0.3),
    "5 % in one half, 20 % in the other": halves(0.05, 0.2),
}


def rows(name: str, clean: Array) -> Iterator[str]:
    """Yield the lines of the table for one volume."""
    contrast = float(np.subtract(*np.percentile(clean, (98, 2))))
    own = measure(clean)[0].level / contrast
    for case, made in CASES.items():
        levels = made(clean.shape)
        for kind in ("independent", "in 3D"):
            noise = noise_of(kind, clean.shape, seed=7)
            found, _ = measure(clean + contrast * levels * noise)
            is_said = any(text.startswith(POSITION) for text in found.doubts)
            low, high = (np.hypot(own, end) for end in (levels.min(), levels.max()))
            unit = contrast / 100
            yield (
                f"| {name} | {case} | {kind} | {100 * low:.1f} – {100 * high:.1f} % "
                f"| {found.level / unit:.1f} % | {found.interval[1] / unit:.1f} % "
                f"| {'yes' if is_said else 'no'} |"
            )


def false_alarms(found: dict[str, Callable[[], Array]]) -> tuple[int, int]:
    """Return the number of false alarms for uniform noise, and the number of scans."""
    alarms = total = 0
    for made in found.values():
        clean = made()
        contrast = float(np.subtract(*np.percentile(clean, (98, 2))))
        for kind in (*WIDTHS, RECONSTRUCTED):
            for level in LEVELS:
                noise = noise_of(kind, clean.shape, seed=7)
                doubts = measure(clean + level * contrast * noise)[0].doubts
                alarms += any(text.startswith(POSITION) for text in doubts)
                total += 1
    return alarms, total


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, help="page to write the table into")
    given = parser.parse_args()
    all_structures = structures(given.data)
    lines = [
        "| volume | noise added | correlation | true level | stated level "
        "| upper end of the interval | dependence reported |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in VOLUMES:
        if name in all_structures:
            lines += rows(name, all_structures[name]())
    print("\n".join(lines), flush=True)
    alarms, total = false_alarms(all_structures)
    lines += [
        "",
        f"In {alarms} of {total} scans with uniform noise, the noise "
        "was reported to depend on the position.",
    ]
    print(lines[-1])
    if given.out is not None:
        replace_section(given.out, "noise by position", "\n".join(lines))


if __name__ == "__main__":
    main()
