"""Accuracy of the measured noise, for known noise added to known structures.

    python benchmarks/bench_noise_estimation.py [--quick] [--out docs/evidence/noise.md]
        [--data ../shared/data] [--pairs ../shared/real_pairs] [--only NAME]

Real volumes are crops of 48 × 128 × 128 voxels. Noise levels are relative to the
contrast (2nd to 98th percentile). Cement contains noise, so only added noise of 10 % or
more is evaluated. Pairs consist of one exposure and the mean of 400, evaluated by grey
value; ``--only pairs`` measures only these.
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

from _document import replace_section
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.simulated import KINDS

Array = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
SHAPE = (32, 96, 96)
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
#: Standard deviations of a Gaussian along Z, Y and X in voxels.
WIDTHS = {
    "independent": (0.0, 0.0, 0.0),
    "in the plane": (0.0, 0.7, 0.7),
    "in 3D, weakly": (0.5, 0.5, 0.5),
    "in 3D": (0.8, 0.8, 0.8),
}
RECONSTRUCTED = "reconstruction"
QUICK = ("independent", "in 3D")
#: Quantiles of the grey values between which the noise of a pair is compared.
CLASSES = ((0.0, 0.5), (0.5, 0.9), (0.9, 0.98), (0.98, 1.0))


def gyroid() -> Array:
    """Walls three voxels thick everywhere, without any uniform region."""
    z, y, x = 2 * np.pi / 8.7 * np.indices(SHAPE)
    field = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    return ndimage.gaussian_filter((field > 0).astype(float), 0.6)


def blobs(seed: int) -> Array:
    """Two phases separated by winding borders."""
    field = np.random.default_rng(seed).normal(size=SHAPE)
    phase = ndimage.gaussian_filter(field, 4.0, mode="wrap") > 0
    return ndimage.gaussian_filter(phase.astype(float), 0.6)


def grained(seed: int) -> Array:
    """Two phases, one of them with a smooth texture of 10 % of the contrast."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0, mode="wrap")
    phase = blobs(seed)
    return phase + 0.1 * texture / texture.std() * phase


def simulated(kind: str, number: int) -> Callable[[], Array]:
    """Return the noise-free version of a simulated scan."""
    return lambda: KINDS[kind].versions(number)[-1].astype(np.float64)


def structures(data: Path) -> dict[str, Callable[[], Array]]:
    """Structures by name; real ones only if their files exist."""
    found: dict[str, Callable[[], Array]] = {
        "simulated CT 0": simulated("ct-scan", 0),
        "simulated CT 3": simulated("ct-scan", 3),
        "simulated foam 0": simulated("foam-scan", 0),
        "simulated fluorescence 1": simulated("fluo", 1),
        "blobs": lambda: blobs(1),
        "grained blobs": lambda: grained(2),
        "gyroid": gyroid,
    }
    folder = data / "ct_volumes"
    crop = (slice(40, 88), slice(0, 128), slice(0, 128))
    for name in ("bone", "cement"):
        path = folder / f"{name}_128x128x128.tif"
        if path.exists():
            found[name] = lambda path=path: tifffile.imread(path)[crop].astype(float)
    if (folder / "berea.zip").exists():
        found["Berea sandstone"] = lambda: berea(folder / "berea.zip")
        for n in (2, 3, 4):
            found[f"Berea averaged × {n}"] = lambda n=n: coarse_berea(
                folder / "berea.zip", n
            )
    return found


def berea(path: Path) -> Array:
    """Return the segmented rock, blurred like a scan."""
    rock = rock_of(path)
    return ndimage.gaussian_filter(rock[100:148, 100:228, 100:228].astype(float), 0.7)


def coarse_berea(path: Path, n: int) -> Array:
    """Return the segmented rock, averaged over blocks of n × n × n voxels."""
    rock = rock_of(path)[: 48 * n, : 96 * n, : 96 * n].astype(float)
    return rock.reshape(48, n, 96, n, 96, n).mean((1, 3, 5))


def rock_of(path: Path) -> npt.NDArray[np.uint8]:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".tif"))
        found: npt.NDArray[np.uint8] = tifffile.imread(io.BytesIO(archive.read(name)))
    return found


def noise_of(kind: str, shape: tuple[int, ...], seed: int) -> Array:
    """Noise with a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    if kind == RECONSTRUCTED:
        made = reconstruction_noise((shape[0], shape[1], shape[2]), 1.0, rng)
        noise = made.astype(np.float64)
    else:
        noise = ndimage.gaussian_filter(rng.normal(size=shape), WIDTHS[kind])
    return np.asarray(noise / noise.std())


def lags(noise: Array) -> dict[str, float]:
    """Return the true correlation of neighbouring voxels along each axis."""
    found = {}
    for axis, name in enumerate("zyx"):
        moved = np.moveaxis(noise, axis, 0)
        found[name] = float((moved[1:] * moved[:-1]).mean())
    return found


def measure(scan: Array) -> tuple[Noise, float]:
    """Return the measured noise, and the time taken in seconds."""
    start = time.perf_counter()
    axes = "ZYX" if scan.ndim == 3 else "YX"
    found = estimate_noise(Volume(scan.astype(np.float32), axes))
    return found, time.perf_counter() - start


def rows(name: str, clean: Array, kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of the table for one structure."""
    low, high = np.percentile(clean, (2, 98))
    contrast = float(high - low)
    as_it_is, _ = measure(clean)
    said = f"{as_it_is.level / contrast:.1%}" if as_it_is.level else "0"
    said += f" (≤ {as_it_is.interval[1] / contrast:.1%})"
    own = as_it_is.level / contrast if name == "cement" else 0.0
    for kind in kinds:
        errors, held, correlation, contrasts, missed = [], [], [], [], 0
        for level in LEVELS:
            if own and level < 0.1:
                continue
            noise = noise_of(kind, clean.shape, seed=7)
            found, _ = measure(clean + level * contrast * noise)
            true = contrast * float(np.hypot(level, own))
            contrasts.append(found.contrast / contrast - 1)
            held.append(found.interval[0] <= true <= found.interval[1])
            if found.level == 0:
                missed += 1
                continue
            errors.append(found.level / true - 1)
            wrong = [abs(found.correlation[a] - r) for a, r in lags(noise).items()]
            correlation.append(max(wrong))
        shown = ["–"] * 3
        if errors:
            worst = max(errors, key=abs)
            shown[0] = f"{np.mean(np.abs(errors)):.1%} / {worst:+.0%}"
            shown[1] = f"{max(correlation):.2f}"
            shown[2] = f"{max(contrasts, key=abs):+.0%}"
        yield (
            f"| {name} | {said} | {kind} | {shown[0]} | {shown[1]} | {shown[2]} "
            f"| {sum(held)} of {len(held)} | {missed or ''} |"
        )
        said = ""


def pairs(folder: Path) -> Iterator[str]:
    """Lines of real exposures: estimated noise, compared with the mean of 400."""
    for noisy in sorted(folder.glob("*/input_avg1_*.tif")):
        clean = noisy.with_name(noisy.name.replace("input_avg1", "target_avg400"))
        one, mean = (np.asarray(tifffile.imread(p), np.float64) for p in (noisy, clean))
        gain, offset = np.polyfit(mean.ravel(), one.ravel(), 1)
        true = gain * mean + offset
        found, _ = measure(one)
        shown = []
        for quantiles in CLASSES:
            low, high = np.quantile(true, quantiles)
            inside = (true >= low) & (true <= high)
            level = (one - true)[inside].std()
            told = float(np.sqrt(np.square(found.at(true[inside])).mean()))
            clipped = np.mean(one[inside] >= one.max())
            shown.append(f"{told / level - 1:+.0%} ({clipped:.0%})")
        name = noisy.stem.removeprefix("input_avg1_")
        yield (
            f"| {name} | {(one - true).std():.2f} | {found.level:.2f} "
            f"({found.interval[0]:.2f} – {found.interval[1]:.2f}) | "
            + " | ".join(shown)
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only two kinds of noise")
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--pairs", type=Path, default=ROOT.parent / "shared/real_pairs")
    parser.add_argument(
        "--only", default="", help="only structures with this text in their name"
    )
    arguments = parser.parse_args()
    kinds = QUICK if arguments.quick else (*WIDTHS, RECONSTRUCTED)
    lines = [
        "| structure | own noise | noise added | level: mean / worst error "
        "| correlation: worst error | contrast: worst error | in interval "
        "| missed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name, made in structures(arguments.data).items():
        if arguments.only in name:
            for line in rows(name, made(), kinds):
                print(line, flush=True)
                lines.append(line)
    compared = [
        "| image | true level | measured level (interval) "
        "| darkest 50 %: error (clipped) "
        "| 50 to 90 % | 90 to 98 % | brightest 2 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in pairs(arguments.pairs):
        print(line, flush=True)
        compared.append(line)
    if arguments.out:
        if arguments.only != "pairs":
            replace_section(arguments.out, "noise estimation", "\n".join(lines))
        replace_section(arguments.out, "real pairs", "\n".join(compared))


if __name__ == "__main__":
    main()
