"""The embedder's contract: items in, vectors of one space out, bad content set aside."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.items import Item, Reject
from embedders.vectors import Embeddings, Space, normalize


class BadContent(ValueError):
    """One item's content cannot be embedded; the message says what to mend."""


class Embedder(ABC):
    """Turns one modality of items into vectors of one space.

    An implementation says which items have content (`fingerprint`), reads one item's content
    (`load`, raising `BadContent`) and encodes many at once (`encode`).
    """

    space: Space

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
        """Contents as `load` gave them -> their vectors, [N, D], in the same order."""

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
                rejects.append(
                    Reject(source=self.space.space_id, key=item.item_id, reason=str(error))
                )
                continue
            item_ids.append(item.item_id)
        if not contents:
            vectors_ND = np.zeros((0, self.space.dim), dtype=np.float32)
        else:
            vectors_ND = np.asarray(self.encode(contents), dtype=np.float32)
        if self.space.is_normalized:
            vectors_ND = normalize(vectors_ND)
        return Embeddings(space=self.space, item_ids=item_ids, vectors_ND=vectors_ND), rejects
