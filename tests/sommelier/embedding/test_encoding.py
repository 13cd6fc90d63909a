"""An encoder whose weights were exchanged under the same name is found out, refused and mended."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders.base import Embedder
from embedders.items import EPOCH, Item, Modality
from embedders.probes import Probes
from embedders.registry import EncoderConfig
from embedders.vectors import Embeddings, Space
from feature_repo.store import Store
from sommelier.embedding.encoding import Consent, OtherVectors, Tally, bring_up_to_date
from sommelier.set_aside import SetAside
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace

NUM_ITEMS = 40
DIM = 24
CONFIG = EncoderConfig(modality=Modality.TEXT, encoder="minilm")
REPAIR = Consent(repairs=True)


class PowerCut(Exception):
    pass


class Letters(Embedder):
    """Counts of letters through weights that the space says nothing of."""

    space = Space(modality=Modality.TEXT, encoder="letters", revision="declared", dim=DIM)

    def __init__(self, *, weights: int, fails_after: int | None = None) -> None:
        self._weights_LD = np.random.default_rng(weights).normal(size=(64, DIM))
        self._fails_after = fails_after
        self.num_encoded = 0

    def fingerprint(self, item: Item) -> str | None:
        return item.title or None

    def load(self, item: Item) -> NDArray[np.float64]:
        return np.bincount([ord(one) % 64 for one in item.title], minlength=64).astype(float)

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        is_probe = len(contents) > 8
        if not is_probe:
            if self._fails_after is not None and self.num_encoded >= self._fails_after:
                raise PowerCut
            self.num_encoded += len(contents)
        return np.asarray(np.stack(contents) @ self._weights_LD, dtype=np.float32)


def write_items(folder: Path, titles: Sequence[str]) -> None:
    (folder / "catalog").mkdir(exist_ok=True)
    rows = "".join(f"i{n:02},{title},2020-01-{1 + n % 28:02}\n" for n, title in enumerate(titles))
    (folder / "catalog/items.csv").write_text("item_id,title,created_at\n" + rows)


TITLES = [f"box number {n} of {n * n}" for n in range(NUM_ITEMS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path, TITLES)
    (tmp_path / "sommelier.toml").write_text("[embedding]\nbatch_rows = 8\n")
    return tmp_path


def bring(folder: Path, embedder: Embedder, *, consent: Consent | None = None) -> Tally:
    workspace = Workspace(load(folder / "sommelier.toml"))
    return bring_up_to_date(
        workspace,
        CONFIG,
        embedder,
        consent=consent or Consent(),
        set_aside=SetAside(workspace.store),
        watch=Unwatched(),
    )


def held(folder: Path) -> Embeddings:
    return Store(folder / "store").read(Letters.space)


def expected(weights: int) -> NDArray[np.float32]:
    items = [Item(item_id=f"i{n:02}", title=title) for n, title in enumerate(TITLES)]
    embedder = Letters(weights=weights)
    return np.concatenate([embedder.embed(items[n : n + 8])[0].vectors_ND for n in range(0, 40, 8)])


def test_the_same_weights_on_another_day_have_nothing_to_do(folder: Path) -> None:
    assert bring(folder, Letters(weights=0)).embedded == NUM_ITEMS
    again = bring(folder, Letters(weights=0))
    assert (again.embedded, again.unchanged) == (0, NUM_ITEMS)


def test_swapped_weights_are_refused_before_anything_is_written(folder: Path) -> None:
    bring(folder, Letters(weights=0))
    write_items(folder, ["changed", *TITLES[1:]])
    before = sorted(path for path in (folder / "store").rglob("*") if path.is_file())
    with pytest.raises(OtherVectors, match="sommelier embed --repair"):
        bring(folder, Letters(weights=1))
    assert sorted(path for path in (folder / "store").rglob("*") if path.is_file()) == before
    np.testing.assert_array_equal(held(folder).vectors_ND, expected(0))


def test_a_repair_makes_every_old_row_again_and_leaves_its_time(folder: Path) -> None:
    bring(folder, Letters(weights=0))
    before = dict(Store(folder / "store").known(Letters.space))
    repaired = bring(folder, Letters(weights=1), consent=REPAIR)
    assert repaired.embedded == NUM_ITEMS
    np.testing.assert_array_equal(held(folder).vectors_ND, expected(1))
    known = dict(Store(folder / "store").known(Letters.space))
    assert known.keys() == before.keys()
    assert all(known[key].event_timestamp == one.event_timestamp for key, one in before.items())
    assert bring(folder, Letters(weights=1)).unchanged == NUM_ITEMS
    with pytest.raises(OtherVectors):
        bring(folder, Letters(weights=0))


@pytest.mark.parametrize("consent", [Consent(), REPAIR])
def test_a_repair_that_was_cut_off_goes_on_and_does_not_start_over(
    folder: Path, consent: Consent
) -> None:
    bring(folder, Letters(weights=0))
    cut_off = Letters(weights=1, fails_after=16)
    with pytest.raises(PowerCut):
        bring(folder, cut_off, consent=REPAIR)
    assert cut_off.num_encoded == 16

    rest = Letters(weights=1)
    tally = bring(folder, rest, consent=consent)
    assert (tally.embedded, tally.unchanged) == (NUM_ITEMS - 16, 16)
    assert rest.num_encoded == NUM_ITEMS - 16
    np.testing.assert_array_equal(held(folder).vectors_ND, expected(1))


def test_a_repair_also_takes_what_changed_meanwhile(folder: Path) -> None:
    bring(folder, Letters(weights=0))
    changed_at = datetime.now(UTC)
    write_items(folder, [*TITLES[:5], "another text", *TITLES[6:]])
    bring(folder, Letters(weights=1), consent=REPAIR)
    known = dict(Store(folder / "store").known(Letters.space))
    assert known["i05"].content_hash == "another text"
    assert known["i05"].event_timestamp >= changed_at
    assert known["i06"].event_timestamp == datetime(2020, 1, 7, tzinfo=UTC)


def test_a_repair_without_a_fault_makes_nothing_again(folder: Path) -> None:
    bring(folder, Letters(weights=0))
    assert bring(folder, Letters(weights=0), consent=REPAIR).embedded == 0


def test_a_space_from_before_there_were_probes_is_taken_at_its_word_and_watched_from_then_on(
    folder: Path,
) -> None:
    bring(folder, Letters(weights=0))
    (probes_file,) = (folder / "store/probes").iterdir()
    probes_file.unlink()
    assert bring(folder, Letters(weights=0)).embedded == 0
    stored = Store(folder / "store").probes(Letters.space)
    assert isinstance(stored, Probes)
    assert stored.created == EPOCH
    with pytest.raises(OtherVectors):
        bring(folder, Letters(weights=1))


def test_probes_are_older_than_the_rows_that_they_stand_for(folder: Path) -> None:
    bring(folder, Letters(weights=0))
    bring(folder, Letters(weights=1), consent=REPAIR)
    store = Store(folder / "store")
    stored = store.probes(Letters.space)
    assert stored is not None
    oldest = min(known.created for _, known in store.known(Letters.space))
    assert timedelta(0) <= oldest - stored.created
