"""The embedder's contract: items in, vectors of one space out, bad content set aside."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Item, Modality, Reject
from embedders.vectors import Embeddings, Space, normalize


class BadContent(ValueError):
    """One item's content cannot be embedded; the message says what to mend."""


class Embedder(ABC):
    """Turns one modality of items into vectors of one space.

    An implementation says which items have content (`fingerprint`), reads one item's content
    (`load`, raising `BadContent`) and encodes many at once (`encode`).
    """

    space: Space
    until: datetime | None = None
    """The training cut of vectors that were trained on events: they hold from then on."""
    rows_per_batch: int = 512
    """Rows that are loaded, encoded and made durable together, unless the user says otherwise. Two
    batches of loaded contents are held at once, so that large contents want a smaller number."""
    is_looked_up: bool = False
    """Vectors that were made elsewhere: there is nothing to probe, and nothing to distribute."""

    @property
    def reads_media(self) -> bool:
        """Whether `fingerprint` reads a file of the item's, rather than what the item holds."""
        is_media = self.space.modality in (Modality.AUDIO, Modality.IMAGE)
        return is_media and not self.is_looked_up

    def is_imputed(self, item: Item) -> bool:
        """Whether an item's vector is inferred, as the item shows no such content of its own."""
        return False

    @abstractmethod
    def fingerprint(self, item: Item) -> str | None:
        """A digest of exactly the content that the encoder would see; None where there is none.

        A row is embedded again only when this changes.

        Raises:
            BadContent: the content is promised but cannot be read (a missing file).
        """

    @abstractmethod
    def load(self, item: Item) -> Any:
        """One item's content, ready to encode.

        Raises:
            BadContent: the content is damaged, empty or not finite.
        """

    @abstractmethod
    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Contents as `load` gave them -> their vectors, [N, D], in the same order.

        Raises:
            ValueError: one of the contents cannot be encoded; the others then go one by one.
        """

    def embed(self, items: Sequence[Item]) -> tuple[Embeddings, list[Reject]]:
        """The vectors of the items that have good content, in order, and the rejected rest.

        An item without content is neither embedded nor rejected.
        """
        item_ids: list[str] = []
        contents: list[Any] = []
        rejects: list[Reject] = []
        for item in items:
            try:
                if self.fingerprint(item) is None:
                    continue
                contents.append(self.load(item))
            except BadContent as error:
                rejects.append(self.reject(item.item_id, str(error)))
                continue
            item_ids.append(item.item_id)
        embeddings, unfit = self.embed_contents(item_ids, contents)
        return embeddings, rejects + unfit

    def embed_contents(
        self, item_ids: Sequence[str], contents: Sequence[Any]
    ) -> tuple[Embeddings, list[Reject]]:
        """The vectors of loaded contents, in order, and the items whose content gave none.

        One odd content, or one vector without direction, never costs the others theirs.

        Raises:
            ValueError: the encoder does not give what its space promises.
        """
        reasons: dict[int, str] = {}
        vectors_ND = self._encode(contents, reasons)
        for n in np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1)):
            reasons.setdefault(int(n), "the encoder gave it a vector that is not finite")
        if self.space.is_normalized:
            for n in np.flatnonzero(~vectors_ND.any(axis=1)):
                reasons.setdefault(int(n), "the encoder gave it a vector of zeros: no direction")
        good = [n for n in range(len(contents)) if n not in reasons]
        vectors_ND = vectors_ND[good]
        if self.space.is_normalized:
            vectors_ND = normalize(vectors_ND)
        embeddings = Embeddings(
            space=self.space, item_ids=[item_ids[n] for n in good], vectors_ND=vectors_ND
        )
        return embeddings, [self.reject(item_ids[n], reasons[n]) for n in sorted(reasons)]

    def reject(self, item_id: str, reason: str) -> Reject:
        """One item that this embedder set aside."""
        return Reject(source=self.space.space_id, key=item_id, reason=reason)

    def _encode(self, contents: Sequence[Any], reasons: dict[int, str]) -> NDArray[np.float32]:
        """All contents at once, or one by one where that fails; a failed one is a row of zeros."""
        if not contents:
            return np.zeros((0, self.space.dim), dtype=np.float32)
        try:
            encoded = self.encode(contents)
        except ValueError:
            rows = []
            for n, content in enumerate(contents):
                try:
                    rows.append(self.encode([content]))
                except ValueError as error:
                    reasons[n] = str(error)
                    rows.append(np.zeros((1, self.space.dim), dtype=np.float32))
            encoded = np.concatenate(rows)
        vectors_ND = np.asarray(encoded, dtype=np.float32)
        expected = (len(contents), self.space.dim)
        if vectors_ND.shape != expected:
            raise ValueError(
                f"{self.space.space_id}: expected vectors of shape {expected}, the encoder gave "
                f"{vectors_ND.shape}"
            )
        return vectors_ND
