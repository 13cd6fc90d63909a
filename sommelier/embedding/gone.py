"""A catalog and a store in, the stored items that the catalog has no more out, within a limit.

A catalog that lost many items at once is more often a broken export than a decision, and taking
them away would reach the online store the same night. So a large loss needs the user's word.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from embedders.catalog import Catalog
from feature_repo.store import Store

LEAST = 20  # fewer may always go: of a tiny catalog, a few items are a large share
NAMED = 3


class TooManyGone(ValueError):
    """More items are gone than the settings allow without the user's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Stored items that the catalog takes away."""

    item_ids: list[str]
    """In order."""
    num_stored: int
    """Of how many."""

    def refuse_many(self, *, max_share: float, what: str = "items are not in the catalog") -> None:
        """Stop a run that would take too many away; `what` says what became of them.

        Raises:
            TooManyGone: they are more than this share of the stored ones, and at least `LEAST`.
        """
        num_gone = len(self.item_ids)
        if num_gone < LEAST or num_gone <= max_share * self.num_stored:
            return
        named = ", ".join(repr(one) for one in self.item_ids[:NAMED])
        raise TooManyGone(
            f"{num_gone:,} of {self.num_stored:,} stored {what} any more, the first are {named}; "
            "their rows were left alone. Mend the catalog if it is incomplete; if they are to be "
            "taken away, run `sommelier embed --allow-deletions`"
        )


def gone(catalog: Catalog, store: Store) -> Gone:
    """What the store holds and the catalog has no more."""
    # In Arrow, as both sides can be millions of ids.
    stored = pa.array(store.profile_ids(), pa.string())
    is_here = pc.is_in(stored, value_set=catalog.good_items["item_id"].combine_chunks())
    item_ids = stored.filter(pc.invert(is_here)).to_pylist()
    return Gone(item_ids=item_ids, num_stored=len(stored))
