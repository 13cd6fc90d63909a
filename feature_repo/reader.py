"""Ids in, what is online out: vectors, profiles and histories, from a cache filled by Feast.

Vectors lie in dense tables (`vector_cache`), profiles and histories as the objects they are
(`row_cache`). All are bounded in bytes, and hold absence too: a row of nulls, as a deletion leaves
it, is absent.

What is held stays until `refresh` names another generation, until it is forgotten or cleared, or
until others need the room. Only histories also grow old, since events are pushed at any time; while
the online store is down, old ones are good for a stated while.

Shape legend: N ids, D dimensions.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from embedders.vectors import Space
from feature_repo.base import CacheCounts, Entity, Profile, Unreachable
from feature_repo.histories import to_interactions
from feature_repo.outage import Outage
from feature_repo.row_cache import MISSING, RowCache
from feature_repo.store import Store
from feature_repo.tables import ITEM_PROFILE, USER_HISTORY, vector_view
from feature_repo.vector_cache import VectorCache

CACHED_BYTES = 512 * 2**20
HISTORY_AGE_S = 0.5  # a pushed event is seen within a second, with half of it for the push
# Of the bytes: items' vectors, users' vectors, profiles, and what is left for histories. Each has
# its own, so that none can starve another.
ITEM_SHARE, USER_SHARE, PROFILE_SHARE = 0.65, 0.15, 0.05
IDS_PER_STEP = 4096  # the lock is held for so many at a time

Vectors = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Vectors in the ids' order, [N, D], zero where absent, and which are present, [N]."""

ROW_BYTES = 600  # an object of several fields, its key and its place
EVENT_BYTES = 320  # an interaction with an id, a behavior and a time of its own

Decode = Callable[[str, Mapping[str, Any]], Any]


class OnlineReader:
    """Reads the online store; safe to share between threads.

    The lock is held while the cache is looked at, never while the online store is asked: two
    threads that miss the same id may both read it.
    """

    def __init__(
        self,
        store: Store,
        *,
        cached_bytes: int = CACHED_BYTES,
        history_age_s: float = HISTORY_AGE_S,
        stale_history_s: float = 0.0,
    ) -> None:
        """A reader with an empty cache.

        Args:
            store: Whose online store is read.
            cached_bytes: What the cache may hold at most, ids and the tables' own size included.
            history_age_s: How old a history may be before it is read again.
            stale_history_s: How old it may be while the online store does not answer; what is
                older is then an error.

        Raises:
            ValueError: a negative size or age.
        """
        if cached_bytes < 0 or history_age_s < 0 or stale_history_s < 0:
            raise ValueError(
                "cached_bytes, history_age_s and stale_history_s must not be negative, "
                f"got {cached_bytes}, {history_age_s} and {stale_history_s}"
            )
        self._feature_store = store.feature_store
        if stale_history_s:
            self._feature_store.hasten()
        self._history_age_s = history_age_s
        self._stale_history_s = stale_history_s
        self._outage = Outage()
        self._changed_at = -math.inf
        vector_bytes = {
            Entity.ITEM: int(cached_bytes * ITEM_SHARE),
            Entity.USER: int(cached_bytes * USER_SHARE),
        }
        self._vectors = {
            entity: VectorCache(max_bytes=size) for entity, size in vector_bytes.items()
        }
        profile_bytes = int(cached_bytes * PROFILE_SHARE)
        self._rows = {
            ITEM_PROFILE: RowCache(max_bytes=profile_bytes),
            USER_HISTORY: RowCache(
                max_bytes=cached_bytes - profile_bytes - sum(vector_bytes.values())
            ),
        }
        self._lock = Lock()
        self._num_drops = 0
        self._generation: str | None = None

    @property
    def num_bytes(self) -> int:
        """What the cache holds now."""
        with self._lock:
            rows = sum(one.num_bytes for one in self._rows.values())
            return rows + sum(one.num_bytes for one in self._vectors.values())

    @property
    def counts(self) -> CacheCounts:
        """Of histories, which every request of a stored user asks for."""
        with self._lock:
            return self._rows[USER_HISTORY].counts

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""
        return self._outage.error is not None

    def vectors(self, space: Space, ids: Sequence[str], *, entity: Entity = Entity.ITEM) -> Vectors:
        """The vectors in the ids' order, [N, D], and which are present, [N].

        The vector of an absent id is zero.

        Raises:
            StoreError: the space was not applied, a stored vector has another length, or the
                online store does not answer.
        """
        return self.vectors_of([space], ids, entity=entity)[space.space_id]

    def vectors_of(
        self, spaces: Sequence[Space], ids: Sequence[str], *, entity: Entity = Entity.ITEM
    ) -> dict[str, Vectors]:
        """`vectors` of several spaces by space id; the ids are looked up once for all of them."""
        found = {
            space: (
                np.empty((len(ids), space.dim), dtype=np.float32),
                np.zeros(len(ids), dtype=np.bool_),
            )
            for space in spaces
        }
        for start in range(0, len(ids), IDS_PER_STEP):
            rows = slice(start, start + IDS_PER_STEP)
            part = {
                space: (vectors[rows], there[rows]) for space, (vectors, there) in found.items()
            }
            self._fill(part, ids[rows], entity)
        return {space.space_id: vectors for space, vectors in found.items()}

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        """The user's last events, oldest first; None for a user the store does not know.

        Raises:
            Unreachable: the online store does not answer, and what is held of the user, if
                anything, is older than `stale_history_s`.
        """
        since = max(time.monotonic() - self._history_age_s, self._changed_at)
        with self._lock:
            row = self._rows[USER_HISTORY].get(user_id, since=since)
        if row is MISSING:
            row = self._newest_history(user_id)
        history: tuple[Interaction, ...] | None = row
        return history

    def _newest_history(self, user_id: str) -> Any:
        """From the online store, or while that is down what is held and not too old."""
        if self._outage.error is None:
            row = self._asked_history(user_id)
            if row is not MISSING:
                return row
        elif self._outage.is_to_be_asked():
            # Not by a request: who does not answer may take long about it.
            Thread(target=self._asked_history, args=[user_id], daemon=True).start()
        with self._lock:
            since = time.monotonic() - self._stale_history_s
            row = self._rows[USER_HISTORY].get(user_id, since=since)
        if row is MISSING:
            raise Unreachable(
                f"the online store does not answer, and no history of {user_id!r} is held that was "
                f"read within {self._stale_history_s:g} s: try again later, or send the history"
            ) from self._outage.error
        return row

    def _asked_history(self, user_id: str) -> Any:
        """From the online store; MISSING where that is down."""
        try:
            row = self._read(USER_HISTORY, [user_id], _to_history, since=math.inf)[0]
        except Unreachable as error:
            self._outage.began(error)
            return MISSING
        self._outage.ended()
        return row

    def profiles(self, ids: Sequence[str]) -> list[Profile | None]:
        """The items' profiles in the ids' order; None for an item the store does not know."""
        return self._read(ITEM_PROFILE, ids, _to_profile)

    def refresh(self, generation: str) -> bool:
        """Drop what may have changed if the generation is not the one last named; whether it was.

        Publishing follows a materialization, so with another generation anything may be new.
        Histories are read again, and kept for as long as the online store is down.
        """
        with self._lock:
            if generation == self._generation:
                return False
            self._generation = generation
            self._drop()
            return True

    def clear(self) -> None:
        """Forget every row, so that the next read sees what was materialized since.

        Histories are kept for as long as the online store is down.
        """
        with self._lock:
            self._drop()

    def forget(self, ids: Iterable[str], *, entity: Entity = Entity.ITEM) -> None:
        """Forget these items (users), so that their next read sees what was pushed since."""
        given = list(ids)
        with self._lock:
            self._num_drops += 1
            self._vectors[entity].forget(given)
            rows = self._rows[ITEM_PROFILE if entity is Entity.ITEM else USER_HISTORY]
            for one in given:
                rows.forget(one)

    def _drop(self) -> None:
        self._num_drops += 1
        self._changed_at = time.monotonic()
        self._rows[ITEM_PROFILE].clear()
        if not self._stale_history_s:
            self._rows[USER_HISTORY].clear()
        for table in self._vectors.values():
            table.clear()

    def _fill(self, part: Mapping[Space, Vectors], ids: Sequence[str], entity: Entity) -> None:
        """Write the vectors of some ids into the arrays given for each space."""
        table = self._vectors[entity]
        unknown = {}
        with self._lock:
            num_drops = self._num_drops
            rows_N = table.look_up(ids)
            for space, (vectors_ND, is_present_N) in part.items():
                places = table.take(
                    _name(space, entity), rows_N, vectors_ND=vectors_ND, is_present_N=is_present_N
                )
                if len(places):
                    unknown[space] = places
        for space, places in unknown.items():
            vectors_ND, is_present_N = part[space]
            missing = [ids[place] for place in places]
            vectors_ND[places], is_present_N[places] = self._fetch(
                space, missing, entity=entity, num_drops=num_drops
            )

    def _fetch(
        self, space: Space, ids: Sequence[str], *, entity: Entity, num_drops: int
    ) -> Vectors:
        """Vectors from the online store; held unless something was dropped since."""
        view = _name(space, entity)
        place_of = {one: place for place, one in enumerate(dict.fromkeys(ids))}
        distinct = list(place_of)
        vectors_ND, is_present_N = self._feature_store.read_online_vectors(
            view, distinct, dim=space.dim
        )
        with self._lock:
            if num_drops == self._num_drops:
                self._vectors[entity].put(
                    view, distinct, vectors_ND=vectors_ND, is_present_N=is_present_N
                )
        if len(distinct) == len(ids):
            return vectors_ND, is_present_N
        places = [place_of[one] for one in ids]
        return vectors_ND[places], is_present_N[places]

    def _read(
        self, view: str, ids: Sequence[str], decode: Decode, *, since: float = -math.inf
    ) -> list[Any]:
        """Objects in the ids' order, read again where they were read before `since`."""
        with self._lock:
            num_drops = self._num_drops
            rows = {one: self._rows[view].get(one, since=since) for one in ids}
        missing = [one for one, row in rows.items() if row is MISSING]
        if missing:
            now = time.monotonic()
            stored = self._feature_store.read_online(view, missing)
            for one, values in zip(missing, stored, strict=True):
                rows[one] = None if values is None else decode(one, values)
            with self._lock:
                if num_drops == self._num_drops:
                    for one in missing:
                        row = rows[one]
                        self._rows[view].put(one, row, num_bytes=_num_bytes(one, row), now=now)
        return [rows[one] for one in ids]


@lru_cache(maxsize=1024)
def _name(space: Space, entity: Entity) -> str:
    return vector_view(space, entity=entity).name


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


def _num_bytes(one: str, row: Any) -> int:
    """Roughly what an object and its place in the cache take up."""
    size = ROW_BYTES + sys.getsizeof(one)
    if isinstance(row, Profile):
        texts = [row.title, row.description or "", row.category or "", *row.attributes]
        size += sum(map(sys.getsizeof, [*texts, *row.attributes.values()]))
    elif row is not None:
        size += EVENT_BYTES * len(row)
    return size
