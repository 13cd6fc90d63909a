"""A workspace in, findings about what was written of its items and users out.

No writer is opened for it: what a model would be asked now is compared with what was asked by the
template alone, for whom that costs nothing. Of a model's texts it is said whose are missing.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from embedders.base import BadContent
from embedders.item_text import item_text
from embedders.items import Item
from embedders.known import DELETED, Known, joined
from embedders.summaries.item_summary import ItemSummarizer
from embedders.summaries.preference import PreferenceTeller
from embedders.texts import TextSource
from sommelier.doctor.finding import Finding, counted
from sommelier.doctor.repairs import EMBED, SUMMARIZE
from sommelier.watch import Watch
from sommelier.workspace import Workspace
from sommelier.writing.user_chains import chains

TEMPLATE = "template"


def examine(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """What is enabled: whether it is written, by whom, and of whom not yet."""
    settings = workspace.settings
    if settings.summaries.enabled:
        with watch.task("summaries"):
            yield _summaries(workspace)
    if settings.preferences.enabled:
        with watch.task("preferences"):
            yield _preferences(workspace)


def _summaries(workspace: Workspace) -> Finding:
    source, config = workspace.summary_source, workspace.settings.summaries.config
    template = ItemSummarizer(config, None) if config.writer.engine == TEMPLATE else None
    if source is None or (template and template.source != source):
        return _unwritten("summaries", source)
    counts: Counter[str] = Counter()
    bad = {one.key for one in workspace.store.rejects() if one.source == source.source_id}
    with closing(joined(workspace.catalog.items(), workspace.store.known_texts(source))) as pairs:
        for item_id, item, known in pairs:
            state = _state(item, known, template)
            counts["set aside" if state == "missing" and item_id in bad else state] += 1
    named = {one: counts[one] for one in ("fresh", "set aside", "stale", "missing", "orphaned")}
    repair = SUMMARIZE if named["stale"] or named["missing"] else ""
    return Finding(
        what="summaries",
        seen=f"{source.source_id}, {counted(named)}",
        repair=repair or (EMBED if named["orphaned"] else ""),
        counts=named,
    )


def _state(item: Item | None, known: Known | None, template: ItemSummarizer | None) -> str:
    is_held = known is not None and known.content_hash != DELETED
    if item is None:
        return "orphaned" if is_held else "gone"
    if template is None:
        return "fresh" if is_held else "missing" if item_text(item) else "without content"
    try:
        content_hash = template.fingerprint(item)
    except BadContent:
        return "set aside"
    if content_hash is None:
        return "stale" if is_held else "without content"
    if known is None or not is_held:
        return "missing"
    return "fresh" if known.content_hash == content_hash else "stale"


def _preferences(workspace: Workspace) -> Finding:
    source, config = workspace.preference_source, workspace.settings.preferences.config
    is_template = config.writer.engine == TEMPLATE
    if source is None or (is_template and PreferenceTeller(config, None).source != source):
        return _unwritten("preferences", source)
    store = workspace.store
    bad = {one.key for one in store.rejects() if one.source == source.source_id}
    counts: Counter[str] = Counter()
    with closing(chains(workspace.catalog.interactions, store, source, config)) as users:
        for chain in users:
            counts["blocks told"] += len(chain.steps) - len(chain.waiting)
            state = "set aside" if chain.user_id in bad else "waiting"
            counts[state] += len(chain.waiting)
    named = {one: counts[one] for one in ("blocks told", "set aside", "waiting")}
    return Finding(
        what="preferences",
        seen=f"{source.source_id}, {counted(named)}",
        repair=SUMMARIZE if named["waiting"] else "",
        counts=named,
    )


def _unwritten(what: str, source: TextSource | None) -> Finding:
    seen = "enabled, and not written yet"
    if source is not None:
        seen = f"those of {source.source_id} are read, and the settings name another writer"
    return Finding(what=what, seen=seen, repair=SUMMARIZE)
