"""What the page shows, read from a running server.

Ids are texts here: a browser's numbers hold 53 bits of the 64 that an id may have, and 7 and "7"
are the same id wherever one is read.
"""

from typing import Any

import numpy as np
import polars as pl

from dualtower.experiments.assignment import Experiment
from dualtower.experiments.guardrails import table
from dualtower.experiments.plots import lift_chart
from dualtower.experiments.report import report_log, verdicts
from dualtower.serving.deck import Deck, Served
from dualtower.serving.event_table import events_of
from dualtower.serving.server import Server
from dualtower.serving.store import EventStore


def about(server: Server) -> dict[str, Any]:
    """What is served, as `documents.About`."""
    experiment = server.deck.experiment
    arms = []
    for arm, served in server.deck.arms().items():
        facts = served.engine.bundle.manifest
        arms.append({"arm": arm, "model": facts.model, "corpus": facts.counts.corpus})
    return {
        "arms": arms,
        "experiment": None if experiment is None else experiment.name,
        "ranker": server.ranking is not None,
        "days": None if experiment is None else experiment.days,
        "events": server.store is not None,
        "max_n": server.settings.max_n,
    }


def example_queries(deck: Deck, limit: int) -> list[str]:
    """At most `limit` queries with a history, from all over the control's vocabulary."""
    _, served = deck.pick(None)
    known = served.engine.known_queries
    places = np.linspace(0, len(known), min(limit, len(known)), endpoint=False).astype(np.int64)
    vocabulary = served.engine.bundle.encoder.query_vocabulary
    return vocabulary.decode(known[places]).cast(pl.String).to_list()


def history(deck: Deck, query_id: str, limit: int) -> dict[str, Any]:
    """What a query did, as `documents.History`, from the bundle of its arm and the events since.

    Args:
        deck: what is served.
        query_id: known or not.
        limit: the most events in the answer, the latest.
    """
    _, served = deck.pick(query_id)
    engine = served.engine
    stored = engine.history_of(engine.row_of_query(query_id))
    live = served.live.live_items(query_id)
    latest = live[::-1][:limit]
    rows = stored[::-1][: limit - len(latest)]
    items = [str(item) for item in latest]
    items += engine.bundle.encoder.item_vocabulary.decode(rows).cast(pl.String).to_list()
    categories = engine.categories_of(items)
    return {
        "query_id": query_id,
        "stored": len(stored),
        "live": len(live),
        "events": [
            {"item": item, "category": category, "live": place < len(latest)}
            for place, (item, category) in enumerate(zip(items, categories, strict=True))
        ],
    }


def candidates(deck: Deck, query_id: str, n: int) -> dict[str, Any]:
    """The n best items of every arm for a query, as `documents.Candidates`.

    Nothing is shown to anybody by it, so no exposure is logged and nothing is counted.

    Args:
        deck: what is served.
        query_id: known or not.
        n: how many, from 1.
    """
    answering, _ = deck.pick(query_id)
    return {
        "query_id": query_id,
        "arms": [
            {"arm": arm, "answers": arm == answering, **_best(served, query_id, n)}
            for arm, served in deck.arms().items()
        ],
    }


def chart(store: EventStore, experiment: Experiment) -> dict[str, Any]:
    """The report of an experiment on all events so far, as `documents.Chart`.

    Reads the whole log, so it is for a thread beside the one that answers.

    Raises:
        ConfigError: tea-tasting or matplotlib is not installed.
        DataError: nothing of the experiment is in the log, or a row is not as it should be.
        StoreError: the store cannot be read.
    """
    report = report_log(events_of(store), experiment)
    compared = {found.arm for look in report.cumulative for found in look.estimates}
    return {
        "charts": [
            # The page shows the guardrails of all arms as a table.
            {"arm": arm, "svg": lift_chart(report, arm, guardrails=False)}
            for arm in report.arms
            if arm in compared
        ],
        "guardrails": [] if report.guardrails is None else table(report.guardrails),
        "verdicts": verdicts(report),
        "notes": report.notes,
    }


def _best(served: Served, query_id: str, n: int) -> dict[str, Any]:
    found, scores = served.engine.recommend(query_id, n, live=served.live)
    items = [str(item) for item in found.tolist()]
    return {
        "model": served.engine.bundle.manifest.model,
        "items": items,
        "categories": served.engine.categories_of(items),
        "scores": scores,
    }
