"""A catalog in, for each user some items that they never touched out: what sampled protocols ask.

Drawn without replacement, evenly or in proportion to popularity, by one race for each user: item i
finishes after an exponential time of rate w_i, and the first ones home are the draw (Efraimidis
and Spirakis, Information Processing Letters 2006). A user's draw depends on the seed and the
user's id alone, not on who else is asked.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray


class Negatives:
    """What negatives are drawn from."""

    def __init__(
        self,
        item_ids: Collection[str],
        *,
        popularity: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare for draws.

        Args:
            item_ids: The catalog.
            popularity: Item -> how likely it is to be drawn; an item that is not in it never is.
                None draws evenly.
            seed: Equal seeds draw equal items.
        """
        self._item_ids: Sequence[str] = sorted(set(item_ids))
        self._row_of = {item_id: row for row, item_id in enumerate(self._item_ids)}
        self._seed = seed
        weights = [
            1.0 if popularity is None else float(popularity.get(item_id, 0.0))
            for item_id in self._item_ids
        ]
        self._weights_N: NDArray[np.float64] = np.array(weights, dtype=np.float64)
        if not np.isfinite(self._weights_N).all() or (self._weights_N < 0).any():
            raise ValueError("popularity must be finite and 0 or more")

    def draw(self, user_id: str, *, touched: AbstractSet[str], num: int) -> tuple[str, ...]:
        """So many items that are not in `touched`, sorted by id; fewer where there are fewer."""
        weights_N = self._weights_N.copy()
        weights_N[[self._row_of[one] for one in touched if one in self._row_of]] = 0
        digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).digest()
        rng = np.random.default_rng([self._seed, int.from_bytes(digest[:8], "little")])
        with np.errstate(divide="ignore"):
            finish_N = rng.standard_exponential(len(weights_N)) / weights_N
        num = min(num, int((weights_N > 0).sum()))
        rows = np.argpartition(finish_N, num - 1)[:num] if num else np.array([], dtype=np.int64)
        return tuple(self._item_ids[row] for row in np.sort(rows))
