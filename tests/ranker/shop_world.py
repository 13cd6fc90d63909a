"""A small shop whose items have tokens in a store, and generations that are published from it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from embedders.items import Item, Modality
from embedders.texts import TextSource
from feature_repo.store import Store
from ranker import tokens
from ranker.generation import Generations
from ranker.loaded import prove
from retrieval.attributes import Attributes, Texts
from retrieval.build import IndexConfig, build
from retrieval.pooled import PoolingConfig
from tests.ranker import model_world
from tests.ranker.model_world import NOON

CUT = NOON + timedelta(days=1)
ITEMS = model_world.items()
ANN = ("item-04", "item-07", "item-11", "item-30")


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A store with tokens, and the generation that was published from it."""

    store: Store
    generations: Generations


def interactions() -> pa.Table:
    events = model_world.history(*ANN)
    return pa.table(
        {
            "user_id": pa.array(["ann"] * len(events), pa.string()),
            "item_id": pa.array([one.item_id for one in events], pa.string()),
            "behavior": pa.array([one.behavior for one in events], pa.string()),
            "weight": pa.array([one.weight for one in events], pa.float64()),
            "timestamp": pa.array([one.timestamp for one in events], pa.timestamp("us", tz="UTC")),
            "position": pa.nulls(len(events), pa.int64()),
        }
    )


def fill(store: Store, adapter: Path, *, rows: slice = slice(None)) -> None:
    fused = tokens.fuse(adapter, ITEMS)
    kept = replace(fused, item_ids=fused.item_ids[rows], vectors_ND=fused.vectors_ND[rows])
    store.write(kept, content_hashes=["hash"] * len(kept), event_timestamps=[CUT] * len(kept))
    store.write_profiles(
        Item(item_id=item_id, title=title) for item_id, title in model_world.TITLES.items()
    )
    store.write_history(interactions())
    store.apply()
    store.materialize(datetime.now(UTC))


def publish(
    root: Path,
    adapter: Path,
    llm: Path,
    *,
    store: Store,
    texts: tuple[TextSource, ...] = (),
) -> Generations:
    """The next generation below a folder; it holds the LLM and was asked a few questions.

    What distinguishes it from the one before is the popularity of an item.
    """
    generations = Generations(root / "generations")
    build(
        ITEMS,
        folder=root / "index",
        config=IndexConfig(num_probes=4),
        pooling=PoolingConfig(weights={Modality.AUDIO: 0.5}),
        popularity=[("item-08", 3.0 + len(generations.ids())), ("item-09", 2.0)],
        as_of=CUT,
        attributes=Attributes.of(
            Texts(item_id=item_id, attributes={"price": str(row), "kind": f"kind {row % 3}"})
            for row, item_id in enumerate(ITEMS.item_ids)
        ),
    )
    generations.publish(
        index=root / "index",
        adapter=adapter,
        llm=str(llm),
        spaces=ITEMS.spaces,
        fused_space=tokens.fused_space(adapter),
        as_of=CUT,
        texts=texts,
        holds_llm=True,
        prove=lambda generation: prove(generation, store=store),
    )
    return generations
