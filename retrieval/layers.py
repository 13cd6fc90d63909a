"""An index and the changes since in, the catalog as it is now out: never changed itself.

Two layers: the main index, of which the items that are gone or changed do not count any more, and
the changed items as a small exact index beside it. A change makes new layers and shares the rest,
so that whoever is reading goes on with what they began.

Shape legend: N items, M blocks, D dimensions.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from heapq import merge
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings, normalize
from retrieval.attributes import Attributes, Texts
from retrieval.base import Index, QueryEncoder
from retrieval.changes import Change, Delete, Upsert
from retrieval.composed import QueryVectors, query_encoder
from retrieval.concatenated import SEQUENCE, ItemVectors, block_name
from retrieval.exact import ExactIndex
from retrieval.pooled import PoolingConfig
from retrieval.retriever import Retriever


class Network(Protocol):
    """What makes the block "sequence" of items from their other blocks: `retrieval.sequence`."""

    def items(self, item_vectors: ItemVectors) -> Embeddings: ...
    def bound(self, item_vectors: ItemVectors) -> QueryVectors: ...


EncoderOf = Callable[[ItemVectors, Collection[str] | None], QueryEncoder]
"""The query encoder over these items that knows these users; None means all."""


@dataclass(frozen=True, kw_only=True)
class Main:
    """An index as it was built, with all that it answers by."""

    digest: str
    """Tells this index from any other: of its manifest."""
    index: Index
    item_vectors: ItemVectors
    encoder: QueryEncoder
    """Over these items."""
    encoder_of: EncoderOf
    """Makes the same encoder over other items."""
    popularity: Sequence[tuple[str, float]]
    attributes: Attributes
    sequence: Network | None = None

    @cached_property
    def retriever(self) -> Retriever:
        """Of this index alone."""
        return Retriever(
            self.index,
            self.item_vectors,
            self.encoder,
            popularity=self.popularity,
            attributes=self.attributes,
        )

    @cached_property
    def counts(self) -> Mapping[str, float]:
        """How often items were touched, most popular first, ties by item id."""
        ordered = sorted(self.popularity, key=lambda pair: (-pair[1], pair[0]))
        return {item_id: count for item_id, count in ordered if count > 0}


def encoder_maker(
    *,
    pooling: PoolingConfig,
    user_vectors: Embeddings | None,
    as_of: datetime | None,
    sequence: Network | None = None,
) -> EncoderOf:
    """What makes query encoders, as `retrieval.composed.query_encoder` does, over any items."""

    def encoder_of(item_vectors: ItemVectors, user_ids: Collection[str] | None) -> QueryEncoder:
        return query_encoder(
            item_vectors,
            pooling=pooling,
            user_vectors=user_vectors if user_ids is None else _of_users(user_ids),
            as_of=as_of,
            sequence=None if sequence is None else sequence.bound(item_vectors),
        )

    row_of = {one: row for row, one in enumerate(user_vectors.item_ids)} if user_vectors else {}

    def _of_users(user_ids: Collection[str]) -> Embeddings | None:
        known = sorted(one for one in set(user_ids) if one in row_of)
        if user_vectors is None or not known:
            return None
        rows = [row_of[one] for one in known]
        return replace(user_vectors, item_ids=known, vectors_ND=user_vectors.vectors_ND[rows])

    return encoder_of


@dataclass(frozen=True, slots=True)
class _Item:
    """A changed item."""

    blocks: Mapping[str, NDArray[np.float32]]
    """Its centered unit vectors, by the block's name; those made by a network left out."""
    texts: Mapping[str, str]
    """Its attributes, by column."""


@dataclass(frozen=True)
class Layers:
    """The catalog as it is at one moment. Safe to ask from several threads."""

    main: Main
    changed: Mapping[str, _Item] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    """Items of the main index that are gone, or among the changed."""

    def after(self, change: Change) -> "Layers":
        """The layers with one more change.

        Raises:
            ValueError: vectors of a space that the index does not have, or two of one block.
        """
        match change:
            case Upsert():
                return self._after_upsert(change)
            case Delete():
                gone = frozenset(change.item_ids)
                kept = {one: item for one, item in self.changed.items() if one not in gone}
                removed = self.removed | (gone & self.main.item_vectors.row_of.keys())
                return Layers(self.main, kept, removed)
            case _:
                return self

    def _after_upsert(self, change: Upsert) -> "Layers":
        rows: dict[str, dict[str, NDArray[np.float32]]] = {one: {} for one in change.attributes}
        names = [self._name(part) for part in change.vectors]
        if len(set(names)) < len(names):
            raise ValueError(f"expected one space for each block, got {sorted(names)}")
        for name, part in zip(names, change.vectors, strict=True):
            unit = replace(part, vectors_ND=normalize(part.vectors_ND))
            for item_id, row_D in zip(
                part.item_ids, self.main.item_vectors.place(unit), strict=True
            ):
                rows.setdefault(item_id, {})[name] = row_D
        changed = dict(self.changed)
        for item_id, blocks in rows.items():
            before = changed.get(item_id) or self._of_main(item_id)
            kept = {**before.blocks, **blocks}
            changed[item_id] = _Item(
                {name: row_D for name, row_D in kept.items() if row_D.any()},
                change.attributes.get(item_id, before.texts),
            )
        removed = self.removed | (rows.keys() & self.main.item_vectors.row_of.keys())
        return Layers(self.main, changed, removed)

    def _name(self, part: Embeddings) -> str:
        name = block_name(part.space)
        if name == SEQUENCE and self.main.sequence is not None:
            raise ValueError(f"the block {SEQUENCE!r} is made from the others: leave it out")
        return name

    def _of_main(self, item_id: str) -> _Item:
        """An item as the main index has it; an empty one where it has none."""
        items = self.main.item_vectors
        row = items.row_of.get(item_id)
        if row is None or item_id in self.removed:
            return _Item({}, {})
        blocks = {
            name: items.vectors_ND[row, items.columns_of[name]]
            for name in self._own_names
            if items.is_present(name)[row]
        }
        return _Item(blocks, self.main.attributes.of_item(item_id))

    @property
    def _own_names(self) -> tuple[str, ...]:
        """The blocks that no network makes from others."""
        names = self.main.item_vectors.names
        return names if self.main.sequence is None else tuple(n for n in names if n != SEQUENCE)

    @cached_property
    def delta(self) -> Main:
        """The changed items as an index of their own."""
        item_ids = tuple(sorted(self.changed))
        own = [self.main.item_vectors.names.index(name) for name in self._own_names]
        columns = [self.main.item_vectors.columns_of[name] for name in self._own_names]
        parts, there = [], np.zeros((len(item_ids), len(own)), dtype=np.bool_)
        for place, (name, at) in enumerate(zip(self._own_names, columns, strict=True)):
            block_ND = np.zeros((len(item_ids), at.stop - at.start), dtype=np.float32)
            for row, item_id in enumerate(item_ids):
                row_D = self.changed[item_id].blocks.get(name)
                if row_D is not None:
                    block_ND[row], there[row, place] = row_D, True
            parts.append(block_ND)
        items = ItemVectors(
            item_ids=item_ids,
            spaces=tuple(self.main.item_vectors.spaces[place] for place in own),
            vectors_ND=np.concatenate(parts, axis=1),
            is_present_NM=there,
            centers_D=np.concatenate([self.main.item_vectors.centers_D[at] for at in columns]),
        )
        if self.main.sequence is not None:
            items = items.joined(self.main.sequence.items(items))
        index = ExactIndex(dim=self.main.item_vectors.dim)
        rows = np.flatnonzero(items.is_present_NM.any(axis=1))
        if len(rows):
            index.add([item_ids[row] for row in rows], items.vectors_ND[rows])
        texts = [Texts(item_id=one, attributes=self.changed[one].texts) for one in item_ids]
        return replace(
            self.main,
            index=index,
            item_vectors=items,
            attributes=Attributes.of(texts),
            popularity=(),
        )

    @cached_property
    def item_vectors(self) -> ItemVectors:
        """All items there are, as one matrix: a copy of the main index's, made when asked for."""
        return self.taken(self.item_ids)

    @cached_property
    def attributes(self) -> Attributes:
        """The attributes of all items there are."""
        return self.main.attributes.overlaid(self.delta.attributes, item_ids=self.item_ids)

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """All items there are, sorted."""
        kept = (one for one in self.main.item_vectors.item_ids if one not in self.removed)
        return tuple(merge(kept, sorted(self.changed)))

    def holds(self, item_id: str) -> bool:
        """Whether there is such an item."""
        in_main = item_id in self.main.item_vectors.row_of and item_id not in self.removed
        return in_main or item_id in self.changed

    def taken(self, item_ids: Collection[str]) -> ItemVectors:
        """These items alone, of those there are."""
        main, delta = self.main.item_vectors, self.delta.item_vectors
        chosen = sorted(one for one in set(item_ids) if self.holds(one))
        is_changed_K = np.array([one in self.changed for one in chosen], dtype=np.bool_)
        rows_K = np.array(
            [(delta if one in self.changed else main).row_of[one] for one in chosen], np.int64
        )
        vectors_KD = np.empty((len(chosen), main.dim), dtype=np.float32)
        is_present_KM = np.empty((len(chosen), len(main.names)), dtype=np.bool_)
        for part, mask_K in ((main, ~is_changed_K), (delta, is_changed_K)):
            vectors_KD[mask_K] = part.vectors_ND[rows_K[mask_K]]
            is_present_KM[mask_K] = part.is_present_NM[rows_K[mask_K]]
        return replace(
            main, item_ids=tuple(chosen), vectors_ND=vectors_KD, is_present_NM=is_present_KM
        )
