"""Rows that cannot be used in, the store's table of them out, as they occur and within a limit."""

from collections.abc import Sequence

from embedders.items import Reject
from feature_repo.store import Store

NAMED = 5


class TooManyRejects(ValueError):
    """More rows were set aside than the user allows; whatever was made so far is kept."""


class SetAside:
    """Counts what one run sets aside, and notes in the store what was not noted before."""

    def __init__(self, store: Store, *, limit: int | None = None) -> None:
        """An empty count.

        Args:
            store: Where rejects are noted.
            limit: More of them end the run; None for no limit.
        """
        self._store = store
        self._limit = limit
        # Digests, since a broken catalog can have as many rejects as items.
        self._noted = {hash(one) for one in store.rejects()}
        self.num = 0
        self._first: list[Reject] = []

    def add(self, rejects: Sequence[Reject]) -> None:
        """Note these at once.

        Raises:
            TooManyRejects: they are more than allowed, together with those before.
        """
        new = [one for one in rejects if hash(one) not in self._noted]
        if new:
            self._store.write_rejects(new)
            self._noted.update(map(hash, new))
        self.num += len(rejects)
        self._first += rejects[: NAMED - len(self._first)]
        if self._limit is not None and self.num > self._limit:
            raise TooManyRejects(
                f"{self.num:,} rows were set aside, and --max-rejects allows {self._limit:,}: "
                "stopped. What was made until then is in the store, and the same command goes "
                f"on from there. {self.listed()}"
            )

    def listed(self) -> str:
        """The first of them with their reasons, and how many more there are."""
        named = "; ".join(f"{one.source} {one.key}: {one.reason}" for one in self._first)
        more = self.num - len(self._first)
        return f"The first: {named}; and {more:,} more" if more else f"They are: {named}"
