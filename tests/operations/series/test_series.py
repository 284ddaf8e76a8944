"""A series in one run equals separate runs, even after interruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_geosr import io, restore, restore_with_uncertainty
from napari_geosr.core.errors import ConfigError, FileError, ModelError, VolumeError
from napari_geosr.core.steps import (
    TargetReady,
    TileDone,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import (
    RestorationResult,
    RestoreConfig,
    restore_steps,
    run_steps,
)
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan
from napari_geosr.operations.restore.series.preparation import prepare_series_steps
from napari_geosr.operations.restore.series.run import run_series_steps

MEMORY = "120MB"


def series(axes: str, shape: tuple[int, ...], dtype: str = "float32") -> Volume:
    """Noisy blocks that become darker with time and from channel to channel."""
    rng = np.random.default_rng(5)
    data = np.full(shape, 0.8, np.float32)
    data[..., 8:20, 10:24] = 0.2
    data += rng.normal(0, 0.1, shape).astype(np.float32)
    n_leading = len(axes) - (3 if "Z" in axes else 2)
    for place in np.ndindex(shape[:n_leading]):
        data[place] *= 0.9 ** sum(place)
    if dtype != "float32":
        data = np.clip(data * 20000, 0, np.iinfo(dtype).max).astype(dtype)
    n = 3 if "Z" in axes else 2
    return Volume(
        data, axes, (4.0, 2.0, 2.0)[-n:], "µm", (1.0, 2.0, 3.0)[-n:], name="cells"
    )


def prepare(volume: Volume, **settings):
    config = RestoreConfig.create(
        **{"model": "ct-denoise", "memory": MEMORY, "threads": 1} | settings
    )
    return run_to_end(prepare_series_steps(volume, config))


def run(
    prepared, stop_after: int | None = None, **more
) -> tuple[RestorationResult, int]:
    """The result, and the number of voxels that were computed and reported."""
    tiles: list[TileDone] = []
    steps = run_series_steps(
        prepared,
        should_stop=lambda: stop_after is not None and len(tiles) >= stop_after,
        **more,
    )
    result = run_to_end(
        steps, lambda s: tiles.append(s) if isinstance(s, TileDone) else None
    )
    n = sum(np.prod([part.stop - part.start for part in t.slices]) for t in tiles)
    return result, int(n)


CASES = [
    ("TYX", (3, 40, 44), "ct-denoise"),
    ("CYX", (2, 40, 44), "ct-denoise"),
    ("TCYX", (2, 2, 40, 44), "ct-denoise"),
    ("TZYX", (2, 5, 36, 40), "ct-denoise"),
    ("CZYX", (2, 12, 30, 32), "foam-sr-x2"),
    ("TCZYX", (2, 2, 3, 36, 40), "ct-denoise"),
    ("TYX", (2, 30, 32), "fluo-sr-x2"),
]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("axes", "shape", "model", "dtype"),
    [
        *[(*case, "float32") for case in CASES],
        (*CASES[0], "uint16"),
        pytest.param(*CASES[4], "uint16", marks=pytest.mark.slow),
    ],
)
def test_a_series_gives_what_its_points_give(axes, shape, model, dtype):
    volume = series(axes, shape, dtype)
    output = "input" if dtype == "uint16" else "float32"
    prepared = prepare(volume, model=model, output_dtype=output)
    result, _ = run(prepared)
    assert result.complete
    assert result.volume.axes == axes
    assert result.volume.dtype == dtype
    for point in prepared.plan.points:
        one = run_to_end(run_steps(prepared.at(point))).volume
        found = np.asarray(result.volume.data[point.index])
        np.testing.assert_array_equal(found, one.data)
        assert result.volume.voxel_size == one.voxel_size
        assert result.volume.origin == one.origin
        assert result.volume.unit == one.unit


def test_channels_of_one_time_point_are_restored_as_each_by_itself():
    volume = series("CYX", (3, 40, 44))
    whole = restore(volume, "ct-denoise")
    for c in range(3):
        alone = restore(volume.select(channel=c), "ct-denoise")
        np.testing.assert_array_equal(whole.data[c], alone.data)


def test_grey_values_of_time_points_stay_comparable():
    """One set of statistics per channel, so that constant parts remain constant in
    time.
    """
    volume = series("TYX", (3, 40, 44))
    data = np.stack([volume.data[0], volume.data[0], volume.data[0] * 3])
    same = restore(volume.replace(data=data), "ct-denoise")
    np.testing.assert_array_equal(same.data[0], same.data[1])
    prepared = prepare(volume.replace(data=data))
    alone = prepared.first.statistics
    assert alone.mean == pytest.approx(float(data.mean(dtype=np.float64)))
    assert alone.std == pytest.approx(float(data.std(dtype=np.float64)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n_times=st.integers(1, 4),
    depth=st.integers(1, 5),
    n_channels=st.integers(1, 3),
    data=st.data(),
)
def test_planes_of_a_channel_are_those_of_all_time_points(
    n_times, depth, n_channels, data
):
    shape = (n_times, n_channels, depth, 6, 7)
    voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    channel = data.draw(st.integers(0, n_channels - 1))
    planes = SeriesPlan(Volume(voxels, "TCZYX")).planes(channel)
    expected = voxels[:, channel].reshape(-1, 6, 7)
    assert planes.axes == "ZYX"
    assert planes.shape == expected.shape
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    key = (slice(start, stop), slice(1, 5), slice(2, None))
    np.testing.assert_array_equal(planes.data[key], expected[key])
    np.testing.assert_array_equal(planes.data[-1], expected[-1])


@pytest.mark.every(3)
@pytest.mark.parametrize("suffix", ["", ".tif", ".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize(
    ("axes", "shape", "stop_after"),
    [("TYX", (4, 40, 44), 1), ("TCZYX", (2, 2, 60, 30, 34), 3)],
)
def test_it_goes_on_to_the_same_voxels(tmp_path, axes, shape, suffix, stop_after):
    prepared = prepare(series(axes, shape), memory="64MB", model="porous-denoise")
    whole, n = run(prepared)
    out = {"out": tmp_path / f"result{suffix}"} if suffix else {}
    part, before = run(prepared, stop_after=stop_after, **out)
    assert not part.complete
    assert 0 < before < n
    boxes = part.volume.provenance[-1]["finished"]
    covered = np.zeros(part.volume.shape, bool)
    for box in boxes:
        covered[tuple(slice(*ends) for ends in box)] = True
    left = np.asarray(part.volume.data)
    np.testing.assert_array_equal(np.isnan(left), ~covered)
    result, after = run(prepared, unfinished=part.volume, **out)
    assert result.complete
    assert after < n
    np.testing.assert_array_equal(
        np.asarray(result.volume.data), np.asarray(whole.volume.data)
    )
    if suffix:
        assert [p.name for p in tmp_path.iterdir()] == [f"result{suffix}"]


def test_a_finished_point_is_not_computed_again():
    prepared = prepare(series("TYX", (4, 40, 44)))
    part, before = run(prepared, stop_after=2)
    _, after = run(prepared, unfinished=part.volume)
    assert before + after <= 4 * 40 * 44 + 40 * 44
    assert after <= 2 * 40 * 44


def test_another_series_cannot_be_continued():
    volume = series("TYX", (3, 40, 44))
    part, _ = run(prepare(volume), stop_after=1)
    brighter = prepare(volume.replace(data=volume.data + 1))
    with pytest.raises(ConfigError, match="a different input"):
        run(brighter, unfinished=part.volume)
    prepared = prepare(series("CYX", (3, 40, 44)))
    as_channels = part.volume.replace(axes="CYX")
    with pytest.raises(ConfigError, match="a different part of the input"):
        run(prepared, unfinished=as_channels)


def test_tiles_are_counted_over_all_points():
    prepared = prepare(series("TCYX", (2, 2, 40, 44)))
    steps = list(run_series_steps(prepared))
    tiles = [step for step in steps if isinstance(step, TileDone)]
    assert [t.done for t in tiles] == list(range(1, len(tiles) + 1))
    assert {t.total for t in tiles} == {len(tiles)}
    target = next(s for s in steps if isinstance(s, TargetReady)).volume
    assert target.axes == "TCYX"
    for tile in tiles:
        np.testing.assert_array_equal(tile.array, target.data[tile.slices])


def test_what_is_on_screen_comes_first():
    prepared = prepare(series("TYX", (4, 40, 44)))
    steps = run_series_steps(prepared, first_point=Point(2, None))
    starts = [s.slices[0].start for s in steps if isinstance(s, TileDone)]
    assert list(dict.fromkeys(starts)) == [2, 0, 1, 3]


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("axes", "shape", "model", "suffix"),
    [
        # Super-resolution is slow, and is written in the same way.
        pytest.param(*case, suffix, marks=[pytest.mark.slow] * is_slow)
        for case in CASES[2:6]
        for suffix in (".tif", ".ome.tif", ".ome.zarr")
        for is_slow in (case[2] == "foam-sr-x2" and suffix != ".ome.tif",)
    ],
)
def test_a_file_has_all_axes_and_its_place(tmp_path, axes, shape, model, suffix):
    volume = series(axes, shape)
    source = io.write(volume, tmp_path / "in.ome.tif")
    out = tmp_path / f"out{suffix}"
    config = RestoreConfig.create(model=model, memory=MEMORY, threads=1)
    result = run_to_end(restore_steps(io.read(source), config, out=out))
    found = io.read(out)
    assert (found.axes, found.unit) == (axes, "µm")
    factor = 2 if model.endswith("x2") else 1
    n = len(volume.spatial_axes)
    assert found.shape[:-n] == shape[:-n]
    assert found.shape[-n:] == tuple(factor * k for k in shape[-n:])
    assert found.voxel_size == tuple(v / factor for v in volume.voxel_size)
    assert found.origin == volume.upscaled_geometry(factor)[1]
    np.testing.assert_array_equal(
        np.asarray(found.data),
        np.asarray(run(prepare(volume, model=model))[0].volume.data),
    )
    record = found.provenance[-1]
    assert record["complete"] is True
    assert len(record["series"]["points"]) == len(SeriesPlan(volume).points)
    assert record["series"]["axes"] == axes
    n_channels = volume.length("C")
    assert len(record["intensities"]["channels"]) == n_channels
    assert result.path == out


def test_one_frame_and_one_channel_keep_their_axes():
    volume = series("TCYX", (1, 1, 40, 44))
    result = restore(volume, "ct-denoise")
    assert result.axes == "TCYX"
    alone = restore(volume.select(), "ct-denoise")
    np.testing.assert_array_equal(result.data[0, 0], alone.data)


def test_a_blank_frame_is_restored_and_a_blank_channel_copied():
    volume = series("TCYX", (2, 2, 40, 44))
    data = volume.data.copy()
    data[1, 0] = 0.5
    plan = SeriesPlan(volume.replace(data=data))
    assert (plan.typical(0), plan.typical(1)) == (Point(0, 0), Point(1, 1))
    assert np.isfinite(restore(volume.replace(data=data), "ct-denoise").data).all()
    data[:, 1] = 0.5
    copied = restore(volume.replace(data=data), "ct-denoise").data
    np.testing.assert_array_equal(copied[:, 1], 0.5)


def test_missing_voxels_stay_missing_and_are_said_of_the_channel():
    volume = series("CYX", (2, 40, 44))
    data = volume.data.copy()
    data[1, 3, 4] = np.nan
    config = RestoreConfig.create(model="ct-denoise", memory=MEMORY, threads=1)
    steps = []
    made = restore_steps(volume.replace(data=data), config)
    result = run_to_end(made, steps.append).volume
    assert np.isnan(result.data).sum() == 1
    assert np.isnan(result.data[1, 3, 4])
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any(text.startswith("Channel 1: 'cells' has 1 NaN") for text in said)
    assert result.provenance[-1]["intensities"]["n_nan"] == 1


def test_a_sentence_on_the_model_is_said_once():
    config = RestoreConfig.create(model="ct-denoise", memory=MEMORY, threads=1)
    steps = list(restore_steps(series("TYX", (3, 40, 44)), config))
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert sum("neighbouring planes" in text for text in said) == 1


def test_a_model_on_volumes_refuses_a_series_of_images():
    with pytest.raises(ModelError, match="single Y, X image"):
        restore(series("TYX", (20, 40, 44)), "foam-sr-x2")


def test_each_point_has_its_deviations():
    volume = series("TYX", (2, 40, 44))
    mean, deviation = restore_with_uncertainty(
        volume, "ct-denoise", "tta", uncertainty_members=2
    )
    assert mean.axes == deviation.axes == "TYX"
    prepared = prepare(volume, uncertainty="tta", uncertainty_members=2)
    one = run_to_end(run_steps(prepared.at(Point(1, None))))
    np.testing.assert_array_equal(mean.data[1], one.volume.data)
    np.testing.assert_array_equal(deviation.data[1], one.deviation.data)


def test_the_input_is_never_the_output(tmp_path):
    source = io.write(series("TYX", (2, 40, 44)), tmp_path / "in.ome.tif")
    with pytest.raises(FileError, match="is the input"):
        run_to_end(
            restore_steps(io.read(source), RestoreConfig(), out=source, overwrite=True)
        )


def test_the_level_is_that_of_the_least_alike_channel():
    volume = series("CYX", (2, 40, 44))
    prepared = prepare(volume)
    unlike = replace(
        prepared.channels[1].likeness, level="unlike", reasons=("It is odd.",)
    )
    fine = replace(prepared.channels[0].likeness, level="ok", reasons=())
    channels = {
        0: replace(prepared.channels[0], likeness=fine),
        1: replace(prepared.channels[1], likeness=unlike),
    }
    found = replace(prepared, channels=channels).likeness
    assert found.level == "unlike"
    assert found.reasons == ("Channel 1: It is odd.",)


def test_a_real_time_series(shared_data: Path):
    path = shared_data / "microscopy" / "cancer_cell_migration_crop.tif"
    if not path.exists():
        pytest.skip(f"real data not found: {path} does not exist")
    volume = io.read(path, axes="TYX")
    small = volume.replace(data=volume.data[:4, :64, :64])
    result = restore(small, "fluo-denoise", threads=1)
    assert result.axes == "TYX"
    assert result.shape == (4, 64, 64)
    assert np.isfinite(result.data).all()


def test_another_strength_is_that_of_every_channel():
    """At strength 0, the scan is returned; each point is restored as if alone."""
    prepared = prepare(series("CYX", (2, 40, 44)), model="porous-denoise")
    nothing, _ = run(prepared.with_strength(0.0))
    np.testing.assert_allclose(
        nothing.volume.data, prepared.plan.volume.data, atol=1e-5
    )
    half = prepared.with_strength(0.5)
    result, _ = run(half)
    for point in half.plan.points:
        one = run_to_end(run_steps(half.at(point))).volume
        np.testing.assert_array_equal(result.volume.data[point.index], one.data)
    assert result.volume.provenance[-1]["settings"]["strength"] == 0.5


def test_each_channel_is_looked_at_and_named(monkeypatch, tmp_path):
    from napari_geosr.operations.restore.verdict import steps as verdict

    def harmful_if_bright(prepared, noise, ranking, should_stop):
        yield from ()
        bright = prepared.statistics.mean > 1
        level = "harmful" if bright else "ok"
        return verdict.RunVerdict(level, "It loses all." if bright else "Fine.")

    monkeypatch.setattr(verdict, "_verdict_of", harmful_if_bright)
    volume = series("CYX", (2, 40, 44))
    data = volume.data.copy()
    data[1] *= 20
    volume = volume.replace(data=data)
    config = RestoreConfig.create(model="ct-denoise", memory=MEMORY, threads=1)
    steps = []
    result = run_to_end(restore_steps(volume, config, look=True), steps.append)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert "Harmful for channel 1: It loses all." in said
    assert result.verdict.level == "harmful"
    assert result.verdict.sentence == "Channel 1: It loses all."
    assert result.volume.provenance[-1]["verdict"]["level"] == "harmful"
    out = tmp_path / "out.tif"
    with pytest.raises(ModelError, match="Channel 1: .* was not restored"):
        run_to_end(restore_steps(volume, config, out=out, strict=True))
    assert not out.exists()


def test_auto_chooses_once_and_says_on_what():
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps = []
    made = restore_steps(series("TYX", (3, 40, 44)), config)
    result = run_to_end(made, steps.append).volume
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any(
        "series was chosen on the basis of time point 1" in text for text in said
    )
    assert (result.axes, result.shape) == ("TYX", (3, 40, 44))


def test_a_last_time_point_without_known_voxels_is_no_obstacle():
    volume = series("TYX", (3, 40, 44))
    data = np.array(volume.data)
    data[-1] = np.nan
    volume = replace(volume, data=data)
    steps = prepare_series_steps(volume, RestoreConfig.create(model="ct-denoise"))
    prepared = run_to_end(steps)
    assert prepared.first.noise is not None
    assert prepared.first.noise.level > 0


@pytest.mark.parametrize("levels", [(0.1, 0.1, 0.1), (0.0, 0.1, 0.3)])
def test_noise_that_changes_over_time_is_said(levels):
    rng = np.random.default_rng(5)
    clean = np.full((3, 64, 64), 0.8, np.float32)
    clean[:, 12:30, 15:36] = 0.2
    data = [
        c + sd * rng.normal(0, 1, c.shape) for c, sd in zip(clean, levels, strict=True)
    ]
    volume = Volume(np.asarray(data, np.float32), "TYX", name="cells")
    config = RestoreConfig.create(model="ct-denoise", memory=MEMORY, threads=1)
    steps = prepare_series_steps(volume, config)
    said = " ".join(step.message for step in steps if isinstance(step, WarningIssued))
    assert ("changes over time" in said) == (len(set(levels)) > 1)


def movie_with_noise(*levels: float) -> Volume:
    """An image of blobs that stays the same, with other noise at each time point."""
    rng = np.random.default_rng(5)
    blobs = gaussian_filter(rng.normal(0, 1, (160, 160)), 3) > 0
    clean = gaussian_filter(blobs.astype(float), 0.7)
    frames = [clean + level * rng.normal(0, 1, clean.shape) for level in levels]
    return Volume(np.asarray(frames, np.float32), "TYX", name="movie")


def test_harm_to_the_quietest_time_point_is_judged(tmp_path):
    """The filter is set for the middle one, and removes structure from the first."""
    volume = movie_with_noise(0.02, 0.1, 0.4)
    config = RestoreConfig.create(model="gaussian", memory=MEMORY, threads=1)
    out = tmp_path / "out.tif"
    with pytest.raises(ModelError, match="Time point 0: gaussian is expected to make"):
        run_to_end(restore_steps(volume, config, out=out, strict=True))
    assert not out.exists()
    result = run_to_end(restore_steps(volume, config, look=True))
    assert result.verdict.level == "harmful"
    assert result.verdict.noise.relative < 0.03  # that of time point 0
    steady = movie_with_noise(0.1, 0.1, 0.1)
    assert not run_to_end(restore_steps(steady, config, look=True)).verdict.is_harmful


def test_the_worst_of_the_measured_time_points_is_shown(monkeypatch, tmp_path):
    """Each is judged with its own noise and the network of the run."""
    from napari_geosr.operations.restore.verdict import steps as verdict

    judged = []

    def harmful_if_noisy(prepared, noise, ranking, should_stop):
        yield from ()
        judged.append((prepared.network, prepared.noise.level))
        level = "harmful" if prepared.noise.level > 0.2 else "ok"
        return verdict.RunVerdict(level, "Too much." if level != "ok" else "Fine.")

    monkeypatch.setattr(verdict, "_verdict_of", harmful_if_noisy)
    volume = movie_with_noise(0.02, 0.1, 0.4)
    config = RestoreConfig.create(model="ct-denoise", memory=MEMORY, threads=1)
    steps = []
    result = run_to_end(restore_steps(volume, config, look=True), steps.append)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert "Harmful: Time point 2: Too much." in said
    assert any("with the settings for time point 1" in text for text in said)
    assert result.verdict.sentence == "Time point 2: Too much."
    levels = [level for _, level in judged]
    assert levels == pytest.approx([0.1, 0.02, 0.4], rel=0.2)
    assert len({id(network) for network, _ in judged}) == 1
    judged.clear()
    prepared = prepare(movie_with_noise(0.1, 0.1, 0.1))
    assert not prepared.extremes(None)


@pytest.mark.parametrize("model", ["ct-denoise", "cubic-x2"])
def test_a_channel_without_contrast_is_copied(tmp_path, model):
    volume = series("CZYX", (3, 4, 24, 28))
    voxels = np.array(volume.data)
    voxels[0] = 7
    voxels[0, 1, 2, 3] = np.nan
    volume = volume.replace(data=voxels)
    config = RestoreConfig.create(model=model, memory=MEMORY, threads=1)
    steps = []
    generator = restore_steps(volume, config, out=tmp_path / "out.ome.zarr")
    result = run_to_end(generator, steps.append)
    told = [step.message for step in steps if isinstance(step, WarningIssued)]
    sentence = "Channel 0: All voxels have the same grey value, so they are copied"
    assert any(message.startswith(sentence) for message in told), told
    found = np.asarray(result.volume.data)
    n = found.shape[-1] // 28
    expected = voxels[0].repeat(n, 0).repeat(n, 1).repeat(n, 2)
    np.testing.assert_array_equal(found[0], expected)
    alone = restore(volume.take(channel=1), model, threads=1, memory=MEMORY)
    np.testing.assert_allclose(found[1], np.asarray(alone.data), atol=1e-5)
    record = result.volume.provenance[-1]
    assert record["series"]["copied_channels"] == [0]
    assert [c["channel"] for c in record["intensities"]["channels"]] == [1, 2]


def test_channels_that_all_lack_contrast_are_refused():
    volume = series("CYX", (2, 24, 28))
    volume = volume.replace(data=np.full(volume.shape, 3.0, np.float32))
    with pytest.raises(VolumeError, match="Every voxel has the same grey value"):
        restore(volume, "ct-denoise", threads=1)
