"""``--model auto`` with an upscale factor: a clearly better model, or cubic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr import io, restore
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import StageStarted, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.topics import Remark
from napari_geosr.models import zoo
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.ranking import (
    RankConfig,
    Ranking,
    RankingEntry,
    rank_steps,
    upscaling,
)
from napari_geosr.operations.restore.ranking.choice import choose_steps
from napari_geosr.operations.restore.ranking.rank import find_ranking
from napari_geosr.operations.restore.ranking.upscaling import decide_upscaling
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    upscaling_verdict,
)
from napari_geosr.operations.restore.verdict import steps as verdict_module
from napari_geosr.operations.restore.verdict.steps import verdict_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam

TWICE = RankConfig(upscale_factor=2, threads=1)
NOISE = Noise(0.05, 1.0, correlation={"z": 0.0, "y": 0.0, "x": 0.0})
CUBIC = RankingEntry("cubic-x2", "Interpolation", 1.0, 0.0, (0.0, 0.0))


def fine_foam() -> np.ndarray:
    """Dark spheres, on the grid of the sample."""
    found = sphere_foam((80, 80, 80), porosity=0.3, radius=(4, 12), seed=4)
    return (1 - found.fraction).astype(np.float32)


def averaged(values: np.ndarray) -> np.ndarray:
    """Means over blocks of two voxels along every axis."""
    split = [part for n in values.shape for part in (n // 2, 2)]
    return values.reshape(split).mean(axis=tuple(range(1, 2 * values.ndim, 2)))


def scan(level: float, axes: str = "ZYX") -> tuple[Volume, np.ndarray, Noise]:
    """A foam on a grid of half the resolution, with known noise."""
    truth = fine_foam() if axes == "ZYX" else fine_foam()[40]
    coarse = averaged(truth)
    coarse = coarse + level * np.random.default_rng(1).standard_normal(coarse.shape)
    noise = Noise(level, 1.0, correlation={axis.lower(): 0.0 for axis in axes})
    size = (2.0,) * len(axes)
    return Volume(coarse.astype(np.float32), axes, size, "µm"), truth, noise


def outcome(gain: float, low: float, high: float) -> UpscalingVerdict:
    return UpscalingVerdict(gain, (low, high), 0.3, None, 4, (0.8, 1.0))


def entry(name: str, gain: float, low: float, high: float) -> RankingEntry:
    found = outcome(gain, low, high)
    return RankingEntry(name, name, 0.8, gain, (low, high), upscaling_verdict=found)


def decided(*models: RankingEntry, noise: Noise = NOISE) -> tuple[str, str]:
    return decide_upscaling([CUBIC, *models], CUBIC, noise)


def test_a_clear_gain_is_taken_and_the_best_of_several():
    choice, reason = decided(entry("a", 2.0, 0.5, 6.0), entry("b", 3.0, 0.8, 7.0))
    assert choice == "b"
    assert "3.0 dB better than interpolation" in reason
    assert "the next best is a (" in reason


def test_what_may_be_a_loss_is_interpolated():
    for gain, low in ((-0.5, -2.7), (0.0, -2.2), (0.6, -1.5)):
        choice, reason = decided(entry("a", gain, low, gain + 4))
        assert choice == "cubic-x2"
        assert "no model is clearly better" in reason


def test_doubtful_noise_is_no_basis_for_a_model():
    unknown = Noise(0.0, 1.0, interval=(0.0, 0.3))
    structure = Noise(0.5, 1.0, correlation={"z": 0.5, "y": 0.5, "x": 0.5})
    for noise in (unknown, structure):
        choice, reason = decided(entry("a", 5.0, 3.0, 9.0), noise=noise)
        assert choice == "cubic-x2"
        assert "uncertain" in reason


def spline(gain: float) -> RankingEntry:
    model = zoo.find("spline-x2")
    return replace(entry("spline-x2", gain, gain - 2.2, gain + 4.1), model=model)


def test_the_better_interpolation_is_chosen_if_the_noise_is_certain():
    choice, reason = decided(spline(0.6))
    assert choice == "spline-x2"
    assert "spline-x2 (spline interpolation)" in reason
    assert decided(spline(0.1))[0] == "cubic-x2"
    unknown = Noise(0.0, 1.0, interval=(0.0, 0.3))
    assert decided(spline(0.6), noise=unknown)[0] == "cubic-x2"
    clipped = replace(NOISE, doubts=("10 % of the voxels are clipped.",))
    assert decided(spline(0.6), noise=clipped)[0] == "cubic-x2"
    # Smooth noise, or less noise than measured, is no risk.
    smooth = replace(unknown, notes=(Remark("Varies by 2 %.", "smooth variation"),))
    assert decided(spline(0.6), noise=smooth)[0] == "spline-x2"
    lower = replace(NOISE, doubts=(Remark("It is too small.", "fine structure"),))
    assert decided(spline(0.6), noise=lower)[0] == "spline-x2"


def test_a_model_must_be_better_than_the_best_interpolation():
    assert decided(spline(0.6), entry("a", 0.9, -1.3, 5.0))[0] == "spline-x2"
    assert decided(spline(1.6), entry("a", 1.4, -0.8, 5.5))[0] == "spline-x2"
    assert decided(spline(0.6), entry("a", 1.4, -0.8, 5.5))[0] == "a"


def test_without_noise_the_spline_is_chosen_and_closer_to_the_sample():
    volume, truth, noise = scan(0.0)
    config = RankConfig(upscale_factor=2, threads=1, models=("spline-x2",))
    ranking = run_to_end(rank_steps(volume, config, noise=noise))
    assert ranking.choice == "spline-x2"
    errors = [
        np.square(restore(volume, name, threads=1).data - truth).mean()
        for name in ("spline-x2", "cubic-x2")
    ]
    assert errors[0] < 0.8 * errors[1]


def test_rounding_to_small_steps_is_no_doubt():
    words = (Remark("Steps of 1.", "rounding"),)
    for upper, expected in ((0.004, "a"), (0.1, "cubic-x2")):
        noise = Noise(0.0, 1.0, interval=(0.0, upper), doubts=words)
        assert decided(entry("a", 2.0, -0.2, 6.1), noise=noise)[0] == expected


def test_without_a_model_it_is_interpolated_and_the_reason_given():
    assert decided()[0] == "cubic-x2"
    skipped = {"a": "the scan is too small."}
    choice, reason = decide_upscaling([CUBIC], CUBIC, NOISE, (), skipped)
    assert choice == "cubic-x2"
    assert "a: the scan is too small." in reason


def test_a_model_for_other_scans_is_not_chosen():
    best, second = entry("a", 5.0, 2.8, 9.1), entry("b", 2.0, -0.2, 6.1)
    rows = [CUBIC, best, second]
    assert decide_upscaling(rows, CUBIC, NOISE, {"a"})[0] == "b"
    choice, reason = decide_upscaling([CUBIC, best], CUBIC, NOISE, {"a"})
    assert choice == "cubic-x2"
    assert "unlike the training data of this model" in reason


@given(
    st.lists(
        st.tuples(st.floats(-10, 10), st.floats(2.2, 10), st.floats(4.1, 10)),
        max_size=5,
    )
)
def test_a_chosen_model_is_never_expected_to_lose(gains):
    rows = [
        entry(f"m{i}", gain, gain - below, gain + above)
        for i, (gain, below, above) in enumerate(gains)
    ]
    choice, _ = decided(*rows)
    row = next(row for row in [CUBIC, *rows] if row.name == choice)
    assert row is CUBIC or row.gain >= 1
    if max((gain for gain, *_ in gains), default=0) >= 1:
        assert row.gain == max(gain for gain, *_ in gains)


def test_the_proposal_is_closer_to_the_sample_than_interpolation(tmp_path: Path):
    volume, truth, noise = scan(0.2)
    ranking = run_to_end(rank_steps(volume, TWICE, noise=noise))
    assert ranking.choice == "foam-sr-x2"
    assert ranking.gain_over == "cubic"
    names = [row.name for row in ranking.rows]
    assert names == ["foam-sr-x2", "ct-sr-x2", "cubic-x2", "spline-x2"]
    assert "within slices" in ranking.skipped["fluo-sr-x2"]
    errors = {
        name: np.square(restore(volume, name, threads=1).data - truth).mean()
        for name in names
    }
    for name in ("foam-sr-x2", "ct-sr-x2"):
        assert errors[name] < errors["cubic-x2"] / 2
    # The expected errors are root-mean-square errors in grey values of the scan.
    cubic = ranking.row("cubic-x2")
    assert cubic.error == pytest.approx(np.sqrt(errors["cubic-x2"]), rel=0.5)
    # A resumed run reads the stored ranking.
    store = MeasurementStore(tmp_path / "kept.json")
    of = TWICE.upscaling_settings()
    store.keep("ranking", ranking, **of)
    again = MeasurementStore(tmp_path / "kept.json")
    found = find_ranking(again, volume, **of)
    assert found is not None
    assert found.choice == ranking.choice
    assert found.chosen.model is not None
    assert found.chosen.upscaling_verdict == ranking.chosen.upscaling_verdict
    assert find_ranking(again, volume) is None  # that of denoisers is separate


def test_a_network_that_invents_detail_is_not_chosen(monkeypatch):
    """Only the test on the scan matters, not the name."""
    volume, _, noise = scan(0.05)

    def worse(*_args, **_more):
        return outcome(-4.0, -6.2, 0.1)
        yield

    monkeypatch.setattr(upscaling, "upscaling_verdict_steps", worse)
    ranking = run_to_end(rank_steps(volume, TWICE, noise=noise))
    assert ranking.choice == "cubic-x2"
    names = [row.name for row in ranking.rows]
    assert names == ["cubic-x2", "ct-sr-x2", "foam-sr-x2", "spline-x2"]


def test_images_are_interpolated_within_their_plane():
    ramp = np.add.outer(3.0 * np.arange(24), np.arange(32)).astype(np.float32)
    image = Volume(ramp, "YX", (2.0, 2.0), "µm")
    fine = restore(image, "cubic-x2", threads=1)
    assert fine.axes == "YX"
    assert fine.shape == (48, 64)
    assert fine.voxel_size == (1.0, 1.0)
    # Cubic interpolation reproduces ramps; sub-pixels lie at quarters of a pixel.
    y, x = (np.arange(2 * n) / 2 - 0.25 for n in ramp.shape)
    inner = (slice(8, -8), slice(8, -8))
    expected = np.add.outer(3.0 * y, x)
    np.testing.assert_allclose(np.asarray(fine.data)[inner], expected[inner], atol=1e-3)


def test_an_image_gets_a_proposal_too():
    volume, _, noise = scan(0.1, "YX")
    ranking = run_to_end(rank_steps(volume, TWICE, noise=noise))
    assert {row.name for row in ranking.rows} == {"fluo-sr-x2", "cubic-x2", "spline-x2"}
    assert "needs a volume" in ranking.skipped["foam-sr-x2"]


def test_auto_on_the_command_line(tmp_path: Path, capsys, monkeypatch):
    volume, _, _ = scan(0.02)
    path, out = tmp_path / "scan.ome.tif", tmp_path / "fine.ome.tif"
    io.write(volume, path)
    words = [str(path), "--upscale-factor", "2", "--threads", "1"]
    assert run(["models", "rank", *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["gain_over"] == "cubic"
    assert run(["restore", *words, "-m", "auto", "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert "than interpolation" in " ".join(said.split())
    fine = io.read(out)
    assert fine.shape == (80, 80, 80)
    assert fine.voxel_size == (1.0, 1.0, 1.0)
    # The outer edges agree, so the centre of the first voxel moves by a quarter.
    assert fine.origin == pytest.approx((-0.5, -0.5, -0.5))
    record = fine.provenance[-1]
    assert record["model"]["name"] == printed["choice"]
    assert record["ranking"]["choice"] == printed["choice"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "auto", "--upscale-factor", "3"], "factor of 2, 4 or 8"),
        (["-m", "foam-sr-x2", "--upscale-factor", "4"], "has a fixed upscale factor"),
        (
            ["-m", "auto", "--upscale-factor", "2", "--uncertainty", "diffusion"],
            "must be named",
        ),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, capsys, words, said):
    path, out = tmp_path / "scan.tif", tmp_path / "fine.ome.tif"
    tifffile.imwrite(path, averaged(fine_foam())[:16])
    assert run(["restore", str(path), "--axes", "ZYX", *words, "-o", str(out)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_what_cannot_be_compared_is_refused():
    volume, _, noise = scan(0.1)
    steps = rank_steps(volume, TWICE, noise=noise, second=volume)
    with pytest.raises(ConfigError, match="second scan"):
        run_to_end(steps)
    named = TWICE.model_copy(update={"models": ("ct-denoise",)})
    with pytest.raises(ModelError, match="its upscale factor is not 2"):
        run_to_end(rank_steps(volume, named, noise=noise))
    small = Volume(np.asarray(volume.data)[:6], "ZYX")
    named = TWICE.model_copy(update={"models": ("foam-sr-x2",)})
    with pytest.raises(VolumeError, match="too small"):
        run_to_end(rank_steps(small, named, noise=noise))
    # With all models, untestable ones are named, and interpolation is used.
    ranking: Ranking = run_to_end(rank_steps(small, TWICE, noise=noise))
    assert ranking.choice == "cubic-x2"
    assert "too small" in ranking.skipped["foam-sr-x2"]


def test_it_can_be_cancelled_while_a_model_is_tested():
    volume, _, noise = scan(0.1)
    tests = []

    def note(step: Step) -> None:
        is_first = isinstance(step, StageStarted) and "Testing" in step.message
        if tests or is_first:
            tests.append(step)

    def stop() -> bool:
        return any(step.done for step in tests)

    with pytest.raises(Cancelled, match="ranking was cancelled"):
        run_to_end(rank_steps(volume, TWICE, stop, noise=noise), note)
    # The scan has one part, tested on two scales; noticed before the second.
    assert [(step.done, step.total) for step in tests] == [(0, 300), (50, 300)]


def test_the_verdict_uses_the_test_of_the_ranking(monkeypatch):
    """Not for other settings, or other weights."""
    volume, _, noise = scan(0.2)
    ranking = run_to_end(rank_steps(volume, TWICE, noise=noise))
    known = ranking.row("foam-sr-x2").upscaling_verdict
    monkeypatch.setattr(
        verdict_module,
        "upscaling_verdict_steps",
        lambda *_args, **_more: (_ for _ in ()).throw(VolumeError("tested again.")),
    )

    def verdict(given: Ranking, **settings):
        used = {"sharpness": "scan", **settings}
        config = RestoreConfig(model="foam-sr-x2", threads=1, **used)
        prepared = run_to_end(prepare_steps(volume, config, noise=noise))
        return run_to_end(verdict_steps(prepared, noise=noise, ranking=given))

    assert verdict(ranking).gain == (known.gain, *known.interval)
    rows = [replace(row, weights="others") for row in ranking.rows]
    for tested, settings in (
        (ranking, {"strength": 0.5}),
        (ranking, {"sharpness": "object"}),
        (replace(ranking, rows=tuple(rows)), {}),
    ):
        assert "tested again" in verdict(tested, **settings).words


def test_the_strength_counts(tmp_path: Path):
    """At strength 0, the noise of the scan remains, which interpolation reduces."""
    volume, _, noise = scan(0.2)
    full, none = (
        upscaling_verdict(volume, zoo.find("foam-sr-x2"), noise, strength=strength)
        for strength in (1.0, 0.0)
    )
    assert none.gain < full.gain - 3
    config = RestoreConfig(model="auto", upscale_factor=2, strength=0.5)
    with pytest.raises(ConfigError, match="interpolation has no strength"):
        run_to_end(choose_steps(volume, config))


def test_one_slice_is_an_image():
    volume, _, noise = scan(0.1)
    one = Volume(np.asarray(volume.data)[20:21], "ZYX", (2.0, 2.0, 2.0), "µm")
    ranking = run_to_end(rank_steps(one, TWICE, noise=noise))
    assert "fluo-sr-x2" in [row.name for row in ranking.rows]
    fine = restore(one, "cubic-x2", threads=1)
    assert fine.shape == (1, 80, 80)
    assert fine.voxel_size == (2.0, 1.0, 1.0)


@pytest.mark.parametrize(("model", "factor"), [("auto", 2), ("cubic-x2", 1)])
def test_the_size_of_an_interpolated_image_is_known(tmp_path: Path, model, factor):
    path = tmp_path / "plane.tif"
    tifffile.imwrite(path, np.zeros((12, 14), np.uint8), metadata={"axes": "YX"})
    config = RestoreConfig(model=model, upscale_factor=factor)
    job = RestoreJob(name="fine", data=RestoreInput(volume=path), settings=config)
    assert job.output_bytes() == 4 * 4 * 12 * 14


def test_the_size_of_the_result_of_a_job_is_known(tmp_path: Path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((10, 12, 14), np.uint8), metadata={"axes": "ZYX"})
    config = RestoreConfig(model="auto", upscale_factor=2)
    data = RestoreInput(volume=path)
    job = RestoreJob(name="fine", data=data, settings=config)
    assert job.output_bytes() == 8 * 4 * 10 * 12 * 14


def test_the_settings_of_a_run_reach_the_ranking(monkeypatch):
    seen = []

    def ranked(_volume, config, *_args, **_more):
        seen.append(config)
        return Ranking((CUBIC,), "cubic-x2", "", NOISE, upscale_factor=2)
        yield

    monkeypatch.setattr(
        "napari_geosr.operations.restore.ranking.choice.rank_steps", ranked
    )
    volume, _, _ = scan(0.0)
    config = RestoreConfig(model="auto", upscale_factor=2, sharpness="object")
    run_to_end(choose_steps(volume, config))
    assert (seen[0].upscale_factor, seen[0].sharpness) == (2, "object")
    # A model that has not been evaluated does not sharpen automatically.
    run_to_end(choose_steps(volume, RestoreConfig(model="auto", upscale_factor=2)))
    assert seen[1].sharpness == "scan"
