"""``--model auto`` for a series: one model for all channels, which harms none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr import io
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    TileDone,
    VerdictReached,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.models import zoo
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.operations.restore.ranking import Ranking, RankingEntry, choice

MEMORY = "120MB"


def test_auto_looks_at_the_noisiest_channel_and_spares_the_others():
    rng = np.random.default_rng(5)
    clean = np.full((96, 96), 0.8, np.float32)
    clean[12:60, 15:66] = 0.2
    clean = gaussian_filter(clean, 0.7) + np.linspace(0, 0.05, 96, dtype=np.float32)
    noise = 0.15 * rng.normal(0, 1, clean.shape).astype(np.float32)
    volume = Volume(np.stack([clean, clean + noise]), "CYX", name="cells")
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps = []
    made = restore_steps(volume, config)
    result = run_to_end(made, steps.append).volume
    said = " ".join(s.message for s in steps if isinstance(s, WarningIssued))
    assert "on the basis of channel 1, the only one with measurable noise" in said
    model = result.provenance[-1]["model"]["name"]
    assert zoo.find(model).card.noise_bound is not None
    found = np.asarray(result.data)
    np.testing.assert_allclose(found[0], clean, atol=2e-3)
    before, after = (np.abs(each[1] - clean).mean() for each in (volume.data, found))
    assert after < before / 2


@pytest.mark.parametrize("stop_after", [None, 2])
def test_auto_copies_a_channel_that_its_model_would_make_worse(
    monkeypatch, tmp_path, stop_after
):
    """Also in a run that goes on, with the model that was chosen."""
    from napari_geosr.operations.restore.verdict import steps as verdict

    def harmful_if_bright(prepared, noise, ranking, should_stop):
        yield from ()
        level = "harmful" if prepared.statistics.mean > 1 else "ok"
        return verdict.RunVerdict(level, "It loses all." if level != "ok" else "Fine.")

    monkeypatch.setattr(verdict, "_verdict_of", harmful_if_bright)
    rng = np.random.default_rng(6)
    clean = gaussian_filter((rng.random((64, 64)) > 0.7).astype(float), 2)
    clean = clean / clean.max()
    noisy = clean + rng.normal(0, 0.1, clean.shape)
    data = np.stack([[100 + 20 * noisy, noisy]] * 2).astype(np.float32)
    volume = Volume(data, "TCYX", name="cells")
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps, out = [], tmp_path / "out.ome.tif"
    tiles = 0

    def note(step):
        nonlocal tiles
        steps.append(step)
        tiles += isinstance(step, TileDone)

    result = run_to_end(
        restore_steps(
            volume,
            config,
            look=True,
            strict=True,
            out=out,
            should_stop=lambda: stop_after is not None and tiles >= stop_after,
        ),
        note,
    )
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any("Channel 0: The channel is copied unchanged" in text for text in said)
    assert result.verdict.level == "ok"
    if stop_after is not None:
        unfinished = result.volume
        assert not result.complete
        made = unfinished.provenance[-1]["model"]["name"]
        named = config.model_copy(update={"model": made})
        again = restore_steps(
            volume,
            named,
            look=True,
            strict=True,
            out=out,
            overwrite=True,
            unfinished=unfinished,
        )
        result = run_to_end(again)
    found = np.asarray(io.read(out).data)
    np.testing.assert_array_equal(found[:, 0], data[:, 0])
    assert np.abs(found[:, 1] - data[:, 1]).max() > 0.05
    assert result.volume.provenance[-1]["series"]["copied_channels"] == [0]


def test_a_channel_has_one_gain_in_the_ranking_and_in_the_verdict():
    """Both channels are ranked; each verdict states the gain of its ranking."""
    rng = np.random.default_rng(7)
    clean = gaussian_filter((rng.random((128, 128)) > 0.6).astype(float), 3)
    clean = (clean - clean.min()) / (clean.max() - clean.min())
    noise = rng.normal(0, 1, (2, 128, 128))
    data = np.stack([clean + 0.1 * noise[0], 50 * clean + 12 * noise[1]])
    volume = Volume(data.astype(np.float32), "CYX", name="cells")
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps = []
    result = run_to_end(restore_steps(volume, config, look=True), steps.append)
    record = result.volume.provenance[-1]
    name = record["model"]["name"]
    of_channels = record["intensities"]["channels"]
    assert record["ranking"] is None
    assert len(of_channels) == 2
    said = [s.message for s in steps if isinstance(s, WarningIssued | VerdictReached)]
    for each in of_channels:
        rows = {row["name"]: row for row in each["ranking"]["candidates"]}
        gain = f"expected gain {rows[name]['expected_gain_db']:+.1f} dB"
        stated = [t for t in said if f"hannel {each['channel']}: Noise" in t]
        assert len(stated) == 1
        assert gain in stated[0]


def test_auto_says_so_if_no_channel_has_measurable_noise():
    step = np.where(np.arange(64) < 30, 0.2, 0.8) * np.ones((64, 1))
    volume = Volume(np.stack([step, step]).astype(np.float32), "CYX", name="cells")
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps = []
    run_to_end(restore_steps(volume, config), steps.append)
    said = " ".join(s.message for s in steps if isinstance(s, WarningIssued))
    assert "channel 0, because no noise could be measured in any channel" in said
    assert "the only one" not in said


def test_auto_ignores_a_channel_that_is_only_noise():
    """Its noise exceeds its contrast, and the strongest filter would seem the best."""
    rng = np.random.default_rng(5)
    clean = np.full((96, 96), 0.8, np.float32)
    clean[12:60, 15:66] = 0.2
    noise = rng.normal(0, 0.06, (2, 96, 96)).astype(np.float32)
    data = np.stack([gaussian_filter(clean, 0.7), np.full_like(clean, 0.1)]) + noise
    config = RestoreConfig.create(model="auto", memory=MEMORY, threads=1)
    steps = []
    made = restore_steps(Volume(data, "CYX", name="both"), config)
    result = run_to_end(made, steps.append).volume
    said = " ".join(s.message for s in steps if isinstance(s, WarningIssued))
    assert "because the noise of other channels exceeds their contrast" in said
    model = result.provenance[-1]["model"]["name"]
    assert zoo.find(model).card.noise_bound is not None
    error = np.square(np.asarray(result.data)[0] - gaussian_filter(clean, 0.7)).mean()
    assert error < 0.05 * 0.06**2


def ranking_of(gains: dict[str, float]) -> Ranking:
    rows = [
        RankingEntry(name, "", 10 / 10 ** (gain / 20), gain, (gain - 0.1, gain + 0.1))
        for name, gain in {**gains, "none": 0.0}.items()
    ]
    best = max({**gains, "none": 0.0}.items(), key=lambda item: item[1])[0]
    return Ranking(tuple(rows), best, "", Noise(10.0, 100.0))


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([{"a": 5.0, "b": 4.0}, {"a": 1.0, "b": 4.0}], "b"),
        ([{"a": 5.0, "b": 4.0}, {"b": 0.5}], "a"),  # it would leave the second as it is
        ([{"a": 5.0, "c": 4.9}, {"b": 5.0, "c": 4.9}], "a"),  # c was never tested
        ([{}, {}], "none"),
    ],
)
def test_the_model_of_a_series_gains_most_over_all_channels(gains, expected):
    ranking, words = choice._best_on_average([ranking_of(each) for each in gains])
    assert ranking.choice == expected
    if expected == "b":
        assert words == " Expected gains, on average: a +3.0 dB, b +4.0 dB."
