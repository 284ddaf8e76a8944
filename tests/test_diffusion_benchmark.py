"""The benchmark of intervals from samples: calibration, coverage and stored rows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr.measure.interval import conformal_factor


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("_porosity_bands")


@pytest.fixture
def bench(bands: Any) -> Any:
    return importlib.import_module("bench_diffusion_band")


def rows(bands: Any, n: int, seed: int) -> list[dict[str, Any]]:
    """Scans with samples that differ from each other half as much as from the truth."""
    rng = np.random.default_rng(seed)
    made = []
    for truth in rng.uniform(0.1, 0.4, n):
        centre = truth + rng.normal(0, 0.02)
        each = rng.normal(centre, 0.01, 32)
        mean = {
            "porosity": centre,
            "needed": (centre - truth) / 0.01,
            "shares": list(centre - 0.01 * bands.SHIFTS),
        }
        samples = {**mean, "each porosity": list(each)}
        made.append({"truth": truth, "tta": mean, "samples": samples})
    return made


def test_calibrated_intervals_contain_the_nominal_share_of_scans(bands: Any) -> None:
    first, second = rows(bands, 400, 0), rows(bands, 400, 1)
    shares = {}
    for band in bands.bands():
        factor = band.factor
        if factor is None:
            factor = bands.signed_factor([band.score(row) for row in first])
        held, widths = bands.coverage(band, factor, second)
        shares[band.title] = held / len(second)
        if band.factor is None:
            # 1.64 standard deviations of the error, in any unit
            assert np.median(widths) == pytest.approx(0.033, abs=0.004), band.title
            assert shares[band.title] == pytest.approx(0.9, abs=0.05), band.title
    assert shares["samples, 5 to 95 % quantiles"] < 0.7


def test_each_score_is_the_factor_at_which_the_interval_reaches_the_truth(
    bands: Any,
) -> None:
    for row in rows(bands, 20, 2):
        for band in bands.bands():
            score = band.score(row)
            low, high = band.ends(row, score + 1e-3)
            assert low <= row["truth"] <= high, band.title
            low, high = band.ends(row, score - 1e-3)
            assert not low <= row["truth"] <= high, band.title


def test_scores_may_be_negative(bands: Any) -> None:
    scores = [-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4]
    assert bands.signed_factor(scores) == pytest.approx(0.4)
    lower = [score - 0.5 for score in scores]
    assert bands.signed_factor(lower) == pytest.approx(-0.1)


def test_the_table_has_a_row_for_each_interval(bands: Any) -> None:
    table = bands.band_table(rows(bands, 12, 3), rows(bands, 12, 4)).splitlines()
    assert len(table) == 2 + len(bands.bands())
    assert all(line.count("|") == table[0].count("|") for line in table)


def test_stored_rows_are_used_again(bench: Any, tmp_path: Path) -> None:
    made = []

    def make(number: int) -> dict[str, int]:
        made.append(number)
        return {"number": number}

    path = tmp_path / "rows.jsonl"
    bench.stored_rows(path, 2, make)
    again = bench.stored_rows(path, 4, make)
    assert made == [0, 1, 2, 3]
    assert [row["number"] for row in again] == made
    assert len(bench.stored_rows(path, 3, make)) == 3


def test_scans_are_dark_and_of_known_porosity(bench: Any) -> None:
    scan, threshold = bench.simulate("test", 0, 6)
    assert scan.noisy.shape == (6, 6, 6)
    assert scan.clean.shape == scan.mask.shape == (24, 24, 24)
    below = (scan.clean < threshold).mean()
    assert below == pytest.approx(scan.mask.mean(), abs=0.05)
    again, _ = bench.simulate("test", 0, 6)
    np.testing.assert_array_equal(again.noisy, scan.noisy)
    other, _ = bench.simulate("calibration", 0, 6)
    assert not np.array_equal(other.mask, scan.mask)


@pytest.mark.parametrize(
    ("needed", "nominal", "factor"),
    [
        ([1, -2, 3, -4, 5, 6, 7, 8, 9], 0.9, 9),
        ([1, -2, 3], 0.5, 2),
    ],
)
def test_the_conformal_factor_is_a_rank(
    needed: list[float], nominal: float, factor: float
) -> None:
    assert conformal_factor(needed, nominal) == factor


def test_too_few_scans_give_no_factor() -> None:
    with pytest.raises(ValueError, match="8 scans are too few"):
        conformal_factor([1.0] * 8, 0.9)
