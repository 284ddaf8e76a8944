"""Evaluate all denoisers on real volumes with known added noise, and write the page.

    python scripts/real_volumes.py --data FOLDER [--out build/real_volumes]

FOLDER contains ``ct_volumes`` and ``microscopy`` with the files named below. Every
volume is restored as recorded and with added noise of known level: independent,
correlated in the plane, and correlated along all axes. The script writes
``docs/real_volumes.md``. Rows are stored in the ``--out`` folder, so an interrupted run
can be resumed.
"""

from __future__ import annotations

import argparse
import io as bytes_io
import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from cc3d import connected_components
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.probes import level_map
from napari_geosr.measure.comparison.quality import compare_pores, dice, psnr, ssim
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import (
    RestoreConfig,
    prepare_steps,
    restore_steps,
)
from napari_geosr.operations.restore.verdict.steps import verdict_steps
from real_volumes_page import write_page

Array = npt.NDArray[np.float32]
DOCS = Path(__file__).resolve().parents[1] / "docs"
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
#: Widths along Z, Y and X of the smoothing that correlates the noise.
KINDS = {
    "independent": (0.0, 0.0, 0.0),
    "in the plane": (0.0, 0.8, 0.8),
    "in 3D": (0.8, 0.8, 0.8),
}
#: Seed for the noise added to the volumes of the table.
_SEED = 13_009
#: Seed for the noise in regions that were used neither for the table nor for any rule.
_OTHER_SEED = 77_001
#: Losses above this value in dB count as harm.
_HARM_DB = 0.1


def load(name: str, data: Path) -> Array:
    """A part of a real volume, Z, Y, X (or Y, X), in grey values."""
    ct, microscopy = data / "ct_volumes", data / "microscopy"
    if name in ("bone", "cement"):
        return tifffile.imread(ct / f"{name}_128x128x128.tif")[
            48:72, 16:112, 16:112
        ].astype("f4")
    if name == "berea":
        with zipfile.ZipFile(ct / "berea.zip") as archive:
            binary = tifffile.imread(bytes_io.BytesIO(archive.read("berea.tif")))
        part = binary[96:128, 96:200, 96:200].astype("f4")
        return ndimage.gaussian_filter(part, 0.7)[4:28, 4:100, 4:100]
    if name == "pollen":
        return tifffile.imread(microscopy / "pollen.tif")[4:28, 64:160, 64:160] * 1.0
    if name == "celegans":
        return tifffile.imread(microscopy / "celegans_airyscan.tif")[:256, :256]
    if name == "beads":
        beads = tifffile.imread(microscopy / "Bead_Image1_crop.tif")
        return beads[8:32, 27:123, 27:123].astype("f4")
    if name == "hela":
        return tifffile.imread(microscopy / "hela-cells.tif")[:256, :256, 1] * 1.0
    if name == "membranes":
        return tifffile.imread(microscopy / "membrane_2d_timelapse.tif")[0] * 1.0
    if name == "banana (MRI)":
        files = sorted((microscopy / "mri_banana_sequence").glob("*.tif"))
        planes = [tifffile.imread(path)[184:280, 58:154] for path in files]
        return np.stack(planes).astype("f4")
    raise KeyError(name)


def load_other(name: str, data: Path) -> Array:
    """A part of the same file that was used neither for the table nor for any rule."""
    microscopy = data / "microscopy"
    if name == "membranes":
        return tifffile.imread(microscopy / "membrane_2d_timelapse.tif")[4] * 1.0
    if name == "pollen":
        pollen = tifffile.imread(microscopy / "pollen.tif")
        return pollen[4:28, 150:246, 150:246] * 1.0
    if name == "beads":
        return tifffile.imread(microscopy / "Bead_Image1_crop.tif")[17:41, 54:150, :96]
    raise KeyError(name)


#: Volumes by name, with the bundled denoisers for them.
VOLUMES = {
    "bone": ("ct-denoise", "porous-denoise", "foam-denoise"),
    "cement": ("ct-denoise", "porous-denoise", "foam-denoise"),
    "berea": ("ct-denoise", "porous-denoise", "foam-denoise"),
    "pollen": ("fluo-denoise",),
    "celegans": ("fluo-denoise",),
    "beads": ("fluo-denoise",),
    "hela": ("fluo-denoise",),
    "membranes": ("fluo-denoise",),
    "banana (MRI)": ("ct-denoise",),
}
#: Files with other regions, and levels of noise added to these.
_OTHER = ("membranes", "pollen", "beads")
_OTHER_LEVELS = (0.05, 0.1)
_POROUS = ("bone", "cement", "berea")


def correlated(
    shape: tuple[int, ...], widths: tuple[float, ...], seeds: tuple[int, int]
) -> Array:
    """Noise of standard deviation 1, correlated by smoothing with these widths."""
    noise = np.random.default_rng(seeds).standard_normal(shape)
    if max(widths):
        noise = ndimage.gaussian_filter(noise, widths[3 - len(shape) :], mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def contrast(clean: Array) -> float:
    """Distance between the 2nd and the 98th percentile."""
    low, high = np.percentile(clean, (2, 98))
    return float(high - low)


def classical(noisy: Array, sd: float) -> Iterator[tuple[str, Array]]:
    """Results of classical filters; the best setting is chosen by ground truth."""
    for width in (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3, 1.7):
        yield f"Gaussian {width:g}", ndimage.gaussian_filter(noisy, width)
    for weight in (0.3, 0.6, 1.0, 1.6, 2.4, 3.6):
        yield (
            f"TV {weight:g}",
            denoise_tv_chambolle(noisy, weight=weight * sd, max_num_iter=80),
        )
    for h in (0.6, 1.0):
        yield (
            f"NLM {h:g}",
            denoise_nl_means(
                noisy,
                patch_size=3,
                patch_distance=3 if noisy.ndim == 3 else 6,
                h=h * sd,
                sigma=sd,
                fast_mode=True,
            ),
        )


def figures(name: str, image: Array, clean: Array) -> dict[str, float]:
    """Compare one volume with the volume without added noise."""
    span = contrast(clean)
    found = {"psnr": psnr(image, clean, span), "ssim": ssim(image, clean, span)}
    if name in _POROUS:
        truth = clean < threshold_otsu(clean)
        mask = image < threshold_otsu(image)
        found |= asdict(compare_pores(mask, truth, smallest=8))
        if name == "bone":
            found["lacunae_kept"] = lacunae_kept(image, clean)
    return {k: round(float(v), 4) for k, v in found.items()}


def own_level(clean: Array) -> npt.NDArray[np.float64]:
    """Standard deviation of a volume's own noise at every voxel; 0 if negligible."""
    own = estimate_noise(Volume(clean, "ZYX"[3 - clean.ndim :]))
    if own.is_negligible:
        return np.zeros(clean.shape)
    return level_map(clean.astype(np.float64), own)


def fair_psnr(
    image: Array, clean: Array, added: Array, own: npt.NDArray[np.float64]
) -> float:
    """PSNR in dB, corrected for the noise of the reference.

    The reference ``x + n`` contains noise ``n`` with standard deviation `own` at every
    voxel. The error of a result ``f`` is
    ``|f − x|² = |f − (x + n)|² − |n|² + 2 ⟨f, n⟩``. The last term is estimated on the
    assumption that a result retains, at every voxel, the same fraction of ``n`` as of
    the added noise, which is known.
    """
    error = (image - clean).astype(np.float64)
    square = float(np.mean(error**2))
    variance = np.square(own)
    total = float(variance.mean())
    if total > 0:
        weighted = variance * added
        kept = float(np.vdot(weighted, error) / np.vdot(weighted, added))
        square = max(square - total * (1 - 2 * kept), 0.02 * total)
    return float(20 * np.log10(contrast(clean) / max(np.sqrt(square), 1e-12)))


def lacunae_kept(image: Array, clean: Array) -> float:
    """Fraction of small dark objects in the bone that remain below the threshold."""
    threshold = threshold_otsu(clean)
    labels = connected_components(clean < threshold, connectivity=26)
    sizes = np.bincount(labels.ravel())
    small = [i for i in range(1, len(sizes)) if 8 <= sizes[i] <= 2000]
    if not small:
        return 1.0
    dark = ndimage.sum(image < threshold, labels, small)
    return float(np.mean(np.asarray(dark) >= 0.5 * sizes[small]))


def restored(noisy: Array, model: str) -> tuple[Array, str, str, float]:
    """The result, the verdict before the run, and the model and strength that ran."""
    volume = Volume(noisy, "ZYX"[3 - noisy.ndim :], name="scan")
    steps = restore_steps(volume, RestoreConfig.create(model=model), look=True)
    made = run_to_end(steps)
    record = made.volume.provenance[-1]
    chosen = record.get("model", {}) or {}
    data = np.asarray(made.volume.data, np.float32)
    level = "ok" if made.verdict is None else str(made.verdict.level)
    strength = float(record.get("settings", {}).get("strength", 1.0))
    return data, level, str(chosen.get("name", model)), strength


def row(
    name: str, kind: str, level: float, data: Path, other: bool = False
) -> dict[str, Any]:
    """Results of all methods for one volume with one kind of noise."""
    noisy, clean, added = _scan(name, kind, level, data, other)
    sd = level * contrast(clean)
    found: dict[str, Any] = {"volume": name, "kind": kind, "level": level}
    measured = estimate_noise(Volume(noisy, "ZYX"[3 - noisy.ndim :]))
    own = own_level(clean)
    own_rms = float(np.sqrt(np.mean(own**2)))
    found["measured_level"] = round(measured.level / contrast(clean), 4)
    found["own_level"] = round(own_rms / contrast(clean), 4)

    def judged(image: Array) -> dict[str, float]:
        made = figures(name, image, clean)
        if level:
            made["fair_psnr"] = round(fair_psnr(image, clean, added, own), 4)
        return made

    methods = {"input": judged(noisy)}
    if level:
        total = float(np.hypot(sd, own_rms))
        tried = [
            (fair_psnr(v, clean, added, own), n, v) for n, v in classical(noisy, total)
        ]
        _, best, image = max(tried, key=lambda t: t[0])
        methods["classical"] = judged(image.astype(np.float32))
        found["best_classical"] = best
    flags, chosen, strengths = {}, {}, {}
    for model in (*VOLUMES[name], "auto"):
        try:
            image, flags[model], chosen[model], strengths[model] = restored(
                noisy, model
            )
        except GeoSRError as error:
            found.setdefault("refused", {})[model] = str(error)
            continue
        methods[model] = judged(image)
        if not level:
            change = float(np.sqrt(np.mean((image - clean) ** 2))) / contrast(clean)
            methods[model]["rms_change"] = round(change, 5)
            if name == "bone":
                masks = (v >= threshold_otsu(clean) for v in (image, clean))
                methods[model]["bone_dice"] = round(dice(*masks), 5)
    return found | {
        "methods": methods,
        "verdict": flags,
        "chosen": chosen,
        "strengths": strengths,
    }


def verdicts(made: dict[str, Any], data: Path) -> dict[str, str]:
    """Compute the verdicts of a row again, with the stored choice of `auto`."""
    name, kind, level = made["volume"], made["kind"], made["level"]
    noisy = _scan(name, kind, level, data)[0]
    volume = Volume(noisy, "ZYX"[3 - noisy.ndim :], name="scan")
    said: dict[str, str] = {}
    for model, chosen in made["chosen"].items():
        strength = made.get("strengths", {}).get(model, 1.0)
        if chosen == "none":
            said[model] = "ok"
        elif chosen in said and strength == 1:
            said[model] = said[chosen]
        else:
            ready = run_to_end(
                prepare_steps(
                    volume, RestoreConfig.create(model=chosen, strength=strength)
                )
            )
            said[model] = str(run_to_end(verdict_steps(ready)).level)
    return said


def _scan(
    name: str, kind: str, level: float, data: Path, other: bool = False
) -> tuple[Array, Array, Array]:
    """The noisy scan, the volume without added noise, and the noise."""
    clean = _cached(name, data, other)
    index = 1000 * list(VOLUMES).index(name) + 100 * list(KINDS).index(kind)
    seeds = (_OTHER_SEED if other else _SEED, index + round(1000 * level))
    noise = correlated(clean.shape, KINDS[kind], seeds)
    added = np.float32(level * contrast(clean)) * noise
    return (clean + added).astype(np.float32), clean, added


@cache
def _cached(name: str, data: Path, other: bool) -> Array:
    made = load_other(name, data) if other else load(name, data)
    return np.asarray(made, np.float32)


def print_other_regions(data: Path) -> None:
    """Compare `auto` with the best classical filter in other regions."""
    leads = []
    for name, level, kind in itertools.product(_OTHER, _OTHER_LEVELS, KINDS):
        made = row(name, kind, level, data, other=True)
        found = {k: v["fair_psnr"] for k, v in made["methods"].items()}
        leads.append(found["auto"] - found["classical"])
        print(name, kind, level, f"{leads[-1]:+.2f} dB", made["verdict"], flush=True)
    print(f"mean {np.mean(leads):+.2f} dB, lowest {min(leads):+.2f} dB")


def main() -> None:
    """Compute the missing rows, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/real_volumes"))
    parser.add_argument("--only", nargs="*", default=list(VOLUMES))
    parser.add_argument(
        "--verdicts", action="store_true", help="compute the verdicts of all rows again"
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument(
        "--other", action="store_true", help="only evaluate regions not in the table"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.other:
        print_other_regions(arguments.data)
        return
    assert catalogue.list_models()
    if arguments.verdicts:
        for path in sorted(arguments.out.glob("*.json")):
            made = json.loads(path.read_text())
            made["verdict"] = verdicts(made, arguments.data)
            path.write_text(json.dumps(made, indent=1))
            print(path.stem, made["verdict"], flush=True)
    elif not arguments.page:
        for name in arguments.only:
            for level in (0.0, *LEVELS):
                for kind in KINDS if level else ("independent",):
                    path = arguments.out / f"{name}-{kind}-{level:g}.json"
                    if path.exists():
                        continue
                    made = row(name, kind, level, arguments.data)
                    path.write_text(json.dumps(made, indent=1))
                    key = "fair_psnr" if level else "psnr"
                    shown = {k: round(v[key], 2) for k, v in made["methods"].items()}
                    print(name, kind, level, shown, made["verdict"], flush=True)
    write_page(arguments.out, DOCS)


if __name__ == "__main__":
    main()
