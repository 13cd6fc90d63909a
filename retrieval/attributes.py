"""Items' attributes in, a mask of the items that a filter allows out.

Kept by column: each distinct text once, and for each item the number of its text. So a condition
is decided once for each distinct text and then spread over the items by one vectorized look-up.
Numbers are parsed from the texts, once each. On disk the same, as one parquet file.

Texts compare letter by letter, but for truth values: a column that holds nothing but `true` and
`false` in any case is read in lower case, and so are the values that are sought in it.

Shape legend: N items, V distinct texts of a column.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval.base import REPAIR, UnusableIndex
from retrieval.filters import Among, Between, Filter, number

ITEM_ID = "item_id"
CATEGORY = "category"
MAX_MASKS = 32  # of the filters used last; each is one byte an item
TRUTH = frozenset({"true", "false"})


class Described(Protocol):
    """What has attributes: an item of the catalog, or its profile in the store."""

    @property
    def item_id(self) -> str: ...
    @property
    def category(self) -> str | None: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """An item's attributes where all of them, the category too, are told by column."""

    item_id: str
    attributes: Mapping[str, str]
    category: str | None = None


class Column:
    """One attribute of all items."""

    def __init__(self, texts: Sequence[str], codes_N: NDArray[np.int32]) -> None:
        """Keep the column.

        Args:
            texts: The distinct texts.
            codes_N: Each item's place among them; -1 where it has no value.
        """
        self.codes_N = codes_N
        self.is_truth = bool(texts) and {text.lower() for text in texts} <= TRUTH
        self.texts = tuple(text.lower() for text in texts) if self.is_truth else tuple(texts)
        numbers = (number(text) for text in self.texts)
        self._numbers_V = np.array([np.nan if one is None else one for one in numbers])
        self.is_numeric = bool(np.isfinite(self._numbers_V).any())
        """Whether any item has a number here."""

    def matches(self, condition: Among | Between) -> NDArray[np.bool_]:
        """Which items meet the condition, [N]."""
        # One more place, which the code -1 of an absent value looks up.
        is_met_V = np.zeros(len(self.texts) + 1, dtype=np.bool_)
        if isinstance(condition, Among):
            values = condition.values
            if self.is_truth:
                values = frozenset(value.lower() for value in values)
            is_met_V[:-1] = [text in values for text in self.texts]
        else:
            low = -np.inf if condition.low is None else condition.low
            high = np.inf if condition.high is None else condition.high
            is_met_V[:-1] = (low <= self._numbers_V) & (self._numbers_V <= high)
        return is_met_V[self.codes_N]

    def taken(self, rows_N: NDArray[np.int64]) -> "Column":
        """The same column for items in another order; -1 stands for one without a value."""
        taken = copy(self)  # the texts are shared, and their numbers parsed once
        taken.codes_N = np.append(self.codes_N, np.int32(-1))[rows_N]
        return taken


class Attributes:
    """Columns by item row. Safe to ask from several threads."""

    def __init__(self, item_ids: Sequence[str], columns: Mapping[str, Column]) -> None:
        """Keep the columns.

        Raises:
            ValueError: an item is named twice, or a column is of another length.
        """
        self.item_ids = tuple(item_ids)
        self._columns = dict(sorted(columns.items()))
        self._row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        if len(self._row_of) < len(self.item_ids):
            raise ValueError("an item has attributes twice")
        if any(len(column.codes_N) != len(self.item_ids) for column in columns.values()):
            raise ValueError("every column needs one place for each item")
        self._masks: OrderedDict[Filter, NDArray[np.bool_]] = OrderedDict()
        self._aligned: tuple[tuple[str, ...], Attributes] | None = None
        self._lock = Lock()

    @classmethod
    def of(
        cls, items: "Iterable[Described] | pa.Table", columns: Iterable[str] | None = None
    ) -> "Attributes":
        """The attributes of items, or of a table with the column `item_id`.

        Args:
            items: Items or profiles, or a table whose other columns are cast to text.
            columns: Only these; one in which no item has a value is left out. None takes all.

        Raises:
            ValueError: an item is named twice, or the table has no `item_id`.
        """
        wanted = None if columns is None else frozenset(columns)
        if isinstance(items, pa.Table):
            return cls._of_table(items, wanted)
        item_ids: list[str] = []
        places: dict[str, dict[str, int]] = {}
        rows: dict[str, list[int]] = {}
        codes: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            item_ids.append(item.item_id)
            texts = dict(item.attributes)
            if item.category is not None:
                texts[CATEGORY] = item.category
            for column, text in texts.items():
                if wanted is None or column in wanted:
                    known = places.setdefault(column, {})
                    codes.setdefault(column, []).append(known.setdefault(text, len(known)))
                    rows.setdefault(column, []).append(row)
        made = {}
        for column, known in places.items():
            codes_N = np.full(len(item_ids), -1, dtype=np.int32)
            codes_N[rows[column]] = codes[column]
            made[column] = Column(list(known), codes_N)
        return cls(item_ids, made)

    @classmethod
    def _of_table(cls, table: pa.Table, wanted: frozenset[str] | None) -> "Attributes":
        if ITEM_ID not in table.column_names:
            raise ValueError(f"a table of attributes needs {ITEM_ID!r}, got {table.column_names}")
        columns = {}
        for name in table.column_names:
            if name == ITEM_ID or (wanted is not None and name not in wanted):
                continue
            encoded = table[name].cast(pa.string()).combine_chunks().dictionary_encode()
            if len(encoded.dictionary):
                codes_N = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
                columns[name] = Column(encoded.dictionary.to_pylist(), codes_N.astype(np.int32))
        return cls(table[ITEM_ID].to_pylist(), columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, sorted."""
        return tuple(self._columns)

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """The names of those in which any item has a number, sorted."""
        return tuple(name for name, column in self._columns.items() if column.is_numeric)

    def __len__(self) -> int:
        return len(self.item_ids)

    def allowed(self, filter: Filter, item_ids: Sequence[str] | None = None) -> NDArray[np.bool_]:
        """Which items the filter allows, [N]; not to be written to.

        Args:
            filter: The conditions.
            item_ids: The items asked for, in this order; None means those held. One that is not
                held has no value in any column.

        Raises:
            ValueError: the filter names a column that there is not, or compares numbers in a
                column of texts; the message names the columns there are.
        """
        check(filter, self)
        return self.mask(filter) if item_ids is None else self.aligned(item_ids).mask(filter)

    def passing(self, filter: Filter, item_ids: Iterable[str]) -> list[str]:
        """Those of these items that the filter allows, in their order; one that is not held has no
        value in any column.

        Raises:
            ValueError: as `allowed`.
        """
        mask_N, row_of = self.allowed(filter), self._row_of
        return [
            one
            for one in item_ids
            if (mask_N[row_of[one]] if one in row_of else filter.allows_bare(one))
        ]

    def aligned(self, item_ids: Sequence[str]) -> "Attributes":
        """The attributes of these items in this order; the last alignment is kept."""
        wanted = tuple(item_ids)
        if wanted == self.item_ids:
            return self
        with self._lock:
            if self._aligned is None or self._aligned[0] != wanted:
                rows_N = np.array([self._row_of.get(one, -1) for one in wanted], dtype=np.int64)
                columns = {name: one.taken(rows_N) for name, one in self._columns.items()}
                self._aligned = (wanted, Attributes(wanted, columns))
            return self._aligned[1]

    def of_item(self, item_id: str) -> dict[str, str]:
        """One item's texts by column; none for an item that is not held."""
        row = self._row_of.get(item_id)
        if row is None:
            return {}
        codes = ((name, one, int(one.codes_N[row])) for name, one in self._columns.items())
        return {name: column.texts[code] for name, column, code in codes if code >= 0}

    def overlaid(self, other: "Attributes", *, item_ids: Sequence[str]) -> "Attributes":
        """These items' attributes, as `other` has them where it holds the item."""
        is_other_N = np.array([one in other._row_of for one in item_ids], dtype=np.bool_)
        mine, its = self.aligned(item_ids)._columns, other.aligned(item_ids)._columns
        absent = Column((), np.full(len(item_ids), -1, dtype=np.int32))
        columns = {}
        for name in mine.keys() | its.keys():
            one, another = mine.get(name, absent), its.get(name, absent)
            shifted_N = np.where(another.codes_N < 0, -1, another.codes_N + len(one.texts))
            codes_N = np.where(is_other_N, shifted_N, one.codes_N).astype(np.int32)
            columns[name] = Column((*one.texts, *another.texts), codes_N)
        return Attributes(item_ids, columns)

    def mask(self, filter: Filter) -> NDArray[np.bool_]:
        """`allowed` of the items held, where a column that there is not matches no item.

        The masks of the filters used last are kept.
        """
        with self._lock:
            if filter in self._masks:
                self._masks.move_to_end(filter)
                return self._masks[filter]
        mask_N = self._mask(filter)
        mask_N.setflags(write=False)
        with self._lock:
            self._masks[filter] = mask_N
            while len(self._masks) > MAX_MASKS:
                self._masks.popitem(last=False)
        return mask_N

    def _mask(self, filter: Filter) -> NDArray[np.bool_]:
        mask_N = np.full(len(self), filter.allow is None)
        mask_N[self._rows(filter.allow or ())] = True
        mask_N[self._rows(filter.deny)] = False
        for condition in filter.conditions:
            column = self._columns.get(condition.column)
            mask_N &= False if column is None else column.matches(condition)
        return mask_N

    def _rows(self, item_ids: Iterable[str]) -> list[int]:
        return [self._row_of[one] for one in item_ids if one in self._row_of]

    def save(self, path: Path) -> None:
        """Write one parquet file; each distinct text is in it once."""
        arrays = {ITEM_ID: pa.array(self.item_ids, pa.string())}
        for name, column in self._columns.items():
            codes = pa.array(column.codes_N, mask=column.codes_N < 0)
            texts = pa.array(column.texts, pa.string())
            arrays[name] = pa.DictionaryArray.from_arrays(codes, texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        pq.write_table(pa.table(arrays), temporary, compression="zstd")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Attributes":
        """The attributes that `save` wrote.

        Raises:
            UnusableIndex: the file is missing or damaged; the message says how to rebuild it.
        """
        try:
            return cls.of(pq.read_table(path, partitioning=None))
        except FileNotFoundError as error:
            raise UnusableIndex(f"{path} is missing: {REPAIR}") from error
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error


def check(filter: Filter, *parts: Attributes) -> None:
    """Refuse a filter on what none of the parts of a catalog has.

    Raises:
        ValueError: an unknown column, or numbers compared in a column of texts.
    """
    columns = sorted({name for part in parts for name in part.columns})
    there_are = ", ".join(columns) or "none; name them as the index's attributes and build it again"
    for name in filter.columns:
        if name not in columns:
            raise ValueError(f"no attribute {name!r} to filter by; there are: {there_are}")
    numeric = sorted({name for part in parts for name in part.numeric_columns})
    for condition in filter.between:
        if condition.column not in numeric:
            raise ValueError(
                f"attribute {condition.column!r} holds no number to compare with; those with "
                f"numbers are: {', '.join(numeric) or 'none'}"
            )
