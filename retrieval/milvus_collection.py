"""Rows of vectors in, proposals out, over the wire: one collection of a Milvus server.

What the client raises becomes one clear error, every call has a deadline, and what would not fit
into one message goes in several.

Shape legend: Q queries, N rows, D dimensions, K rows proposed.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState

from retrieval.base import UnusableIndex
from retrieval.milvus_server import MilvusServer

# What fails is raised and said once; the client would write a traceback of it, too.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

MAX_ROWS = 16_384  # that a server proposes for one query
MAX_BYTES = 16 << 20  # of vectors in one message; servers refuse 64 MiB
NEIGHBORS, CONSTRUCTION = 32, 100  # of the graph, as `retrieval.faiss_hnsw`
ROW, VECTOR = "row", "vector"

Proposed = tuple[NDArray[np.int64], NDArray[np.float32]]
"""The numbers of rows, [K], best first as the server sees it, and their vectors, [K, D]."""


class MilvusCollection:
    """Row numbers and vectors, searched by inner product. Safe to ask from several threads."""

    def __init__(self, name: str, *, dim: int, server: MilvusServer) -> None:
        """Connect to a collection that there is."""
        self.name, self.dim, self._server = name, dim, server
        with self._failing("connect"):
            self._client = MilvusClient(
                uri=server.uri, token=server.token, timeout=server.timeout_s
            )

    @classmethod
    def create(cls, *, dim: int, server: MilvusServer, is_graph: bool) -> "MilvusCollection":
        """A new, empty collection, whose rows lie in a graph or are compared one and all."""
        made = cls(f"sommelier_{uuid.uuid4().hex}", dim=dim, server=server)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
        index = MilvusClient.prepare_index_params()
        index.add_index(
            VECTOR,
            index_type="HNSW" if is_graph else "FLAT",
            metric_type="IP",
            params={"M": NEIGHBORS, "efConstruction": CONSTRUCTION} if is_graph else {},
        )
        with made._failing("make a collection"):
            made._client.create_collection(
                made.name,
                schema=schema,
                index_params=index,
                consistency_level="Strong",  # a search sees whatever was written before it
                timeout=server.timeout_s,
            )
        return made

    def write(self, vectors_ND: NDArray[np.float32], *, first_row: int) -> None:
        """Write rows, numbered from `first_row` on; the same ones again do no harm."""
        size = max(1, MAX_BYTES // (4 * self.dim))
        for start in range(0, len(vectors_ND), size):
            block_ND = vectors_ND[start : start + size]
            data = [
                {ROW: row, VECTOR: vector_D}
                for row, vector_D in enumerate(block_ND, start=first_row + start)
            ]
            with self._failing("take items"):
                self._client.upsert(self.name, data, timeout=self._server.timeout_s)

    def settle(self) -> None:
        """Let the server write down what it took, and build its index."""
        with self._failing("write items down"):
            self._client.flush(self.name, timeout=self._server.timeout_s)
            self._client.load_collection(self.name, timeout=self._server.timeout_s)

    def is_there(self) -> bool:
        """Whether the server knows the collection, which it then makes ready to be searched."""
        with self._failing("answer"):
            if not self._client.has_collection(self.name, timeout=self._server.timeout_s):
                return False
            self._client.load_collection(self.name, timeout=self._server.timeout_s)
            return True

    def count(self) -> int:
        """How many rows there are."""
        with self._failing("count items"):
            counted = self._client.query(
                self.name, output_fields=["count(*)"], timeout=self._server.timeout_s
            )
            return int(counted[0]["count(*)"])

    def propose(
        self, queries_QD: NDArray[np.float32], *, limit: int, effort: int, condition: str
    ) -> list[Proposed]:
        """For each query at most `limit` rows that meet the condition.

        Args:
            queries_QD: The queries.
            limit: At most MAX_ROWS.
            effort: The candidates kept while walking the graph; 0 where there is none.
            condition: Such as `row in [3, 5]`; empty for none.
        """
        parameters = {"ef": max(effort, limit)} if effort else {}  # servers refuse a smaller one
        size = max(1, MAX_BYTES // (4 * self.dim * limit))
        found = []
        for start in range(0, len(queries_QD), size):
            with self._failing("search"):
                answers = self._asked(
                    data=list(queries_QD[start : start + size]),
                    limit=limit,
                    filter=condition,
                    output_fields=[VECTOR],
                    search_params={"metric_type": "IP", "params": parameters},
                    anns_field=VECTOR,
                )
            found += [self._proposed(answer) for answer in answers]
        return found

    def _asked(self, **facts: Any) -> Any:
        """One search; a server that began anew may first have to load the collection."""
        timeout = self._server.timeout_s
        try:
            return self._client.search(self.name, timeout=timeout, **facts)
        except MilvusException:
            state = self._client.get_load_state(self.name, timeout=timeout)["state"]
            if state != LoadState.NotLoad:
                raise
            self._client.load_collection(self.name, timeout=timeout)
            return self._client.search(self.name, timeout=timeout, **facts)

    def vectors(self, rows: NDArray[np.int64]) -> Proposed:
        """These rows with their vectors, in any order."""
        parts = []
        size = min(MAX_ROWS, max(1, MAX_BYTES // (4 * self.dim)))
        for start in range(0, len(rows), size):
            with self._failing("hand items out"):
                got = self._client.get(
                    self.name,
                    ids=rows[start : start + size].tolist(),
                    output_fields=[ROW, VECTOR],
                    timeout=self._server.timeout_s,
                )
            parts.append(self._proposed(got))
        numbers, vectors = zip(*parts, strict=True)
        return np.concatenate(numbers), np.concatenate(vectors)

    def drop(self) -> None:
        """Delete the collection."""
        with self._failing("drop a collection"):
            self._client.drop_collection(self.name, timeout=self._server.timeout_s)

    def _proposed(self, answer: Any) -> Proposed:
        rows = np.array([one[ROW] for one in answer], dtype=np.int64)
        vectors = [one[VECTOR] for one in answer]
        return rows, np.array(vectors, dtype=np.float32).reshape(len(rows), self.dim)

    @contextmanager
    def _failing(self, verb: str) -> Iterator[None]:
        try:
            yield
        except MilvusException as error:
            raise UnusableIndex(
                f"the Milvus server at {self._server.uri} failed to {verb} ({error.message}): see "
                f"that it runs and that the token is right, then try again"
            ) from error
