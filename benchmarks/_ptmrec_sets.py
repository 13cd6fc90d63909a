"""A real set in, who chose what of which items out: to learn from, to stop by, to be judged by.

Five-core, as the papers' sets are: users and items with five choices at least (of movielens,
ratings of 4 and more). A tenth of the items is held out of all training: nobody is known to have
chosen them, so that they are ranked by what they show alone (`cold`). Of each user's other choices,
in their order, the last fifth is judged and the tenth before it is what all settings are chosen by.
Games is cut to some of its users, drawn evenly, so that an encoder of 22 million weights can read
its items on two cores.
"""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _figures import data_folder
from numpy.typing import NDArray

from embedders.items import Item
from embedders.tuning.choices import Choices

CORE = 5
COLD, TEST, VALID = 0.1, 0.2, 0.1
LIKED = 4.0
GAMES_USERS = 10_000

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class TuningSet:
    """One set; users and items by their places in `choices`."""

    name: str
    items: Sequence[Item]
    choices: Choices
    test: Pairs
    """Users and items to be found, of items that somebody is known to have chosen or not."""
    cold: Pairs
    """The same of the items held out."""
    is_cold_I: NDArray[np.bool_]


def load(name: str, *, quick: bool = False) -> TuningSet:
    """A set by its name: `movielens`, `movielens_posters` or `games`."""
    folder = data_folder(name.partition("_")[0])
    known = _items(folder)
    with_posters = name.endswith("_posters")
    allowed = {item.item_id for item in known if item.image_path or not with_posters}
    events = pq.read_table(folder / "interactions.parquet")
    if events["rating"].null_count < events.num_rows:
        events = events.filter(pc.greater_equal(events["rating"], LIKED))
    events = events.sort_by(
        [(one, "ascending") for one in ("user_id", "timestamp", "position", "item_id")]
    )
    users, items = (np.array(events[one].to_pylist()) for one in ("user_id", "item_id"))
    users, items = _core(users, items, allowed, num_users=GAMES_USERS if name == "games" else None)
    if quick:
        kept = np.isin(users, np.unique(users)[:150])
        users, items = _core(users[kept], items[kept], allowed, num_users=None)
    user_ids, users_E = np.unique(users, return_inverse=True)
    item_ids, items_E = np.unique(items, return_inverse=True)
    by_id = {item.item_id: item for item in known}
    return _split(
        name, (users_E, items_E), user_ids.tolist(), [by_id[one] for one in item_ids.tolist()]
    )


def _items(folder: Path) -> list[Item]:
    """Titles alone, and the poster where there is one."""
    table = pq.read_table(folder / "items.parquet", columns=["item_id", "title", "image_path"])
    return [
        Item(
            item_id=row["item_id"],
            title=html.unescape(row["title"] or "").strip(),
            image_path=folder / row["image_path"] if row["image_path"] else None,
        )
        for row in table.to_pylist()
        if (row["title"] or "").strip()
    ]


def _core(
    users: NDArray[np.str_], items: NDArray[np.str_], allowed: set[str], *, num_users: int | None
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Who and what has five choices at least, again and again until nothing falls out."""
    kept = np.isin(items, list(allowed))
    if num_users is not None:
        by_digest = sorted(set(users.tolist()), key=_digest)
        kept &= np.isin(users, by_digest[:num_users])
    users, items = users[kept], items[kept]
    while len(users):
        _, at, counts = np.unique(users, return_inverse=True, return_counts=True)
        _, of, chosen = np.unique(items, return_inverse=True, return_counts=True)
        kept = (counts[at] >= CORE) & (chosen[of] >= CORE)
        if kept.all():
            break
        users, items = users[kept], items[kept]
    return users, items


def _split(name: str, pairs: Pairs, user_ids: Sequence[str], items: Sequence[Item]) -> TuningSet:
    """Events by user, oldest first, into what is learned from and what is not."""
    users_E, items_E = pairs
    drawn_I = np.array([int(_digest(item.item_id)[:8], 16) / 2**32 for item in items])
    is_cold_I = drawn_I < COLD
    warm_E = ~is_cold_I[items_E]
    users_W, items_W = users_E[warm_E], items_E[warm_E]
    counts_U = np.bincount(users_W, minlength=len(user_ids))
    starts_U = np.cumsum(counts_U) - counts_U
    place_W = (np.arange(len(users_W)) - starts_U[users_W]) / np.maximum(counts_U[users_W], 1)
    is_test_W = place_W >= 1 - TEST
    is_valid_W = (place_W >= 1 - TEST - VALID) & ~is_test_W
    is_train_W = ~is_test_W & ~is_valid_W
    keys = np.unique(users_W[is_train_W] * len(items) + items_W[is_train_W])
    choices = Choices(
        user_ids=user_ids,
        item_ids=[item.item_id for item in items],
        users_E=keys // len(items),
        items_E=keys % len(items),
        users_V=users_W[is_valid_W],
        items_V=items_W[is_valid_W],
    )
    return TuningSet(
        name=name,
        items=items,
        choices=choices,
        test=(users_W[is_test_W], items_W[is_test_W]),
        cold=(users_E[~warm_E], items_E[~warm_E]),
        is_cold_I=is_cold_I,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
