"""The comparison of policies: the models against numbers by hand, the real policy against the models, and the page."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import ROOT
from load_shapes import SHAPES, text
from other_policies import Hpa, Limit, Nomad, StepScaling, TargetTracking, play
from policies import OURS, PAGE, RECORDED, SHIPPED, better, compare

LOADS = ROOT / "tests/loads"
HOUR = 3600
STEP = [(0, 0.4), (600, 9.0)]


@pytest.mark.parametrize("policy", [TargetTracking, StepScaling, Hpa, Nomad, Limit], ids=lambda policy: policy.name)
def test_what_is_at_rest_stays(policy):
    """Two machines at 45%: neither over the target nor far enough under it for one to go."""
    played = play(policy(), [(0, 0.9)], HOUR, 2)
    assert (played.over, played.full, played.unmet, played.hours, played.serving) == (0, 0, 0, 2, [(0, 2)])


def test_target_tracking_waits_for_three_minutes_of_a_late_metric():
    played = play(TargetTracking(), STEP, 2 * HOUR, 2)
    # Three minutes over, the last of them published a minute late, and a boot; then each minute the double.
    assert [at for at, _ in played.serving[:2]] == [0, 899] and [n for _, n in played.serving[:5]] == [2, 4, 8, 16, 32]
    assert round(played.over) == 8


def test_step_scaling_takes_a_third_at_most():
    played = play(StepScaling(), [(0, 4.5), (600, 9.0)], 2 * HOUR, 10)
    # 90%: 30% more; two minutes in ALARM, a minute late, and a boot.
    assert played.serving[:2] == [(0, 10), (839, 13)] and all(n <= 10 * 1.3 ** i + 3 for i, (_, n) in enumerate(played.serving))


def test_hpa_doubles_and_waits_five_minutes_before_it_goes_down():
    played = play(Hpa(), STEP, 2 * HOUR, 2)
    # The first sight after 15 s: one more or four more, but the wish is the double; and each boot takes 60 s.
    assert [n for _, n in played.serving[:4]] == [2, 1, 2, 4] and abs(played.over - 5.2) < 0.05
    fall = play(Hpa(), [(0, 4.5), (600, 0.9)], HOUR, 10)
    assert fall.serving[1][0] - 600 in range(300, 331)


def test_nomad_waits_out_its_cooldown():
    played = play(Nomad(), STEP, 2 * HOUR, 2)
    assert [n for _, n in played.serving] == [2, 1, 2, 4, 8, 16, 18]
    times = [at for at, _ in played.serving[2:]]
    assert all(later - earlier == 300 for earlier, later in zip(times, times[1:]))


def test_the_limit_waits_for_the_boot_alone():
    played = play(Limit(), STEP, 2 * HOUR, 2)
    assert (played.over, played.serving[-1]) == (1, (660, 18))


def test_no_other_is_better_in_both(binary, tmp_path):
    """On the loads that a test has the time for; `make policies` says it of all."""
    worse = []
    for name in ("double-step", "sawtooth", "spikes", "pulses", "noise"):
        path = tmp_path / f"{name}.csv"
        path.write_text(text(name))
        _, (ours, *others) = compare(binary, path)
        assert not [other.name for other in others[:-1] if better(other, ours)], name
        worse += [other.name for other in others if better(ours, other)]
    assert worse.count(Hpa.name) >= 3 and worse.count(TargetTracking.name) >= 3, worse


def test_a_large_step_is_over_within_three_minutes(binary):
    _, (ours, *others) = compare(binary, LOADS / "step-x9.csv")
    assert ours.over <= 3 < min(other.over for other in others[:-1]), vars(ours)


def test_the_page_tells_of_all_loads_and_has_a_picture_of_each():
    page = PAGE.read_text()
    names = [*SHAPES, *RECORDED, *(f"shipped {name}" for name in SHIPPED)]
    assert re.findall(r"^## (.*)$", page, re.M) == ["In short", *(name.capitalize() for name in names)]
    assert page.count(f"| **{OURS}** |") == len(names)
    pictures = re.findall(r"^!\[.*?\]\((.*?)\)$", page, re.M)
    assert len(pictures) == len(names)
    for picture in pictures:
        tree = ElementTree.parse(PAGE.parent / picture)
        words = "".join(tree.getroot().itertext())
        assert OURS in words and Hpa.name in words and "machines needed for 50%" in words
        assert (PAGE.parent / picture).stat().st_size < 120_000, picture
    assert {PAGE.parent / picture for picture in pictures} == set(PAGE.with_suffix("").glob("*.svg"))
