"""Ranked lists in, user by user, the same lists out at four bytes an item and eight a score.

Fifty thousand users with a hundred candidates each are five million entries: as lists of Python
objects they would take half a gigabyte for every route that is measured.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence

from evaluation.runs import Run


class Rows:
    """Which entries belong to whom, in the order in which users were added."""

    def __init__(self) -> None:
        self.row_of: dict[str, int] = {}
        self._ends = array("q", [0])

    def close(self, user_id: str, length: int) -> None:
        """The user's entries are the next `length`.

        Raises:
            ValueError: the user has entries already.
        """
        if user_id in self.row_of:
            raise ValueError(f"user {user_id!r} is ranked twice")
        self.row_of[user_id] = len(self.row_of)
        self._ends.append(self._ends[-1] + length)

    def bounds(self, user_id: str) -> slice:
        """Where the user's entries lie."""
        row = self.row_of[user_id]
        return slice(self._ends[row], self._ends[row + 1])


class PackedRankings(Mapping[str, Sequence[str]]):
    """User -> ranked item ids."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._codes = array("i")
        self._code_of: dict[str, int] = {}
        self._item_ids: list[str] = []

    def add(self, user_id: str, item_ids: Sequence[str]) -> None:
        """One more user's ranking; each user once."""
        self._rows.close(user_id, len(item_ids))
        for item_id in item_ids:
            code = self._code_of.setdefault(item_id, len(self._item_ids))
            if code == len(self._item_ids):
                self._item_ids.append(item_id)
            self._codes.append(code)

    def __getitem__(self, user_id: str) -> list[str]:
        return list(map(self._item_ids.__getitem__, self._codes[self._rows.bounds(user_id)]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows.row_of)

    def __len__(self) -> int:
        return len(self._rows.row_of)


class PackedScores(Mapping[str, Sequence[float]]):
    """User -> the scores of their ranked items."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._values = array("d")

    def add(self, user_id: str, scores: Sequence[float]) -> None:
        """One more user's scores; each user once."""
        self._rows.close(user_id, len(scores))
        self._values.extend(scores)

    def __getitem__(self, user_id: str) -> Sequence[float]:
        return self._values[self._rows.bounds(user_id)].tolist()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows.row_of)

    def __len__(self) -> int:
        return len(self._rows.row_of)


class RunPacker:
    """A run while it is being made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rankings = PackedRankings()
        self._scores = PackedScores()

    def add(self, user_id: str, item_ids: Sequence[str], scores: Sequence[float]) -> None:
        """One more user, best first, a score for each item."""
        assert len(item_ids) == len(scores)
        self._rankings.add(user_id, item_ids)
        self._scores.add(user_id, scores)

    def run(self) -> Run:
        """All that was added."""
        return Run(name=self._name, rankings=self._rankings, scores=self._scores)
