"""What the server counts, in Prometheus's text format."""

from bisect import bisect_left
from collections import Counter

from dualtower.serving.deck import Deck

BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram's buckets, in seconds."""


class Metrics:
    """Counters; each is one addition on the way of a request."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self.requests: Counter[tuple[str, int]] = Counter()
        """By route and status."""
        self.answers: Counter[str] = Counter()
        """Recommendations by arm; without an experiment under the empty name."""
        self.short_answers = 0
        """Recommendations of fewer items than asked for."""
        self.failed_answers: Counter[str] = Counter()
        """Recommendations that ended in an error, by arm."""
        self.rankings: Counter[tuple[str, str]] = Counter()
        """Calls of the ranker by outcome and arm."""
        self.events: Counter[tuple[str, str, str]] = Counter()
        """New events by kind, experiment and arm."""
        self.repeated_events = 0
        self.lost_exposures = 0
        """Exposures that the store refused, or that no event can name."""
        self.swaps: Counter[str] = Counter()
        """Bundles loaded or refused."""

    def observe(self, seconds: float) -> None:
        """Count the latency of one recommendation."""
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def text(self, deck: Deck) -> str:
        """All metrics, and those of the bundles being served."""
        lines = _head("dualtower_recommend_seconds", "histogram", "Latency inside the server.")
        total = 0
        for bound, count in zip(BOUNDS, self._buckets, strict=False):
            total += count
            lines.append(_line("dualtower_recommend_seconds_bucket", total, le=str(bound)))
        total += self._buckets[-1]
        lines.append(_line("dualtower_recommend_seconds_bucket", total, le="+Inf"))
        lines.append(f"dualtower_recommend_seconds_sum {self._seconds}")
        lines.append(f"dualtower_recommend_seconds_count {total}")
        lines += _head("dualtower_requests_total", "counter", "Requests by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            line = _line("dualtower_requests_total", count, route=route, status=str(status))
            lines.append(line)
        lines += _head("dualtower_answers_total", "counter", "Recommendations by arm.")
        lines += [
            _line("dualtower_answers_total", count, arm=arm)
            for arm, count in sorted(self.answers.items())
        ]
        lines += _head(
            "dualtower_short_answers_total", "counter", "Answers with fewer items than asked for."
        )
        lines.append(f"dualtower_short_answers_total {self.short_answers}")
        lines += _head("dualtower_failed_answers_total", "counter", "Ended in an error, by arm.")
        lines += [
            _line("dualtower_failed_answers_total", count, arm=arm)
            for arm, count in sorted(self.failed_answers.items())
        ]
        lines += _head("dualtower_rankings_total", "counter", "Calls of the ranker by outcome.")
        lines += [
            _line("dualtower_rankings_total", count, outcome=outcome, arm=arm)
            for (outcome, arm), count in sorted(self.rankings.items())
        ]
        lines += _head("dualtower_events_total", "counter", "New events, durably stored.")
        lines += [
            _line("dualtower_events_total", count, kind=kind, experiment=experiment, arm=arm)
            for (kind, experiment, arm), count in sorted(self.events.items())
        ]
        lines += _head("dualtower_repeated_events_total", "counter", "Events sent again.")
        lines.append(f"dualtower_repeated_events_total {self.repeated_events}")
        lines += _head("dualtower_lost_exposures_total", "counter", "Exposures not stored.")
        lines.append(f"dualtower_lost_exposures_total {self.lost_exposures}")
        lines += _head("dualtower_swaps_total", "counter", "Bundles loaded or refused.")
        lines += [
            _line("dualtower_swaps_total", count, result=result)
            for result, count in sorted(self.swaps.items())
        ]
        return "\n".join([*lines, *_of_deck(deck), ""])


def _of_deck(deck: Deck) -> list[str]:
    lines = []
    gauges = {
        "dualtower_index_recall_mean": "Mean recall of the index, measured at build.",
        "dualtower_index_recall_first_percentile": "All but 1 in 100 queries had this recall.",
        "dualtower_live_queries": "Queries with events since the bundle was built.",
        "dualtower_new_items": "Items that only live events know, kept to be recommended.",
        "dualtower_corpus_items": "Items that can be recommended.",
    }
    for name, help_text in gauges.items():
        lines += _head(name, "gauge", help_text)
        for arm, served in deck.arms().items():
            facts = served.engine.bundle.manifest
            value = {
                "dualtower_index_recall_mean": facts.index.recall_mean,
                "dualtower_index_recall_first_percentile": facts.index.recall_first_percentile,
                "dualtower_live_queries": served.live.live_queries(),
                "dualtower_new_items": len(served.live.new_items()),
                "dualtower_corpus_items": facts.counts.corpus,
            }[name]
            lines.append(_line(name, value, arm=arm or ""))
    return lines


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _line(name: str, value: float, **labels: str) -> str:
    parts = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{parts}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
