"""Reports on noise that is not uniform, or that cannot be measured.

    python benchmarks/bench_unusual_noise.py [--data ../shared/data]
        [--out docs/evidence/unusual_noise.md]

Noise is added to crops of real volumes and to simulated volumes: in single slices, in
single voxels, in one half only, and so smooth that it resembles structure. Noisy scans
are also smoothed. For comparison, uniform noise is added everywhere.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from _document import replace_section
from bench_noise_estimation import ROOT, structures
from napari_geosr import measure_porosity
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.measure.noise.anomalies import SLICE
from napari_geosr.measure.noise.remarks import POSITION

Array = npt.NDArray[np.float64]
VOLUMES = ("bone", "cement", "Berea sandstone", "simulated foam 0", "blobs")
#: Beginning of the sentence on zingers.
_OUTLIERS = "single voxels far outside"
#: Numbers of the slices with more noise.
_BAD = ((12,), (5, 15, 16))


@dataclass
class Scan:
    """A crop without added noise, and its contrast."""

    name: str
    clean: Array
    contrast: float

    def noise(self, seed: int, blur: float = 0.0) -> Array:
        """Noise of standard deviation 1, blurred by a Gaussian of `blur` voxels."""
        values = np.random.default_rng(seed).standard_normal(self.clean.shape)
        values = ndimage.gaussian_filter(values, blur)
        return np.asarray(values / values.std())

    def with_noise(self, level: float, seed: int, blur: float = 0.0) -> Array:
        """Return the scan with noise of this level, as a fraction of the contrast."""
        return self.clean + level * self.contrast * self.noise(seed, blur)


def scans(folder: Path) -> Iterator[Scan]:
    """Yield crops of real volumes, and simulated volumes."""
    for name, made in structures(folder).items():
        if name in VOLUMES:
            clean = np.asarray(made(), np.float64)[:64, :96, :96]
            contrast = float(np.subtract(*np.percentile(clean, (98, 2))))
            yield Scan(name, clean, contrast)


def estimated(values: Array) -> Noise:
    """Estimate the noise of an array."""
    return estimate_noise(Volume(values.astype(np.float32), "ZYX"))


def says(noise: Noise, words: str) -> bool:
    """Whether one of the cautions contains these words."""
    return any(words in text for text in noise.doubts)


class Counts:
    """Number of cases of each kind that have the expected outcome."""

    def __init__(self) -> None:
        self.right: dict[str, list[bool]] = {}

    def add(self, kind: str, is_right: bool) -> None:
        """Count one case."""
        self.right.setdefault(kind, []).append(is_right)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table."""
        yield "| case | expected | as expected |"
        yield "|---|---|---|"
        for kind, found in self.right.items():
            yield f"| {kind} | {sum(found)} of {len(found)} |"


def parts(scan: Scan, counts: Counts) -> None:
    """Count reports on noise in single slices, in single voxels, and in one half."""
    for blur in (0.0, 0.6):
        unit = scan.noise(1, blur)
        for bad in _BAD:
            for factor in (3.0, 6.0):
                levels = np.full((len(scan.clean), 1, 1), 0.05)
                levels[list(bad)] *= factor
                found = estimated(scan.clean + scan.contrast * levels * unit)
                kind = (
                    f"{factor:g} times the noise in one or three slices | slices named"
                )
                counts.add(kind, says(found, SLICE))
        for axis in (0, 2):
            half = np.indices(scan.clean.shape)[axis] >= scan.clean.shape[axis] // 2
            found = estimated(scan.clean + 0.2 * scan.contrast * half * unit)
            counts.add(
                "20 % in one half, none in the other | reported",
                says(found, POSITION),
            )
    rng = np.random.default_rng(2)
    for share in (5e-4, 3e-3):
        for size in (5.0, 30.0):
            values = scan.with_noise(0.03, 1)
            usual = estimated(values)
            hits = rng.random(values.shape) < share
            values[hits] += size * scan.contrast * rng.random(int(hits.sum()))
            found = estimated(values)
            counts.add(
                "zingers (0.05 %, 0.3 %; up to 5 or 30 times the contrast) | reported",
                says(found, _OUTLIERS),
            )
            counts.add(
                "the same zingers | level and contrast within 15 %",
                abs(found.level / usual.level - 1) < 0.15
                and abs(found.contrast / usual.contrast - 1) < 0.15,
            )


def equal(scan: Scan, counts: Counts) -> None:
    """Count scans with uniform noise for which no anomaly is reported."""
    for level in (0.0, 0.02, 0.05, 0.2):
        for blur in (0.0, 0.6):
            found = estimated(scan.with_noise(level, 5, blur))
            told = any(says(found, words) for words in (POSITION, SLICE, _OUTLIERS))
            counts.add("uniform noise (0 to 20 %) | none of these reported", not told)


def filtered(scan: Scan, counts: Counts) -> None:
    """Count correct or doubted levels of noise that was smoothed after the scan."""
    if estimated(scan.clean).level > 0:
        return  # the noise of the volume itself would be smoothed, too
    for level in (0.1, 0.3):
        noisy = scan.with_noise(level, 3)
        for width in (0.7, 1.0, 1.2, 1.5, 2.0):
            values = ndimage.gaussian_filter(noisy, width)
            clean = ndimage.gaussian_filter(scan.clean, width)
            kind = f"noise smoothed by {width:g} voxel{'s' * (width != 1)}"
            _judge(kind, values, float((values - clean).std()), counts)


def _judge(kind: str, values: Array, true: float, counts: Counts) -> None:
    """Count a case if its level is right, or is reported as unknown or doubtful."""
    found = estimated(values)
    is_doubted = bool(found.doubts) or not found.is_measured
    is_right = abs(found.level / true - 1) < 0.3
    is_limit = found.level == 0 and found.bound * found.contrast > 0.8 * true
    counts.add(
        f"{kind} | correct to within 30 %, not measurable, or with a caution",
        is_doubted or is_right or is_limit,
    )


def smooth(scan: Scan) -> Iterator[str]:
    """Yield the lines of the table on noise as smooth as structure."""
    for width in (1.3, 2.0, 3.0):
        for level in (0.1, 0.3):
            values = scan.with_noise(level, 4, width).astype(np.float32)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = measure_porosity(Volume(values, "ZYX", (1.0,) * 3, "µm"))
            truth = scan.clean <= report.threshold
            wrong = float(((values <= report.threshold) != truth).mean())
            found = report.noise
            assert found is not None
            share, said = found.misclassified, "expected"
            if found.possible is not None:
                share, said = found.possible, "possible"
            stated = "–" if share is None else f"{100 * share.share:.1f} % ({said})"
            told = any("wrong side of the threshold" in one for one in report.warnings)
            yield (
                f"| {scan.name} | {width:g} | {100 * level:.0f} % "
                f"| {100 * wrong:.1f} % | {stated} | {'yes' if told else 'no'} |"
            )


def main() -> None:
    """Print both tables, and write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, help="page to write the tables into")
    given = parser.parse_args()
    counts = Counts()
    lines = [
        "| volume | smoothness (voxels) | level | misclassified | stated | warning |",
        "|---|---|---|---|---|---|",
    ]
    for scan in scans(given.data):
        parts(scan, counts)
        equal(scan, counts)
        filtered(scan, counts)
        lines += smooth(scan)
        print(scan.name, scan.clean.shape, flush=True)
    tables = {"cases": "\n".join(counts.lines()), "smooth noise": "\n".join(lines)}
    for name, text in tables.items():
        print(text, flush=True)
        if given.out is not None:
            replace_section(given.out, name, text)


if __name__ == "__main__":
    main()
