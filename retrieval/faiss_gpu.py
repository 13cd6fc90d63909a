"""A flat index in, its copy on a GPU searched, where FAISS was built for one and there is one.

`faiss-cpu`, which `sommelier[retrieve]` installs, knows no GPU; whoever wants one installs a build
for it instead. Searches with allowed rows stay on the processor, for no GPU index of FAISS takes
them, and so do those for more rows than it proposes.

Shape legend: Q queries, D dimensions, K rows proposed.
"""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import Proposed, faiss

MOST_ROWS = 2048  # FAISS's own limit


class GpuCopy:
    """Made by the first search and after every change; searched by one thread at a time, for its
    scratch memory cannot be shared."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._resources: Any = None
        self._copy: Any = None

    def forget(self) -> None:
        """The index changes: the next search copies it again."""
        with self._lock:
            self._copy = None

    def search(self, index: Any, queries_QD: NDArray[np.float32], num_rows: int) -> Proposed:
        """As the index itself would find, but for rounding."""
        with self._lock:
            if self._copy is None:
                self._resources = faiss.StandardGpuResources()
                self._copy = faiss.index_cpu_to_gpu(self._resources, 0, index)
            proposed: Proposed = self._copy.search(queries_QD, num_rows)
            return proposed


def has_gpu() -> bool:
    """Whether FAISS can use one here."""
    return bool(faiss.get_num_gpus())
