"""Gain of a weighted mean of denoisers over the single best one.

Weights of up to three candidates minimise Stein's risk estimate, which is a quadratic
form of the weights: ``SURE(a) = aᵀGa + 2 bᵀa − tr C`` on the simplex, where ``G``
contains the products of the components that the candidates remove, and ``b`` the noise
that they leave (Blu and Luisier 2007, doi:10.1109/TIP.2007.906002). napari-geosr does
not combine models; this benchmark shows how much it would gain. ``--sets`` uses the
test sets of the model cards instead of the real volumes of ``scripts/real_volumes.py``.

    python benchmarks/bench_combination.py --data FOLDER --out DOCUMENT
    python benchmarks/bench_combination.py --sets --out DOCUMENT

Responses are stored in ``--work``, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _document import replace_section
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.inference.risk.evaluation import draw_sample
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.operations.restore.ranking import RankConfig, rank_steps
from napari_geosr.operations.restore.ranking.tune import TrialSetup
from napari_geosr.operations.restore.scale import scaled

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import real_volumes
from pretraining.testsets import SETS, TEST_SEEDS

Array = np.ndarray
#: Amplitude of the probe in units of the noise.
_EPSILON = 0.1
#: Largest number of candidates in a combination.
_MOST = 3


def responses(noisy: Array, models: tuple[str, ...] = ()) -> dict[str, Any]:
    """Results of all candidates, and their responses to a small noise probe."""
    volume = Volume(noisy, "ZYX"[3 - noisy.ndim :], name="scan")
    ranking = run_to_end(rank_steps(volume, RankConfig(threads=1, models=models)))
    noise, statistics = ranking.noise, run_to_end(scan_steps(noisy))
    sample = draw_sample(noisy, noise, n=1)
    setup = TrialSetup(sample, statistics, noise, "cpu", 1)
    levels = level_map(noisy.astype(np.float64), noise)
    unit = noise_of_scan(noise, noisy.shape, np.random.default_rng(5))
    probe = levels * unit
    whole = tuple(slice(0, n) for n in noisy.shape)
    found: dict[str, Any] = {"probe": probe, "lm": levels}
    for row in ranking.rows:
        if row.model is None:
            continue
        restore = setup.restorer(row.model, scaled(statistics, row.model.card, volume))
        result = restore(noisy, whole)
        moved = restore(noisy + _EPSILON * probe, whole)
        found[f"f_{row.name}"] = result.astype(np.float32)
        found[f"j_{row.name}"] = ((moved - result) / _EPSILON).astype(np.float32)
    return found | {"choice": ranking.choice}


def best_weights(products: Array, kept: Array, most: int) -> Array:
    """Weights on the simplex with the smallest risk; at most `most` are nonzero."""
    n, scale = len(kept), float(np.abs(products).max())
    products, kept = products / scale, kept / scale  # scaled like the constraint
    best, weights = np.inf, np.zeros(n)
    for size in range(1, most + 1):
        for chosen in map(list, itertools.combinations(range(n), size)):
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = 2 * products[np.ix_(chosen, chosen)]
            system[size, size] = 0
            right = np.r_[-2 * kept[chosen], 1]
            part = np.linalg.lstsq(system, right, rcond=None)[0][:size]
            if (part < -1e-9).any():
                continue
            risk = part @ products[np.ix_(chosen, chosen)] @ part
            risk += 2 * kept[chosen] @ part
            if risk < best:
                best, weights = risk, np.zeros(n)
                weights[chosen] = part
    return weights


def combined(kept_file: Path) -> dict[str, Any]:
    """Return the results of the single best candidate and of the best combinations."""
    with np.load(kept_file) as file:
        stored = {name: file[name] for name in file.files}
    noisy = stored["noisy"].astype(np.float64)
    names = [name[2:] for name in stored if name.startswith("f_")]
    removed = np.stack([(stored[f"f_{n}"] - noisy).ravel() for n in names])
    probe = stored["probe"].astype(np.float64)
    kept = np.array([np.mean(probe * stored[f"j_{n}"]) for n in names])
    products = removed @ removed.T / noisy.size
    found: dict[str, Any] = {"meta": json.loads(str(stored["meta"])), "names": names}
    for most in range(1, _MOST + 1):
        weights = best_weights(products, kept, most)
        found[most] = noisy + (weights @ removed).reshape(noisy.shape)
        found[f"weights {most}"] = {
            n: round(float(w), 2) for n, w in zip(names, weights, strict=True) if w > 0
        }
    return stored | found


def real_rows(data: Path, work: Path) -> Iterator[str]:
    """Yield the lines of the table of real volumes with 5 to 40 % noise."""
    rv = real_volumes
    for name, level, kind in itertools.product(rv.VOLUMES, rv.LEVELS[1:], rv.KINDS):
        few = name not in rv._POROUS
        if few and (level not in rv._FEW["levels"] or kind not in rv._FEW["kinds"]):
            continue
        file = work / f"{name}-{kind}-{level:g}.npz".replace(" ", "_")
        noisy, clean, added = rv._scan(name, kind, level, data)
        own = rv.own_level(clean)
        own_rms = float(np.sqrt(np.mean(own**2)))
        if not file.exists():
            total = float(np.hypot(level * rv.contrast(clean), own_rms))
            tried = [
                (rv.fair_psnr(v, clean, added, own), setting)
                for setting, v in rv.classical(noisy, total)
            ]
            made = responses(noisy)
            meta = {"choice": made.pop("choice"), "classical": [max(tried)]}
            np.savez(file, noisy=noisy, meta=json.dumps(meta), **made)
        case = combined(file)
        best = case["meta"]["classical"][0][0]
        if level * rv.contrast(clean) <= own_rms:
            continue
        psnr = [rv.fair_psnr(case[i], clean, added, own) for i in range(1, _MOST + 1)]
        yield _line(f"{name}, {level:.0%} {kind}", psnr, best, case)


def set_rows(work: Path, seed: int) -> Iterator[str]:
    """Yield the lines of the table of the test sets of the model cards."""
    pairs = {
        "ct-denoise": "porous-denoise",
        "fluo-denoise": "photon-denoise",
    }
    for model, earlier in pairs.items():
        for test_set in SETS[model]:
            scan = test_set.scan(seed)
            noisy, clean = scan.noisy, scan.clean
            if len(noisy) == 1:
                noisy, clean = noisy[0], clean[0]
            file = work / f"set-{model}-{test_set.name}.npz".replace(" ", "_")
            if not file.exists():
                made = responses(noisy.astype(np.float32), (model, earlier, "nlm"))
                meta = json.dumps({"choice": made.pop("choice")})
                np.savez(file, noisy=noisy, meta=meta, **made)
            case = combined(file)

            def psnr(image: Array, clean: Array = clean, scan: Any = scan) -> float:
                error = float(np.sqrt(np.mean((image - clean) ** 2)))
                return 20 * float(np.log10(abs(scan.contrast) / error))

            found = [psnr(case[i]) for i in range(1, _MOST + 1)]
            singles = [f"{psnr(case[f'f_{m}']):.2f}" for m in (model, earlier)]
            weights = _words(case[f"weights {_MOST}"])
            cells = [test_set.name, *singles, *(f"{v:.2f}" for v in found), weights]
            yield "| " + " | ".join(cells) + " |"


def _line(title: str, psnr: list[float], best: float, case: dict[str, Any]) -> str:
    cells = [title, f"{best:.2f}", *(f"{v:.2f}" for v in psnr)]
    return "| " + " | ".join([*cells, _words(case[f"weights {_MOST}"])]) + " |"


def _words(weights: dict[str, float]) -> str:
    ordered = sorted(weights.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {weight:.0%}" for name, weight in ordered)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--sets", action="store_true", help="use the test sets of the model cards"
    )
    parser.add_argument("--work", type=Path, default=Path("build/combination"))
    parser.add_argument("--out", type=Path, help="document to write the table into")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    end = (
        "single candidate with the smallest expected error | combination of two | "
        "combination of three | weights in the combination of three"
    )
    if options.sets:
        head = f"| test set | new network | earlier network | {end} |"
        rows: Iterator[str] = set_rows(options.work, TEST_SEEDS[0])
    elif options.data is None:
        parser.error("give --data or --sets")
    else:
        head = (
            "| scan and added noise | best classical filter (tuned with the ground "
            f"truth) | {end} |"
        )
        rows = real_rows(options.data, options.work)
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in rows:
        print(row, flush=True)
        lines.append(row)
    if options.out is not None:
        section = "card sets" if options.sets else "real volumes"
        replace_section(options.out, section, "\n".join(lines))


if __name__ == "__main__":
    main()
