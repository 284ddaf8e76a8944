"""Rankings: the best model or none is chosen; filters get the best strength."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr import io, restore
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.models import zoo
from napari_geosr.operations.restore import (
    RestoreConfig,
    prepare_steps,
    restore_average_steps,
    run_steps,
)
from napari_geosr.operations.restore.ranking import (
    RankConfig,
    Ranking,
    RankingEntry,
    choice,
    rank_steps,
)
from napari_geosr.operations.restore.ranking.choice import with_choice
from napari_geosr.operations.restore.ranking.pore_tests import (
    PoreTests,
    without_fading,
    without_harmful,
)
from napari_geosr.operations.restore.ranking.result import decide
from napari_geosr.operations.restore.ranking.tune import downhill, refined
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (12, 72, 72)
MEASURES = "Measuring the noise"
QUICK = RankConfig(models=("gaussian", "tv", "nlm"), threads=1)


def foam() -> np.ndarray:
    """Dark spheres with soft edges in a bright solid."""
    return 1 - sphere_foam(SHAPE, porosity=0.3, radius=(3, 9), seed=2).fraction


def scanned(
    level: float, seed: int = 0, **correlation: float
) -> tuple[Volume, Noise, np.ndarray]:
    """A scan of the foam, its noise and the truth, with other grey values."""
    clean = foam()
    noisy = clean + level * noise_like(SHAPE, correlation, np.random.default_rng(seed))
    volume = Volume((1000 + 200 * noisy).astype(np.float32), "ZYX", name="foam")
    sd = 200 * level
    noise = Noise(sd, 200.0, correlation=correlation, interval=(0.95 * sd, 1.05 * sd))
    return volume, noise, 1000 + 200 * clean


def ranked(volume: Volume, **more: Any) -> Ranking:
    config = more.pop("config", QUICK)
    found: Ranking = run_to_end(rank_steps(volume, config, **more))
    return found


def true_gain(
    volume: Volume, truth: np.ndarray, row: RankingEntry, noise: Noise
) -> float:
    """Actual gain of a candidate over the scan, in dB."""
    assert row.model is not None
    config = RestoreConfig(model=row.name, threads=1)
    rows = Ranking((row,), row.name, "", noise)
    steps = prepare_steps(volume, config, ranking=rows)
    prepared = run_to_end(steps)
    result = np.asarray(run_to_end(run_steps(prepared)).volume.data)
    before = np.square(np.asarray(volume.data) - truth).mean()
    return float(10 * np.log10(before / np.square(result - truth).mean()))


@pytest.mark.parametrize("correlation", [{}, {"z": 0.4, "y": 0.5, "x": 0.5}])
def test_expected_gains_are_the_true_ones(correlation: dict[str, float]) -> None:
    volume, noise, truth = scanned(0.3, **correlation)
    found = ranked(volume, noise=noise)
    true = {
        row.name: true_gain(volume, truth, row, noise)
        for row in found.rows
        if row.model is not None
    }
    for name, gain in true.items():
        assert found.row(name).gain == pytest.approx(gain, abs=0.7)
    assert true[found.choice] >= max(true.values()) - 0.3
    assert found.row("none").error == pytest.approx(noise.level, rel=0.02)
    assert [row.error for row in found.rows] == sorted(row.error for row in found.rows)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.6])
def test_a_second_scan_gives_the_same_without_knowing_the_noise(level: float) -> None:
    """Also a scan with less or more noise than the first one."""
    volume, _, truth = scanned(0.3)
    other, _, _ = scanned(level, seed=1)
    found = ranked(volume, second=other)
    assert found.noise.source == "repeat"
    row = found.chosen
    true, tolerance = true_gain(volume, truth, row, found.noise), max(1, 4 * level)
    assert row.gain == pytest.approx(true, abs=tolerance)
    with pytest.raises(VolumeError, match="same voxel grid"):
        ranked(volume, second=other.replace(data=other.data[:5]))


def test_a_scan_without_noise_is_left_alone(tmp_path: Path) -> None:
    clean = Volume((1000 + 200 * foam()).astype(np.uint16), "ZYX", (2, 2, 2), "µm")
    found = ranked(clean)
    assert found.keeps_scan
    assert "contrast" in found.reason
    assert found.chosen.model is None
    kept = restore(clean, "auto", threads=1)
    assert np.array_equal(kept.data, clean.data)
    assert kept.dtype == np.uint16
    record = kept.provenance[-1]
    assert record["model"] == {"name": "none"}
    assert record["ranking"]["choice"] == "none"
    source = io.write(clean, tmp_path / "clean.tif")
    out = tmp_path / "out.ome.tif"
    assert run(["restore", str(source), "--model", "auto", "--out", str(out)]) == 0
    written = io.read(out)
    assert np.array_equal(np.asarray(written.data), clean.data)
    assert (written.voxel_size, written.unit) == ((2, 2, 2), "µm")
    assert written.provenance[-1]["ranking"]["choice"] == "none"


def test_damaged_models_are_said_and_end_no_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.yaml").write_text("[" * 1000)
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path)
    clean = Volume((1000 + 200 * foam()).astype(np.uint16), "ZYX", (2, 2, 2), "µm")
    found = ranked(clean, config=RankConfig(threads=1))
    assert "card.yaml" in found.skipped["broken"]


def test_nothing_is_chosen_unless_it_clearly_helps() -> None:
    noise = Noise(10.0, 100.0)

    def row(name: str, gain: float, low: float) -> RankingEntry:
        return RankingEntry(name, "", 10 * 10 ** (-gain / 20), gain, (low, gain + 1))

    none = RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0))
    unsure, sure = row("a", 3.0, -0.1), row("b", 1.0, 0.5)
    assert decide([unsure, none], noise)[0] == "none"
    assert "a, is expected to gain 3.0 dB" in decide([unsure, none], noise)[1]
    assert decide([unsure, sure, none], noise)[0] == "b"
    assert decide([none], noise)[0] == "none"
    assert decide([sure, none], Noise(0.5, 100.0))[0] == "none"


@pytest.mark.parametrize(
    ("correlation", "patches", "gain", "choice"),
    [
        (0.5, True, 5.3, "network"),
        (0.5, True, 5.5, "filter"),
        (0.5, False, 5.1, "filter"),
        (0.1, True, 5.1, "filter"),
        (0.1, False, 4.9, "network"),
    ],
)
def test_patches_of_correlated_noise_need_a_lead(
    correlation: float, patches: bool, gain: float, choice: str
) -> None:
    def row(name: str, gain: float, **more: Any) -> RankingEntry:
        error, interval = 10 * 10 ** (-gain / 20), (gain - 0.5, gain + 0.5)
        return RankingEntry(name, "", error, gain, interval, **more)

    noise = Noise(10.0, 100.0, correlation={"y": correlation, "x": 0.0})
    none = RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0))
    tuned = row("filter", gain, strength=1.0, compares_patches=patches)
    rows = sorted((tuned, row("network", 5.0), none), key=lambda row: row.error)
    found, reason = decide(rows, noise)
    assert found == choice
    assert ("not clearly better" in reason) == (choice == "network" and gain > 5)


def test_of_small_uncertain_gains_the_most_certain_is_chosen() -> None:
    noise = Noise(5.0, 100.0, interval=(4.0, 6.0))

    def rows(gain: float, low: float) -> list[RankingEntry]:
        return [
            RankingEntry("network", "", 1.0, gain, (low, 6.0)),
            RankingEntry("filter", "", 1.1, gain - 0.8, (0.4, 3.0), strength=0.5),
        ]

    assert decide(rows(2.0, 0.3), noise)[0] == "filter"
    assert "network may gain more (2.0 dB)" in decide(rows(2.0, 0.3), noise)[1]
    assert "less certain" in decide(rows(2.0, 0.3), noise)[1]
    assert decide(rows(2.0, 0.45), noise)[0] == "network"
    assert decide(rows(2.0, 0.6), noise)[0] == "network"
    assert decide(rows(3.0, 0.3), noise)[0] == "network"


def test_filters_take_the_best_strength_and_say_it() -> None:
    volume, noise, _ = scanned(0.3)
    weak, weak_noise, _ = scanned(0.08)
    strengths = []
    for scan, its in ((volume, noise), (weak, weak_noise)):
        steps = prepare_steps(
            scan, RestoreConfig(model="gaussian", threads=1), noise=its
        )
        prepared = run_to_end(steps)
        assert prepared.model.card.axes == "ZYX"
        strengths.append(prepared.model.card.network_kwargs["strength"])
    assert strengths[0] > 1.2 * strengths[1] > 0
    twice = RestoreConfig(model="gaussian", threads=1, strength=2)
    prepared = run_to_end(prepare_steps(weak, twice, noise=weak_noise))
    assert prepared.model.card.network_kwargs["strength"] == 2 * strengths[1]
    result = restore(volume, "tv", threads=1)
    settings = result.provenance[-1]["model"]["settings"]
    assert settings["ndim"] == 3
    assert settings["strength"] > 0
    nothing = restore(volume, "tv", threads=1, strength=0)
    np.testing.assert_allclose(nothing.data, volume.data, rtol=1e-6)


def test_a_filter_that_only_harms_returns_the_scan() -> None:
    rng = np.random.default_rng(0)
    busy = Volume(rng.random((10, 60, 60)).astype(np.float32), "ZYX")
    quiet = Noise(1e-4, 1.0)
    steps = prepare_steps(busy, RestoreConfig(model="gaussian"), noise=quiet)
    assert run_to_end(steps).model.card.network_kwargs["strength"] == 0


def test_images_are_ranked_as_well() -> None:
    volume, noise, truth = scanned(0.3)
    flat = Volume(volume.data[8], "YX")
    found = ranked(flat, noise=noise)
    assert not found.keeps_scan
    assert found.chosen.model is not None
    assert found.chosen.model.card.axes == "YX"
    gain = true_gain(flat, truth[8], found.chosen, noise)
    assert found.chosen.gain == pytest.approx(gain, abs=1.5)


def test_models_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, noise, _ = scanned(0.3)
    with pytest.raises(ModelError, match="not a denoised scan"):
        ranked(volume, noise=noise, config=RankConfig(models=("foam-sr-x2",)))
    config = RankConfig(modality="electron", threads=1)
    found = ranked(volume, noise=noise, config=config)
    assert "made for ct" in found.skipped["ct-denoise"]
    assert {row.name for row in found.rows} == {"gaussian", "nlm", "tv", "none"}


def test_it_can_be_cancelled_and_auto_is_for_one_scan() -> None:
    volume, noise, _ = scanned(0.3)
    with pytest.raises(Cancelled):
        run_to_end(rank_steps(volume, QUICK, lambda: True, noise=noise))
    with pytest.raises(ConfigError, match="one scan"):
        run_to_end(restore_average_steps([volume, volume], RestoreConfig(model="auto")))
    with pytest.raises(ConfigError, match="ensemble"):
        restore(volume, "auto", uncertainty="ensemble", ensemble_with="ct-denoise")


def test_auto_restores_with_what_it_chose() -> None:
    volume, _, truth = scanned(0.3)
    result = restore(volume, "auto", threads=1)
    record = result.provenance[-1]
    choice = record["ranking"]["choice"]
    assert choice != "none"
    assert record["model"]["name"] == choice == record["settings"]["model"]
    before = np.square(np.asarray(volume.data) - truth).mean()
    after = np.square(np.asarray(result.data) - truth).mean()
    gain = float(10 * np.log10(before / after))
    rows = {row["name"]: row for row in record["ranking"]["candidates"]}
    assert gain > 3
    # For an error of a few per cent of the noise, only the magnitude can be determined.
    assert rows[choice]["interval_db"][0] < gain
    assert rows[choice]["expected_gain_db"] > gain / 2


def test_command_prints_a_table_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, _, _ = scanned(0.3)
    path = str(io.write(volume, tmp_path / "foam.tif"))
    words = ["models", "rank", path, "--models", "gaussian,tv", "--threads", "1"]
    assert run(words) == 0
    text = capsys.readouterr().out
    assert "% of the contrast" in text
    assert "→" in text
    assert "is expected to gain" in text
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["candidates"]][-1] == "none"
    assert found["choice"] in {"gaussian", "tv"}
    assert found["noise"]["relative_level"] == pytest.approx(0.3, rel=0.2)
    assert run(["models", "rank", path, "--second", path + "x"]) == 2


def test_interpolation_has_no_strength() -> None:
    volume = Volume(np.random.default_rng(0).random((8, 24, 24), np.float32), "ZYX")
    with pytest.raises(ConfigError, match="--strength at 1"):
        restore(volume, "cubic-x2", threads=1, strength=0.5)


@given(st.floats(0.05, 6.0))
def test_strengths_are_searched_downhill(best: float) -> None:
    strengths = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

    def risk(strength: float) -> float:
        return math.log(strength / best) ** 2

    i = downhill(strengths, risk)
    assert risk(strengths[i]) == min(map(risk, strengths))
    found = refined(strengths, i, risk)
    assert strengths[0] <= found <= strengths[-1]
    if strengths[0] < best < strengths[-1] and 0 < i < 5:
        assert found == pytest.approx(best, rel=0.01)


def test_cancelling_while_the_noise_is_measured_is_a_cancellation() -> None:
    volume, _, _ = scanned(0.3)
    told: list[str] = []

    def to_the_end() -> None:
        steps = rank_steps(volume, QUICK, lambda: told[-1:] == [MEASURES])
        told.extend(getattr(step, "message", "") for step in steps)

    with pytest.raises(Cancelled):
        to_the_end()


def test_unknown_voxels_of_a_second_scan_are_left_out() -> None:
    volume, noise, _ = scanned(0.3)
    other = scanned(0.3, seed=1)[0]
    data = np.array(other.data)
    data[:, 20:40] = np.nan
    found = ranked(volume, noise=noise, second=other.replace(data=data))
    assert all(np.isfinite(row.error) for row in found.rows)
    assert found.rows[0].gain < 20


def test_the_same_scan_twice_is_no_repetition() -> None:
    volume, _, _ = scanned(0.3)
    with pytest.raises(VolumeError, match="same values"):
        ranked(volume, second=volume)


def test_a_filter_returns_a_flat_scan_without_noise() -> None:
    data = np.full(SHAPE, 10.0, np.float32)
    data[:, 20:50, 20:50] = 200
    found = restore(Volume(data, "ZYX"), "gaussian", threads=1)
    np.testing.assert_allclose(found.data, data, rtol=1e-6)


def test_a_better_row_that_is_not_certain_is_not_called_the_next() -> None:
    noise = Noise(5.0, 100.0, interval=(4.0, 6.0))
    rows = [
        RankingEntry("a", "", 1.0, 5.0, (-1.0, 9.0)),
        RankingEntry("b", "", 1.2, 4.0, (2.0, 6.0)),
    ]
    choice, why = decide(rows, noise)
    assert choice == "b"
    assert "a may gain more" in why


def no_other(_row: RankingEntry) -> None:
    """No lower strength is faultless."""


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.1, 20), st.booleans()), max_size=6)
)
def test_a_candidate_is_chosen_only_if_it_keeps_the_pores(
    drawn: list[tuple[bool, float, bool]],
) -> None:
    """Including one after a filter, because `decide` may prefer it."""
    network, filter_ = zoo.find("ct-denoise"), zoo.find("gaussian")
    noise = Noise(10.0, 100.0, interval=(9, 11))
    rows, harmful = [RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0))], set()
    for i, (is_network, gain, is_harmful) in enumerate(drawn):
        model = network if is_network else filter_
        error = 10 / 10 ** (gain / 20)
        strength = None if is_network else 1.0
        name = f"m{i}"
        rows.append(RankingEntry(name, "", error, gain, (0.1, 30), strength, model))
        if is_harmful:
            harmful.add(name)
    rows.sort(key=lambda row: row.error)
    tested: list[str] = []

    def wrong_pores(row: RankingEntry) -> str:
        tested.append(row.name)
        return "far more pores" if row.name in harmful else ""

    skipped: dict[str, str] = {}
    remaining = without_harmful(rows, noise, wrong_pores, no_other, skipped)
    chosen, _ = decide(remaining, noise)
    assert chosen not in harmful
    assert chosen in {"none", *tested}
    assert set(skipped) == harmful & set(tested)
    assert [row for row in rows if row.name not in skipped] == remaining


@pytest.mark.parametrize(
    ("gains", "fading", "expected"),
    [
        ({"a": 8.0, "b": 7.4}, {"a"}, "b"),
        ({"a": 8.0, "b": 7.4, "c": 7.2}, {"a", "b"}, "c"),
        ({"a": 8.0, "b": 6.9}, {"a"}, "a"),  # too much would be given up
        ({"a": 8.0, "b": 7.4}, {"a", "b"}, "a"),  # the verdict will warn
        ({"a": 8.0, "b": 7.4}, set(), "a"),
        ({"a": 8.0}, {"a"}, "a"),
    ],
)
def test_a_candidate_that_keeps_what_the_scan_shows_is_preferred(
    gains: dict[str, float], fading: set[str], expected: str
) -> None:
    model, noise = zoo.find("ct-denoise"), Noise(10.0, 100.0, interval=(9, 11))
    rows = [
        RankingEntry(name, "", 10 / 10 ** (gain / 20), gain, (0.1, 30), None, model)
        for name, gain in gains.items()
    ]
    rows.append(RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0)))
    skipped: dict[str, str] = {}
    remaining = without_fading(
        rows,
        noise,
        lambda row: "pores fade" if row.name in fading else "",
        no_other,
        skipped,
    )
    assert decide(remaining, noise)[0] == expected
    assert set(skipped) == {row.name for row in rows} - {row.name for row in remaining}


@pytest.mark.parametrize(
    ("gain_at_lower", "expected"),
    [
        (7.8, ("a", 0.9)),
        (7.2, ("b", 1.0)),  # another model is better
        (6.9, ("b", 1.0)),
    ],
)
@pytest.mark.parametrize("select", [without_harmful, without_fading])
def test_a_lower_strength_competes_with_the_other_models(
    select: Any, gain_at_lower: float, expected: tuple[str, float]
) -> None:
    model, noise = zoo.find("ct-denoise"), Noise(10.0, 100.0, interval=(9, 11))

    def entry(name: str, gain: float) -> RankingEntry:
        error = 10 / 10 ** (gain / 20)
        return RankingEntry(name, "", error, gain, (0.1, 30), None, model)

    def fault(row: RankingEntry) -> str:
        return "pores fade" if row.name == "a" and row.run_strength == 1 else ""

    rows = [entry("a", 8.0), entry("b", 7.4)]
    rows.append(RankingEntry("none", "", 10.0, 0.0, (0.0, 0.0)))
    lower = replace(entry("a", gain_at_lower), run_strength=0.9)
    skipped: dict[str, str] = {}
    remaining = select(rows, noise, fault, lambda _row: lower, skipped)
    choice, reason = decide(remaining, noise)
    chosen = next(row for row in remaining if row.name == choice)
    assert (choice, chosen.run_strength) == expected
    assert ("The strength is 0.9 because" in reason) == (choice == "a")
    assert not skipped
    errors = [row.error for row in remaining]
    assert errors == sorted(errors)


def test_a_network_that_removes_structures_runs_at_a_lower_strength(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        PoreTests,
        "fading",
        lambda _self, row: "pores fade" if row.run_strength > 0.85 else "",
    )
    volume, noise, truth = scanned(0.3)
    config = RankConfig(models=("ct-denoise",), threads=1)
    found = ranked(volume, config=config, noise=noise)
    row = found.row("ct-denoise")
    assert found.choice == "ct-denoise"
    assert row.run_strength == 0.8
    assert "The strength is 0.8 because" in found.reason
    assert row.to_json_dict()["run_strength"] == 0.8
    chosen = with_choice(RestoreConfig(model="auto", threads=1), found)
    assert chosen.strength == 0.8
    own = RestoreConfig(model="auto", strength=1.5)
    assert with_choice(own, found).strength == 1.5
    # The expected gain is that of a run with this strength.
    prepared = run_to_end(prepare_steps(volume, chosen, ranking=found))
    result = run_to_end(run_steps(prepared)).volume
    before = np.square(np.asarray(volume.data) - truth).mean()
    after = np.square(np.asarray(result.data) - truth).mean()
    assert row.gain == pytest.approx(10 * np.log10(before / after), abs=0.7)
    assert result.provenance[-1]["settings"]["strength"] == 0.8


@pytest.mark.parametrize(("strength", "lower"), [(1.0, True), (0.5, False)])
def test_the_users_own_strength_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, strength: float, lower: bool
) -> None:
    asked: list[bool] = []

    def rank(*_args: Any, lower_strengths: bool, **_more: Any) -> Any:
        asked.append(lower_strengths)
        raise Cancelled("stopped")
        yield

    monkeypatch.setattr(choice, "rank_steps", rank)
    config = RestoreConfig(model="auto", strength=strength)
    with pytest.raises(Cancelled):
        run_to_end(choice.choose_steps(scanned(0.3)[0], config))
    assert asked == [lower]


def test_channels_are_restored_at_their_lowest_strength() -> None:
    noise, rankings = Noise(10.0, 100.0), []
    for strengths in ((0.9, 1.0), (1.0, 0.8)):
        rows = tuple(
            RankingEntry(name, "", 1.0, gain, (1.0, 9.0), run_strength=strength)
            for name, gain, strength in zip(
                ("ct-denoise", "fluo-denoise"), (9.0, 5.0), strengths, strict=True
            )
        )
        rankings.append(Ranking(rows, "ct-denoise", "", noise))
    for order in (rankings, rankings[::-1]):
        found, text = choice._best_on_average(order)
        assert found.choice == "ct-denoise"
        assert found.chosen.run_strength == 0.9
        assert "The strength is 0.9 in all channels." in text
    found, text = choice._best_on_average([replace(rankings[1]), rankings[1]])
    assert (found.chosen.run_strength, text) == (1.0, "")


def test_a_gain_that_may_be_a_great_loss_is_told_in_words() -> None:
    row = RankingEntry("tv", "TV", 1.0, 13.3, (-40.0, 13.3))
    assert row.gain_text == "13.3 dB (possibly far worse)"
    row = RankingEntry("tv", "TV", 1.0, 13.3, (-40.0, 15.0))
    assert row.gain_text == "13.3 dB (possibly far worse, at most 15.0)"
    row = RankingEntry("tv", "TV", 1.0, 2.0, (-1.0, 3.0))
    assert row.gain_text == "2.0 dB (−1.0 to 3.0)"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((8.4, 18.9), "18.9 dB (at least 8.4)"),
        ((18.9, 19.4), "18.9 dB (at most 19.4)"),
        ((18.9, 18.9), "18.9 dB"),
        ((8.4, 19.4), "18.9 dB (8.4 to 19.4)"),
    ],
)
def test_an_end_that_is_the_gain_itself_is_a_limit(interval, words) -> None:
    """The same form as in the verdict before a run."""
    row = RankingEntry("ct-denoise", "CT", 1.0, 18.9, interval)
    assert row.gain_text == words
