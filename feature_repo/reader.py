"""Ids in, what is online out: vectors, texts, profiles, histories, from a cache filled by Feast.

Vectors lie in dense tables (`vector_cache`), everything else as the objects they are
(`online_rows`). All are bounded in bytes, and hold absence too: a row of nulls, as a deletion
leaves it, is absent.

What is held stays until `refresh` names another generation, until it is forgotten or cleared, or
until others need the room. Only histories and preferences also grow old, since events are pushed at
any time and users told of again between two generations; while the online store is down, old ones
are good for a stated while.

Shape legend: N ids, D dimensions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from embedders.texts import TextKind, TextSource
from embedders.vectors import Space
from feature_repo.base import CacheCounts, Entity, Profile
from feature_repo.histories import to_interactions
from feature_repo.online_rows import OnlineRows
from feature_repo.store import Store
from feature_repo.tables import ITEM_PROFILE, USER_HISTORY, text_view, vector_view
from feature_repo.vector_cache import VectorCache

CACHED_BYTES = 512 * 2**20
HISTORY_AGE_S = 0.5  # a pushed event is seen within a second, with half of it for the push
# Of the bytes: items' vectors, users' vectors, profiles with summaries, and what is left for
# histories with preferences. Each has its own, so that none can starve another; what shares one is
# asked for together.
ITEM_SHARE, USER_SHARE, PROFILE_SHARE = 0.65, 0.15, 0.05
IDS_PER_STEP = 4096  # the lock is held for so many at a time

Vectors = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Vectors in the ids' order, [N, D], zero where absent, and which are present, [N]."""


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
            history_age_s: How old a history or preference may be before it is read again.
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
        vector_bytes = {
            Entity.ITEM: int(cached_bytes * ITEM_SHARE),
            Entity.USER: int(cached_bytes * USER_SHARE),
        }
        self._vectors = {
            entity: VectorCache(max_bytes=size) for entity, size in vector_bytes.items()
        }
        profile_bytes = int(cached_bytes * PROFILE_SHARE)
        self._rows = {
            Entity.ITEM: OnlineRows(self._feature_store, max_bytes=profile_bytes),
            Entity.USER: OnlineRows(
                self._feature_store,
                max_bytes=cached_bytes - profile_bytes - sum(vector_bytes.values()),
                age_s=history_age_s,
                stale_s=stale_history_s,
            ),
        }
        self._lock = Lock()
        self._num_drops = 0
        self._generation: str | None = None

    @property
    def num_bytes(self) -> int:
        """What the cache holds now."""
        rows = sum(one.num_bytes for one in self._rows.values())
        with self._lock:
            return rows + sum(one.num_bytes for one in self._vectors.values())

    @property
    def counts(self) -> CacheCounts:
        """Of what every request of a stored user asks for: histories, and preferences if any."""
        return self._rows[Entity.USER].counts

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history or preference was last asked of it."""
        return self._rows[Entity.USER].is_degraded

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
        (row,) = self._rows[Entity.USER].newest(
            USER_HISTORY, [user_id], _to_history, what="history"
        )
        history: tuple[Interaction, ...] | None = row
        return history

    def profiles(self, ids: Sequence[str]) -> list[Profile | None]:
        """The items' profiles in the ids' order; None for an item the store does not know."""
        return self._rows[Entity.ITEM].read(ITEM_PROFILE, ids, _to_profile)

    def texts(self, source: TextSource, ids: Sequence[str]) -> list[str | None]:
        """The items' summaries, or users' preferences, in the ids' order; None where there is none.

        Preferences grow old as histories do; summaries are held as profiles are.

        Raises:
            StoreError: the source was not applied, or the online store does not answer.
            Unreachable: the online store does not answer, and what is held of a user's
                preference, if anything, is older than `stale_history_s`.
        """
        view = _text_name(source)
        if source.kind is TextKind.SUMMARY:
            return self._rows[Entity.ITEM].read(view, ids, _to_text)
        return self._rows[Entity.USER].newest(view, ids, _to_text, what="preference")

    def refresh(self, generation: str) -> bool:
        """Drop what may have changed if the generation is not the one last named; whether it was.

        Publishing follows a materialization, so with another generation anything may be new.
        Histories and preferences are read again, and kept for as long as the online store is down.
        """
        with self._lock:
            if generation == self._generation:
                return False
            self._generation = generation
            self._drop()
            return True

    def clear(self) -> None:
        """Forget every row, so that the next read sees what was materialized since.

        Histories and preferences are kept for as long as the online store is down.
        """
        with self._lock:
            self._drop()

    def forget(self, ids: Iterable[str], *, entity: Entity = Entity.ITEM) -> None:
        """Forget these items (users), so that their next read sees what was pushed since."""
        given = list(ids)
        with self._lock:
            self._num_drops += 1
            self._vectors[entity].forget(given)
        self._rows[entity].forget(given)

    def _drop(self) -> None:
        self._num_drops += 1
        for rows in self._rows.values():
            rows.drop()
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


@lru_cache(maxsize=1024)
def _name(space: Space, entity: Entity) -> str:
    return vector_view(space, entity=entity).name


@lru_cache(maxsize=1024)
def _text_name(source: TextSource) -> str:
    return text_view(source).name


def _to_text(_: str, values: Mapping[str, Any]) -> str:
    text: str = values["text"].string_val
    return text


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
