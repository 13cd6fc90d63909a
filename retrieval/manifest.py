"""What a folder with an index holds, as one readable JSON file: written by `retrieval.build`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from embedders.items import Modality
from embedders.vectors import Space
from retrieval.base import REPAIR, UnusableIndex
from retrieval.curve import CurvePoint
from retrieval.pooled import PoolingConfig

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The facts of one index; equal inputs give equal manifests, but for the curve's latencies.

    So its bytes are no key: whether an index has to be built again is told by what it is made of.
    """

    kind: str
    """The kind of index, as `retrieval.registry` names it."""
    reasons: tuple[str, ...] = ()
    """Why this kind, in sentences."""
    effort: int = 0
    """How hard searches look; 0 where search is exact."""
    curve: tuple[CurvePoint, ...] = ()
    """Recall and latency by effort, on the machine that built the index."""
    target_recall: float = 0.99
    """What `effort` was chosen for."""
    spaces: tuple[Space, ...]
    """One for each modality, by name."""
    dim: int
    num_items: int
    """All items, those without any vector too."""
    num_indexed: int
    """Items with a vector in at least one space."""
    num_users: int
    """Users with a graph vector."""
    as_of: datetime | None
    """The cut before which everything was read; None where there was none."""
    pooling: PoolingConfig
    recall_against_exact: float
    """Of the true first 100, at `effort`; on held-out queries, or else on simulated histories."""
    files: Mapping[str, str]
    """File name -> SHA-256 of its content."""
    versions: Mapping[str, str]
    """Of the libraries that made the files."""
    fusion: str = "weighted"
    """How one list is made: the weighted sum of cosines, or lists fused by "rank" or "learned"."""

    @property
    def warning(self) -> str | None:
        """What people should know before they serve the index; None where all is well."""
        if self.recall_against_exact >= self.target_recall:
            return None
        return (
            f"the index finds {self.recall_against_exact:.4f} of the true first hundred, less than "
            f"the {self.target_recall} aimed at, even at its greatest effort of {self.effort}: "
            f'set index.kind to "flat", or aim lower'
        )

    def to_json(self) -> str:
        """The manifest as text that people can read, keys sorted."""
        facts = {
            **asdict(self),
            "format": FORMAT,
            "spaces": [{"space_id": one.space_id, **asdict(one)} for one in self.spaces],
            "as_of": self.as_of.isoformat() if self.as_of else None,
        }
        return json.dumps(facts, indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest in a folder.

        Raises:
            UnusableIndex: it is missing, damaged or of another format.
        """
        path = folder / NAME
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UnusableIndex(f"no index in {folder}: {REPAIR}") from error
        except (OSError, ValueError) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
        if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
            raise UnusableIndex(f"{path} is not of format {FORMAT}: {REPAIR}")
        try:
            return cls(
                **{
                    **facts,
                    "spaces": tuple(_space(one) for one in facts["spaces"]),
                    "reasons": tuple(facts["reasons"]),
                    "curve": tuple(CurvePoint(**one) for one in facts["curve"]),
                    "as_of": datetime.fromisoformat(facts["as_of"]) if facts["as_of"] else None,
                    "pooling": _pooling(facts["pooling"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UnusableIndex(f"{path} is damaged ({error!r}): {REPAIR}") from error


def _space(facts: dict[str, Any]) -> Space:
    space_id = facts.pop("space_id")
    modality = None if facts["modality"] is None else Modality(facts["modality"])
    space = Space(**{**facts, "modality": modality})
    if space.space_id != space_id:
        raise ValueError(f"the facts of space {space_id} hash to {space.space_id}")
    return space


def _pooling(facts: dict[str, Any]) -> PoolingConfig:
    return PoolingConfig(**facts)
