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
