"""Choices under a time: equal to brute force, never over it; corrected by races; harms between what was measured."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.structure.correction import RACES, corrected
from compression.structure.mattering import harms_of, probed_level
from compression.structure.profiles import Profiles
from compression.structure.timing import LatencyTable
from tests.compression.structure.test_timing import HERE

LEVELS = ((2, 1, 0), (64, 32, 0))
times = st.floats(0, 8, allow_nan=False)


@st.composite
def profiles(draw: st.DrawFn) -> Profiles:
    table = LatencyTable(
        environment=HERE,
        blocks=2,
        attention_s={2: draw(times), 1: draw(times), 0: 0.0},
        ffn_s={64: draw(times), 32: draw(times), 0: 0.0},
        fixed_s=draw(times),
    )
    harms = tuple((0.0, *sorted((draw(times), draw(times)))) for _ in range(4))
    return Profiles(table, LEVELS, harms)


@given(profiles(), st.floats(0, 40))
def test_the_best_profile_is_that_of_brute_force_and_within_the_time(found: Profiles, within_s: float) -> None:
    best = found.best(within_s)
    fitting = [one for one in itertools.product(range(3), repeat=4) if found.predicted_s(one) <= within_s]
    if best is None:
        assert all(found.predicted_s(one) > within_s - 1e-9 for one in itertools.product(range(3), repeat=4))
        return
    assert found.predicted_s(best) <= within_s + 1e-9
    # buckets are rounded up: what fits with a little room to spare is beaten or equalled
    spared = [one for one in fitting if found.predicted_s(one) <= within_s - 4e-3]
    assert all(found.harm(best) <= found.harm(one) + 1e-9 for one in spared)


@given(profiles(), st.floats(0, 40))
def test_uniform_profiles_fit_and_nothing_in_them_is_gone(found: Profiles, within_s: float) -> None:
    for heads in ((2, 1), (2,)):
        uniform = found.uniform(within_s, heads)
        for one in uniform:
            assert found.predicted_s(one) <= within_s
            assert one[:2] == one[2:] and 2 not in one
        assert bool(uniform) is (found.least_uniform_s(heads) <= within_s)


def test_without_times_nothing_is_cut() -> None:
    attention_s, ffn_s = dict.fromkeys((2, 1, 0), 0.0), dict.fromkeys((64, 32, 0), 0.0)
    table = LatencyTable(environment=HERE, blocks=1, attention_s=attention_s, ffn_s=ffn_s, fixed_s=1)
    assert Profiles(table, LEVELS, ((0.0, 1.0, 2.0),) * 2).best(1.0) == (0, 0)


@pytest.mark.parametrize("off", [0.8, 0.95, 1.0, 1.3])
def test_races_correct_what_the_table_is_off_by(off: float) -> None:
    asked: list[float] = []

    def speedup_within(within_s: float) -> float:
        asked.append(within_s)
        return 10 / (within_s * off)

    within_s = corrected(10 / 1.5, 1.0, 1.5, speedup_within)
    assert 10 / (within_s * off) == pytest.approx(1.5, rel=0.01)
    assert len(asked) <= 2


def test_of_races_that_never_agree_the_nearest_counts() -> None:
    found = iter((1.2, 1.9, 1.45, 1.7, 1.3))
    seen: dict[float, float] = {}

    def speedup_within(within_s: float) -> float:
        seen[within_s] = next(found)
        return seen[within_s]

    assert seen[corrected(6.0, 0.1, 1.5, speedup_within)] == 1.45
    assert len(seen) == RACES


def test_nothing_is_asked_that_no_model_has() -> None:
    asked: list[float] = []

    def speedup_within(within_s: float) -> float:
        asked.append(within_s)
        return 1.1

    corrected(6.0, 5.0, 1.5, speedup_within)
    assert min(asked) == 5.0


def test_every_half_is_measured_alone_with_half_of_it_and_its_harms_are_in_proportion_to_its_errors() -> None:
    seen: list[tuple[int, ...]] = []

    def loss_of(profile: tuple[int, ...]) -> float:
        seen.append(profile)
        return 0.6 if profile == (1, 0) else 0.4

    levels = ((2, 1, 0), (64, 48, 32, 16, 0))
    found = harms_of([[0, 0.3, 1], [0, 0.1, 0.2, 0.5, 1]], levels, loss_of)
    assert seen == [(0, 2), (1, 0)]
    assert found[0] == pytest.approx((0, 0.6, 2.0))
    assert found[1] == pytest.approx((0, 0.2, 0.4, 1.0, 2.0))


def test_what_rises_by_nothing_harms_by_nothing() -> None:
    assert harms_of([[0, 0, 1]], ((2, 1, 0),), lambda profile: -1e-9) == ((0, 0, 0),)


def test_the_measured_level_is_in_the_middle_and_never_the_dense_one() -> None:
    assert probed_level((64, 48, 32, 16, 0)) == 2
    assert probed_level((1, 0)) == 1
    assert probed_level((3, 2, 1, 0)) == 1
