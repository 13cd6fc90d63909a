"""A workspace in, what the ranker's prompts hold of items and users out, and who wrote it.

Training reads what the settings name; whatever is published reads what it was trained with. A
user's preference is that of a moment, as their history is: what was told of events strictly before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

from embedders.texts import TextSource
from ranker.held import preference_source, summary_source
from sommelier.state import digest
from sommelier.workspace import SUMMARIZE_FIRST, Workspace

Preferences = Callable[[Sequence[tuple[str, datetime]]], list[str]]


def sources(workspace: Workspace) -> tuple[TextSource, ...]:
    """Whose texts prompts hold by the settings; none by default.

    Raises:
        ValueError: a prompt is to hold what nobody wrote.
    """
    prompt = workspace.settings.ranker.prompt
    asked = (
        ("summary_tokens", prompt.summary_tokens, workspace.summary_source, "summaries"),
        ("preference_tokens", prompt.preference_tokens, workspace.preference_source, "preferences"),
    )
    found = []
    for setting, num_tokens, source, section in asked:
        if num_tokens and source is None:
            raise ValueError(
                f"ranker.prompt.{setting} is {num_tokens}, but no {section} are written: set "
                f"{section}.enabled = true and {SUMMARIZE_FIRST}, or set it to 0"
            )
        if num_tokens and source is not None:
            found.append(source)
    return tuple(found)


def summaries(workspace: Workspace, texts: Sequence[TextSource]) -> Mapping[str, str]:
    """The items' summaries, where one of these sources wrote any."""
    return workspace.summaries if summary_source(texts) is not None else {}


def preferences(workspace: Workspace, texts: Sequence[TextSource]) -> Preferences | None:
    """Tells what one of these sources wrote of users as of moments; None where none of them did.

    A user of whom nothing was written by then has an empty text.
    """
    source = preference_source(texts)
    if source is None:
        return None

    def told(pairs: Sequence[tuple[str, datetime]]) -> list[str]:
        return [text or "" for text in workspace.texts_as_of(source, pairs)]

    return told


def texts_key(workspace: Workspace, texts: Sequence[TextSource]) -> str:
    """Changes when anything does that training reads of these sources."""
    rows: list[object] = []
    for source in texts:
        stored = workspace.store.stream_texts(source, as_of=workspace.timeline.cut)
        # A preference's hash covers all that was read for the ones before it.
        rows += [source.source_id, *((one, text.content_hash, text.text) for one, text in stored)]
    if summary_source(texts) is not None:
        rows += sorted(workspace.summaries.items())
    return digest(*rows)


def learned_words(workspace: Workspace, texts: Sequence[TextSource]) -> Iterator[str]:
    """What the embedded LLM learns of these sources' words: the summaries of the items that were
    there before the cut, and as many preferences of before the ranker's own events."""
    known = workspace.known_items
    if summary_source(texts) is not None:
        own = sorted(workspace.summaries.items())
        yield from (text for item_id, text in own if item_id in known)
    source = preference_source(texts)
    if source is not None:
        stored = workspace.store.stream_texts(source, as_of=workspace.timeline.graph_until)
        yield from (written.text for _, written in islice(stored, len(known)))
