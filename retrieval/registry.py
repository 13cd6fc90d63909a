"""The name of a kind of index in, the index out: the room's only lazy imports."""

from pathlib import Path

from retrieval.base import Index

KINDS = ("exact", "flat")
"""`exact` is a product in numpy; `flat` is the same search by FAISS."""


def create(kind: str, *, dim: int) -> Index:
    """An empty index.

    Raises:
        ValueError: no such kind.
        ImportError: the kind's library is not installed; the message says how to install it.
    """
    return _index_class(kind)(dim=dim)  # type: ignore[call-arg]


def load(kind: str, path: Path) -> Index:
    """The index that `Index.save` wrote.

    Raises:
        ValueError: no such kind.
        ImportError: the kind's library is not installed; the message says how to install it.
        UnusableIndex: the file is missing or damaged.
    """
    return _index_class(kind).load(path)


def _index_class(kind: str) -> type[Index]:
    match kind:
        case "exact":
            from retrieval.exact import ExactIndex

            return ExactIndex
        case "flat":
            try:
                from retrieval.faiss_flat import FaissFlatIndex
            except ImportError as error:
                raise ImportError(
                    "an index of kind 'flat' needs FAISS: pip install 'sommelier[retrieve]'"
                ) from error
            return FaissFlatIndex
        case _:
            raise ValueError(f"no index of kind {kind!r}; choose one of {', '.join(KINDS)}")
