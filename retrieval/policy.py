"""The number of items, their dimensions and a limit of memory in, the kind of index out.

The borders are measured (`benchmarks/faiss_policy.py`, docs/decisions.md), on one thread, for the
first hundred at a recall of 0.99. Memory is what the index holds itself, beside the item vectors
that retrieval keeps anyway.
"""

import os
from dataclasses import dataclass

AUTO = "auto"
"""Choose by size and memory."""

FLAT_ITEMS = 20_000
"""Up to so many, comparing with every item takes about two milliseconds, and nothing is trained."""
HNSW_ITEMS = 50_000
"""Up to so many, a graph is walked. It was faster than codes at 16,000 items and half as fast at
100,000; where between these the border lies was not measured closer."""
SHARE_OF_MEMORY = 0.5
"""Of the machine's memory that an index may take where no limit is set."""
FLOAT, ROW, CODES_PER_BYTE = 4, 16, 4
GRAPH_ROW = 320  # bytes of an item's neighbors, 64 of them on the ground level
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A kind of index, and why."""

    kind: str
    """As `retrieval.registry` names it."""
    reasons: tuple[str, ...]
    """Whole sentences, in the order in which they were weighed."""


def memory_of(kind: str, *, num_items: int, dim: int) -> int:
    """About how many bytes an index of this kind holds; raw vectors in a mapped file not counted.

    Raises:
        ValueError: a kind whose memory is not known.
    """
    match kind:
        case "exact" | "flat":
            return num_items * FLOAT * dim
        case "hnsw":
            return num_items * (FLOAT * dim + GRAPH_ROW)
        case "ivf":
            return num_items * (FLOAT * dim + ROW)
        case "ivfpq":
            return num_items * (-(-dim // CODES_PER_BYTE) + ROW)
        case _:
            raise ValueError(f"no index of kind {kind!r} to reckon the memory of")


def choose(num_items: int, dim: int, *, memory_limit_gib: float | None = None) -> Choice:
    """The kind for so many items.

    Args:
        num_items: Items that have a vector.
        dim: Of the concatenated space.
        memory_limit_gib: What the index may hold; None is half of this machine's memory.

    Raises:
        ValueError: a limit that is not positive.
    """
    if memory_limit_gib is not None and not memory_limit_gib > 0:
        raise ValueError(f"memory_limit_gib must be positive, got {memory_limit_gib}")
    limit = _machine() * SHARE_OF_MEMORY if memory_limit_gib is None else memory_limit_gib * GIB
    wanted, reason = _by_size(num_items)
    needed = memory_of(wanted, num_items=num_items, dim=dim)
    if needed <= limit or wanted == "ivfpq":
        return Choice(kind=wanted, reasons=(reason, _memory(wanted, needed, limit)))
    codes = memory_of("ivfpq", num_items=num_items, dim=dim)
    return Choice(
        kind="ivfpq",
        reasons=(reason, _memory(wanted, needed, limit), _memory("ivfpq", codes, limit)),
    )


def _by_size(num_items: int) -> tuple[str, str]:
    if num_items <= FLAT_ITEMS:
        return "flat", f"up to {FLAT_ITEMS:,} items, comparing with all {num_items:,} is fast."
    if num_items <= HNSW_ITEMS:
        return "hnsw", f"up to {HNSW_ITEMS:,} items, a graph of {num_items:,} is fastest."
    return "ivfpq", f"beyond {HNSW_ITEMS:,} items, codes in lists are read fastest."


def _memory(kind: str, needed: int, limit: float) -> str:
    verb = "fit into" if needed <= limit else "exceed"
    return f"{kind} needs about {needed / GIB:.2f} GiB, which {verb} the {limit / GIB:.2f} allowed."


def _machine() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
