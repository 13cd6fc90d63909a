"""A catalog of a few items and users, and a workspace on it, for what writers make of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embedders.summaries.config import SummaryConfig
from embedders.summaries.item_summary import ItemSummarizer
from embedders.summaries.preference import PreferenceTeller
from sommelier.set_aside import SetAside
from sommelier.settings import PreferenceSettings, Settings, SummarySettings
from sommelier.settings_file import resolve
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from sommelier.writing.told import Run

DAY = "2024-03-{:02}T12:00:00Z"
Event = tuple[str, str, int]
"""User, item, day."""
EVENTS: tuple[Event, ...] = tuple(
    (user, f"i{(day + n) % 6}", day) for n, user in enumerate("abc") for day in range(1, 8 - n)
)
"""a has 7 events, b has 6, c has 5: with blocks of two 3, 3 and 2 steps."""


def write_items(folder: Path, titles: Sequence[str]) -> None:
    """Items i0, i1 and so on, each with a category."""
    (folder / "catalog").mkdir(parents=True, exist_ok=True)
    rows = [
        {"item_id": f"i{n}", "title": title, "category": "red" if n % 2 else "white"}
        for n, title in enumerate(titles)
    ]
    (folder / "catalog/items.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_events(folder: Path, events: Sequence[Event], *, timeless: Sequence[str] = ()) -> None:
    """The events, and one without a time of each user named."""
    lines = ["user_id,item_id,behavior,timestamp"]
    lines += [f"{user},{item},view,{DAY.format(day)}" for user, item, day in events]
    lines += [f"{user},i0,view," for user in timeless]
    (folder / "catalog/interactions.csv").write_text("\n".join(lines))


def workspace(folder: Path, **preferences: object) -> Workspace:
    """The workspace as it is now, with the template and blocks of two events."""
    settings = replace(
        Settings(),
        summaries=SummarySettings(enabled=True),
        preferences=replace(PreferenceSettings(enabled=True, block_size=2), **preferences),  # type: ignore[arg-type]
    )
    return Workspace(resolve(settings, folder))


def run(opened: Workspace, *, rows_per_batch: int = 2, limit: int | None = None) -> Run:
    """Small batches, unwatched."""
    return Run(
        watch=Unwatched(),
        set_aside=SetAside(opened.store),
        rows_per_batch=rows_per_batch,
        spent=lambda: "",
        limit=limit,
    )


def summarizer(**config: object) -> ItemSummarizer:
    """The template's."""
    return ItemSummarizer(SummaryConfig(**config), None)  # type: ignore[arg-type]


def teller(opened: Workspace) -> PreferenceTeller:
    """The template's, as the workspace has it."""
    return PreferenceTeller(opened.settings.preferences.config, None)
