"""Examples in, all that training wants to know of them beforehand out, in one pass.

Examples may lie on disk, so each is read once here: for the digest that names the adapter, for the
behaviors that prompts have words for, and for the features that the prior is fitted on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.checkpoint import resolve  # noqa: E402
from embedders.items import Interaction  # noqa: E402
from embedders.texts import TextSource  # noqa: E402
from ranker.config import RankerConfig  # noqa: E402
from ranker.curriculum import TEXT, plan  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.prompts import vocabulary  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402

FORMAT = 3  # raised when the same input would give another adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is to learn from."""

    fingerprint: str
    """Of everything that training reads of the examples, in their order."""
    behaviors: tuple[str, ...]
    asked: tuple[str, ...]
    """Those that examples ask about, where prompts do."""
    features: tuple[NDArray[np.float32], ...]
    """Of each example's candidates, [N, F]; masked ones are left out."""
    is_chosen: tuple[NDArray[np.bool_], ...]


def survey(examples: Sequence[Example], *, blocks: Sequence[str], config: RankerConfig) -> Survey:
    """Read every example once.

    Args:
        examples: What is trained on; only its length and places are used.
        blocks: What evidence tells of, by name.

    Raises:
        ValueError: an example without a chosen candidate, or without another.
    """
    digest = hashlib.sha256()
    events: dict[tuple[str, float | None], Interaction] = {}
    asked: set[str] = set()
    found, is_chosen = [], []
    for example, features_NF, is_chosen_N in _told(examples, blocks, digest):
        found.append(features_NF)
        is_chosen.append(is_chosen_N)
        for event in example.query.history or ():
            events.setdefault((event.behavior, event.weight), event)
        if config.prompt.asks_behavior and example.query.behavior is not None:
            asked.add(example.query.behavior)
    return Survey(
        fingerprint=digest.hexdigest(),
        behaviors=vocabulary(events.values(), asked=asked),
        asked=tuple(sorted(asked)),
        features=tuple(found),
        is_chosen=tuple(is_chosen),
    )


def _told(
    examples: Sequence[Example], blocks: Sequence[str], digest: "hashlib._Hash"
) -> Iterator[tuple[Example, NDArray[np.float32], NDArray[np.bool_]]]:
    """Each example with its unmasked candidates' features and which of them were chosen.

    All that is read of it goes into the digest, the masked ones' features, too.
    """
    for place in range(len(examples)):
        example = examples[place]
        every_NF, kept = features(example.candidates, blocks), unmasked(example)
        digest.update(_read(example) + every_NF.tobytes())
        yield example, every_NF[list(kept)], _told_apart(example, kept, place)


def unmasked(example: Example) -> tuple[int, ...]:
    """The places of the candidates that are either chosen or not; the others are masked."""
    return tuple(
        place
        for place, candidate in enumerate(example.candidates)
        if candidate.item_id not in example.masked or candidate.item_id in example.chosen
    )


def _told_apart(example: Example, kept: Sequence[int], place: int) -> NDArray[np.bool_]:
    """Which of the kept candidates were chosen."""
    is_chosen = np.array(
        [example.candidates[n].item_id in example.chosen for n in kept], dtype=bool
    )
    if is_chosen.all() or not is_chosen.any():
        raise ValueError(
            f"example {place} (user {example.query.user_id!r}) has {int(is_chosen.sum())} chosen "
            f"of {len(is_chosen)} candidates: leave out whoever chose none, or all, of them"
        )
    return is_chosen


def fingerprint(examples: Sequence[Example], *, blocks: Sequence[str]) -> str:
    """A digest of everything that is read of these examples, in their order.

    Raises:
        ValueError: an example without a chosen candidate, or without another.
    """
    digest = hashlib.sha256()
    for _ in _told(examples, blocks, digest):
        pass
    return digest.hexdigest()


def adapter_name(
    fingerprints: Sequence[str],
    *,
    items: ItemVectors,
    titles: Mapping[str, str],
    summaries: Mapping[str, str],
    texts: Sequence[TextSource],
    behaviors: Sequence[str],
    llm: str,
    config: RankerConfig,
) -> str:
    """Twelve hex digits of everything that the adapter depends on."""
    revision = resolve(llm, revision=config.llm.revision).revision
    facts: list[Any] = [FORMAT, asdict(config), list(behaviors), Path(llm).name, revision]
    facts += [[space.space_id for space in items.spaces], items.item_ids, list(fingerprints)]
    written = {config.prompt.history, config.prompt.candidates}
    if written != {"tokens"} or TEXT in {stage.name for stage in plan(config)}:
        facts.append(sorted(titles.items()))
    if config.prompt.summary_tokens:
        facts.append(["summaries", sorted(summaries.items())])
    if texts:
        facts.append(["texts", *(one.source_id for one in texts)])
    whole = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    whole.update(items.vectors_ND.tobytes() + items.is_present_NM.tobytes())
    return whole.hexdigest()[:12]


def _read(example: Example) -> bytes:
    query = example.query
    history = [
        (event.item_id, event.behavior, event.weight, str(event.timestamp))
        for event in query.history or ()
    ]
    asked = [query.user_id, str(query.as_of), query.behavior, query.text, history]
    facts = [
        asked if query.preference is None else [*asked, query.preference],
        sorted(example.weights.items()),
        sorted(example.chosen),
        sorted(example.masked),
        [candidate.item_id for candidate in example.candidates],
    ]
    return json.dumps(facts).encode()
