"""The plain server that `benchmarks.serving` measures against: what one writes first.

    python -m benchmarks.serving_rival BUNDLE PORT

`async def` under FastAPI, a pydantic body and reply, the query tower in PyTorch, Faiss Flat, and a
Python set for what was seen.
"""

import sys
from typing import Any

import faiss
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from dualtower.data.columns import QueryBatch
from dualtower.retrieval.bundle import Bundle


class Asked(BaseModel):
    """A request."""

    query_id: int
    n: int = 100


class Item(BaseModel):
    """One item of a reply."""

    item: int
    score: float


class Reply(BaseModel):
    """A reply."""

    items: list[Item]


def make_app(bundle: Bundle) -> FastAPI:
    """The plain server of a bundle whose ids are whole numbers."""
    app = FastAPI()
    encoder = bundle.encoder
    flat: Any = faiss.IndexFlatIP(bundle.index.dim)
    flat.add(bundle.index.vectors)
    row_of = {query: row for row, query in enumerate(encoder.query_vocabulary.values, 1)}
    ids = encoder.item_vocabulary.decode(encoder.corpus).to_list()
    position_of = {int(row): place for place, row in enumerate(encoder.corpus)}
    context = encoder.batch_of_rows(np.zeros(1, dtype=np.int64)).context

    @app.post("/recommend", response_model=Reply)
    async def recommend(asked: Asked) -> Reply:
        rows = np.array([row_of.get(asked.query_id, 0)])
        history = encoder.history.take(rows)
        vector = bundle.model.encode_queries(QueryBatch(rows, history, {}, context))
        seen = {position_of.get(int(row), -1) for row in history.values}
        scores, positions = flat.search(vector, asked.n + len(seen))
        items = [
            Item(item=ids[place], score=score)
            for place, score in zip(positions[0].tolist(), scores[0].tolist(), strict=True)
            if place not in seen
        ]
        return Reply(items=items[: asked.n])

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def main() -> None:
    """Serve the bundle of the first argument on the port of the second."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    app = make_app(Bundle.load(sys.argv[1]))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
