"""Changes in, an index that answers with them at once out, without being built again.

A change is written to a journal, laid over the main index as a second layer
(`retrieval.layers`), and seen by every query that begins after the call has returned. Readers
never wait: they read one state, whole, and a change or a new main index is another state that takes
its place.

The second layer is compared one and all, so it should stay small. A rebuild makes a new main index
of everything; changes that come meanwhile are laid over the new one when it takes the old one's
place. Where the process stops, `LiveRetriever` of the same or the next index with the same journal
goes on where it was.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock

from embedders.vectors import Embeddings
from retrieval.attributes import CATEGORY, Attributes, Described
from retrieval.base import UnusableIndex
from retrieval.build import Retrieval
from retrieval.candidates import Candidate, Query
from retrieval.changes import (
    Change,
    Delete,
    RebuildAbandoned,
    RebuildBegun,
    Upsert,
    from_bytes,
    to_bytes,
)
from retrieval.concatenated import ItemVectors
from retrieval.journal import Journal
from retrieval.layered import LayeredRetriever
from retrieval.layers import Layers, Main, encoder_maker
from retrieval.pooled import PoolingConfig


class LiveRetriever:
    """A retriever whose items change. Safe to read and to change from several threads."""

    def __init__(self, main: Main, *, journal: Path | None = None) -> None:
        """Begin with an index, and with what the journal holds of changes since.

        Args:
            main: The index.
            journal: Where changes are kept beside it, so that a restart finds them; None keeps
                none. A journal of another index means that this one took its place: where a
                rebuild had begun, only the changes since are laid over it, else all.

        Raises:
            UnusableIndex: the journal is damaged, or its changes are of other spaces.
            ValueError: another process has the journal open.
        """
        self._lock = Lock()
        self._since_rebuild: list[Change] | None = None
        self._journal = Journal.open(journal, index=main.digest) if journal else None
        try:
            self._state = LayeredRetriever(self._resumed(main))
        except BaseException:
            self.close()
            raise

    def _resumed(self, main: Main) -> Layers:
        """The index with the journal's changes."""
        if self._journal is None:
            return Layers(main)
        changes = _pending(self._journal, main)
        try:
            layers = _laid_over(main, changes)
        except ValueError as error:
            raise UnusableIndex(
                f"{self._journal.path} holds changes that do not fit the index ({error}): make "
                f"them part of an index, then move the journal away"
            ) from error
        self._journal.restart(index=main.digest, records=[to_bytes(one) for one in changes])
        return layers

    @property
    def weights(self) -> Mapping[str, float]:
        """How much the cosine in each block counts in a candidate's score."""
        return self._state.weights

    @property
    def num_changed(self) -> int:
        """Items that are not as the main index has them: what a rebuild would bring home."""
        layers = self._state.layers
        return len(layers.changed.keys() | layers.removed)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        """As `Retriever.retrieve`."""
        return self._state.retrieve(query, limit=limit)

    def retrieve_many(self, queries: Sequence[Query], *, limit: int) -> list[list[Candidate]]:
        """As `Retriever.retrieve_many`."""
        return self._state.retrieve_many(queries, limit=limit)

    def retrieve_ids(
        self, queries: Sequence[Query], *, limit: int
    ) -> list[tuple[list[str], list[float]]]:
        """As `Retriever.retrieve_ids`."""
        return self._state.retrieve_ids(queries, limit=limit)

    def score(self, query: Query, item_ids: Sequence[str]) -> list[Candidate]:
        """As `Retriever.score`."""
        return self._state.score(query, item_ids)

    def exact_ranks(
        self, queries: Sequence[Query], item_ids: Sequence[Collection[str]]
    ) -> list[dict[str, int]]:
        """As `Retriever.exact_ranks`."""
        return self._state.exact_ranks(queries, item_ids)

    def upsert(
        self, *, embeddings: Iterable[Embeddings] = (), items: Iterable[Described] = ()
    ) -> None:
        """Add items, or change them. What is not given of a known item stays as it is.

        Args:
            embeddings: The items' vectors, of one space for each block, as their encoders made
                them. A block that a network makes from the others is made again.
            items: The items' attributes, all of each one.

        Raises:
            ValueError: vectors of a space that the index does not have, two spaces of one block,
                or the journal cannot be written; then nothing has changed.
        """
        attributes = {
            one.item_id: dict(one.attributes) | ({CATEGORY: one.category} if one.category else {})
            for one in items
        }
        self._change(Upsert(vectors=tuple(embeddings), attributes=attributes))

    def delete(self, item_ids: Iterable[str]) -> None:
        """Remove items; unknown ones do no harm.

        Raises:
            ValueError: the journal cannot be written; then nothing has changed.
        """
        self._change(Delete(item_ids=tuple(item_ids)))

    def rebuild(self, build: Callable[[ItemVectors, Attributes], Main]) -> None:
        """Make a new main index of all items there are, and put it in the old one's place.

        Args:
            build: Makes the index of these items and attributes. Meanwhile queries are answered
                and changes taken.

        Raises:
            ValueError: a rebuild is running, or as `swap`.
        """
        self.begin_rebuild()
        try:
            layers = self._state.layers
            self.swap(build(layers.item_vectors, layers.attributes))
        except BaseException:
            self.abandon_rebuild()
            raise

    def begin_rebuild(self) -> None:
        """From here on, changes are laid over the index that `swap` will bring.

        What has changed before must be in that index: read the catalog after this call.

        Raises:
            ValueError: a rebuild is running.
        """
        with self._lock:
            if self._since_rebuild is not None:
                raise ValueError("a rebuild is running: swap its index in, or abandon it")
            self._note(RebuildBegun())
            self._since_rebuild = []

    def abandon_rebuild(self) -> None:
        """The index that `begin_rebuild` announced will not come; harmless where none was."""
        with self._lock:
            if self._since_rebuild is not None:
                self._note(RebuildAbandoned())
                self._since_rebuild = None

    def swap(self, main: Main) -> None:
        """Put a new main index in the old one's place, with the changes since `begin_rebuild`.

        Raises:
            ValueError: no rebuild was begun, or a change since is of a space that the new index
                does not have; then nothing has changed.
        """
        with self._lock:
            if self._since_rebuild is None:
                raise ValueError("no rebuild was begun: changes since its start would be lost")
            layers = _laid_over(main, self._since_rebuild)
            state = LayeredRetriever(layers)
            state.prepare()
            if self._journal is not None:
                records = [to_bytes(one) for one in self._since_rebuild]
                self._journal.restart(index=main.digest, records=records)
            self._since_rebuild = None
            self._state = state

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()

    def _change(self, change: Change) -> None:
        with self._lock:
            layers = self._state.layers.after(change)
            self._note(change)
            if self._since_rebuild is not None:
                self._since_rebuild.append(change)
            self._state = LayeredRetriever(layers)

    def _note(self, change: Change) -> None:
        if self._journal is not None:
            self._journal.append(to_bytes(change))


def main_of(retrieval: Retrieval, *, pooling: PoolingConfig | None = None) -> Main:
    """A loaded folder as the main index of a `LiveRetriever`; `pooling` replaces the manifest's.

    Raises:
        ValueError: the folder's lists are fused, whose ranks are those of one list and not of two.
    """
    if retrieval.fusion is not None:
        raise ValueError(
            f"an index whose lists are fused ({retrieval.manifest.fusion}) takes no changes: build "
            f"one that orders by the weighted sum"
        )
    return Main(
        digest=hashlib.sha256(retrieval.manifest.to_json().encode()).hexdigest(),
        index=retrieval.index,
        item_vectors=retrieval.item_vectors,
        encoder=retrieval.query_encoder(pooling),
        encoder_of=encoder_maker(
            pooling=pooling or retrieval.manifest.pooling,
            user_vectors=retrieval.user_vectors,
            as_of=retrieval.manifest.as_of,
            sequence=retrieval.sequence,
        ),
        popularity=retrieval.popularity,
        attributes=retrieval.attributes or Attributes(retrieval.item_vectors.item_ids, {}),
        sequence=retrieval.sequence,
    )


def _laid_over(main: Main, changes: Iterable[Change]) -> Layers:
    layers = Layers(main)
    for change in changes:
        layers = layers.after(change)
    return layers


def _pending(journal: Journal, main: Main) -> list[Change]:
    """The journal's changes that the index does not hold."""
    changes: list[Change] = []
    begun_at = 0
    for place, record in enumerate(journal.records, start=1):
        try:
            change = from_bytes(record)
        except ValueError as error:
            raise UnusableIndex(f"{journal.path}, record {place}: {error}") from error
        match change:
            case RebuildBegun():
                begun_at = len(changes)
            case RebuildAbandoned():
                begun_at = 0
            case _:
                changes.append(change)
    return changes if journal.index == main.digest else changes[begun_at:]
