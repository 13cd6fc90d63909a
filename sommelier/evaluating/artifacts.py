"""What a route made in, every artifact of it by stage out, to be compared with another's.

Stages come in the order in which they are made, so that the first that differs is where something
got in; all later ones merely follow. Of what is made for each item only the rows of the given
items count, and files are compared by the tensors in them: names and digests of what else was
there may differ.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embedders.texts import TextKind, TextSource
from embedders.vectors import Embeddings
from feature_repo.base import Entity
from ranker.loaded import LoadedGeneration
from retrieval.build import POPULARITY
from retrieval.candidates import Query
from retrieval.manifest import NAME as MANIFEST
from sommelier.index import fused_space
from sommelier.training.train import trained
from sommelier.training.tune import FUSION
from sommelier.workspace import Workspace
from sommelier.writing.prompt_texts import preferences

Artifacts = Mapping[str, object]
"""Name -> what is compared: bytes, numbers, text, or tuples of them."""
SIZE_BYTES = 8  # the length of a safetensors header, before the header
NUM_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two routes part within one stage."""

    stage: str
    name: str
    """The first artifact that differs, by name."""
    detail: str
    num_different: int
    num_compared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is asked what of both routes."""

    user_ids: Sequence[str]
    item_ids: frozenset[str]
    """The items that were there before the cut; no others are answered or compared."""


def stages(
    workspace: Workspace, asked: Asked, *, serving: Callable[[], LoadedGeneration]
) -> Iterator[tuple[str, Callable[[], Artifacts]]]:
    """Every stage's name, and what makes its artifacts when it is called.

    Args:
        workspace: Whose route went all the way.
        asked: Whom and what the comparison looks at.
        serving: Loads the published generation; called once a stage needs it.
    """
    yield "timeline", lambda: _timeline(workspace)
    yield "histories", lambda: _histories(workspace, asked)
    for space in workspace.spaces():
        yield (
            f"{space.modality} vectors",
            lambda space=space: (  # type: ignore[misc]
                {"space": space.space_id} | _rows(workspace.store.read(space), asked.item_ids)
            ),
        )
    for source in (workspace.summary_source, workspace.preference_source):
        if source is not None:
            yield f"{source.kind} texts", partial(_texts, workspace, source, asked)
    yield "users' vectors", lambda: _users(workspace)
    yield "centers", lambda: _centers(workspace)
    paths, ready = workspace.settings.paths, trained(workspace)
    index = paths.index
    networks = [
        path for folder in (paths.models, index) for path in folder.glob("sequence*.safetensors")
    ]
    yield "sequence encoder", lambda: _tensors(sorted(networks))
    yield "item vectors", lambda: _item_vectors(workspace, asked)
    yield "weights", lambda: {"pooling": repr(asdict(ready.pooling))}
    yield "fusion of lists", lambda: _fitted(paths.models / FUSION)
    yield "popularity", lambda: _popularity(index / POPULARITY, asked)
    yield "LLM", lambda: _folder(Path(ready.llm))
    yield "adapter", lambda: _folder(ready.adapter)
    yield "tokens", lambda: _rows(workspace.store.read(fused_space(workspace)), asked.item_ids)
    yield "index", lambda: _index(index)
    yield "answers", lambda: _answers(workspace, asked, serving())


def compare(stage: str, one: Artifacts, other: Artifacts) -> Difference | None:
    """The first artifact by name that the two do not share bit by bit; None where they share all.

    An artifact that only one of them has is a difference.
    """
    names = sorted({*one, *other})
    different = [name for name in names if one.get(name) != other.get(name)]
    if not different:
        return None
    first = different[0]
    return Difference(
        stage=stage,
        name=first,
        detail=_told(one.get(first), other.get(first)),
        num_different=len(different),
        num_compared=len(names),
    )


def _told(one: object, other: object) -> str:
    if one is None or other is None:
        return "only one of the two has it"
    if isinstance(one, bytes) and isinstance(other, bytes):
        return _told_bytes(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        pairs = zip(one, other, strict=False)
        place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
        return f"at place {place + 1}: {_at(one, place)} and {_at(other, place)}"
    return f"{one} and {other}"


def _at(values: Sequence[object], place: int) -> object:
    return values[place] if place < len(values) else "nothing"


def _told_bytes(one: bytes, other: bytes) -> str:
    if len(one) != len(other) or len(one) % 4:
        return "other contents"
    values = [np.frombuffer(each, dtype=np.float32) for each in (one, other)]
    if not all(np.isfinite(each).all() for each in values):
        return "other contents"
    return f"values differ by up to {float(np.abs(values[0] - values[1]).max()):.3g}"


def _texts(workspace: Workspace, source: TextSource, asked: Asked) -> Artifacts:
    """What was written of the items that were there, or of users by the cut."""
    is_of_users = source.kind is TextKind.PREFERENCE
    as_of = workspace.timeline.cut if is_of_users else None
    ids = frozenset(asked.user_ids) if is_of_users else asked.item_ids
    stored = workspace.store.stream_texts(source, as_of=as_of)
    return {one: written.text for one, written in stored if one in ids}


def _timeline(workspace: Workspace) -> Artifacts:
    line = workspace.timeline
    return {
        "graph_until": line.graph_until.isoformat(),
        "cut": line.cut.isoformat(),
        "events of the graph": line.num_graph_events,
        "events of the ranker": line.num_ranker_events,
    }


def _histories(workspace: Workspace, asked: Asked) -> Artifacts:
    cut = workspace.timeline.cut
    found = workspace.histories([(user_id, cut) for user_id in asked.user_ids])
    return dict(zip(asked.user_ids, found, strict=True))


def _rows(embeddings: Embeddings, wanted: frozenset[str] | None = None) -> dict[str, object]:
    return {
        f"id {row_id}": vector_D.tobytes()
        for row_id, vector_D in zip(embeddings.item_ids, embeddings.vectors_ND, strict=True)
        if wanted is None or row_id in wanted
    }


def _users(workspace: Workspace) -> Artifacts:
    written = workspace.store.spaces()
    found: dict[str, object] = {}
    for space in workspace.spaces():
        if (Entity.USER, space.space_id) in written:
            found |= _rows(workspace.store.read(space, entity=Entity.USER))
    return found


def _centers(workspace: Workspace) -> Artifacts:
    items = workspace.item_vectors
    return {
        str(name): items.centers_D[columns].tobytes() for name, columns in items.columns_of.items()
    }


def _item_vectors(workspace: Workspace, asked: Asked) -> Artifacts:
    items = workspace.item_vectors
    return {
        f"id {item_id}": items.vectors_ND[row].tobytes() + items.is_present_NM[row].tobytes()
        for row, item_id in enumerate(items.item_ids)
        if item_id in asked.item_ids
    }


def _popularity(path: Path, asked: Asked) -> Artifacts:
    pairs = json.loads(path.read_text(encoding="utf-8"))
    return {item_id: count for item_id, count in pairs if item_id in asked.item_ids}


def _fitted(path: Path) -> Artifacts:
    """What a JSON file holds, by key; nothing where the settings ask for none."""
    if not path.exists():
        return {}
    return {key: repr(value) for key, value in json.loads(path.read_text("utf-8")).items()}


def _index(folder: Path) -> Artifacts:
    """How the index was made and is to be searched; a kind without efforts states none."""
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return {key: facts.get(key) for key in ("kind", "effort", "fusion")}


def _folder(folder: Path) -> Artifacts:
    """The tensors below a folder, and its tokenizer; for a name alone, the name."""
    if not folder.is_dir():
        return {"name": str(folder)}
    words = {
        path.name: hashlib.sha256(path.read_bytes()).digest()
        for path in sorted(folder.rglob("tokenizer.json"))
    }
    return {**_tensors(sorted(folder.rglob("*.safetensors"))), **words}


def _tensors(paths: Sequence[Path]) -> dict[str, object]:
    """Every tensor's type, shape and bits, whatever else the file's header says."""
    found: dict[str, object] = {}
    for path in paths:
        content = memoryview(path.read_bytes())
        start = SIZE_BYTES + int.from_bytes(content[:SIZE_BYTES], "little")
        for name, facts in json.loads(bytes(content[SIZE_BYTES:start])).items():
            if name == "__metadata__":
                continue
            first, end = facts["data_offsets"]
            bits = bytes(content[start + first : start + end])
            found[f"{path.stem}: {name}"] = bits
            found[f"{path.stem}: {name}, type and shape"] = (facts["dtype"], *facts["shape"])
    return found


def _answers(workspace: Workspace, asked: Asked, serving: LoadedGeneration) -> Artifacts:
    """What each user is answered as of the cut: candidates, scores, evidence, order, logits."""
    cut = workspace.timeline.cut
    pairs = [(user_id, cut) for user_id in asked.user_ids]
    histories = workspace.histories(pairs)
    tell = preferences(workspace, serving.generation.texts)
    told = [None] * len(pairs) if tell is None else tell(pairs)
    later = frozenset(workspace.item_ids) - asked.item_ids
    queries = [
        Query(user_id=user_id, history=history, as_of=cut, exclude=later, preference=preference)
        for user_id, history, preference in zip(asked.user_ids, histories, told, strict=True)
    ]
    found: dict[str, Any] = {}
    for query, candidates in zip(
        queries, serving.retrieve_many(queries, limit=NUM_CANDIDATES), strict=True
    ):
        ranked = serving.rerank(query, candidates).items
        of_user = {
            "1 candidates": tuple(one.item_id for one in candidates),
            "2 retrieval scores": tuple((one.item_id, one.score) for one in candidates),
            "3 evidence": tuple(
                (
                    one.item_id,
                    tuple(sorted(one.evidence.items())),
                    tuple(sorted(one.support.items())),
                )
                for one in candidates
            ),
            "4 order": tuple(one.item_id for one in ranked),
            "5 scores and logits": tuple((one.item_id, one.score, one.logit) for one in ranked),
        }
        found |= {f"{name}, user {query.user_id}": value for name, value in of_user.items()}
    return found
