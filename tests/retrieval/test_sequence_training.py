"""What training reads, that it repeats itself, and that it goes on where it stopped."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from retrieval.concatenated import concatenate
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_training import fit
from tests.retrieval.test_sequence import (
    CONFIG,
    CUT,
    IDS,
    START,
    TEXT,
    content,
    interactions,
    items,
)

SHORT = replace(CONFIG, epochs=3, dropout=0.2, num_negatives=12)


class Stopped(Exception):
    """The training was interrupted."""


def test_equal_input_gives_equal_weights() -> None:
    one, same = (
        fit(interactions(), item_vectors=items(), until=CUT, config=SHORT) for _ in range(2)
    )
    other = fit(interactions(), item_vectors=items(), until=CUT, config=replace(SHORT, seed=1))
    assert one.space.revision == same.space.revision
    assert one.space.revision != other.space.revision


def test_the_order_in_which_interactions_are_stored_does_not_matter() -> None:
    table = interactions()
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    one, same = (
        fit(given, item_vectors=items(), until=CUT, config=SHORT) for given in (table, shuffled)
    )
    assert one.space.revision == same.space.revision


def test_nothing_at_or_after_the_cut_is_known() -> None:
    table = interactions()
    before = table.filter(pa.compute.less(table["timestamp"], pa.scalar(CUT)))
    whole, cut = (
        fit(given, item_vectors=items(), until=CUT, config=SHORT) for given in (table, before)
    )
    assert whole.space.revision == cut.space.revision
    with pytest.raises(ValueError, match="nothing is left to train"):
        fit(table, item_vectors=items(), until=START + timedelta(days=1), config=SHORT)
    with pytest.raises(ValueError, match="time zone"):
        fit(table, item_vectors=items(), until=datetime(2024, 2, 1), config=SHORT)


def test_an_event_without_a_time_is_left_out_once_there_is_a_cut() -> None:
    table = interactions()
    times = table["timestamp"].to_pylist()
    some = table.set_column(3, "timestamp", [[None if t.day == 8 else t for t in times]])
    kept = table.filter(pa.array([t.day != 8 for t in times]))
    one, same = (fit(t, item_vectors=items(), until=CUT, config=SHORT) for t in (some, kept))
    assert one.space.revision == same.space.revision


def test_positions_order_what_has_no_time() -> None:
    table = interactions().slice(0, 8 * 2)
    count = len(table)
    timeless = table.set_column(3, "timestamp", pa.nulls(count, pa.timestamp("us", tz="UTC")))
    ordered = timeless.append_column("position", pa.array(range(count), pa.int64()))
    backward = ordered.take(list(range(count))[::-1])
    one, same = (
        fit(given, item_vectors=items(), until=None, config=SHORT) for given in (ordered, backward)
    )
    assert one.space.revision == same.space.revision


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, stop_after: int
) -> None:
    whole = fit(interactions(), item_vectors=items(), until=CUT, config=SHORT)
    path = tmp_path / "checkpoint.safetensors"
    done = []

    def interrupt(epoch: int, epochs: int, loss: float) -> None:
        done.append((epoch, epochs))
        if epoch == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        fit(
            interactions(),
            item_vectors=items(),
            until=CUT,
            config=SHORT,
            on_progress=interrupt,
            checkpoint=path,
        )
    resumed = fit(
        interactions(),
        item_vectors=items(),
        until=CUT,
        config=SHORT,
        on_progress=lambda *step: done.append(step[:2]),
        checkpoint=path,
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert resumed.space.revision == whole.space.revision


@pytest.mark.parametrize("spoil", ["cut short", "other settings"])
def test_a_checkpoint_that_is_of_no_use_is_written_over(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    given = {"item_vectors": items(), "until": CUT, "checkpoint": path}
    fit(interactions(), config=replace(SHORT, epochs=1), **given)
    if spoil == "cut short":
        path.write_bytes(path.read_bytes()[:100])
    trained = fit(interactions(), config=SHORT, **given)
    whole = fit(interactions(), item_vectors=items(), until=CUT, config=SHORT)
    assert trained.space.revision == whole.space.revision


def test_the_loss_falls() -> None:
    losses: list[float] = []
    fit(
        interactions(),
        item_vectors=items(),
        until=CUT,
        config=replace(CONFIG, epochs=8),
        on_progress=lambda epoch, epochs, loss: losses.append(loss),
    )
    assert losses[-1] < 0.7 * losses[0]


def test_the_graph_is_no_content_unless_it_is_asked_for() -> None:
    space = Space(modality=Modality.GRAPH, encoder="lightgcn", revision="1", dim=4)
    random = np.random.default_rng(0)
    graph = Embeddings(
        space=space, item_ids=IDS, vectors_ND=normalize(random.normal(size=(len(IDS), 4)))
    )
    catalog = concatenate([content(TEXT, IDS), graph])
    config = replace(SHORT, epochs=1)
    asked = replace(config, modalities=frozenset({Modality.GRAPH}))
    trained = fit(interactions(), item_vectors=catalog, until=CUT, config=config)
    other = fit(interactions(), item_vectors=catalog, until=CUT, config=asked)
    assert [one.modality for one in trained.spaces] == [Modality.TEXT]
    assert [one.modality for one in other.spaces] == [Modality.GRAPH]
    missing = replace(config, modalities=frozenset({Modality.AUDIO}))
    with pytest.raises(ValueError, match="no block 'audio'"):
        fit(interactions(), item_vectors=catalog, until=CUT, config=missing)


def test_a_setting_out_of_range_is_refused() -> None:
    for change, message in (
        ({"dim": 0}, "dim must be positive"),
        ({"dim": 33}, "multiple of num_heads"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"loss": "bpr"}, "loss is one of"),
        ({"behavior_weights": {"view": -1.0}}, "must be 0 or more"),
        ({"modalities": frozenset({"smell"})}, "no modality 'smell'"),
    ):
        with pytest.raises(ValueError, match=message):
            SequenceConfig(**change)
