"""The bundle: a trained model with all that recommending needs, in memory and on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower import models
from dualtower.config import IndexConfig, validate
from dualtower.data.columns import FeatureSpace, Ragged
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import BundleError, ConfigError, DataError, NotFittedError
from dualtower.files import read_folder, read_manifest, replacing_folder, write_manifest
from dualtower.models.base import Model, VectorModel
from dualtower.models.trained import TrainedModel
from dualtower.progress import progress_bar
from dualtower.retrieval.bundle_check import check_parts
from dualtower.retrieval.bundle_files import (
    read_encoder,
    read_weights,
    write_encoder,
    write_weights,
)
from dualtower.retrieval.exact import Candidates, unit_vectors
from dualtower.retrieval.index import Index, build_index
from dualtower.retrieval.manifest import (
    FORMAT,
    VERSION,
    BundleManifest,
    Counts,
    DatasetFacts,
    IndexFacts,
    bundle_versions,
    dataset_fingerprint,
)
from dualtower.retrieval.recall import tune_effort
from dualtower.retrieval.requests import Frame, Ids, RequestEncoder, series
from dualtower.retrieval.retriever import Retriever

_QUERIES_AT_ONCE = 2_048
_BAR_FROM = 20_000
_SEED = 0


@dataclass(frozen=True)
class Bundle:
    """A model, its item vectors indexed, and what is known of queries and items.

    Ids go in and come out as the user's own. `build` makes one, `load` reads one.
    """

    manifest: BundleManifest
    """All about it that is not an array."""
    model: VectorModel
    """Encodes queries at request time."""
    encoder: RequestEncoder
    """Ids, histories, features and categories."""
    retriever: Retriever
    """Searches the corpus."""

    @classmethod
    def build(
        cls,
        model: Model,
        data: Dataset | Log,
        *,
        index: IndexConfig | None = None,
        fitted_on: str = "unknown",
        progress: bool = True,
    ) -> "Bundle":
        """Encode the corpus, index it and measure the index.

        Args:
            model: a fitted model with vectors.
            data: what is known when recommending: all of a dataset, or a log up to its end. Its
                corpus is what can be recommended, its histories are what was seen.
            index: kind of index, and how its recall is measured.
            fitted_on: the events that the model was fitted on (train, train+validation, all), so
                that an evaluation of the bundle can refuse its own training events.
            progress: show a bar.

        Raises:
            ConfigError: a model without vectors, or one of another dataset.
            NotFittedError: the model was not trained.
            DataError: vectors with NaN or infinite values.
        """
        settings = index or IndexConfig()
        log = data.everything() if isinstance(data, Dataset) else data
        encoder = RequestEncoder.from_log(log)
        model = _checked_model(model, encoder.space)
        with progress_bar("Indexing the corpus", 3, "steps", shown=progress) as bar:
            vectors = model.encode_items()[encoder.corpus]
            bar.advance(note="item vectors")
            built = build_index(vectors, settings.kind, seed=_SEED)
            bar.advance(note=f"{built.kind} index")
            queries = _sample_queries(model, encoder, settings.recall_queries)
            recall = tune_effort(built, queries, settings.recall_at)
            bar.advance(note=f"recall {recall.mean:.3f}")
        lengths = np.linalg.norm(built.vectors, axis=1)
        manifest = BundleManifest(
            model=model.name,
            config=model.config.model_dump(mode="json"),
            fitted_on=fitted_on,
            training=_training_settings(model),
            dim=built.dim,
            normalised=bool((np.abs(lengths - 1) < 1e-3).all()),
            counts=Counts(
                queries=len(encoder.query_vocabulary) - 1,
                items=len(encoder.item_vocabulary) - 1,
                categories=len(encoder.category_vocabulary) - 1,
                corpus=len(encoder.corpus),
                events=int(encoder.history.lengths().sum()),
            ),
            index=IndexFacts(
                kind=built.kind,
                seed=_SEED,
                effort=built.effort,
                parameters=built.parameters,
                recall_at=settings.recall_at,
                recall_queries=len(queries),
                recall_mean=recall.mean,
                recall_first_percentile=recall.first_percentile,
                recall_minimum=recall.minimum,
            ),
            dataset=DatasetFacts(
                fingerprint=dataset_fingerprint(log.dataset), source=log.dataset.source
            ),
            columns=encoder.schema,
            space=encoder.space,
            feature_vocabularies=tuple(encoder.feature_vocabularies),
            numeric_scales=encoder.numeric_scales,
            versions=bundle_versions(),
        )
        return cls(manifest, model, encoder, Retriever(built))

    def save(self, path: str | Path) -> "Bundle":
        """Write the bundle into folder `path`; an older one there is replaced at the very end.

        Returns:
            The bundle itself.

        Raises:
            ConfigError: the folder holds anything but an older bundle, or is a mount point.
            OSError: the folder cannot be written.
        """
        with replacing_folder(path, FORMAT) as folder:
            write_weights(folder, self.model.state(), self.index.vectors)
            write_encoder(folder, self.encoder)
            content = self.manifest.model_dump(mode="json")
            write_manifest(folder, {"format": FORMAT, "format_version": VERSION, **content})
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a bundle; the bytes of every file are checked before any is parsed.

        The index is built again from the vectors, as it was built first.

        Raises:
            BundleError: a file is missing or differs by a byte, or the bundle is of another
                version or of a model that this dualtower does not have.
        """
        return read_folder(path, cls._load)

    @classmethod
    def _load(cls, folder: Path) -> "Bundle":
        content = read_manifest(folder, FORMAT, VERSION)
        facts = {
            name: value
            for name, value in content.items()
            if name not in ("format", "format_version", "files")
        }
        try:
            manifest = validate(BundleManifest, facts, "manifest.json")
            kind = models.MODELS.get(manifest.model)
            if kind is None or not issubclass(kind, VectorModel):
                raise BundleError(
                    f"{folder}: holds the model {manifest.model!r}, which this dualtower does not "
                    "have; load it with the version that built it, "
                    f"{manifest.versions.get('dualtower', 'unknown')}"
                )
            with read_weights(folder) as (state, vectors):
                encoder = read_encoder(folder, manifest)
                check_parts(manifest, encoder, vectors)
                model = kind.from_state(manifest.config, encoder.space, state)
            index = build_index(
                vectors,
                manifest.index.kind,
                seed=manifest.index.seed,
                effort=manifest.index.effort,
            )
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(
                f"{folder}: all files are as they were written, but they do not make a bundle that "
                f"this dualtower can read ({error}); build it again"
            ) from error
        return cls(manifest, model, encoder, Retriever(index))

    @property
    def index(self) -> Index:
        """The index over the corpus's item vectors."""
        return self.retriever.index

    def describe(self) -> dict[str, Any]:
        """What the bundle is, as plain values for printing."""
        return self.manifest.model_dump(mode="json", exclude={"numeric_scales"})

    def recommend(
        self,
        query_ids: Ids,
        n: int = 100,
        *,
        exclude_seen: bool = True,
        category: Any = None,
        exclude: Ids | None = None,
        history: Ids | None = None,
        features: Frame | None = None,
        context: Frame | None = None,
        progress: bool = True,
    ) -> pl.DataFrame:
        """The n best items for each query that it has not seen.

        Args:
            query_ids: whom to recommend to. An unknown id is a new query: it gets what its
                `history` and `features` say, or else what suits the unknown query.
            n: items per query; a query gets fewer only where fewer are left.
            exclude_seen: leave out the items of the query's history.
            category: only items of this category, or of any in a list.
            exclude: items left out besides: item ids for all queries, or a list per query.
            history: a list of item ids per query, oldest first, instead of the stored events.
            features: a table with one row per query and the query features' columns, instead of
                the stored ones.
            context: a table with one row per query and the context features' columns; unknown
                when left out.
            progress: show a bar when there are many queries.

        Returns:
            A frame with the schema's query and item columns (user_id, item_id), `score` and
            `rank` from 1, in order of the queries given, best first. Unknown items of `exclude`
            and `history` are ignored.

        Raises:
            ConfigError: n is no whole number from 1, or one id instead of a list.
            DataError: an unknown category; a table or list of another length than `query_ids`.
        """
        n = self._most(n)
        ids = series(query_ids, self.encoder.schema.query_id)
        batch = self.encoder.batch(ids, history=history, features=features, context=context)
        left_out = None if exclude is None else self._excluded(exclude, len(ids))
        allowed = None
        if category is not None:
            several = isinstance(category, list | tuple | set | np.ndarray | pl.Series)
            wanted = list(category) if several else [category]
            allowed = self.encoder.positions_of_categories(series(wanted, "category"))
        found = Candidates.empty(len(ids), n)
        shown = progress and len(ids) >= _BAR_FROM
        with progress_bar("Recommending", len(ids), "queries", shown=shown) as bar:
            for start in range(0, len(ids), _QUERIES_AT_ONCE):
                rows = np.arange(start, min(start + _QUERIES_AT_ONCE, len(ids)))
                part = batch.take(rows)
                lists = [self.encoder.positions(part.history)] if exclude_seen else []
                if left_out is not None:
                    # One list for all stands once until here: a copy for each query may not fit.
                    shared = len(left_out) == 1
                    lists.append(left_out.take(np.zeros_like(rows) if shared else rows))
                best = self.retriever.retrieve(
                    self.model.encode_queries(part),
                    n,
                    exclude=_joined(lists),
                    allowed=allowed,
                )
                found.positions[rows], found.scores[rows] = best.positions, best.scores
                bar.advance(len(rows))
        return self._frame(ids, found, self.encoder.schema.query_id)

    def similar_items(self, item_ids: Ids, n: int = 20) -> pl.DataFrame:
        """The n items whose vectors are nearest to each item's by cosine, itself left out.

        Biases, where the model has them (fm), have no part in it.

        Args:
            item_ids: items of the corpus.
            n: how many each.

        Returns:
            A frame `target_item_id`, item id, `score` (the cosine) and `rank` from 1; the first
            two are named after the schema's item column.

        Raises:
            DataError: an item that is unknown, or not in the corpus.
            ConfigError: n is no whole number from 1, or one id instead of a list.
        """
        n = self._most(n)
        ids = series(item_ids, f"target_{self.encoder.schema.item_id}")
        rows = self.encoder.item_vocabulary.encode(ids)
        one_each = np.arange(len(ids) + 1, dtype=np.int64)
        itself = self.encoder.positions(Ragged(rows, one_each))
        missing = np.flatnonzero(itself.lengths() == 0)
        if len(missing) > 0:
            item, known = ids[int(missing[0])], rows[missing[0]] > 0
            raise DataError(
                f"{self.encoder.schema.item_id}: {item!r} "
                + ("is not in the corpus" if known else "is unknown: no event named it")
                + f", so it has no vector ({len(missing)} of {len(ids)} items)"
            )
        found = Candidates.empty(len(ids), n)
        retriever = self._by_cosine()
        for start in range(0, len(ids), _QUERIES_AT_ONCE):
            part = np.arange(start, min(start + _QUERIES_AT_ONCE, len(ids)))
            best = retriever.retrieve(
                retriever.index.vectors[itself.values[part]], n, exclude=itself.take(part)
            )
            found.positions[part], found.scores[part] = best.positions, best.scores
        return self._frame(ids, found, ids.name)

    @property
    def directions(self) -> npt.NDArray[np.float32]:
        """The corpus's item vectors without their biases, `[items, dim]`; a view."""
        return self.index.vectors[:, : -1 if self.model.has_bias else None]

    def _by_cosine(self) -> Retriever:
        """What finds items by cosine; made anew where vectors have other lengths than 1."""
        if self.manifest.normalised:
            return self.retriever
        return Retriever(build_index(unit_vectors(self.directions), "flat"))

    def _most(self, n: int) -> int:
        """`n`, or the corpus's size where that is less: no more can be found."""
        if not isinstance(n, int | np.integer) or n < 1:
            raise ConfigError(f"n: {n!r} items asked for; it should be a whole number, 1 or more")
        return min(int(n), len(self.index))

    def _excluded(self, exclude: Ids, count: int) -> Ragged:
        """Positions to leave out for each query, or one list of them for all."""
        values = series(exclude, "exclude")
        if isinstance(values.dtype, pl.List):
            if len(values) != count:
                raise DataError(f"exclude: {len(values)} lists for {count} queries")
            return self.encoder.positions(self.encoder.item_lists(values))
        rows = np.unique(self.encoder.item_vocabulary.encode(values))
        return self.encoder.positions(Ragged.single(rows[rows > 0]))

    def _frame(self, ids: pl.Series, found: Candidates, name: str) -> pl.DataFrame:
        query, rank = np.nonzero(found.positions >= 0)
        rows = self.encoder.corpus[found.positions[query, rank]]
        return pl.DataFrame(
            {
                name: ids.gather(query),
                self.encoder.schema.item_id: self.encoder.item_vocabulary.decode(rows),
                "score": found.scores[query, rank],
                "rank": (rank + 1).astype(np.int32),
            }
        )


def _checked_model(model: Model, space: FeatureSpace) -> VectorModel:
    if not isinstance(model, VectorModel):
        raise ConfigError(
            f"model {model.name!r} has no vectors, so no index can serve it; "
            "a bundle holds a model with query and item vectors, such as dat, two_tower or mind"
        )
    if not model.fitted:
        raise NotFittedError(f"model {model.name!r} is not trained; fit it before bundling it")
    if model.space != space:
        raise ConfigError(
            f"model {model.name!r} was fitted for another dataset ({model.space}) than the one "
            f"given ({space})"
        )
    return model


def _training_settings(model: Model) -> dict[str, Any]:
    record = model.record if isinstance(model, TrainedModel) else None
    return {} if record is None else record.training


def _sample_queries(
    model: VectorModel, encoder: RequestEncoder, count: int
) -> npt.NDArray[np.float32]:
    """Vectors of known queries chosen at random, as the model gives them; of the unknown if none
    is."""
    known = encoder.known_queries()
    if len(known) == 0:
        known = np.zeros(1, dtype=np.int64)
    generator = np.random.default_rng(_SEED)
    rows = np.sort(generator.choice(known, size=min(count, len(known)), replace=False))
    parts = [
        model.encode_queries(encoder.batch_of_rows(rows[start : start + _QUERIES_AT_ONCE]))
        for start in range(0, len(rows), _QUERIES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _joined(lists: list[Ragged]) -> Ragged | None:
    """The lists of each row, one after the other."""
    if len(lists) <= 1:
        return lists[0] if lists else None
    row = np.concatenate([part.row_of_value() for part in lists])
    values = np.concatenate([part.values for part in lists])
    order = np.argsort(row, kind="stable")
    offsets = np.sum([part.offsets for part in lists], axis=0)
    return Ragged(values[order], offsets)
