"""The page on real volumes, from the rows that ``real_volumes.py`` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HEAD = """# Real volumes

Every denoiser on real scans that no model was trained on: as they are, and with noise
of known level added, independent or correlated between voxels. Made by

    python scripts/real_volumes.py --data FOLDER

with the files and licences of the data's manifest: bone and cement paste (qim3d, MIT),
Berea sandstone (PorousMediaGan, MIT; segmented, blurred by 0.7 voxel), pollen and *C.
elegans* (sdeconv, BSD-3), a banana by MRI (BioImageAnalysisNotebooks, CC BY 4.0). Parts
of 24 × 96 × 96 voxels (256 × 256 for the image); the data are not part of this
project.

The scan without *added* noise is the reference. Some scans have noise of their own
(cement paste: 3.9 % of the contrast), which a good restoration removes as well: errors
are corrected for it (*fair* PSNR; a result keeps as much of the scan's own noise as it
keeps of the noise that was added, which is known). Where the added noise is not above
the scan's own, figures are given in italics and not judged. *Best classical* is a
Gaussian, total variation or non-local means, whichever setting of 17 is best **knowing
the truth**; nobody has that choice on a real scan. *auto* is `--model auto`, which
chooses without the truth. *Verdict*: what `restore` and the dock report before the run;
harm is an error above the input's by more than 0.1 dB.
"""

_MODELS = ("ct-denoise", "porous-denoise", "foam-denoise", "fluo-denoise", "auto")


def write_page(rows: Path, docs: Path) -> None:
    """Write ``docs/real_volumes.md`` from the JSON files in the folder `rows`."""
    made = [json.loads(path.read_text()) for path in sorted(rows.glob("*.json"))]
    volumes = list(dict.fromkeys(row["volume"] for row in made))
    parts = [HEAD, _summary(made), _untouched(made)]
    for name in volumes:
        of = [row for row in made if row["volume"] == name and row["level"]]
        of.sort(key=lambda row: (row["kind"], row["level"]))
        parts.append(_table(name, of))
    text = "\n".join(parts)
    (docs / "real_volumes.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _judged(row: dict[str, Any]) -> bool:
    return bool(row["level"] > max(row["own_level"], 0.0))


def _gain(row: dict[str, Any], method: str) -> float:
    figures = row["methods"]
    return float(figures[method]["fair_psnr"] - figures["input"]["fair_psnr"])


def _summary(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## In short",
        "",
        "Gain over the input in dB, mean over all volumes and kinds of noise that are "
        "judged (in brackets, the least):",
        "",
        "| added noise | best classical | ct-denoise | porous-denoise | foam-denoise "
        "| fluo-denoise | auto |",
        "|---|---|---|---|---|---|---|",
    ]
    levels = sorted({row["level"] for row in rows if row["level"]})
    for level in levels:
        of = [row for row in rows if row["level"] == level and _judged(row)]
        cells = []
        for method in ("classical", *_MODELS):
            gains = [_gain(row, method) for row in of if method in row["methods"]]
            cells.append(f"{np.mean(gains):+.1f} ({min(gains):+.1f})" if gains else "–")
        lines.append(f"| {level:.0%} | " + " | ".join(cells) + " |")
    strong = [row for row in rows if row["level"] >= 0.05 and _judged(row)]
    both = [
        _gain(row, "auto") - _gain(row, "classical")
        for row in strong
        if "auto" in row["methods"]
    ]
    harmful = unflagged = good = refused = 0
    for row in rows:
        if not row["level"] or not _judged(row):
            continue
        for model in _MODELS:
            if model not in row["methods"]:
                continue
            if _gain(row, model) < -0.1:
                harmful += 1
                unflagged += row["verdict"].get(model) == "ok"
            else:
                good += 1
                refused += row["verdict"].get(model) == "harmful"
    if both:
        lines += [
            "",
            f"From 5 % on, *auto* is {np.mean(both):+.2f} dB from the best classical "
            f"filter on the mean ({min(both):+.2f} at worst). Restorations that did "
            f"harm: {harmful}, of which {unflagged} without a warning before the run; "
            f"of the other {good}, {refused} were called harmful.",
            "",
            _by_kind(strong),
        ]
    return "\n".join(lines) + "\n"


def _by_kind(rows: list[dict[str, Any]]) -> str:
    """Where auto stands against the best classical filter, by the kind of scan."""
    said = []
    for title, names in (
        ("bone, cement and sandstone", ("bone", "cement", "berea")),
        ("the other scans", ("pollen", "celegans", "banana (MRI)")),
    ):
        leads = [
            _gain(row, "auto") - _gain(row, "classical")
            for row in rows
            if row["volume"] in names
        ]
        if leads:
            said.append(
                f"{np.mean(leads):+.2f} dB on {title} ({min(leads):+.2f} to "
                f"{max(leads):+.2f})"
            )
    return (
        f"*auto* against the best classical filter by kind of scan: {'; '.join(said)}. "
        "The losses are on scans whose own noise is nearly as strong as that which was "
        "added, and where noise is correlated along all axes and nearly as coarse as "
        "the structures, so that its level is measured too low."
    )


def _untouched(rows: list[dict[str, Any]]) -> str:
    lines = [
        "## As they are",
        "",
        "What the models do to the scans without added noise (*change*: root mean "
        "square, in per cent of the contrast).",
        "",
        "| scan | noise measured | model | change | verdict | else |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["level"]:
            continue
        own = row["own_level"]
        measured = "below 1 %" if own < 0.01 else f"{own:.1%}"
        for model in _MODELS:
            found = row["methods"].get(model)
            if found is None:
                continue
            more = ""
            if "bone_dice" in found:
                more = (
                    f"lacunae kept {found['lacunae_kept']:.0%}, Dice of the bone "
                    f"{found['bone_dice']:.4f}"
                )
            title = model
            if model == "auto":
                title = f"auto ({row['chosen'].get('auto', '')})"
            lines.append(
                f"| {row['volume']} | {measured} | {title} | "
                f"{100 * found['rms_change']:.2f} % | "
                f"{row['verdict'].get(model, '')} | {more} |"
            )
    return "\n".join(lines) + "\n"


def _table(name: str, rows: list[dict[str, Any]]) -> str:
    models = [m for m in _MODELS if any(m in row["methods"] for row in rows)]
    porous = any("porosity_error" in row["methods"]["input"] for row in rows)
    lines = [
        f"## {name.capitalize()}",
        "",
        "Fair PSNR in dB, then SSIM"
        + (", then error of pores per mm³ and of the Euler number" if porous else "")
        + ".",
        "",
        "| noise | measured | input | best classical | "
        + " | ".join(models)
        + " | verdict |",
        "|---" * (5 + len(models)) + "|",
    ]
    for row in rows:
        cells = []
        for method in ("input", "classical", *models):
            found = row["methods"].get(method)
            text = "–" if found is None else _cell(found, porous)
            if method == "classical":
                text += f" ({row['best_classical']})"
            if method == "auto":
                text += f" ({row['chosen'].get('auto', '')})"
            cells.append(text if _judged(row) else f"*{text}*")
        said = ", ".join(f"{m} {row['verdict'].get(m, '–')}" for m in models)
        lines.append(
            f"| {row['level']:.0%} {row['kind']} | {row['measured_level']:.1%} | "
            + " | ".join(cells)
            + f" | {said} |"
        )
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, float], porous: bool) -> str:
    text = f"{found['fair_psnr']:.1f}, {found['ssim']:.2f}"
    if porous:
        text += f", {found['pores_per_mm3_error']:+.0%}, {found['euler_error']:+.0%}"
    return text
