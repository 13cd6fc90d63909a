"""The demo goes the whole route, and a second one finds everything done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ranker.ranking import Status
from sommelier import settings_file
from sommelier.demo import shop as demo_shop
from sommelier.demo.tour import Steps, demo, show_feast, side_by_side
from sommelier.effort import Effort
from sommelier.replies import Line, Reply
from sommelier.watch import Advance, Summary, Unwatched

SHOP = demo_shop.ShopConfig(num_items=60, num_users=60)
WORDS = (
    *("graph.dim=16", "graph.epochs=3", "index.num_probes=4"),
    *("ranker.fusion.width=16", "ranker.fusion.heads=2", "ranker.fusion.num_tokens=2"),
    *("ranker.llm.embedded.hidden_size=32", "ranker.llm.embedded.num_layers=1"),
    *("ranker.llm.embedded.num_heads=2", "ranker.llm.embedded.vocab_size=400"),
    *("ranker.llm.embedded.warm_up_steps=2", "ranker.training.single_modality_steps=1"),
    *("ranker.training.fusion_steps=2", "ranker.training.batch_size=4"),
    *("ranker.training.num_negatives=5", "ranker.training.max_examples=40"),
    *("evaluation.samples=50", "evaluation.max_users=5"),
)

# Of libraries: peft asks transformers by a name that is on its way out, and torch warns of a
# number that is read off a loss.
pytestmark = pytest.mark.filterwarnings("ignore")


class Notes(Unwatched):
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.summaries: list[Summary] = []

    @contextmanager
    def task(self, name: str, *, total: int | None = None) -> Iterator[Advance]:
        with super().task(name, total=total) as advance:
            yield advance

    def say(self, text: str) -> None:
        self.lines.append(text)

    def heading(self, text: str) -> None:
        self.lines.append(text)

    def show(self, summary: Summary) -> None:
        self.summaries.append(summary)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, imported_feast: None) -> Path:
    return tmp_path_factory.mktemp("demo")


def go(out: Path) -> Notes:
    notes = Notes()
    room = out / "checkout" / "feature_repo"
    demo(out, effort=Effort.QUICK, overrides=WORDS, watch=notes, shop=SHOP, room=room)
    return notes


@pytest.fixture(scope="module")
def first(out: Path) -> Notes:
    room = out / "checkout" / "feature_repo"
    room.mkdir(parents=True)
    (room.parent / "pyproject.toml").write_text("")
    return go(out)


def test_the_report_lies_in_the_folder_that_was_named(first: Notes, out: Path) -> None:
    assert {"report.html", "report.json", "report.md"} <= {path.name for path in out.iterdir()}
    assert str(out / "report.html") in first.lines


def test_the_answer_came_over_grpc(first: Notes) -> None:
    assert any(line.startswith("listening on 127.0.0.1:") for line in first.lines)
    assert any("gives the same order" in line for line in first.lines)
    recommended = next(one for one in first.summaries if one.title.startswith("Recommended to"))
    assert len(recommended.rows) == 10


def test_every_step_is_numbered(first: Notes) -> None:
    headings = [line for line in first.lines if line[:3] in {f"{n}/8" for n in range(1, 9)}]
    assert len(headings) == 8


def test_feasts_own_command_line_finds_the_store(first: Notes, out: Path) -> None:
    assert (out / "checkout/feature_repo/data").resolve() == out / "shop" / "store"


def test_the_settings_file_holds_what_was_overridden(first: Notes, out: Path) -> None:
    settings = settings_file.load(out / "shop" / "sommelier.toml")
    assert settings.graph.dim == 16
    assert settings.paths.report == out
    assert settings.catalog.path == out / "shop" / "catalog"


def test_a_second_demo_uses_all_that_is_done(first: Notes, out: Path) -> None:
    again = go(out)
    done = [one for one in again.summaries if one.title.endswith(": nothing is new")]
    assert len(done) == 4  # train, index, publish, evaluate
    assert not any(
        one.is_new for one in again.summaries if one.title in ("Embedded", "Materialized")
    )


def test_another_catalog_in_the_same_folder_is_refused(first: Notes, out: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is the workspace of the catalog .* choose another --out"
    ):
        demo(out, catalog=out / "elsewhere" / "shop", watch=Notes(), room=out)


def test_both_orders_stand_side_by_side() -> None:
    lines = tuple(
        Line(
            item_id=name,
            title=name,
            rank=rank,
            score=1 / rank,
            retrieval_rank=retrieval_rank,
            retrieval_score=1 - retrieval_rank / 10,
            status=Status.OK,
        )
        for name, rank, retrieval_rank in (("a", 1, 2), ("b", 2, 1), ("c", 3, 3))
    )
    reply = Reply(user_id="u", generation_id="g-1", judged_by="llm", lines=lines, source="here")
    shown = side_by_side(reply, shown=2)
    assert shown.rows == (
        ("1", "b", "0.900", "a", "1.000", "▲1"),
        ("2", "a", "0.800", "b", "0.500", "▼1"),
    )


def test_a_real_folder_is_left_alone(tmp_path: Path) -> None:
    room = tmp_path / "feature_repo"
    (room / "data").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    show_feast(tmp_path / "store", Notes(), room=room)
    assert not (room / "data").is_symlink()


def test_an_installed_package_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "feature_repo").mkdir()
    show_feast(tmp_path / "store", Notes(), room=tmp_path / "feature_repo")
    assert list((tmp_path / "feature_repo").iterdir()) == []


def test_steps_count_and_time_themselves() -> None:
    notes = Notes()
    steps = Steps(notes, total=2)
    with steps.step("Read"):
        pass
    assert notes.lines[0] == "1/2  Read"
    assert notes.lines[1].endswith(" s")
    assert steps.seconds >= 0
