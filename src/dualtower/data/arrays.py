"""Event arrays on disk: written piece by piece, read as memory maps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import FeatureColumn
from dualtower.schema import Feature

CHUNK_EVENTS = 4_000_000
"""How many events are held in memory at a time."""
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class ArrayWriter:
    """Writes one `.npy` file by appending along the first axis."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._file: BinaryIO | None = None
        self._template: npt.NDArray[Any] = np.zeros(0)

    def append(self, array: npt.NDArray[Any]) -> None:
        """Append rows; type and row shape are those of the first piece."""
        if self._file is None:
            self._file = open(self.path, "wb")  # noqa: SIM115 - closed by `close`
            self._template = np.ascontiguousarray(array[:0])
            self._header()
        # Not by `tofile` or `np.save`: on a full disk they lose the end of an array in silence.
        whole = np.ascontiguousarray(array, dtype=self._template.dtype)
        self._file.write(whole.reshape(-1).view(np.uint8).data)
        self.rows += len(array)

    def close(self) -> None:
        """Write the final length into the header."""
        if self._file is not None:
            self._file.flush()
            self._file.seek(0)
            self._header()
            self._file.close()
            self._file = None

    def _header(self) -> None:
        shape = (self.rows, *self._template.shape[1:])
        header = {"descr": self._template.dtype.str, "fortran_order": False, "shape": shape}
        # NumPy pads the header so that a longer first axis fits in the same number of bytes.
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[arg-type]


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as one `.npy` file, with an error wherever the disk does not take it.

    Raises:
        OSError: the disk is full or broken.
    """
    writer = ArrayWriter(path)
    writer.append(array)
    writer.close()


@dataclass(frozen=True)
class Events:
    """Some consecutive events: the event arrays of a dataset, or a piece of them."""

    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64] | None = None
    weights: npt.NDArray[np.float32] | None = None
    split: npt.NDArray[np.int8] | None = None
    context: dict[str, FeatureColumn] = field(default_factory=dict)

    def take(self, rows: npt.NDArray[np.integer] | slice) -> "Events":
        """The events at these positions."""
        positions = (
            np.arange(rows.start, rows.stop, dtype=np.int64) if isinstance(rows, slice) else rows
        )

        def taken(array: Any) -> Any:
            return None if array is None else np.asarray(array[rows])

        return Events(
            taken(self.items),
            taken(self.times),
            taken(self.weights),
            taken(self.split),
            {name: column.take(positions) for name, column in self.context.items()},
        )


def array_file(folder: Path, name: str) -> Path:
    """The file of one array."""
    return folder / f"{name}.npy"


def column_names(side: str, number: int) -> tuple[str, str]:
    """Array names of the values and offsets of a feature column, by side and place."""
    return f"{side}-{number}-values", f"{side}-{number}-offsets"


class EventWriter:
    """Appends events to the arrays of a dataset folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, ArrayWriter] = {}

    def append(self, events: Events) -> None:
        """Append a piece; every piece has the same columns."""
        for name in ("items", "times", "weights", "split"):
            array = getattr(events, name)
            if array is not None:
                self._writer(name).append(array)
        for number, column in enumerate(events.context.values()):
            values, offsets = column_names("context", number)
            written = self._writer(values).rows
            self._writer(values).append(column.values)
            if column.offsets is not None:
                first = self._writer(offsets).rows == 0
                self._writer(offsets).append(column.offsets[0 if first else 1 :] + written)

    def close(self) -> None:
        """Finish all files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, name: str) -> ArrayWriter:
        if name not in self._writers:
            self._writers[name] = ArrayWriter(array_file(self._folder, name))
        return self._writers[name]


def read_events(
    folder: Path, context: tuple[Feature, ...], load: Callable[[Path], npt.NDArray[Any]]
) -> Events:
    """The event arrays of a folder; `load` reads one file (as a memory map, say)."""

    def optional(name: str) -> Any:
        path = array_file(folder, name)
        return load(path) if path.exists() else None

    columns = {}
    for number, feature in enumerate(context):
        values, offsets = column_names("context", number)
        columns[feature.name] = FeatureColumn(
            feature, load(array_file(folder, values)), optional(offsets)
        )
    return Events(
        load(array_file(folder, "items")),
        optional("times"),
        optional("weights"),
        optional("split"),
        columns,
    )


def memory_map(path: Path) -> npt.NDArray[Any]:
    """Open a `.npy` file as a read-only memory map; an empty array, which cannot be, is read."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        shape = _HEADER_READERS[version](file)[0]
    array: npt.NDArray[Any] = np.load(
        path, mmap_mode=None if 0 in shape else "r", allow_pickle=False
    )
    return array


def query_chunks(
    offsets: npt.NDArray[np.int64], events: int | None = None
) -> Iterator[tuple[int, int]]:
    """Ranges of query rows `[first, last)` with about `events` events each (at least one row)."""
    size = CHUNK_EVENTS if events is None else events
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last
