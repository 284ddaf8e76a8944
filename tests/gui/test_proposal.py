"""Walltime and memory proposed for a run on a cluster; without a window."""

from __future__ import annotations

import pytest

from napari_geosr.core.config import parse_bytes
from napari_geosr.gui.jobs.cluster.proposal import RunEstimate, propose
from napari_geosr.jobs.cluster.profiles import TEMPLATES, Profile

SLURM = TEMPLATES["slurm"]


@pytest.mark.parametrize(
    ("seconds", "walltime"),
    [
        (0.2, "0:20:00"),
        (600, "0:30:00"),
        (3600, "2:30:00"),
        (6 * 3600, "13:00:00"),
        (100 * 3600, "24:00:00"),
    ],
)
def test_walltimes_are_rounded_up(seconds, walltime):
    proposal = propose(RunEstimate(seconds), SLURM, limited=False)
    assert proposal.values == {"walltime": walltime}
    # It may be that of a profile.
    assert Profile.create(**proposal.values).walltime == walltime


def test_nothing_longer_than_the_users_own_limit_is_proposed():
    own, long = Profile(walltime="1:00:00"), RunEstimate(100 * 3600)
    proposal = propose(RunEstimate(4 * 3600), own, limited=True)
    assert proposal.values["walltime"] == "1:00:00"
    assert "the walltime of the profile; the job resumes" in proposal.text
    assert "in 8 parts" in proposal.text
    assert "at most 24 h; the" in propose(long, SLURM, limited=False).text
    short = propose(RunEstimate(60), own, limited=True)
    assert short.values["walltime"] == "0:20:00"
    assert "longest" not in short.text


@pytest.mark.parametrize("n_bytes", [1, 5 * 10**8, 10**10])
def test_memory_suffices(n_bytes):
    values = propose(RunEstimate(60, n_bytes), SLURM, limited=False).values
    assert parse_bytes(values["memory"]) >= 1.25 * n_bytes + 10**9
    assert Profile.create(**values).megabytes > 0


def test_memory_is_proposed_only_where_it_can_be_requested():
    estimate = RunEstimate(60, 10**9)
    oar = propose(estimate, TEMPLATES["gricad"], limited=False)
    assert oar.values.keys() == {"walltime"}
    assert "in proportion to the number of cores" in oar.text
    with_property = Profile(queue="oar", memory_property="memcore")
    assert propose(estimate, with_property, limited=False).values["memory"] == "3GB"
    # GPU memory is not memory of the node.
    gpu = Profile(gpus=1)
    assert propose(estimate, gpu, limited=False).values.keys() == {"walltime"}


def test_the_text_says_where_the_numbers_come_from():
    text = propose(RunEstimate(600, 10**9), SLURM, limited=False).text
    assert text == (
        "Walltime and memory are based on the estimate for this computer (10 min "
        "and 1 GB of memory): twice the time plus 10 min, and 1.25 × the memory plus 1 "
        "GB for the program."
    )
    with_check = RunEstimate(600, 10**9, "20 s to predict the effect")
    text = propose(with_check, SLURM, limited=False).text
    assert "(10 min, including 20 s to predict the effect, and 1 GB of memory)" in text


def test_a_part_of_the_time_is_named_without_a_stray_comma() -> None:
    estimate = RunEstimate(23, None, "19 s to predict the effect")
    text = propose(estimate, TEMPLATES["gricad"], limited=False).text
    assert "(23 s, including 19 s to predict the effect): twice the time" in text
