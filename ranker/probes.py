"""A loaded generation in, a few questions with its answers out; asked again wherever it is loaded.

Hashes prove that the files are those that were published, not that this machine makes of them what
was meant: another version of a library, another precision or a mask that leaks changes no file.
So `publish` asks a few inline histories for their candidates and keeps order and scores; `check`
asks the same before a generation serves, and also warms it up.

Equal within the stated tolerance. Two items may change places only where their scores lie within
twice the tolerance of each other. Retrieval may miss a few of the former candidates, for an
index that proposes roughly may do so differently on another processor. What the store holds of an
item (its tokens, its title) may be newer than the generation: such an item is not compared, and
neither is a question whose history holds one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import TypeAdapter

from embedders.items import Interaction
from embedders.texts import TextKind
from feature_repo.atomic import replace_text
from ranker.ranking import RankedItem
from ranker.serving import Serving
from retrieval.candidates import Query

PROBES = "probes.json"
FORMAT = 1
LENGTHS = (0, 1, 5)  # of the histories that are asked about
NUM_CANDIDATES = 16
PREFERENCE = "The user appears to have a preference for what is new, and for what is like the last."
FOUND_AGAIN = 0.75  # the least share of the candidates that retrieval must find again
# Of scores, which are log-odds. In float32 machines agree within 1e-4; what probes are to find, a
# wrong mask, position or merge, moves scores by .3 and more.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.1}


class ProbeError(ValueError):
    """Probes that cannot be read, or that are answered otherwise than they were."""


class Probed(Serving, Protocol):
    """What can be asked: a generation that knows its items."""

    @property
    def item_ids(self) -> Sequence[str]: ...

    @property
    def known_behaviors(self) -> Sequence[str]:
        """Those that histories may hold."""

    def state_of(self, item_id: str) -> bytes:
        """All that is read of an item from the store; empty for an item that is not held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One item of an answer."""

    item_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question with its answer."""

    history: tuple[tuple[str, str], ...]
    """Item and behavior, oldest first."""
    behavior: str | None
    """What is asked about."""
    answer: tuple[Answered, ...]
    """Best first."""
    preference: str = ""
    """What is said to be written of who asks."""

    @property
    def query(self) -> Query:
        """The question."""
        events = [Interaction(item_id=one, behavior=done) for one, done in self.history]
        return Query(history=tuple(events), behavior=self.behavior, preference=self.preference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """All questions of one generation."""

    tolerance: float
    """Of a score; in proportion where the score is above 1."""
    states: Mapping[str, str]
    """Item -> digest of what the store held of it."""
    probes: tuple[Probe, ...]

    def save(self, path: Path) -> None:
        """Write them; `load` reads them."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True)
        replace_text(path, text + "\n")


def load(path: Path) -> Probes:
    """The probes of a file.

    Raises:
        ProbeError: it is missing or damaged.
    """
    try:
        facts = json.loads(path.read_text())
        if (seen := facts.pop("format")) != FORMAT:
            raise ValueError(f"format {seen}")
        return TypeAdapter(Probes).validate_python(facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ProbeError(f"{path} is damaged ({reason}): run `sommelier publish`") from error


def make(serving: Probed, *, tolerance: float) -> Probes:
    """Ask a few questions, of histories spread over the catalog.

    Raises:
        ValueError: the generation cannot answer.
    """
    questions = _questions(serving)
    probes = []
    for question in questions:
        candidates = serving.retrieve(question.query, limit=NUM_CANDIDATES)
        ranked = serving.rerank(question.query, candidates).items if candidates else ()
        answer = tuple(Answered(item_id=one.item_id, score=one.score) for one in ranked)
        probes.append(replace(question, answer=answer))
    named = {item_id for probe in probes for item_id, _ in probe.history}
    named |= {one.item_id for probe in probes for one in probe.answer}
    states = {item_id: _digest(serving.state_of(item_id)) for item_id in sorted(named)}
    return Probes(tolerance=tolerance, states=states, probes=tuple(probes))


def check(serving: Probed, probes: Probes) -> None:
    """Ask the same questions again.

    Raises:
        ProbeError: an answer is another one; the first is named.
    """
    kept = {
        item_id
        for item_id, digest in probes.states.items()
        if _digest(serving.state_of(item_id)) == digest
    }
    for number, probe in enumerate(probes.probes, start=1):
        if not probe.answer or not kept.issuperset(item_id for item_id, _ in probe.history):
            continue
        if wrong := _wrong(serving, probe, tolerance=probes.tolerance, kept=kept):
            raise ProbeError(f"probe {number} of {len(probes.probes)}: {wrong}")


def _questions(serving: Probed) -> list[Probe]:
    """Histories of items from all over the catalog, whose behaviors take turns."""
    item_ids, behaviors = serving.item_ids, serving.known_behaviors or ("view",)
    asked = (None, *serving.info.behaviors)
    places = np.linspace(0, len(item_ids) - 1, sum(LENGTHS)).round().astype(int).tolist()
    is_told = any(one.kind is TextKind.PREFERENCE for one in serving.info.texts)
    questions, start = [], 0
    for number, length in enumerate(LENGTHS):
        chosen = [item_ids[place] for place in places[start : start + length]]
        history = [(one, behaviors[n % len(behaviors)]) for n, one in enumerate(chosen)]
        behavior = asked[number % len(asked)]
        told = PREFERENCE if is_told and number else ""
        questions.append(
            Probe(history=tuple(history), behavior=behavior, answer=(), preference=told)
        )
        start += length
    return questions


def _wrong(serving: Probed, probe: Probe, *, tolerance: float, kept: set[str]) -> str:
    """How an answer differs; empty where it does not."""
    expected = {one.item_id: one.score for one in probe.answer}
    found = {one.item_id for one in serving.retrieve(probe.query, limit=len(expected))}
    if len(found & expected.keys()) < FOUND_AGAIN * len(expected):
        return (
            f"retrieval finds {len(found & expected.keys())} of the {len(expected)} candidates "
            f"that it found when the generation was published"
        )
    candidates = serving.score(probe.query, list(expected))
    ranked = [one for one in serving.rerank(probe.query, candidates).items if one.item_id in kept]
    if missing := (expected.keys() & kept) - {one.item_id for one in ranked}:
        return f"{min(missing)!r} is no longer ranked"
    return _wrong_scores(ranked, expected, tolerance=tolerance)


def _wrong_scores(
    ranked: Sequence[RankedItem], expected: Mapping[str, float], *, tolerance: float
) -> str:
    lowest = float("inf")
    for item in ranked:
        score = expected[item.item_id]
        allowed = tolerance * max(1.0, abs(score))
        if not abs(item.score - score) <= allowed:
            return (
                f"{item.item_id!r} scores {item.score:.6g} instead of {score:.6g}, and within "
                f"{allowed:.2g} it should be the same"
            )
        if score - lowest > 2 * allowed:
            return f"{item.item_id!r} stands behind items that it was better than"
        lowest = min(lowest, score)
    return ""


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()[:16]
