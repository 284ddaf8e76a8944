"""Effect of the data-consistency layer on the super-resolution of real volumes.

Real volumes are averaged over 2 and 4 voxels, and noise is added. They are then
super-resolved by cubic interpolation, by the bundled network alone, and by the network
with the data-consistency layer (with the sharpness of the scan, with that of the
network, and with the default, which chooses between them). The noise is measured as in
a restoration, or given with ``--known-noise``. The table contains the PSNR relative to
the real volume (range: 2nd to 98th percentile) and the error of the porosity by Otsu's
threshold, in percentage points. The last columns contain the verdict before the run,
and the choice of ``--model auto`` for this upscale factor. Prints Markdown, or writes
it into a document with ``--out``.

    python benchmarks/bench_sr_consistency.py --data ../shared/data \
        --out docs/evidence/agreement.md

``--family`` selects the models: those that use the noise of the scan (``ct``), or those
for porous materials (``foam``). ``--spread`` prints another table, without noise, in
which the correction is distributed as equal values and along parabolas. ``--gains``
prints how well `upscaling_verdict` predicts the gain over cubic interpolation for known
noise of each kind, with and without the data-consistency layer. ``--rows`` stores its
cases as CSV, so that they are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import io as streams
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch.nn import functional

from _document import replace_section
from napari_geosr import restore
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models import zoo
from napari_geosr.networks import build_network, set_network_noise
from napari_geosr.networks.layers.upsampling import cubic_kernel, interpolated
from napari_geosr.networks.wrappers.consistent import ConsistentUpscaling, Sharpness
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.restore.ranking import RankConfig, rank_steps
from napari_geosr.operations.restore.upscaling.doubtful_noise import undoubted_noise
from napari_geosr.operations.restore.upscaling.sharpness import sharpness_steps
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    MARGIN_ABOVE,
    MARGIN_BELOW,
    upscaling_verdict,
)
from napari_geosr.operations.restore.verdict.steps import verdict_steps
from napari_geosr.physics.correlated_noise import noise_of_scan

Array = npt.NDArray[np.float32]
_GAINS = ("expected", "true")
#: Kinds of noise for ``--gains``: correlation of adjacent voxels (Z, Y, X), white
#: fraction, cutoff.
KINDS: dict[str, tuple[tuple[float, float, float], float, float | None]] = {
    "white": ((0.0, 0.0, 0.0), 1.0, None),
    "blurred": ((0.5, 0.5, 0.5), 0.0, None),
    "half blurred, half white": ((0.35, 0.35, 0.35), 0.5, None),
    "filtered back-projection": ((0.3, 0.42, 0.42), 0.0, 1.0),
}
#: Bundled models by family and upscale factor, and the results shown for each family.
FAMILIES = {
    "ct": {2: "ct-sr-x2", 4: "ct-sr-x4"},
    "foam": {2: "foam-sr-x2", 4: "foam-sr-x4"},
}
HEADS = {
    "ct": ("cubic", "spline", "model"),
    "foam": ("cubic", "spline", "network", "as the scan", "as the object", "auto"),
}


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a scan, as in a restoration."""

    mean: float
    std: float

    input_mean = property(lambda self: self.mean)
    input_std = property(lambda self: self.std)
    output_mean = property(lambda self: self.mean)
    output_std = property(lambda self: self.std)
    hot = property(lambda self: None)
    padding = property(lambda self: None)


class Known(torch.nn.Module):
    """Module that returns a result computed earlier, in place of a network."""

    def __init__(self, spec: Any, result: torch.Tensor) -> None:
        super().__init__()
        self.spec, self.result = spec, result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stored result, whatever the input."""
        return self.result


@dataclass(frozen=True)
class WithoutLayer:
    """Model that restores without the data-consistency layer; only used in trials."""

    model: Any

    card = property(lambda self: self.model.card)

    def restorer(self) -> Any:
        """Return the network without the data-consistency layer."""
        return self.model.network()


@dataclass(frozen=True)
class Case:
    """Expected and true gain over cubic interpolation, in dB."""

    volume: str
    factor: int
    kind: str
    level: float
    layer: bool
    expected: float
    variation: float
    true: float

    @property
    def margins(self) -> tuple[float, float]:
        """Margins (below, above) that, added to the variation, explain the error."""
        away = self.true - self.expected
        needed = float(np.sqrt(max(0.0, away**2 - self.variation**2)))
        return (needed, 0.0) if away < 0 else (0.0, needed)


def real_volumes(data: Path, edge: int) -> Iterator[tuple[str, Array]]:
    """Central parts of the real volumes; percentiles 2 and 98 are scaled to 0 and 1."""
    folder = data / "ct_volumes"
    with zipfile.ZipFile(folder / "berea.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".tif"))
        berea = tifffile.imread(streams.BytesIO(archive.read(name)))
    for name, volume in (
        ("bone", tifffile.imread(folder / "bone_128x128x128.tif")),
        ("cement", tifffile.imread(folder / "cement_128x128x128.tif")),
        ("berea", berea),
    ):
        middle = tuple(
            slice(n // 2 - edge // 2, n // 2 + edge // 2) for n in volume.shape
        )
        values = volume[middle].astype(np.float32)
        if name == "berea":  # segmented, so it is blurred as in a scan
            values = ndimage.gaussian_filter(values, 1.0)
        low, high = np.percentile(values, (2, 98))
        yield name, ((values - low) / (high - low)).astype(np.float32)


def psnr(result: Array, truth: Array) -> float:
    """PSNR in dB; the range is 1."""
    return float(-10 * np.log10(np.square(result - truth, dtype=np.float64).mean()))


def porosity(values: Array) -> float:
    """Return the percentage of voxels below Otsu's threshold."""
    return 100 * float((values < threshold_otsu(values)).mean())


def measured(
    truth: Array, factor: int, level: float, family: str, *, known: bool
) -> tuple[dict[str, Array], str]:
    """Return all results for one scan, and the verdict before the run."""
    fine = torch.from_numpy(truth)[None, None]
    scan = functional.avg_pool3d(fine, factor)[0, 0].numpy()
    rng = np.random.default_rng(0)
    scan = scan + level * rng.standard_normal(scan.shape).astype(np.float32)
    volume = Volume(scan, "ZYX", name="scan")
    measured_noise = Noise(level, 1.0) if known else estimate_noise(volume)
    scale = Scale(float(scan.mean()), float(scan.std()))
    model = zoo.find(FAMILIES[family][factor])
    layer: Any = model.restorer()
    x = torch.from_numpy((scan - scale.mean) / scale.std)[None, None]
    noise = undoubted_noise(measured_noise)
    set_network_noise(layer, noise.standardised(scale.mean, scale.std))
    with torch.inference_mode():
        chosen = run_to_end(sharpness_steps(layer, volume, scale, noise))[0]
        y = model.network()(x)
        kernel = cubic_kernel(factor, 3).float()
        spline = build_network("spline", ndim=3, upscale_factor=factor)
        found = {"cubic": interpolated(x, kernel, factor), "spline": spline(x)}
        found["model" if family == "ct" else "network"] = y
        for name, sharpness in (
            ("as the scan", Sharpness(chosen.excess)),
            ("as the object", Sharpness(chosen.excess, keep=True)),
            ("auto", chosen),
        ):
            if name not in HEADS[family]:
                continue
            made = ConsistentUpscaling(Known(model.network().spec, y))
            set_network_noise(made, noise.standardised(scale.mean, scale.std))
            made.set_sharpness(sharpness)
            found[name] = made(x)
    config = RestoreConfig(model=model.card.name, device="cpu", threads=1)
    prepared = run_to_end(prepare_steps(volume, config, noise=measured_noise))
    settings = RankConfig(upscale_factor=factor, device="cpu", threads=1)
    ranking = run_to_end(rank_steps(volume, settings, noise=measured_noise))
    verdict = run_to_end(verdict_steps(prepared, noise=measured_noise, ranking=ranking))
    assert verdict.gain is not None
    gain, low, high = verdict.gain
    said = (
        f"{gain:+.1f} ({low:+.1f} … {high:+.1f}) | {verdict.level} | {ranking.choice}"
    )
    if family == "foam":
        sharp = "object" if chosen.keep else "scan"
        said = f"{sharp}, {chosen.excess:.2f} | {said}"
    results = {k: v[0, 0].numpy() * scale.std + scale.mean for k, v in found.items()}
    best = restore(volume, ranking.choice, device="cpu", threads=1)
    results["best"] = np.asarray(best.data, np.float32)
    return results, said


def table(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the main table."""
    heads = HEADS[args.family]
    choice = "choice | " if args.family == "foam" else ""
    yield (
        "| volume | × | noise | "
        + " | ".join(heads)
        + f" | {choice}expected gain | verdict | `--model auto` |"
    )
    yield "|" + "---|" * (6 + len(heads) + bool(choice))
    gains, expected, chosen = [], [], []
    for name, truth in real_volumes(args.data, args.edge):
        for factor in args.factors:
            for level in args.noise:
                results, said = measured(
                    truth, factor, level, args.family, known=args.known_noise
                )
                right = porosity(truth)
                cells = [
                    f"{psnr(results[h], truth):.1f} dB, "
                    f"{porosity(results[h]) - right:+.1f}"
                    for h in heads
                ]
                off = {k: abs(porosity(v) - right) for k, v in results.items()}
                chosen.append(
                    (
                        psnr(results["best"], truth) - psnr(results["cubic"], truth),
                        off["best"] - off["cubic"],
                    )
                )
                if level:
                    gains.append(
                        psnr(results[heads[-1]], truth) - psnr(results["cubic"], truth)
                    )
                    expected.append(float(said.split("(")[0].split("|")[-1]))
                yield (
                    f"| {name} | {factor} | {100 * level:g} % | "
                    + " | ".join(cells)
                    + f" | {said} |"
                )
    yield ""
    if len(gains) > 1:
        yield (
            f"In the cases with noise, the gain of *{heads[-1]}* over cubic "
            "interpolation is "
            f"{np.mean(gains):+.2f} dB on average and {min(gains):+.2f} dB at worst. "
            "The expected gain minus the true gain is "
            f"{np.mean(np.subtract(expected, gains)):+.2f} dB on average, with a "
            f"standard deviation of {np.std(np.subtract(expected, gains)):.2f} dB; "
            "the correlation of the two gains is "
            f"{np.corrcoef(gains, expected)[0, 1]:.2f}."
        )
    better, worse = np.array(chosen).T
    yield ""
    yield (
        "The gain of the model chosen by `--model auto` over cubic interpolation is "
        f"{better.mean():+.2f} dB on average and {better.min():+.2f} dB at worst. "
        "Compared with this interpolation, the absolute porosity error changes by "
        f"{worse.mean():+.1f} percentage points on average and by {worse.max():+.1f} "
        "at worst."
    )


def spread_table(args: argparse.Namespace) -> Iterator[str]:
    """Lines of the table of two ways to distribute the correction, without noise."""
    yield "| volume | × | network | equal values | parabolas |"
    yield "|---|---|---|---|---|"
    for name, truth in real_volumes(args.data, args.edge):
        for factor in args.factors:
            fine = torch.from_numpy(truth)[None, None]
            x = functional.avg_pool3d(fine, factor)
            mean, std = float(x.mean()), float(x.std())
            model = zoo.find(FAMILIES[args.family][factor])
            with torch.inference_mode():
                seen = (x - mean) / std
                y = model.network()(seen)
                rest = seen - functional.avg_pool3d(y, factor)
                steps = y + functional.interpolate(rest, scale_factor=factor)
                smooth = ConsistentUpscaling(Known(model.network().spec, y))(seen)
            cells = [
                f"{psnr(v[0, 0].numpy() * std + mean, truth):.1f} dB"
                for v in (y, steps, smooth)
            ]
            yield f"| {name} | {factor} | " + " | ".join(cells) + " |"


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Yield all cases of ``--gains``, stored ones and new ones."""
    known: dict[tuple[str, int, str, float], list[Case]] = {}
    for case in _read(args.rows):
        place = (case.volume, case.factor, case.kind, case.level)
        known.setdefault(place, []).append(case)
    for name, truth in real_volumes(args.data, args.edge):
        for factor in args.factors:
            for kind in KINDS:
                for level in filter(None, args.noise):
                    found = known.get((name, factor, kind, level))
                    yield from found or gains(
                        name, truth, args.family, factor, kind, level
                    )


def _read(path: Path | None) -> list[Case]:
    """Stored cases."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Case(
                row["volume"],
                int(row["factor"]),
                row["kind"],
                float(row["level"]),
                row["layer"] == "True",
                *(float(row[name]) for name in ("expected", "variation", "true")),
            )
            for row in csv.DictReader(file)
        ]


def gains(
    name: str, truth: Array, family: str, factor: int, kind: str, level: float
) -> Iterator[Case]:
    """Yield the expected and true gain for one scan, with and without the layer."""
    lags, white, cutoff = KINDS[kind]
    noise = Noise(
        level,
        1.0,
        correlation=dict(zip("zyx", lags, strict=True)),
        white=white,
        cutoff=cutoff,
    )
    clean = functional.avg_pool3d(torch.from_numpy(truth)[None, None], factor)[0, 0]
    drawn = noise_of_scan(noise, clean.shape, np.random.default_rng(0))
    scan = clean.numpy() + (level * drawn).astype(np.float32)
    volume = Volume(scan, "ZYX", name="scan")
    scale = Scale(float(scan.mean()), float(scan.std()))
    model = zoo.find(FAMILIES[family][factor])
    layer: Any = model.restorer()
    x = torch.from_numpy((scan - scale.mean) / scale.std)[None, None]
    set_network_noise(layer, noise.standardised(scale.mean, scale.std))
    with torch.inference_mode():
        cubic = interpolated(x, cubic_kernel(factor, 3).float(), factor)
        chosen = run_to_end(sharpness_steps(layer, volume, scale, noise))[0]
        results = {False: model.network()(x)}
        if isinstance(layer, ConsistentUpscaling):
            made = ConsistentUpscaling(Known(model.network().spec, results[False]))
            set_network_noise(made, noise.standardised(scale.mean, scale.std))
            made.set_sharpness(chosen)
            results = {True: made(x), **results}

    def quality(result: torch.Tensor) -> float:
        grey = result[0, 0].numpy() * scale.std + scale.mean
        return psnr(grey.astype(np.float32), truth)

    for with_layer, result in results.items():
        tested: Any = model if with_layer else WithoutLayer(model)
        verdict = upscaling_verdict(volume, tested, noise)
        below = verdict.gain - verdict.interval[0]
        variation = float(np.sqrt(max(0.0, below**2 - MARGIN_BELOW**2)))
        true = quality(result) - quality(cubic)
        yield Case(name, factor, kind, level, with_layer, verdict.gain, variation, true)


def gain_table(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table of expected and true gains."""
    found = list(cases(args))
    if args.rows is not None:
        with args.rows.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(field.name for field in fields(Case))
            rows.writerows(astuple(case) for case in found)
    yield (
        "| noise | × | cases | true gain | expected minus true | correlation | "
        "true gain in the interval | losses predicted | gains mistaken for losses |"
    )
    yield "|" + "---|" * 9
    for kind in KINDS:
        for factor in args.factors:
            some = [c for c in found if c.kind == kind and c.factor == factor]
            yield f"| {kind} | {factor} | " + " | ".join(_summary(some)) + " |"
    yield "| all | | " + " | ".join(_summary(found)) + " |"
    yield ""
    below, above = np.quantile([case.margins for case in found], 0.95, axis=0)
    yield (
        "The limits of the interval combine the variation between the tested regions "
        f"with a fixed margin of {MARGIN_BELOW:g} dB below and {MARGIN_ABOVE:g} dB "
        "above. For 95 % of the true gains to lie above the lower limit, a margin of "
        f"{below:.1f} dB would be needed; for 95 % to lie below the upper limit, "
        f"a margin of {above:.1f} dB."
    )


def _summary(some: Sequence[Case]) -> list[str]:
    expected, true = (np.array([getattr(c, n) for c in some]) for n in _GAINS)
    inside = sum(
        below <= MARGIN_BELOW and above <= MARGIN_ABOVE
        for below, above in (case.margins for case in some)
    )
    losses = true < 0
    return [
        f"{len(some)}",
        f"{true.min():+.1f} … {true.max():+.1f} dB",
        f"{(expected - true).mean():+.1f} ± {(expected - true).std():.1f} dB",
        f"{np.corrcoef(expected, true)[0, 1]:.2f}",
        f"{inside}",
        f"{np.sum(losses & (expected < 0))} of {losses.sum()}",
        f"{np.sum(~losses & (expected < 0))} of {np.sum(~losses)}",
    ]


def main() -> None:
    """Print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--family", choices=sorted(FAMILIES), default="ct")
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4])
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[0.0, 0.02, 0.05, 0.1, 0.2]
    )
    parser.add_argument("--known-noise", action="store_true")
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--gains", action="store_true")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    name = (args.spread and "spreading") or (args.gains and "gains") or "agreement"
    tables = {"spreading": spread_table, "gains": gain_table, "agreement": table}
    section = "conditioned" if (name, args.family) == ("agreement", "ct") else name
    for line in tables[name](args):
        print(line, flush=True)
        lines.append(line)
    if args.out is not None:
        replace_section(args.out, section, "\n".join(lines))


if __name__ == "__main__":
    main()
