"""Test how well the verdict before a run predicts harmful restorations.

Usage::

    python benchmarks/bench_verdict.py --data FOLDER --half h --rows rows.jsonl
    python benchmarks/bench_verdict.py --rows rows.jsonl --out docs/evidence/verdicts.md

The first command restores noisy versions of known volumes and appends one line of
results for each to ``rows.jsonl``; it can be stopped and resumed. The second command
writes the tables. The rules in ``operations/restore/verdict/rules.py`` were chosen
using parts a to g, and are tested with parts h and i. Parts j and k contain rare pores,
cracks, walls and samples in padding.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu

from _document import replace_section
from _verdict_scenes import NOISES, Scene, scenes
from _verdict_truth import truth_of
from napari_geosr.core.noise import FLOOR
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.comparison.quality import pore_volumes
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models.bundle import Model
from napari_geosr.operations.restore import (
    PreparedRestoration,
    RestoreConfig,
    prepare_steps,
)
from napari_geosr.operations.restore.verdict.pore_counts import MIN_PORE_VOXELS
from napari_geosr.operations.restore.verdict.run_verdict import (
    DEFAULT_MIN_VOXELS,
    LOST_SIZE,
    RunVerdict,
)
from napari_geosr.operations.restore.verdict.steps import verdict_steps

#: Prefix of a model's name for the network without the noise bound.
FREE = "free:"
MODELS = ("ct-denoise", "foam-denoise", f"{FREE}foam-denoise", "fluo-denoise")
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
#: Limits of harm: increase of the error over that of the input, in dB; change of a
#: clean scan, relative to the contrast; factor and least difference of pore numbers.
HARM, CHANGE, PORES, MIN_PORES = 0.1, 0.01, 2.0, 5
#: Factor by which the number of pores must be wrong to confirm a caution.
WRONG = 1.2
#: Contrast of thin structures that confirms a caution, relative to the true contrast.
THIN = 0.75
#: Factors by which the noise level must be wrong to confirm a caution, for correlated
#: and for independent noise.
ACCURACY, WHITE_ACCURACY = 1.2, 1.1
Row = Mapping[str, Any]


def main() -> None:
    """Run restorations or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real volumes")
    parser.add_argument(
        "--half", choices="abcdefghijk", help="parts of the volumes to restore"
    )
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--levels", default=",".join(map(str, LEVELS)))
    parser.add_argument("--noises", default=",".join(NOISES))
    parser.add_argument("--out", type=Path, help="page to write the tables into")
    given = parser.parse_args()
    if given.half:
        levels = [float(level) for level in given.levels.split(",")]
        for scene in scenes(given.half, given.data):
            run(scene, given.models.split(","), levels, given.noises.split(","), given)
    rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    parts = {
        "harm": tables(rows),
        "flags": flag_lines(rows),
        "trade-off": trade_off_lines(rows),
    }
    for name, lines in parts.items():
        table = "\n".join(lines)
        print(f"{table}\n")
        if given.out is not None:
            replace_section(given.out, name, table)


def run(
    scene: Scene,
    models: Sequence[str],
    levels: Sequence[float],
    noises: Sequence[str],
    given: argparse.Namespace,
) -> None:
    """Restore noisy versions of one volume, and append a row for each."""
    known = set()
    if given.rows.exists():
        lines = map(json.loads, given.rows.read_text().splitlines())
        known = {tuple(row[key] for key in _KEYS) for row in lines}
    own = estimate_noise(Volume(scene.clean, "ZYX")).relative
    true_pores = pores(scene.clean)
    for level in levels:
        for noise in noises if level else noises[:1]:
            scan = scene.noisy(level, noise)
            for model in models:
                if (scene.half, scene.name, level, noise, model) in known:
                    continue
                found, result = restored(scan, scene.name, model)
                row = {
                    "half": scene.half,
                    "scene": scene.name,
                    "level": level,
                    "noise": noise,
                    "model": model,
                    "own": own,
                    "contrast": scene.contrast,
                    "error_before": _rms(scan - scene.clean) / scene.contrast,
                    "error_after": _rms(result - scene.clean) / scene.contrast,
                    "true_pores": true_pores,
                    "pores": pores(result),
                    "truth": truth_of(scene.clean, scan, result, found.noise),
                    "verdict": found.to_json_dict(),
                }
                with given.rows.open("a") as file:
                    file.write(json.dumps(row, default=float) + "\n")


_KEYS = ("half", "scene", "level", "noise", "model")


def restored(scan: Any, name: str, model: str) -> tuple[RunVerdict, Any]:
    """Give the verdict before the run, and restore the scan."""
    config = RestoreConfig(model=model.removeprefix(FREE), device="cpu", threads=1)
    volume = Volume(scan, "ZYX", name=name)
    prepared: PreparedRestoration = run_to_end(prepare_steps(volume, config))
    if model.startswith(FREE):
        card = prepared.model.card.model_copy(update={"noise_bound": None})
        free = Model(card, prepared.model.path)
        prepared = replace(prepared, model=free, network=free.network())
    verdict: RunVerdict = run_to_end(verdict_steps(prepared))
    result = restore_region(
        prepared.network,
        scan,
        tuple(slice(0, n) for n in scan.shape),
        statistics=prepared.statistics,
        budget=1 << 30,
        threads=1,
    )
    return verdict, result


def pores(volume: Any) -> int:
    """Return the number of dark objects below Otsu's threshold."""
    return len(pore_volumes(volume <= threshold_otsu(volume), smallest=MIN_PORE_VOXELS))


def _rms(values: Any) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def gain(row: Row) -> float:
    """Gain of the restoration in dB; minus infinity if the scan was clean."""
    before, after = row["error_before"], row["error_after"]
    if before == 0:
        return -math.inf if after > 0 else 0.0
    return 20 * math.log10(before / max(after, 1e-9))


def is_judged(row: Row) -> bool:
    """Whether the noise of the ground truth itself is weaker than the added noise."""
    return bool(row["own"] < FLOOR if row["level"] == 0 else row["level"] > row["own"])


def harms(row: Row) -> bool:
    """Whether the restoration is harmful."""
    worse = row["error_after"] > CHANGE if row["level"] == 0 else gain(row) < -HARM
    return worse or miscounts(row)


def miscounts(row: Row) -> bool:
    """Whether the number of pores is wrong by more than a factor of two."""
    return differ(row["true_pores"], row["pores"], PORES)


def differ(first: int, second: int, ratio: float) -> bool:
    """Whether two numbers of pores differ by more than a factor and by enough pores."""
    low, high = sorted((first, second))
    return high > ratio * low and high - low >= MIN_PORES


def is_remarked(row: Row) -> bool:
    """Whether a remark states that small pores cannot be counted."""
    return _limit(row) >= DEFAULT_MIN_VOXELS


def is_flagged(row: Row) -> bool:
    """Whether a user is warned before the run, by the verdict or a remark."""
    return row["verdict"]["level"] != "ok" or is_remarked(row)


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of verdicts by model and part."""
    kinds = "verdict *harmful* | verdict *caution* | remark only"
    yield (
        f"| volumes | model | harmful restorations | {kinds} | good restorations | "
        f"{kinds} | not evaluated |"
    )
    yield "|---" * 11 + "|"
    groups = sorted({(row["half"], row["model"]) for row in rows})
    for half in sorted({row["half"] for row in rows}):
        groups.append((half, "all"))
    for half, model in groups:
        mine = [
            row
            for row in rows
            if row["half"] == half and model in (row["model"], "all")
        ]
        yield _line(half, model, mine)


def _line(half: str, model: str, rows: Sequence[Row]) -> str:
    judged = [row for row in rows if is_judged(row)]
    cells = [half, model]
    for is_bad in (True, False):
        mine = [row for row in judged if harms(row) == is_bad]
        cells.append(str(len(mine)))
        kinds = (_has("harmful"), _has("caution"), _has_only_remark)
        cells += [_share(sum(map(is_kind, mine)), len(mine)) for is_kind in kinds]
    return f"| {' | '.join([*cells, str(len(rows) - len(judged))])} |"


def _has(level: str) -> Callable[[Row], bool]:
    return lambda row: row["verdict"]["level"] == level


def _has_only_remark(row: Row) -> bool:
    return row["verdict"]["level"] == "ok" and is_remarked(row)


#: Reasons for a flag in words, and whether the ground truth confirms them.
FLAGS: Mapping[str, tuple[str, Callable[[Row], bool]]] = {
    "gain": ("expected loss", lambda row: gain(row) < 0.5),
    "change": ("change of a clean scan", lambda row: harms(row)),
    "pores": (
        f"number of pores of {MIN_PORE_VOXELS} voxels or more",
        lambda row: _is_off(row, MIN_PORE_VOXELS),
    ),
    "small pores": (
        f"number of pores of {DEFAULT_MIN_VOXELS} voxels or more",
        lambda row: _is_off(row, DEFAULT_MIN_VOXELS),
    ),
    "lost pores": (
        "small pores in the scan that are lost in the result",
        lambda row: row["truth"]["small"][2] < 0.75 * row["truth"]["small"][1],
    ),
    "thin structures": (
        "cracks, walls or fibres that fade",
        lambda row: _are_thin_lost(row),
    ),
    "structure": (
        "structure in the removed part",
        lambda row: _is_wrong_at_places(row),
    ),
    "doubtful gain": ("uncertain gain", lambda row: gain(row) < 0.5),
    "noise": ("uncertain noise measurement", lambda row: _is_noise_wrong(row)),
    "training data": (
        "unlike the training data, or removed part stronger than noise",
        lambda row: harms(row),
    ),
    "remark": (
        "remark: size up to which pores cannot be counted",
        lambda row: _are_lost(row),
    ),
}


def flags(row: Row) -> list[str]:
    """Return the names of the reasons for which a row is flagged."""
    causes = [cause for cause in row["verdict"]["causes"] if cause in FLAGS]
    return causes + ["remark"] * is_remarked(row)


def is_borne_out(row: Row) -> bool:
    """Whether the ground truth confirms the flag.

    The remark is considered only if it is the only flag.
    """
    causes = flags(row)
    if row["verdict"]["level"] != "ok":
        causes = [cause for cause in causes if cause != "remark"]
    return any(FLAGS[cause][1](row) for cause in causes)


def flag_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of flags, by reason."""
    yield (
        "| volumes | reason for the flag | harmful restorations | good restorations | "
        "good, flag borne out |"
    )
    yield "|---|---|---|---|---|"
    for half in sorted({row["half"] for row in rows}):
        flagged = [
            row
            for row in rows
            if row["half"] == half and is_judged(row) and is_flagged(row)
        ]
        for cause, (words, is_true) in FLAGS.items():
            mine = [row for row in flagged if cause in flags(row)]
            good = [row for row in mine if not harms(row)]
            true = sum(map(is_true, good))
            bad = len(mine) - len(good)
            yield f"| {half} | {words} | {bad} | {len(good)} | {true} |"
        good = [row for row in flagged if not harms(row)]
        true = sum(map(is_borne_out, good))
        bad = len(flagged) - len(good)
        yield f"| {half} | any reason | {bad} | {len(good)} | {true} |"


#: Alternative definitions of a flag, each as a test whether a row is flagged.
RULES: Mapping[str, Callable[[Row], bool]] = {
    "*harmful*, *caution* or remark": is_flagged,
    "*harmful* or *caution*": lambda row: row["verdict"]["level"] != "ok",
    "only *harmful*": _has("harmful"),
    "*harmful* or *caution*, without cautions about structure": lambda row: _without(
        row, "structure"
    ),
    "*harmful* or *caution*, without cautions about small pores": lambda row: _without(
        row, "small pores", "lost pores"
    ),
}


def trade_off_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of the table of alternative definitions: flagged rows, and wrong flags."""
    yield (
        "| volumes | definition of a flag | harmful and flagged | good and flagged | "
        "good, flag not borne out |"
    )
    yield "|---|---|---|---|---|"
    for half in sorted({row["half"] for row in rows}):
        judged = [row for row in rows if row["half"] == half and is_judged(row)]
        bad = [row for row in judged if harms(row)]
        good = [row for row in judged if not harms(row)]
        for name, is_chosen in RULES.items():
            wrong = sum(is_chosen(row) and not is_borne_out(row) for row in good)
            cells = [
                _share(sum(map(is_chosen, bad)), len(bad)),
                _share(sum(map(is_chosen, good)), len(good)),
                _share(wrong, len(good)),
            ]
            yield f"| {half} | {name} | {' | '.join(cells)} |"


def _without(row: Row, *causes: str) -> bool:
    verdict = row["verdict"]
    return verdict["level"] != "ok" and bool(set(verdict["causes"]) - set(causes))


def _limit(row: Row) -> float:
    return float(row["verdict"]["figures"].get(LOST_SIZE, 0))


def _is_off(row: Row, size: int) -> bool:
    """Whether the number of pores is wrong by a fifth and by at least two pores."""
    true, _, found = row["truth"]["counts"][str(size)]
    low, high = sorted((true, found))
    return high > WRONG * low and high - low >= 2


def _is_wrong_at_places(row: Row) -> bool:
    errors = row["truth"]["structure"]
    return errors is not None and errors[0] > 2 * errors[1]


def _are_thin_lost(row: Row) -> bool:
    """Whether thin structures have lost a quarter of their contrast or more."""
    kept = row["truth"].get("thin", [])
    return any(share is not None and share < THIN for share in kept)


def _is_noise_wrong(row: Row) -> bool:
    """Whether the measured noise is less accurate than stated for the estimator."""
    true = math.hypot(row["level"], row["own"]) * row["contrast"]
    measured = row["verdict"]["noise"]["level"]
    low, high = sorted((true, measured))
    return high > (ACCURACY if NOISES[row["noise"]] else WHITE_ACCURACY) * low


def _are_lost(row: Row) -> bool:
    """Whether pores up to the stated size are lost, or their number is wrong."""
    sizes = {int(size): found for size, found in row["truth"]["found"].items()}
    true, found = sizes[max(size for size in sizes if size <= max(_limit(row), 19))]
    return found < 0.75 * true or _is_off(row, DEFAULT_MIN_VOXELS)


def _share(n: int, of: int) -> str:
    return f"{n} ({100 * n / of:.0f} %)" if of else "–"


if __name__ == "__main__":
    main()
