"""Does it help that super-resolved results agree with the scan? On real volumes.

Real volumes are averaged by 2 and 4, get noise, and are made finer again: by cubic
interpolation, by the bundled network alone, and by the network with the
data-consistency layer (as sharp as the scan, as sharp as the network makes it, and what
a restoration chooses by itself). The noise is measured as in a restoration, or given
with ``--known-noise``. Figures are the PSNR against the real volume (range: 2nd to 98th
percentile) and the error of the porosity by Otsu's threshold, in points. The last
columns are what `upscaling_verdict` says before the run. Prints Markdown, or writes it
into a document with ``--out``.

    python benchmarks/bench_sr_consistency.py --data ../shared/data \
        --out docs/evidence/agreement.md

``--spread`` prints another table: without noise, differences spread as equal values and
along parabolas.
"""

from __future__ import annotations

import argparse
import io as streams
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
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
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models import zoo
from napari_geosr.networks import set_network_noise
from napari_geosr.networks._consistent import ConsistentUpscaling, Sharpness
from napari_geosr.networks._upsampling import cubic_kernel, interpolated
from napari_geosr.operations.restore.upscaling.sharpness import sharpness_steps
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    upscaling_verdict,
)

Array = npt.NDArray[np.float32]
MODELS = {2: "foam-sr-x2", 4: "foam-sr-x4", 8: "bone-sr-x8"}


@dataclass(frozen=True)
class Scale:
    """Mean and spread of a scan, as a restoration takes them."""

    mean: float
    std: float

    input_mean = property(lambda self: self.mean)
    input_std = property(lambda self: self.std)
    output_mean = property(lambda self: self.mean)
    output_std = property(lambda self: self.std)


class Known(torch.nn.Module):
    """A network's result that was computed before, so that it is computed once."""

    def __init__(self, spec: Any, result: torch.Tensor) -> None:
        super().__init__()
        self.spec, self.result = spec, result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The result, whatever is given."""
        return self.result


def real_volumes(data: Path, edge: int) -> Iterator[tuple[str, Array]]:
    """Middles of the real volumes, from 0 to 1 between the 2nd and 98th percentile."""
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
        if name == "berea":  # two phases: as a scanner would see them
            values = ndimage.gaussian_filter(values, 1.0)
        low, high = np.percentile(values, (2, 98))
        yield name, ((values - low) / (high - low)).astype(np.float32)


def psnr(result: Array, truth: Array) -> float:
    """In dB; the range is 1."""
    return float(-10 * np.log10(np.square(result - truth, dtype=np.float64).mean()))


def porosity(values: Array) -> float:
    """Percent of the voxels below Otsu's threshold."""
    return 100 * float((values < threshold_otsu(values)).mean())


def measured(
    truth: Array, factor: int, level: float, *, known: bool
) -> tuple[dict[str, Array], str]:
    """All results for one scan, and what is said before the run."""
    fine = torch.from_numpy(truth)[None, None]
    scan = functional.avg_pool3d(fine, factor)[0, 0].numpy()
    rng = np.random.default_rng(0)
    scan = scan + level * rng.standard_normal(scan.shape).astype(np.float32)
    volume = Volume(scan, "ZYX", name="scan")
    noise = Noise(level, 1.0) if known else estimate_noise(volume)
    scale = Scale(float(scan.mean()), float(scan.std()))
    model = zoo.find(MODELS[factor])
    layer: Any = model.restorer()
    x = torch.from_numpy((scan - scale.mean) / scale.std)[None, None]
    with torch.inference_mode():
        y = model.network()(x)
        kernel = cubic_kernel(factor, 3).float()
        found = {"cubic": interpolated(x, kernel, factor), "network": y}
        run_to_end(sharpness_steps(layer, volume, scale, noise))
        chosen = layer.sharpness
        for name, sharpness in (
            ("as the scan", Sharpness(chosen.excess)),
            ("as the object", Sharpness(chosen.excess, keep=True)),
            ("auto", chosen),
        ):
            made = ConsistentUpscaling(Known(model.network().spec, y))
            set_network_noise(made, noise.standardised(scale.mean, scale.std))
            made.set_sharpness(sharpness)
            found[name] = made(x)
    verdict = upscaling_verdict(volume, model, noise)
    said = (
        f"{'object' if chosen.keep else 'scan'}, {chosen.excess:.2f} | "
        f"{verdict.gain:+.1f} ({verdict.interval[0]:+.1f} … {verdict.interval[1]:+.1f})"
    )
    results = {k: v[0, 0].numpy() * scale.std + scale.mean for k, v in found.items()}
    return results, said


def table(args: argparse.Namespace) -> Iterator[str]:
    """Lines of the main table."""
    heads = ("cubic", "network", "as the scan", "as the object", "auto")
    yield "| volume | × | noise | " + " | ".join(heads) + " | choice | expected gain |"
    yield "|" + "---|" * (5 + len(heads))
    gains, expected = [], []
    for name, truth in real_volumes(args.data, args.edge):
        for factor in args.factors:
            for level in args.noise:
                results, said = measured(truth, factor, level, known=args.known_noise)
                right = porosity(truth)
                cells = [
                    f"{psnr(results[h], truth):.1f} dB, "
                    f"{porosity(results[h]) - right:+.1f}"
                    for h in heads
                ]
                if level:
                    gains.append(
                        psnr(results["auto"], truth) - psnr(results["cubic"], truth)
                    )
                    expected.append(float(said.split("|")[1].split("(")[0]))
                yield (
                    f"| {name} | {factor} | {100 * level:g} % | "
                    + " | ".join(cells)
                    + f" | {said} |"
                )
    yield ""
    if len(gains) > 1:
        yield (
            f"Gain over cubic (auto, with noise): mean {np.mean(gains):+.2f} dB, "
            f"smallest {min(gains):+.2f} dB. Expected minus true gain: mean "
            f"{np.mean(np.subtract(expected, gains)):+.2f} dB, standard deviation "
            f"{np.std(np.subtract(expected, gains)):.2f} dB, correlation "
            f"{np.corrcoef(gains, expected)[0, 1]:.2f}."
        )


def spread_table(args: argparse.Namespace) -> Iterator[str]:
    """Lines of the table of two ways to spread a difference, without noise."""
    yield "| volume | × | network | equal values | parabolas |"
    yield "|---|---|---|---|---|"
    for name, truth in real_volumes(args.data, args.edge):
        for factor in args.factors:
            fine = torch.from_numpy(truth)[None, None]
            x = functional.avg_pool3d(fine, factor)
            mean, std = float(x.mean()), float(x.std())
            model = zoo.find(MODELS[factor])
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


def main() -> None:
    """Print the table, line by line as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4])
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[0.0, 0.02, 0.05, 0.1, 0.2]
    )
    parser.add_argument("--known-noise", action="store_true")
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in (spread_table if args.spread else table)(args):
        print(line, flush=True)
        lines.append(line)
    if args.out is not None:
        name = "spreading" if args.spread else "agreement"
        replace_section(args.out, name, "\n".join(lines))


if __name__ == "__main__":
    main()
