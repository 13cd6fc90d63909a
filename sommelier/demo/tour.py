"""A folder and perhaps a catalog in, the whole route gone once before the reader's eyes out.

Each step is the stage of the same name, so a second run finds everything done and only asks and
shows again; an interrupted one goes on where it was. The workspace stays, with its settings file,
for the single commands to be tried on.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import feature_repo
from ranker.loaded import LoadedGeneration
from ranker.service.server import running
from retrieval.candidates import Query
from sommelier import ask, presets, settings_file
from sommelier.commented import commented
from sommelier.demo import shop as demo_shop
from sommelier.effort import Effort
from sommelier.embedding.embed import embed
from sommelier.evaluating.evaluate import evaluate, judged
from sommelier.index import index
from sommelier.materialize import materialize
from sommelier.publish import publish
from sommelier.replies import Reply
from sommelier.serve import loaded
from sommelier.settings import PathSettings, Settings
from sommelier.training.train import train
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace
from sommelier.writing.summarize import summarize

SHOP = "shop"
SHOWN = 10  # items of each order
SHOWN_EVENTS = 8
TIMEOUT_S = 30.0  # a first answer warms up what later ones find warm

SUMMARIZE = ("Have it written what items show, and what users seem to like", summarize)
STAGES: tuple[tuple[str, Callable[..., Summary]], ...] = (
    ("Embed every modality into the feature store", embed),
    ("Define the views in Feast and bring them online", materialize),
    ("Train the ranker on what was chosen before the cut", train),
    ("Fuse the items' vectors and build the index", index),
    ("Publish one generation", publish),
)


class Steps:
    """Numbered headings, each followed by the seconds that its step took."""

    def __init__(self, watch: Watch, *, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.perf_counter() - self._began

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One numbered step."""
        self._done += 1
        began = time.perf_counter()
        self._watch.heading(f"{self._done}/{self._total}  {name}")
        yield
        self._watch.say(f"{time.perf_counter() - began:.1f} s")


def demo(
    out: Path,
    *,
    catalog: Path | None = None,
    effort: Effort = Effort.QUICK,
    overrides: Sequence[str] = (),
    watch: Watch,
    shop: demo_shop.ShopConfig | None = None,
    room: Path | None = None,
) -> None:
    """Go the whole route.

    Args:
        out: Where the workspace (in a folder named after the catalog) and the report are written.
        catalog: A catalog folder; None writes the demo shop.
        effort: How long to train.
        overrides: Settings, as `--set` takes them.
        watch: Whoever watches.
        shop: How large the demo shop is.
        room: Where Feast's command line finds its settings; None is the installed feature_repo.

    Raises:
        ValueError: the catalog cannot be used, or `out` holds a workspace of another one.
    """
    out = out.absolute()
    name = catalog.absolute().name if catalog else SHOP
    wished = presets.for_catalog(catalog.absolute() if catalog else None, effort=effort)
    wished = replace(wished, paths=PathSettings(report=Path("..")))
    # Into the file, so that each command on its own finds what the demo made.
    wished = settings_file.overridden(wished, overrides)
    is_written = wished.summaries.enabled or wished.preferences.enabled
    stages = (SUMMARIZE, *STAGES) if is_written else STAGES
    steps = Steps(watch, total=len(stages) + 3)
    with steps.step("Write the demo shop" if catalog is None else f"Read {name}"):
        size = None if catalog else shop or demo_shop.ShopConfig()
        workspace = _prepare(out / name, wished, watch, size)
    for heading, stage in stages:
        with steps.step(heading):
            watch.show(stage(workspace, watch=watch))
    with steps.step("Serve over gRPC, and ask"):
        show_feast(workspace.settings.store.root, watch, room=room)
        _ask(workspace, watch)
    with steps.step("Measure on what users did after the cut"):
        # The reranker computes on one thread: where there is a second core, it would idle.
        found = evaluate(workspace, watch=watch, is_helped=len(os.sched_getaffinity(0)) > 1)
        watch.show(found.summary)
    watch.heading(found.headline)
    for path in (found.files.html, found.files.markdown, found.files.json):
        watch.say(str(path))
    watch.say(f"{steps.seconds:.0f} s in all")
    watch.say(
        f"try: sommelier recommend --settings {workspace.settings.paths.workspace}/sommelier.toml "
        f"--user {judged(workspace).judgements[0].user_id}"
    )


def _prepare(
    folder: Path, wished: Settings, watch: Watch, shop: demo_shop.ShopConfig | None
) -> Workspace:
    """The workspace with its settings file, and the shop's catalog where one is to be made."""
    path = folder / "sommelier.toml"
    if path.exists():
        _check_same(path, settings_file.resolve(wished, folder), watch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(commented(wished), encoding="utf-8")
    workspace = Workspace(settings_file.load(path))
    if shop and not (workspace.settings.catalog.path / "truth.json").exists():
        with watch.task("boxes with labels and tunes", total=shop.num_items) as advance:
            done = iter(range(1, shop.num_items + 1))
            demo_shop.write(
                workspace.settings.catalog.path, config=shop, on_item=lambda: advance(next(done))
            )
    found = workspace.catalog
    watch.say(
        f"{found.num_items:,} items and {found.interactions.num_rows:,} interactions in "
        f"{found.folder}"
    )
    line = workspace.timeline
    watch.say(
        f"the graph learns from {line.num_graph_events:,} events before "
        f"{line.graph_until:%Y-%m-%d}, the ranker from the next {line.num_ranker_events:,}; "
        f"{line.num_judged_events:,} from {line.cut:%Y-%m-%d} on are kept to judge them by"
    )
    return workspace


def _check_same(path: Path, wished: Settings, watch: Watch) -> None:
    """Refuse another catalog's workspace; say where other settings come to hold."""
    held = settings_file.load(path)
    if held.catalog.path != wished.catalog.path:
        raise ValueError(
            f"{path.parent} is the workspace of the catalog {held.catalog.path}, but "
            f"{wished.catalog.path} is asked for: choose another --out, or remove that folder"
        )
    if held != wished:
        watch.say(
            f"{path} held other settings; it is written anew, and what they made is made anew"
        )


def _ask(workspace: Workspace, watch: Watch) -> None:
    """A real server on a free port, asked through the real client."""
    serving = loaded(workspace, watch=watch)
    user_id = judged(workspace).judgements[0].user_id
    limits = workspace.settings.limits
    with running(serving, limits=limits) as server:
        watch.say(f"listening on {server.address}")
        query, count = Query(user_id=user_id), limits.default_candidates
        wish = ask.Wish(query=query, top_k=count, num_candidates=count)
        reply = ask.from_server(server.address, wish, timeout_s=TIMEOUT_S)
        ids = [line.item_id for line in reply.lines[:SHOWN]]
        wish = ask.Wish(query=query, item_ids=tuple(ids[::-1]))
        again = ask.from_server(server.address, wish, timeout_s=TIMEOUT_S)
    _show_history(serving, user_id, watch)
    watch.show(side_by_side(reply))
    is_same = [line.item_id for line in again.lines] == ids
    watch.say(
        f"Rerank, asked for these {len(ids)} items in reverse, "
        f"{'gives the same order' if is_same else 'orders them by themselves'}"
    )


def _show_history(serving: LoadedGeneration, user_id: str, watch: Watch) -> None:
    events = serving.history(user_id) or ()
    rows = tuple(
        (event.behavior, serving.title(event.item_id) or event.item_id)
        for event in events[-SHOWN_EVENTS:]
    )
    title = f"What {user_id} did last (of {len(events)} events kept), oldest first"
    watch.show(Summary(title=title, header=("behavior", "item"), rows=rows))


def side_by_side(reply: Reply, *, shown: int = SHOWN) -> Summary:
    """Retrieval's order beside the reranked one, and what moved how far."""
    before = sorted(
        (line for line in reply.lines if line.retrieval_rank), key=lambda line: line.retrieval_rank
    )
    return Summary(
        title=f"Recommended to {reply.user_id}: {len(reply.lines)} candidates, the first {shown}",
        header=("", "retrieved", "score", "reranked", "score", "moved"),
        rows=tuple(
            (
                str(place),
                left.title,
                f"{left.retrieval_score:.3f}",
                right.title,
                f"{right.score:.3f}",
                right.move,
            )
            for place, (left, right) in enumerate(
                list(zip(before, reply.lines, strict=False))[:shown], start=1
            )
        ),
        notes=(f"generation {reply.generation_id}, judged by {reply.judged_by}, {reply.source}",),
    )


def show_feast(store: Path, watch: Watch, *, room: Path | None = None) -> None:
    """Let Feast's own command line see the store, where this runs from a source checkout.

    `data` beside `feature_store.yaml` is where it looks; a real folder there is left alone.
    """
    room = room or Path(feature_repo.__file__).parent
    link = room / "data"
    if not (room.parent / "pyproject.toml").is_file() or (link.exists() and not link.is_symlink()):
        return
    link.unlink(missing_ok=True)
    link.symlink_to(store, target_is_directory=True)
    watch.say(f"see the views with Feast's own words: feast -c {room} feature-views list")
