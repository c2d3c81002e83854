"""What the samples of one panel tell, on functions of one number, in plain arrays."""

import numpy as np
import pytest

from igjax.integration import panels

T = panels.tables()[0]


def measured(score, slope, features=((1.0,),), rounding=0.0, judged=None):
    """The whole path as one panel; features share the slope by these weights.

    Or, if a slope has a row for each feature, they are these.
    """
    share = np.asarray(features, float)[0]
    f = lambda t: np.asarray(score(t), float)[None, :, None]
    slopes = np.atleast_2d(slope(T))
    parts = (slopes.T[:, None] * share)[None]
    judged = parts.shape[-1] if judged is None else judged
    ends = f(np.array([0.0, 1.0]))
    panel = panels.Panels(np.array([[0.0, 1.0]]), ends, np.zeros(1, np.int32))
    samples = panels.Samples(T[None], f(T), parts)
    rounding = np.full((1, 1), rounding)
    probes, one = f(panels.probes_at()), np.ones((1, 1))
    return panels.measure(panel, samples, probes, rounding, one, 2e-16, judged)


def test_null_rules_see_no_polynomial_below_their_degree():
    weights = panels.tables()[1]
    for degree in range(11):
        assert np.abs(weights[4:] @ T**degree).max() < 1e-12
        assert abs(weights[0] @ T**degree - 1 / (degree + 1)) < 1e-12


def test_null_rules_are_of_the_size_of_the_error_on_steps():
    places = (np.arange(2000) + 0.5) / 2000
    weights = panels.tables()[1]
    steps = T[None] > places[:, None]
    error = steps @ weights[0] - (1 - places)
    claimed = ((steps @ weights[4:].T) ** 2).sum(1)
    assert np.sqrt((error**2).mean()) == pytest.approx(np.sqrt(claimed.mean()), rel=1e-2)


@pytest.mark.slow
def test_a_smooth_panel_is_known():
    seen = measured(np.sin, np.cos)
    assert seen.kronrod[0, 0, 0] == pytest.approx(np.sin(1), abs=1e-14)
    assert seen.error.sum() < 1e-9
    assert not seen.rough.any()
    assert not seen.contradicts.any()


@pytest.mark.parametrize("place", np.linspace(0.05, 0.95, 13))
def test_the_error_of_a_kink_is_covered(place):
    seen = measured(lambda t: np.maximum(t - place, 0), lambda t: 1.0 * (t > place))
    assert seen.rough.all()
    assert abs(seen.kronrod[0, 0, 0] - (1 - place)) <= seen.error.sum()


@pytest.mark.parametrize("place", [0.31, 0.5001, 0.9999])
def test_a_jump_that_no_slope_shows_is_booked_many_times(place):
    seen = measured(lambda t: t + 0.1 * (t > place), np.ones_like)
    assert seen.error.sum() >= panels.DOUBT * 0.1


def test_features_that_cancel_multiply_what_is_not_explained():
    jump = lambda t: t + 1e-3 * (t > 0.31)
    once = measured(jump, np.ones_like).error.sum()
    often = measured(jump, np.ones_like, [[50.5, -49.5]]).error.sum()
    assert often > 5 * once


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.3])
def test_slopes_that_are_wrong_in_proportion_contradict_the_scores(factor):
    bent = lambda t: t + 0.1 * t**2
    seen = measured(bent, lambda t: factor * (1 + 0.2 * t))
    assert seen.contradicts.all()
    assert not measured(bent, lambda t: 1 + 0.2 * t).contradicts.any()


@pytest.mark.parametrize("factor", [0.0, 0.77, 1.0, 1.3])
def test_how_far_slopes_are_off_in_proportion_is_known_behind_noise(factor):
    noise = np.random.default_rng(0).normal(size=200)
    rough = lambda t: np.sin(3 * t) + 0.004 * noise[(199 * np.asarray(t)).astype(int)]
    seen = measured(rough, lambda t: factor * 3 * np.cos(3 * t))
    found = float(panels.disproportion(seen.moments)[0, 0])
    # Of slopes of nothing it is the share of noise, of which nothing is known here.
    wrong = 0 if factor in (0.0, 1.0) else abs(1 / factor - 1)
    assert 0.7 * wrong <= found <= wrong


def test_a_kink_is_not_hidden_among_smooth_features_that_nobody_asks_for():
    place = 0.2207761417572032  # where Kronrod's, Gauss's and both coarser rules agree
    slopes = lambda t: np.stack([0.3 * (t < place), 30 * np.cos(6 * t)])
    score = lambda t: 0.3 * np.minimum(t, place) + 5 * np.sin(6 * t)
    seen = measured(score, slopes, [[1.0, 1.0]], judged=1)
    assert abs(seen.kronrod[0, 0, 0] - 0.3 * place) <= seen.error.sum()


def test_a_spike_between_samples_is_no_contradiction():
    spike = lambda t: t + 0.3 * np.exp(-(((t - 0.335) / 0.01) ** 2))
    assert not measured(spike, np.ones_like).contradicts.any()


def test_what_is_within_rounding_is_not_in_doubt():
    wave = lambda t: t + 1e-4 * np.sin(1e6 * t)
    seen = measured(wave, np.ones_like, rounding=1e-3)
    assert (seen.indicator <= seen.noise).all()
    seen = measured(wave, np.ones_like, rounding=1e-6)
    assert (seen.indicator > seen.noise).all()
