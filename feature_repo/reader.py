"""Ids in, what is online out: vectors, profiles and histories, from a cache filled by Feast.

Shape legend: N ids, D dimensions.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from embedders.vectors import Space
from feature_repo.base import Entity, Profile, StoreError
from feature_repo.histories import to_interactions
from feature_repo.store import Store
from feature_repo.tables import ITEM_PROFILE, USER_HISTORY, vector_view

CACHED_ROWS = 200_000  # of 384 dimensions: some 350 MB

Decode = Callable[[str, Mapping[str, Any]], Any]


class OnlineReader:
    """Reads the online store; safe to share between threads.

    Rows stay in the cache, the absence of a row too, until `clear` or until newer ones need the
    room: call `clear` after a materialization.
    """

    def __init__(self, store: Store, *, cached_rows: int = CACHED_ROWS) -> None:
        self._feature_store = store.feature_store
        self._cached_rows = cached_rows
        self._cache: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = Lock()

    def vectors(
        self, space: Space, ids: Sequence[str], *, entity: Entity = Entity.ITEM
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The vectors in the ids' order, [N, D], and which are present, [N].

        The vector of an absent id is zero.

        Raises:
            StoreError: the space was not applied, or a stored vector has another length.
        """

        def decode(row_id: str, values: Mapping[str, Any]) -> NDArray[np.float32]:
            return _to_vector(values["vector"], space, row_id)

        rows = self._read(vector_view(space, entity=entity).name, ids, decode)
        vectors_ND = np.zeros((len(ids), space.dim), dtype=np.float32)
        is_present_N = np.zeros(len(ids), dtype=np.bool_)
        for n, row in enumerate(rows):
            if row is not None:
                vectors_ND[n] = row
                is_present_N[n] = True
        return vectors_ND, is_present_N

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        """The user's last events, oldest first; None for a user the store does not know."""
        rows: list[tuple[Interaction, ...] | None] = self._read(
            USER_HISTORY, [user_id], _to_history
        )
        return rows[0]

    def profiles(self, ids: Sequence[str]) -> list[Profile | None]:
        """The items' profiles in the ids' order; None for an item the store does not know."""
        return self._read(ITEM_PROFILE, ids, _to_profile)

    def clear(self) -> None:
        """Forget every row, so that the next read sees what was materialized since."""
        with self._lock:
            self._cache.clear()

    def _read(self, view: str, ids: Sequence[str], decode: Decode) -> list[Any]:
        with self._lock:
            rows: dict[str, Any] = {}
            for row_id in ids:
                if (view, row_id) in self._cache:
                    self._cache.move_to_end((view, row_id))
                    rows[row_id] = self._cache[view, row_id]
            missing = list(dict.fromkeys(row_id for row_id in ids if row_id not in rows))
            stored = self._feature_store.read_online(view, missing)
            for row_id, values in zip(missing, stored, strict=True):
                row = None if values is None else decode(row_id, values)
                rows[row_id] = self._cache[view, row_id] = row
            while len(self._cache) > self._cached_rows:
                self._cache.popitem(last=False)
        return [rows[row_id] for row_id in ids]


def _to_vector(value: Any, space: Space, row_id: str) -> NDArray[np.float32]:
    if len(value.float_list_val.val) != space.dim:
        raise StoreError(
            f"{space.space_id}: the online vector of {row_id!r} has "
            f"{len(value.float_list_val.val)} dimensions instead of {space.dim}; "
            "materialize again in full"
        )
    # The packed floats end the message: three times faster than one Python float after another.
    packed = value.float_list_val.SerializeToString()[-4 * space.dim :]
    return np.frombuffer(packed, dtype="<f4")


def _to_history(user_id: str, values: Mapping[str, Any]) -> tuple[Interaction, ...]:
    return to_interactions(
        user_id,
        values["item_ids"].string_list_val.val,
        values["behaviors"].string_list_val.val,
        times=values["times"].int64_list_val.val,
        weights=values["weights"].float_list_val.val,
    )


def _to_profile(item_id: str, values: Mapping[str, Any]) -> Profile:
    texts = {
        name: value.string_val if value.HasField("string_val") else None
        for name, value in values.items()
    }
    return Profile(
        item_id=item_id,
        title=texts["title"] or "",
        description=texts["description"],
        category=texts["category"],
        attributes=json.loads(texts["attributes"] or "{}"),
    )
