"""From a restoration to the interval of its porosity: records, files, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure.deviation import belongs_to, is_deviation

PLACE = {"voxel_size": (2.0, 2.0, 2.0), "unit": "µm", "origin": (1.0, 2.0, 3.0)}
CALIBRATION = {"kind": "tta", "members": 2, "factor": 1.5, "nominal": 0.9}


def pair(rng, calibration=None, members=("as it is", "mirrored"), time="t1"):
    """A mean and its deviations, with the records that a restoration writes."""
    from scipy import ndimage

    mean = ndimage.gaussian_filter(rng.standard_normal((6, 20, 22)), 1.5)
    data = {
        "mean": mean.astype(np.float32),
        "standard deviation": np.full(mean.shape, 0.05, np.float32),
    }
    made = []
    for this, array in data.items():
        uncertainty = {"kind": "tta", "members": list(members), "this": this}
        uncertainty["calibration"] = calibration
        record = {"operation": "restore", "time": time, "uncertainty": uncertainty}
        record |= {"scale": (0.0, 1.0), "complete": True, "run": {"seconds": 1}}
        name = "v" if this == "mean" else "v (std)"
        made.append(Volume(array, "ZYX", name=name, provenance=(record,), **PLACE))
    return made


def test_the_calibration_of_the_model_makes_the_interval(rng):
    mean, deviation = pair(rng, CALIBRATION)
    assert is_deviation(deviation.provenance)
    assert belongs_to(deviation.provenance, mean.provenance)
    assert not belongs_to(mean.provenance, deviation.provenance)
    report = geosr.measure_porosity(mean, deviation=deviation, threshold=0.0)
    assert (report.interval.factor, report.interval.nominal) == (1.5, 0.9)
    low = (mean.data + np.float32(1.5) * deviation.data <= 0).mean()
    assert report.interval.porosity[0] == pytest.approx(low)
    # The mean is a smooth random field, which may be noise.
    assert all("could not be measured" in one for one in report.warnings)
    chosen = geosr.measure_porosity(
        mean, deviation=deviation, threshold=0.0, interval_factor=3.0
    )
    assert (chosen.interval.factor, chosen.interval.nominal) == (3.0, None)
    assert chosen.interval.porosity[0] < low


@pytest.mark.parametrize(
    ("earlier", "name"),
    [("uncertainty", "deviation"), ("band_factor", "interval_factor")],
)
def test_earlier_names_of_arguments_work_with_a_warning(rng, earlier, name):
    mean, deviation = pair(rng, CALIBRATION)
    given = {"deviation": deviation, "threshold": 0.0, "interval_factor": 3.0}
    expected = geosr.measure_porosity(mean, **given)
    value = given.pop(name)
    with pytest.warns(DeprecationWarning, match=f"'{name}'") as caught:
        found = geosr.measure_porosity(mean, **given, **{earlier: value})
    assert caught[0].filename == __file__
    assert found.interval == expected.interval
    with pytest.raises(ConfigError, match=f"'{earlier}' is the earlier name of"):
        geosr.measure_porosity(mean, **given, **{earlier: value, name: value})


def test_without_calibration_there_is_a_spread_but_no_interval(rng):
    mean, deviation = pair(rng)
    report = geosr.measure_porosity(mean, deviation=deviation, threshold=0.0)
    assert report.interval.porosity is None
    assert report.interval.spread > 0
    assert any("are not calibrated" in w for w in report.warnings)


def test_what_an_interval_cannot_be_sure_of_is_said(rng):
    mean, deviation = pair(rng, CALIBRATION, members=["a", "b", "c"])
    report = geosr.measure_porosity(mean, deviation=deviation, threshold=0.0)
    assert any("2 members, but 'v' is the mean of 3" in w for w in report.warnings)
    bare = deviation.replace(provenance=())
    plain = mean.replace(provenance=())
    report = geosr.measure_porosity(plain, deviation=bare, threshold=0.0)
    assert any("does not record what it contains" in w for w in report.warnings)
    report = geosr.measure_porosity(deviation, threshold=0.06)
    assert any("contains standard deviations" in w for w in report.warnings)


def test_deviations_of_others_are_refused(rng):
    mean, deviation = pair(rng, CALIBRATION)
    _, other = pair(rng, CALIBRATION, time="t2")
    for wrong, reason in (
        (other, "come from a different run"),
        (mean, "come from a different run"),
        (deviation.replace(provenance=()), "come from a different run"),
        (deviation.replace(data=deviation.data[1:]), "has a different voxel grid"),
        (deviation.replace(origin=(9.0, 9.0, 9.0)), "has a different voxel grid"),
    ):
        with pytest.raises(VolumeError, match=reason):
            geosr.measure_porosity(mean, deviation=wrong, threshold=0.0)
    with pytest.raises(ConfigError, match="An interval needs standard deviations"):
        geosr.measure_porosity(mean, interval_factor=2.0)


def test_the_command_reports_the_interval(rng, tmp_path, capsys):
    mean, deviation = pair(rng, CALIBRATION)
    io.write(mean, tmp_path / "v.ome.tif")
    io.write(deviation, tmp_path / "v_std.ome.tif")
    words = ["measure", str(tmp_path / "v.ome.tif"), "--threshold", "0"]
    words += ["--deviation", str(tmp_path / "v_std.ome.tif")]
    reference = ["--reference", str(tmp_path / "v.ome.tif")]
    assert command([*words, *reference, "--out", str(tmp_path / "m"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["porosity_interval"][0] < said["porosity"] < said["porosity_interval"][1]
    )
    assert said["porosity_interval_nominal"] == 0.9
    assert said["reference"]["porosity_interval"] is None
    kept = json.loads((tmp_path / "m" / "report.json").read_text(encoding="utf-8"))
    assert kept["porosity_interval"] == said["porosity_interval"]
    assert "Porosity interval (90 %)" in (tmp_path / "m" / "report.html").read_text(
        "utf-8"
    )
    wide = [*words, "--interval-factor", "4", "--out", str(tmp_path / "w"), "--json"]
    assert command(wide) == 0
    wider = json.loads(capsys.readouterr().out)
    assert wider["porosity_interval"][0] < said["porosity_interval"][0]
    assert wider["porosity_interval_nominal"] is None
