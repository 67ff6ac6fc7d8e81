"""Nearest neighbours by inner product: one interface over four kinds of Faiss index."""

from functools import lru_cache
from typing import Any, Literal, get_args

import faiss
import numpy as np
import numpy.typing as npt
import torch

from dualtower.errors import ConfigError, DataError
from dualtower.retrieval.exact import ExactScan, best_of_pairs, checked_vectors, pair_scores

IndexKind = Literal["flat", "ivf", "hnsw", "compressed"]

FLAT_BELOW = 50_000
"""`auto` takes the exact index below so many items: a scan of them costs well under 1 ms."""
_SMALLEST_EFFORT = {"flat": 1, "ivf": 4, "hnsw": 32, "compressed": 4}
_NEIGHBOURS = 32
_MOST_CANDIDATES = 4_096
_REFINE = 2


class Index:
    """Item vectors and a Faiss index over them; build it with `build_index`.

    Whatever the index stores, scores are inner products with the vectors as given, computed from
    them again for what was found: a compressed index loses items, never digits.

    The kinds: `flat` compares with every vector. `ivf` clusters the vectors and looks into the
    `effort` clusters nearest to the query; it stores half floats. `hnsw` walks a graph of
    neighbours, keeping `effort` candidates. `compressed` is `ivf` with one byte a number, and
    fetches twice as many items as asked for before it scores them again.
    """

    kind: IndexKind
    vectors: npt.NDArray[np.float32]
    """What is indexed, `[items, dim]`."""
    scan: ExactScan
    """Exact search over the same vectors."""
    effort: int
    """Clusters looked into, or candidates kept; more finds more and takes longer. 1 for flat."""
    most_effort: int
    """The effort beyond which nothing more is found (ivf, compressed) or asked for (hnsw)."""
    threads: int
    """CPU threads of a search; PyTorch's number at build unless changed."""

    def __init__(self, vectors: npt.NDArray[np.float32], kind: IndexKind, seed: int) -> None:
        """Build the index of `kind` over checked `vectors`; use `build_index` instead."""
        self.kind = kind
        self.vectors = vectors
        self.scan = ExactScan(vectors)
        self.threads = torch.get_num_threads()
        self._index, self.most_effort = _BUILDERS[kind](self, seed)
        self.effort = min(_SMALLEST_EFFORT[kind], self.most_effort)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    @property
    def is_exact(self) -> bool:
        """Whether the best items are always found."""
        return self.kind == "flat"

    @property
    def parameters(self) -> dict[str, int]:
        """How the index was built and is searched, for the manifest."""
        if self.kind == "hnsw":
            return {"neighbours": _NEIGHBOURS, "effort": self.effort}
        if self.kind == "flat":
            return {}
        return {"clusters": self.most_effort, "effort": self.effort}

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k items with the largest inner products, as far as the index finds them.

        Args:
            queries: `[queries, dim]`, of any length; finite.
            k: items per query, at least 1.

        Returns:
            Scores `[queries, k]`, best first, and positions `[queries, k]`; where fewer than k
            were found, -inf and -1.

        Raises:
            ConfigError: k is below 1.
            DataError: a query has another dimension, or NaN or infinite values.
        """
        if k < 1:
            raise ConfigError(f"k: {k} items asked for; it should be 1 or more")
        queries = checked_vectors(queries, "query vectors")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise DataError(
                f"query vectors: shape {list(queries.shape)}; it should be [queries, {self.dim}]"
            )
        fetched = self._fetch(queries if self.is_exact else _unit(queries), min(k, len(self)))
        query_of_pair, column = np.nonzero(fetched >= 0)
        positions = fetched[query_of_pair, column]
        scores = pair_scores(queries[:, None], self.vectors, query_of_pair, positions)
        best = best_of_pairs(query_of_pair, positions, scores, len(queries), k)
        return best.scores, best.positions

    def search_one(
        self, query: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """As `search`, for one trusted query in the fewest steps.

        Args:
            query: `[dim]` float32, finite.
            k: items, at least 1.

        Returns:
            Scores and positions of the items found, at most k, best first, `[found]`.
        """
        unit = query if self.is_exact else query / (np.sqrt(query @ query) or np.float32(1))
        positions = self._fetch(unit[None], min(k, len(self)))[0]
        if positions[-1] < 0:
            positions = positions[positions >= 0]
        scores = np.einsum("pd,d->p", self.vectors[positions], query)
        order = np.lexsort((positions, -scores))[:k]
        return scores[order], positions[order]

    def _fetch(self, queries: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
        """Positions from the index; queries of unit length, or for `flat` as they are."""
        # Faiss keeps its thread count per calling thread, so it is set where it is used.
        faiss.omp_set_num_threads(self.threads)
        found: npt.NDArray[np.int64]
        if self.kind == "flat":
            _, found = self._index.search(queries, k)
        elif self.kind == "hnsw":
            queries = np.pad(queries, ((0, 0), (0, 1)))
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.effort, k))
            _, found = self._index.search(queries, k, params=parameters)
        else:
            k = min(k * _REFINE, len(self)) if self.kind == "compressed" else k
            _, found = self._index.search(queries, k, params=_clusters_searched(self.effort))
        return found


def build_index(
    vectors: npt.NDArray[np.float32],
    kind: IndexKind | Literal["auto"] = "auto",
    *,
    seed: int = 0,
    effort: int | None = None,
) -> Index:
    """Index `vectors` for search by inner product; the same arguments give the same index.

    Args:
        vectors: `[items, dim]`, of any length; finite.
        kind: which index; `auto` is flat below 50,000 items and ivf from there on.
        seed: of the clustering.
        effort: clusters looked into or candidates kept by a search; the smallest when None, for
            `dualtower.retrieval.recall.tune_effort` to raise.

    Raises:
        ConfigError: an unknown kind, or an effort below 1.
        DataError: no vectors, or NaN or infinite values in them.
    """
    vectors = checked_vectors(vectors, "item vectors")
    if vectors.ndim != 2 or len(vectors) == 0:
        raise DataError(
            f"item vectors: shape {list(vectors.shape)}; "
            "it should be [items, dim] with at least one item"
        )
    if kind == "auto":
        kind = "flat" if len(vectors) < FLAT_BELOW else "ivf"
    if kind not in get_args(IndexKind):
        known = ", ".join(("auto", *get_args(IndexKind)))
        raise ConfigError(f"index.kind: {kind!r} is unknown; it should be one of {known}")
    if effort is not None and effort < 1:
        raise ConfigError(f"index effort: {effort}; it should be 1 or more")
    index = Index(vectors, kind, seed)
    if effort is not None:
        index.effort = min(effort, index.most_effort)
    return index


def _flat(index: Index, seed: int) -> tuple[Any, int]:
    flat = faiss.IndexFlatIP(index.dim)
    flat.add(index.vectors)
    return flat, 1


def _ivf(index: Index, seed: int) -> tuple[Any, int]:
    return _clustered(index, "SQfp16", seed)


def _compressed(index: Index, seed: int) -> tuple[Any, int]:
    return _clustered(index, "SQ8", seed)


def _clustered(index: Index, storage: str, seed: int) -> tuple[Any, int]:
    items = len(index)
    # Near the square root of the corpus, and at least the 39 vectors a cluster Faiss asks for.
    clusters = max(1, min(2 ** round(np.log2(np.sqrt(items))), items // 39))
    built = faiss.index_factory(index.dim, f"IVF{clusters},{storage}", faiss.METRIC_INNER_PRODUCT)
    built.cp.seed = seed
    # Long vectors overflow half floats; the scale of all changes no order.
    scaled, _ = _scaled(index.vectors)
    faiss.omp_set_num_threads(index.threads)
    built.train(scaled)
    built.add(scaled)
    return built, clusters


def _hnsw(index: Index, seed: int) -> tuple[Any, int]:
    # A graph by inner product fails on vectors of unequal length. One more coordinate makes all
    # as long as the longest; among those the nearest by distance is the largest inner product.
    scaled, squares = _scaled(index.vectors)
    filler = np.sqrt(np.maximum(0, 1 - squares))[:, None]
    built = faiss.IndexHNSWFlat(index.dim + 1, _NEIGHBOURS, faiss.METRIC_L2)
    # Threads would add vectors in an order that changes from run to run.
    faiss.omp_set_num_threads(1)
    built.add(np.hstack([scaled, filler]).astype(np.float32))
    return built, min(_MOST_CANDIDATES, len(index))


_BUILDERS = {"flat": _flat, "ivf": _ivf, "hnsw": _hnsw, "compressed": _compressed}


@lru_cache(maxsize=16)
def _clusters_searched(effort: int) -> Any:
    """Made once: that takes as long as a search of two clusters."""
    return faiss.SearchParametersIVF(nprobe=effort)


def _scaled(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The vectors divided by the longest one's length, and their squared lengths then."""
    squares = np.einsum("id,id->i", vectors, vectors)
    longest = float(squares.max())
    if longest == 0:
        return vectors, squares
    return vectors / np.float32(np.sqrt(longest)), squares / np.float32(longest)


def _unit(queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.sqrt(np.einsum("qd,qd->q", queries, queries))
    norms[norms == 0] = 1
    unit: npt.NDArray[np.float32] = queries / norms[:, None]
    return unit
