"""`sommelier embed` killed at any moment and started again ends where an unkilled run does."""

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedders import torchaudio_cpu
from feature_repo.store import Store
from tests.child import child
from tests.embedders.tiny import WORDS, save, save_words, seeded

torchaudio_cpu.load()

from transformers import BertConfig, BertModel  # noqa: E402

NUM_ITEMS, NUM_USERS = 120, 40
BATCH_ROWS = 4
SETTINGS = f"""
[embedding]
batch_rows = {BATCH_ROWS}
num_workers = 2
[graph]
dim = 8
epochs = 3
[[encoders]]
modality = "text"
encoder = "auto"
model = "model"
[[encoders]]
modality = "graph"
encoder = "lightgcn"
"""
COMMAND = [sys.executable, "-c", "from sommelier.app import main; main()", "embed"]
PATIENCE_S = 200


def write_workspace(folder: Path) -> Path:
    """Items with texts of several lengths, events, and a model of several layers."""
    rng = np.random.default_rng(0)
    (folder / "catalog").mkdir(parents=True)
    lines = ["item_id,title"]
    for n in range(NUM_ITEMS):
        lines.append(f"i{n:03},{' '.join(rng.choice(WORDS[:-4], rng.integers(1, 30)))} {n}")
    (folder / "catalog/items.csv").write_text("\n".join(lines))
    lines = ["user_id,item_id,behavior,timestamp"]
    for n in range(NUM_ITEMS * 8):
        moment = f"2024-01-01T00:{n // 60:02}:{n % 60:02}Z"  # every item early on
        lines.append(f"u{rng.integers(NUM_USERS)},i{n % NUM_ITEMS:03},view,{moment}")
    (folder / "catalog/interactions.csv").write_text("\n".join(lines))
    size = save_words(folder / "model")
    shape = BertConfig(
        vocab_size=size,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
    )
    save(seeded(lambda: BertModel(shape)), folder / "model")
    (folder / "sommelier.toml").write_text(SETTINGS)
    return folder


def started(folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return child(
        COMMAND,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder: Path) -> str:
    with started(folder) as process:
        shown, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, shown
    return shown


def parts(folder: Path, modality: str) -> list[Path]:
    return [
        path
        for path in folder.glob(f"store/parts/item_{modality}_*/*.parquet")
        if not path.name.startswith("0000")
    ]


def num_rows(folder: Path, modality: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in parts(folder, modality))


def kill_at(folder: Path, modality: str, num_parts: int) -> None:
    """Start a run and end it without warning when so many parts are there."""
    deadline = time.monotonic() + PATIENCE_S
    with started(folder) as process:
        while len(parts(folder, modality)) < num_parts:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.communicate()
    assert process.returncode == -9, "it was still at work"


def counts(shown: str, modality: str) -> list[int]:
    """embedded, unchanged."""
    line = next(line for line in shown.splitlines() if f"│ {modality}" in line)
    return [int(cell) for cell in line.split("│")[3:5]]


def facts(folder: Path) -> dict[str, Any]:
    """All that the latest rows say, but for when they were written."""
    store = Store(folder / "store")
    found: dict[str, Any] = {}
    for (entity, space_id), space in store.spaces().items():
        vectors = store.read(space, entity=entity)
        known = {
            key: (one.content_hash, one.event_timestamp)
            for key, one in store.known(space, entity=entity)
        }
        found[f"{entity} {space_id}"] = (
            list(vectors.item_ids),
            vectors.vectors_ND.tobytes(),
            known,
        )
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_again_and_again_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = write_workspace(tmp_path / "whole")
    finish(whole)
    killed = write_workspace(tmp_path / "killed")

    stored = 0
    for num_parts in (1, NUM_ITEMS // BATCH_ROWS // 2):
        kill_at(killed, "text", num_parts)
        assert stored < num_rows(killed, "text") < NUM_ITEMS
        stored = num_rows(killed, "text")
    kill_at(killed, "graph", 2)
    assert num_rows(killed, "text") == NUM_ITEMS
    graph_stored = num_rows(killed, "graph")
    assert 0 < graph_stored < NUM_ITEMS
    shown = finish(killed)

    assert counts(shown, "text") == [0, NUM_ITEMS]
    assert counts(shown, "graph") == [NUM_ITEMS - graph_stored, graph_stored]
    assert "epochs" not in shown, "what was trained was kept"
    assert not (killed / "models/graph.safetensors").exists()
    for modality in ("text", "graph"):
        assert num_rows(killed, modality) == NUM_ITEMS, "no row is there twice"
    assert facts(killed) == facts(whole)
