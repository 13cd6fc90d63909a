"""A history in, the direction in which its next item lies out; and the items' vectors to meet it.

A trained network reads the items of a history, oldest first, each as its content and its own vector
(`retrieval.sequence_model`). Its answer and the items share one space of unit vectors, one more
block of the concatenated space. Items that training never saw have a vector from their content
alone, the moment they are embedded.

Where training compared inner products, items have one more dimension, in which each has what its
length lacks to the longest one's, and queries have 0 there: a query's cosines with items then have
the order of the inner products (Bachrach et al., RecSys 2014). A new item longer than all that
training saw is cut to the longest one's length.

Histories are encoded in blocks of like length, so that memory stays bounded; a query's vector does
not depend on the others beyond rounding.

Shape legend: N items, M modalities, Q queries, L events of a history, D dimensions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.base import REPAIR, UnusableIndex
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors
from retrieval.pooled import visible_history
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_model import Network, tensors
from retrieval.tensor_file import read, write

FACTS, WEIGHT = "facts", "weight."  # what is in the file, and before the names of the weights
EVENTS = 16384  # of histories that are encoded at once
ITEMS = 16384  # that are projected at once


class SequenceEncoder:
    """The trained network, the items that it was trained on, and the spaces that it reads."""

    def __init__(
        self,
        network: Network,
        *,
        spaces: Sequence[Space],
        item_ids: Sequence[str],
        behaviors: Sequence[str],
        config: SequenceConfig,
        until: datetime | None,
        longest: float,
    ) -> None:
        """Take over what was trained.

        Args:
            network: Whose weights are not changed any more.
            spaces: Of the modalities that it reads, by name.
            item_ids: The items that have a vector of their own, in the order of its rows.
            behaviors: Those that have one, in order.
            config: How it was trained.
            until: The cut before which; None where there was none.
            longest: The length of the longest item that was trained on.
        """
        self.config, self.until = config, until
        self.spaces, self.item_ids, self.behaviors = tuple(spaces), tuple(item_ids), behaviors
        self._network = network.eval().requires_grad_(False)
        self._row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._place_of = {name: place for place, name in enumerate(behaviors, start=1)}
        self._longest = longest
        self.space = Space(
            modality=None,
            encoder="sequence",
            revision=self._revision(),
            dim=config.dim + (config.compare == "dot"),
            preprocessing=f"causal self-attention over the latest {config.limit} events",
        )

    def items(
        self, item_vectors: ItemVectors, *, without: frozenset[Modality] = frozenset()
    ) -> Embeddings:
        """Unit vectors of the items of which anything is known, by item id.

        Args:
            item_vectors: The content of these items, and of no others.
            without: Modalities that are passed over.

        Raises:
            ValueError: a modality is of another space than the one trained on.
        """
        trained_ND, is_known_N = self._trained(item_vectors, without)
        rows = np.flatnonzero(is_known_N)
        return Embeddings(
            space=self.space,
            item_ids=[item_vectors.item_ids[row] for row in rows.tolist()],
            vectors_ND=self._lifted(trained_ND[rows]),
        )

    def bound(
        self, item_vectors: ItemVectors, *, without: frozenset[Modality] = frozenset()
    ) -> "BoundSequence":
        """The encoder of queries whose histories hold these items.

        Raises:
            ValueError: a modality is of another space than the one trained on.
        """
        return BoundSequence(self, item_vectors, *self._trained(item_vectors, without))

    @torch.inference_mode()
    def _trained(
        self, item_vectors: ItemVectors, without: frozenset[Modality]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The items' vectors as the network reads them, [N, D], and which mean anything, [N]."""
        blocks, present_NM = content_of(item_vectors, self.spaces, without=without)
        ids_N = np.array([self._row_of.get(one, -1) for one in item_vectors.item_ids])
        if not self.config.use_ids:
            ids_N[:] = -1
        total_ND = np.zeros((len(ids_N), self.config.dim), dtype=np.float32)
        for start in range(0, len(ids_N), ITEMS):
            block = slice(start, start + ITEMS)
            total_ND[block] = self._network.content(
                {name: torch.from_numpy(one[block]) for name, one in blocks.items()},
                torch.from_numpy(present_NM[block]),
                torch.from_numpy(ids_N[block]),
            ).numpy()
        return total_ND, present_NM.any(axis=1) | (ids_N >= 0)

    def _lifted(self, trained_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network reads, as unit vectors."""
        unit_ND = normalize(trained_ND)
        if self.config.compare == "cosine":
            return unit_ND
        lengths_N = np.linalg.norm(trained_ND.astype(np.float64), axis=1) / self._longest
        lengths_N1 = np.minimum(lengths_N, 1)[:, None]
        return normalize(np.hstack([unit_ND * lengths_N1, np.sqrt(1 - lengths_N1**2)]))

    @torch.inference_mode()
    def _asked(
        self, table_ND: Tensor, rows_QL: NDArray[np.int64], behaviors_QL: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What is known after the last event of each history, [Q, D]; rows below 0 are padding."""
        items_QLD = torch.nn.functional.embedding(torch.from_numpy(rows_QL.clip(min=0)), table_ND)
        hidden_QLD = self._network.hidden(items_QLD, torch.from_numpy(behaviors_QL))
        last_Q = (rows_QL >= 0).sum(axis=1) - 1
        asked_QD = normalize(hidden_QLD[np.arange(len(rows_QL)), last_Q].numpy())
        if self.config.compare == "cosine":
            return asked_QD
        return np.pad(asked_QD, ((0, 0), (0, 1)))

    def save(self, path: Path) -> None:
        """Write one safetensors file that appears whole or not at all."""
        facts = json.dumps(self._facts(), sort_keys=True).encode()
        weights = {f"{WEIGHT}{name}": one for name, one in tensors(self._network).items()}
        write(
            path,
            item_ids=self.item_ids,
            arrays={FACTS: np.frombuffer(facts, dtype=np.uint8), **weights},
        )

    @classmethod
    def load(cls, path: Path) -> "SequenceEncoder":
        """The encoder that `save` wrote.

        Raises:
            UnusableIndex: the file is missing, damaged, or its weights do not fit what it says.
        """
        item_ids, arrays = read(path, names=[FACTS])
        try:
            facts = json.loads(arrays.pop(FACTS).tobytes())
            config = config_of(facts["config"])
            spaces = [
                Space(**{**one, "modality": Modality(one["modality"])}) for one in facts["spaces"]
            ]
            network = Network(
                dims_of(spaces),
                num_ids=len(item_ids),
                num_behaviors=len(facts["behaviors"]),
                config=config,
            )
            network.load_state_dict(
                {
                    name.removeprefix(WEIGHT): torch.from_numpy(one.copy())
                    for name, one in arrays.items()
                }
            )
            return cls(
                network,
                spaces=spaces,
                item_ids=item_ids,
                behaviors=tuple(facts["behaviors"]),
                config=config,
                until=facts["until"] and datetime.fromisoformat(facts["until"]),
                longest=float(facts["longest"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error

    def _facts(self) -> dict[str, Any]:
        return {
            "config": plain(self.config),
            "spaces": [asdict(space) for space in self.spaces],
            "behaviors": list(self.behaviors),
            "until": self.until and self.until.isoformat(),
            "longest": self._longest,
        }

    def _revision(self) -> str:
        """16 hex digits of everything that a vector depends on."""
        digest = hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode())
        digest.update(json.dumps(self.item_ids).encode())
        for name, one in sorted(tensors(self._network).items()):
            digest.update(name.encode() + one.tobytes())
        return digest.hexdigest()[:16]


class BoundSequence:
    """A trained network that knows the items. Safe to call from several threads."""

    def __init__(
        self,
        encoder: SequenceEncoder,
        item_vectors: ItemVectors,
        trained_ND: NDArray[np.float32],
        is_known_N: NDArray[np.bool_],
    ) -> None:
        self._encoder, self._items = encoder, item_vectors
        self._table_ND, self._is_known = torch.from_numpy(trained_ND), is_known_N.tolist()

    def encode_many(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Unit rows, [Q, D]; zeros where nothing is known of any item of a query's history.

        Raises:
            ValueError: a query's history is None.
        """
        histories = [self._read(query) for query in queries]
        vectors_QD = np.zeros((len(queries), self._encoder.space.dim), dtype=np.float32)
        lengths = [len(one) for one in histories]
        order = sorted((q for q in range(len(queries)) if lengths[q]), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * lengths[order[end]] <= EVENTS:
                end += 1
            block = order[start:end]
            rows_QLx = np.full((len(block), lengths[block[-1]], 2), -1, dtype=np.int64)
            for place, q in enumerate(block):
                rows_QLx[place, : lengths[q]] = histories[q]
            vectors_QD[block] = self._encoder._asked(
                self._table_ND, rows_QLx[:, :, 0], rows_QLx[:, :, 1].clip(min=0)
            )
            start = end
        return vectors_QD

    def _read(self, query: Query) -> list[tuple[int, int]]:
        """The row and the behavior of each event that counts, oldest first."""
        read = []
        for event in visible_history(query):
            row = self._items.row_of.get(event.item_id)
            if row is not None and self._is_known[row]:
                read.append((row, self._encoder._place_of.get(event.behavior, 0)))
        return read[-self._encoder.config.limit :]


def content_of(
    item_vectors: ItemVectors,
    spaces: Sequence[Space],
    *,
    without: frozenset[Modality] = frozenset(),
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """The blocks of these spaces, [N, their dimensions], and where they are present, [N, M].

    A block that the items lack, or that is passed over, is absent everywhere.

    Raises:
        ValueError: a block is of another space.
    """
    blocks: dict[str, NDArray[np.float32]] = {}
    present_NM = np.zeros((len(item_vectors), len(spaces)), dtype=bool)
    for place, space in enumerate(spaces):
        name = str(space.modality)
        blocks[name] = np.zeros((len(item_vectors), space.dim), dtype=np.float32)
        if name in item_vectors.names and space.modality not in without:
            held = item_vectors.space(name)
            if held != space:
                raise ValueError(
                    f"the sequence encoder was trained on {space.space_id}, not on "
                    f"{held.space_id}: train it again"
                )
            blocks[name] = np.ascontiguousarray(item_vectors.block(name))
            present_NM[:, place] = item_vectors.is_present(name)
    return blocks, present_NM


def dims_of(spaces: Sequence[Space]) -> dict[str, int]:
    """The dimensions of each space, by the name of its block."""
    return {str(space.modality): space.dim for space in spaces}


def plain(config: SequenceConfig) -> dict[str, Any]:
    """The configuration as JSON holds it."""
    chosen = config.modalities
    return {
        **asdict(config),
        "modalities": None if chosen is None else sorted(chosen),
        "behavior_weights": dict(sorted(config.behavior_weights.items())),
    }


def config_of(facts: Mapping[str, Any]) -> SequenceConfig:
    """The configuration that `plain` wrote.

    Raises:
        TypeError: an unknown field.
        ValueError: a value that is not allowed.
    """
    chosen = facts.get("modalities")
    modalities = None if chosen is None else frozenset(Modality(one) for one in chosen)
    return SequenceConfig(**{**facts, "modalities": modalities})
