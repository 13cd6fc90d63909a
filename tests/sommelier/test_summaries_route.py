"""A tiny image-text model over MovieLens posters: from what it writes to what is measured.

Its weights are random, so nothing is claimed of what it writes: only that the route holds.
"""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from embedders import catalog
from embedders.items import Modality
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.embedders.summaries import tiny_mllm
from tests.sommelier.conftest import SETTINGS, Run

NUM_ITEMS, NUM_POSTERS, NUM_USERS, NUM_EVENTS = 40, 12, 30, 7
WRITTEN = """
[summaries]
enabled = true
max_tokens = 8
attributes = []
[summaries.writer]
engine = "transformers"
model = "mllm"

[preferences]
enabled = true
max_tokens = 8
[preferences.writer]
engine = "transformers"
model = "mllm"

[ranker.prompt]
candidates = "both"
summary_tokens = 6
preference_tokens = 6

[[encoders]]
modality = "image"
encoder = "hog"
[[encoders]]
modality = "summary"
encoder = "minilm"
"""


@pytest.fixture
def folder(tmp_path: Path, shared_data: Path, imported_feast: None) -> Path:
    """The most rated films, a dozen of them with their posters, and some of their raters."""
    films = catalog.read(shared_data / "movielens")
    events = films.interactions.to_pylist()
    counts = Counter(one["item_id"] for one in events)
    chosen = [item_id for item_id, _ in counts.most_common(NUM_ITEMS)]
    num_posters = 0
    rows = []
    for item in films.items():
        if item.item_id not in chosen:
            continue
        row = {"item_id": item.item_id, "title": item.title, "category": item.category}
        if item.image_path and num_posters < NUM_POSTERS:
            num_posters += 1
            row["image_path"] = f"media/{item.item_id}{item.image_path.suffix}"
            (tmp_path / "catalog/media").mkdir(parents=True, exist_ok=True)
            shutil.copy(item.image_path, tmp_path / "catalog" / row["image_path"])
        rows.append(row)
    assert num_posters == NUM_POSTERS
    (tmp_path / "catalog/items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_raters(tmp_path / "catalog/interactions.csv", events, set(chosen))
    tiny_mllm.quietly(tiny_mllm.qwen2_vl, tmp_path / "mllm")
    settings = SETTINGS.replace('behaviors = ["cart", "purchase"]', 'behaviors = ["rate"]')
    (tmp_path / "sommelier.toml").write_text(settings + WRITTEN)
    return tmp_path


def write_raters(path: Path, events: list[dict[str, object]], chosen: set[str]) -> None:
    """The first raters by name, each with a few films, spread over one common month.

    MovieLens' users rate in one sitting each, so that no cut would leave them both past and
    future.
    """
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("user_id", "item_id", "behavior", "timestamp"))
        for n, user_id in enumerate(sorted({str(one["user_id"]) for one in events})[:NUM_USERS]):
            rated = [str(one["item_id"]) for one in events if one["user_id"] == user_id]
            for place, item_id in enumerate([one for one in rated if one in chosen][:NUM_EVENTS]):
                moment = f"2024-01-{1 + 4 * place:02}T{n % 24:02}:00:00Z"
                rows.writerow((user_id, item_id, "rate", moment))


@pytest.mark.slow
@pytest.mark.shared_data
def test_posters_are_summarized_embedded_searched_fused_and_measured(
    run: Run, folder: Path
) -> None:
    settings = folder / "sommelier.toml"
    for stage in ("summarize", "embed", "materialize", "train", "index", "publish"):
        result = run(stage, "--settings", settings)
        assert result.exit_code == 0, f"{stage}: {result.output}{result.stderr}"
    protocol = run("evaluate", "--protocol", "msr/1+20", "--settings", settings)
    assert protocol.exit_code == 0, protocol.output + protocol.stderr

    workspace = Workspace(load(settings))
    assert len(workspace.summaries) == NUM_ITEMS
    assert workspace.summary_source is not None
    assert workspace.summary_source.writer == "mllm"
    assert Modality.SUMMARY in workspace.item_vectors.modalities
    assert workspace.item_vectors.is_present("summary").all()
    (manifest,) = (folder / "generations").glob("g-*/generation.json")
    assert [one["kind"] for one in json.loads(manifest.read_text())["texts"]] == [
        "summary",
        "preference",
    ]
    for word in ("uniform", "popularity", "rerank", "retrieval"):
        assert word in protocol.output
    (report,) = (folder / "report").rglob("1+20.json")
    assert {"uniform", "popularity"} <= json.loads(report.read_text())["parts"].keys()
