"""A catalog and the split of the settings in, the catalog on that split's clock out.

A split that is not one of time gives events a clock of their own (`evaluation.order`). Real times
cannot be compared with it, so here the items of such a catalog state none, nor do its friends and
item edges: an item is there from the start, as in any catalog that does not say since when.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

import pyarrow as pa

from embedders.catalog import Catalog
from embedders.items import Item
from evaluation.order import by_given, by_user
from sommelier.settings import TargetSettings, TimeSettings
from sommelier.state import State, digest


class OrderedCatalog(Catalog):
    """A catalog whose events keep a clock of their own."""

    def items(self) -> Iterator[Item]:
        """The good items by id, without times."""
        for item in super().items():
            yield replace(item, created_at=None, updated_at=None)


def ordered(catalog: Catalog, time: TimeSettings, target: TargetSettings) -> Catalog:
    """The catalog as it is where the split is one of time, else on the split's clock.

    Raises:
        ValueError: the catalog's events do not say what the split asks for.
    """
    events = catalog.interactions
    match time.split:
        case "time":
            return catalog
        case "given":
            found = by_given(events)
        case "user":
            found = by_user(events, behaviors=target.behaviors, min_weight=target.min_weight)
    facts = {one.name: getattr(catalog, one.name) for one in fields(catalog)}
    return OrderedCatalog(
        **facts
        | {
            "interactions": found.interactions.cast(events.schema),
            "friends": _timeless(catalog.friends),
            "item_edges": _timeless(catalog.item_edges),
        }
    )


def keep_one_clock(state: State, time: TimeSettings, interactions: pa.Table) -> None:
    """Refuse to mix histories of two clocks in one store, for one would show the other's future.

    A clock of its own depends on all events; one of time does not, and may grow.

    Raises:
        ValueError: the store was filled under another split, or from other events of such a one.
    """
    split = time.split
    clock = split if split == "time" else f"{split} {_key(interactions)}"
    earlier = state.read("clock").get("clock") or ("time" if state.read("embed") else clock)
    if earlier != clock:
        raise ValueError(
            f"the store holds histories of the split {earlier.partition(' ')[0]!r}, and those of "
            f"{split!r} now keep another clock, on which the future of the one could pass for the "
            "other's past: name another folder in paths.workspace (and store.root, if it is set)"
        )
    state.write("clock", {"clock": clock})


def _key(events: pa.Table) -> str:
    """Changes when any event does, or their order."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema) as stream:
        stream.write_table(events.combine_chunks())
    return digest(sink.getvalue().to_pybytes())


def _timeless(edges: pa.Table) -> pa.Table:
    """The edges without their times: they hold throughout."""
    place = edges.schema.get_field_index("timestamp")
    kind = edges.schema.field(place).type
    return edges.set_column(place, "timestamp", pa.nulls(edges.num_rows, kind))
