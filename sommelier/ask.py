"""A wish in, titled items in their order out: from a server, or from a generation loaded here.

Both come in steps of which the last is the answer, and both go the service's own way: what a server
would say of an item is what is said of it here.

Light to import: whoever asks a server needs gRPC alone, and loads it with the first question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedders.items import Interaction
from ranker.serving import Serving
from retrieval.candidates import Query
from retrieval.filters import Filter
from sommelier.replies import Line, Reply

if TYPE_CHECKING:
    from ranker.client import RankerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    query: Query
    item_ids: tuple[str, ...] = ()
    """The items to order; none has them found."""
    top_k: int = 0
    """How many to return; 0 returns all that were named."""
    num_candidates: int = 0
    """How many to find; 0 takes a server's default. At least `top_k` are found."""
    explain: bool = False
    in_steps: bool = False
    """Whether what is known earlier is told, too; of items that are named alone."""


def asked(
    user_id: str,
    *,
    conditions: Sequence[str] = (),
    deny: Sequence[str] = (),
    weights: Sequence[str] = (),
    recent: Sequence[str] = (),
    text: str | None = None,
    behavior: str | None = None,
) -> Query:
    """A query as words of the command line describe it.

    Args:
        user_id: Whose.
        conditions: Such as `price<=20`, as `Filter.parse` reads them.
        deny: Items that are not wanted.
        weights: Such as `text=0.5`: how much a block counts this once.
        recent: Such as `view=box-0001`: what the user did since, oldest first.
        text: Who asks or what for; None says nothing.
        behavior: What is asked about; None for any choice.

    Raises:
        ValueError: a condition, a weight or an event that is not understood.
    """
    filters = Filter.parse(conditions, deny=deny) if conditions or deny else None
    weighed: dict[str, float] = {}
    for word in weights:
        name, _, number = word.partition("=")
        try:
            weighed[name.strip()] = float(number)
        except ValueError as error:
            raise ValueError(
                f"--weight {word}: expected a block's name, such as text=0.5"
            ) from error
    return Query(
        user_id=user_id,
        recent=tuple(_event(word, place) for place, word in enumerate(recent)),
        filters=filters,
        weights=weighed or None,
        behavior=behavior,
        text=text,
    )


def here(serving: Serving, wish: Wish) -> Iterator[Reply]:
    """What this process answers; items that are not known come last.

    Raises:
        ValueError: the store does not know the user, an item is named twice, or the generation
            lacks what the query filters by, weighs or asks about.
    """
    from ranker.service.answering import Plan, Stopwatch, steps
    from ranker.service.workers import Job

    query, item_ids = wish.query, wish.item_ids
    if serving.history(query.user_id) is None:
        raise ValueError(
            f"the store knows no user {query.user_id!r}: name one of the catalog's interactions, "
            "or ask the server with an inline history"
        )
    limit = max(wish.top_k, wish.num_candidates)
    plan = Plan(
        method="Rerank" if item_ids else "Recommend",
        serving=serving,
        query=query,
        find=(
            (lambda query: serving.score(query, item_ids))
            if item_ids
            else (lambda query: serving.retrieve(query, limit=limit))
        ),
        asked=item_ids,
        top_k=wish.top_k or len(item_ids),
        explains=wish.explain,
    )
    for outcome in steps(plan, Job(), Stopwatch()):
        if wish.in_steps or outcome.is_final:
            yield Reply(
                user_id=query.user_id,
                generation_id=serving.info.generation_id,
                judged_by=outcome.judged_by,
                lines=tuple(Line.of(item, title=title) for item, title in outcome.items),
                source="this process",
                is_degraded=outcome.degraded,
                is_final=outcome.is_final,
            )


def there(client: "RankerClient", wish: Wish) -> Iterator[Reply]:
    """What a server answers.

    Raises:
        RankerError: it refuses, fails or is not reached.
    """
    query = wish.query
    shared: dict[str, Any] = {  # what both calls take
        "user_id": query.user_id,
        "recent": query.recent,
        "text": query.text or "",
        "top_k": wish.top_k,
        "filters": query.filters,
        "weights": query.weights,
        "behavior": query.behavior or "",
        "explain": wish.explain,
    }
    if not wish.item_ids:
        answers = iter([client.recommend(num_candidates=wish.num_candidates, **shared)])
    elif wish.in_steps:
        answers = client.stream_rerank(wish.item_ids, **shared)
    else:
        answers = iter([client.rerank(wish.item_ids, **shared)])
    for answer in answers:
        yield Reply(
            user_id=query.user_id,
            generation_id=answer.generation_id,
            judged_by=answer.judged_by,
            lines=tuple(Line.of(item, title=item.title) for item in answer.items),
            source=client.address,
            is_degraded=answer.is_degraded,
            is_final=answer.is_final,
        )


def last(replies: Iterator[Reply]) -> Reply:
    """The answer itself."""
    *_, reply = replies
    return reply


def from_server(address: str, wish: Wish, *, timeout_s: float) -> Reply:
    """One answer of a server of this machine, which asks for no token.

    Raises:
        RankerError: it refuses, fails or is not reached.
    """
    from ranker.client import RankerClient

    with RankerClient(address, timeout_s=timeout_s) as client:
        return last(there(client, wish))


def token_in(path: Path) -> str:
    """The token that a file holds, which others should not be able to read.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--token-file {path} cannot be read: {error}") from error


def _event(word: str, place: int) -> Interaction:
    behavior, separator, item_id = word.partition("=")
    if not (separator and behavior.strip() and item_id.strip()):
        raise ValueError(f"--recent {word}: expected what was done to an item, such as view=A")
    return Interaction(item_id=item_id.strip(), behavior=behavior.strip(), position=place)
