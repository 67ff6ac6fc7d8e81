from typing import Any

import pytest
from matplotlib.figure import Figure

from dualtower.studies import plots
from tests.evaluation.test_results import results_of, run_of


def test_the_best_models_dot_is_not_cut_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Figure()
    monkeypatch.setattr(plots, "draw_svg", lambda draw, *size: draw(drawn))
    plots.models_plot(results_of(run_of("dat", 0, 0.3), run_of("ease", 0, 0.4)), ["mrr"], "dat")
    axes: Any = drawn.axes[0]
    low, high = axes.get_xlim()
    assert low == 0
    assert high > 1.02 * max(max(line.get_xdata()) for line in axes.lines)


def test_an_axis_ends_where_most_differences_have_room() -> None:
    # Sizes 1 to 10 and 100: the quantile .7 of eleven is the eighth, 8; half as much again is 12.
    sizes = [*(float(n) for n in range(1, 11)), -100.0, 0.0]
    assert plots.shown_up_to(sizes, 0.5) == pytest.approx(12)
    assert plots.shown_up_to(sizes, 15.0) == pytest.approx(45)  # all of the band thrice
    assert plots.shown_up_to(sizes, 20.0) == pytest.approx(100)  # 60, but little is beyond
    assert plots.shown_up_to([0.1, -0.3, 0.2, 0.0], 0.0) == pytest.approx(0.3)  # little is beyond
    assert plots.shown_up_to([0.0], 0.2) == pytest.approx(0.2)
    assert plots.shown_up_to([0.1, -0.05], 0.2) == pytest.approx(0.2)  # all of it is noise
    assert plots.shown_up_to([0.0], 0.0) > 0


def test_a_difference_off_the_axis_is_written_at_its_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Figure()
    monkeypatch.setattr(plots, "draw_svg", lambda draw, *size: draw(drawn))
    small = {f"a: {n}": {"mrr": (n / 1000, [n / 1000])} for n in range(-4, 5)}
    small["a: 0"] = {"mrr": (0.0, [-0.007, 0.007])}
    rows = {**small, "b: 1": {"mrr": (-0.25, [-0.2, -0.3])}, "b: 2": {"mrr": (0.5, [0.5])}}
    plots.differences_plot(rows, {"mrr": 0.001}, ["mrr"])
    axes: Any = drawn.axes[0]
    assert [text.get_text() for text in axes.texts] == ["+0.500", "-0.250"]
    low, high = axes.get_xlim()
    assert low < -0.004
    assert 0.004 < high < 0.01
    points = [x for line in axes.lines if line.get_marker() in "|o<>" for x in line.get_xdata()]
    assert low < min(points) <= -0.007
    assert 0.007 <= max(points) < high
    rules = {y for line in axes.lines for y in line.get_ydata() if y % 1}
    assert rules == {1.5}  # two of b below, nine of a above


def test_without_a_band_no_difference_is_told_from_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(noise: dict[str, float]) -> list[str]:
        drawn = Figure()
        monkeypatch.setattr(plots, "draw_svg", lambda draw, *size: draw(drawn))
        rows = {f"a: {n}": {"mrr": (n / 10, [n / 10])} for n in (-1, 0, 1)}
        plots.differences_plot(rows, noise, ["mrr"])
        axes: Any = drawn.axes[0]
        return [line.get_color() for line in axes.lines if line.get_marker() == "o"]

    assert set(colours({"mrr": 0.0})) == {plots.GREY}
    assert colours({"mrr": 0.05}) == [plots.COLOURS[2], plots.GREY, plots.COLOURS[1]]
