"""Ids in, the vectors held of them in any view out: one table of rows, dense and bounded in bytes.

An id has one row, the same in every view, so that a request looks its ids up once and takes from
each view's matrix with one numpy call. Row 0 is nobody's: what it holds is unknown, and so every
unknown id can point there.

When the bytes are used up, a clock chooses who leaves: its hand goes round the rows, takes those
that nobody asked for since it last came by, and passes over the others once. A row that was
written is not yet one that was asked for again, so ids that come only once (strangers, a sweep
through the catalog) leave first.

Knows nothing of stores and of threads: whoever shares it locks it.

Shape legend: N ids, D dimensions.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 1024  # the table grows, and the clock looks, by at least so many rows
ROW_BYTES = 200  # of an id: its text, its places in the table and in the list, its mark
UNKNOWN, ABSENT, PRESENT = range(3)


class _Column:
    """One view's vectors and, for each row, whether there is one."""

    def __init__(self, num_rows: int, dim: int) -> None:
        self.vectors_RD = np.zeros((num_rows, dim), dtype=np.float32)
        self.states_R = np.zeros(num_rows, dtype=np.uint8)

    def resize(self, num_rows: int) -> None:
        # In place, where the system can move pages instead of copying them. Nobody else holds
        # these arrays: whatever leaves this file was copied out of them.
        self.vectors_RD.resize((num_rows, self.vectors_RD.shape[1]), refcheck=False)
        self.states_R.resize(num_rows, refcheck=False)


class VectorCache:
    """The vectors of one kind of ids, items' or users', in any number of views."""

    def __init__(self, *, max_bytes: int) -> None:
        """An empty cache.

        Args:
            max_bytes: What rows may take up, ids included. Less than one row's holds nothing.
        """
        self._max_bytes = max_bytes
        self._columns: dict[str, _Column] = {}
        self.clear()

    @property
    def num_bytes(self) -> int:
        """What the rows take up now; the one that is nobody's is not counted."""
        return (self._num_rows - 1) * self._row_bytes

    def __len__(self) -> int:
        """How many ids have a row."""
        return len(self._row_of)

    def clear(self) -> None:
        """Forget every id and every view."""
        self._columns.clear()
        self._row_of: dict[str, int] = {}
        self._ids: list[str] = [""]
        self._is_used_R = np.zeros(1, dtype=np.bool_)
        self._is_held_R = np.zeros(1, dtype=np.bool_)
        self._num_rows = 1
        self._free: list[int] = []
        self._hand = 1

    def look_up(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Each id's row, [N], 0 where it has none; these rows count as asked for."""
        rows_N = np.fromiter(map(self._row_of.get, ids, repeat(0)), np.intp, count=len(ids))
        self._is_used_R[rows_N] = True
        return rows_N

    def take(
        self,
        view: str,
        rows_N: NDArray[np.intp],
        *,
        vectors_ND: NDArray[np.float32],
        is_present_N: NDArray[np.bool_],
    ) -> NDArray[np.intp]:
        """Copy rows of a view into the given arrays; the places of which it knows nothing.

        What is written at those places is arbitrary.
        """
        column = self._columns.get(view)
        if column is None:
            return np.arange(len(rows_N))
        states_N = column.states_R[rows_N]
        # Rows are never out of range; saying "clip" spares numpy a second buffer.
        np.take(column.vectors_RD, rows_N, axis=0, out=vectors_ND, mode="clip")
        np.equal(states_N, PRESENT, out=is_present_N)
        return np.flatnonzero(states_N == UNKNOWN)

    def put(
        self,
        view: str,
        ids: Sequence[str],
        *,
        vectors_ND: NDArray[np.float32],
        is_present_N: NDArray[np.bool_],
    ) -> None:
        """Hold distinct ids' vectors of a view, as many as there is room for.

        Args:
            view: Whose vectors they are.
            ids: Distinct.
            vectors_ND: Zeros where there is none.
            is_present_N: Where there is one; the absence of the others is held as well.
        """
        column = self._columns.get(view)
        if column is None:
            column = self._add(view, vectors_ND.shape[1])
        num_kept = min(len(ids), self._max_rows - 1)
        if num_kept <= 0:
            return
        self._add_rows([one for one in ids[:num_kept] if one not in self._row_of])
        # An id that was held before may have had to leave for one of these.
        rows_N = np.fromiter(map(self._row_of.get, ids[:num_kept], repeat(0)), np.intp, num_kept)
        places = np.flatnonzero(rows_N)
        rows_N = rows_N[places]
        column.vectors_RD[rows_N] = vectors_ND[places]
        column.states_R[rows_N] = np.where(is_present_N[places], PRESENT, ABSENT)

    def forget(self, ids: Iterable[str]) -> None:
        """Give up these ids' rows, in every view."""
        self._free += self._release([row for one in ids if (row := self._row_of.get(one))])

    @property
    def _row_bytes(self) -> int:
        columns = self._columns.values()
        return ROW_BYTES + sum(1 + 4 * column.vectors_RD.shape[1] for column in columns)

    @property
    def _max_rows(self) -> int:
        return 1 + self._max_bytes // self._row_bytes

    def _add(self, view: str, dim: int) -> _Column:
        """A further view; where its rows do not fit beside the others', all begin anew."""
        column = _Column(0, dim)
        self._columns[view] = column
        if self._num_rows > self._max_rows:
            columns = dict(self._columns)
            self.clear()
            self._columns = columns
        for one in self._columns.values():
            one.resize(self._num_rows)
        return column

    def _add_rows(self, ids: Sequence[str]) -> None:
        """A row for each of these ids, which have none."""
        self._make_room(len(ids))
        for one in ids:
            row = self._free.pop()
            self._row_of[one] = row
            self._ids[row] = one
            self._is_held_R[row] = True

    def _make_room(self, count: int) -> None:
        """At least so many free rows: new ones while there are bytes, then others' rows."""
        if len(self._free) < count:
            step = max(count - len(self._free), BLOCK_ROWS, self._num_rows // 4)
            self._grow(min(self._max_rows, self._num_rows + step))
        if len(self._free) < count:
            self._free += self._release(self._idlest(count - len(self._free)))

    def _grow(self, num_rows: int) -> None:
        for column in self._columns.values():
            column.resize(num_rows)
        self._is_used_R.resize(num_rows, refcheck=False)
        self._is_held_R.resize(num_rows, refcheck=False)
        self._ids += [""] * (num_rows - self._num_rows)
        self._free += range(num_rows - 1, self._num_rows - 1, -1)
        self._num_rows = num_rows

    def _idlest(self, count: int) -> list[int]:
        """The next rows on the clock's way that nobody asked for since it came by."""
        chosen: list[int] = []
        while len(chosen) < count:
            stop = min(self._hand + BLOCK_ROWS, self._num_rows)
            is_idle = self._is_held_R[self._hand : stop] & ~self._is_used_R[self._hand : stop]
            idle = self._hand + np.flatnonzero(is_idle)[: count - len(chosen)]
            chosen += idle.tolist()
            if len(chosen) == count:
                stop = chosen[-1] + 1
            self._is_used_R[self._hand : stop] = False
            self._is_held_R[idle] = False
            self._hand = stop if stop < self._num_rows else 1
        return chosen

    def _release(self, rows: list[int]) -> list[int]:
        """Take these rows from their ids; the same rows."""
        for row in rows:
            del self._row_of[self._ids[row]]
            self._ids[row] = ""
        self._is_held_R[rows] = False
        self._is_used_R[rows] = False
        for column in self._columns.values():
            column.states_R[rows] = UNKNOWN
        return rows
