"""A catalog ten times as large in, how much more memory embedding it takes out.

Two catalogs are made in a temporary folder, with interactions in proportion, and embedded by
`sommelier embed` in a process of its own: texts by a small transformers model with random weights,
and brought vectors. The peak is the largest resident size of that whole process, libraries and all.
Memory that grew with the catalog would show as a ratio near the sizes' own; what is read in streams
and written in batches leaves it near 1.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _figures import figure, parser, publish

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import Whitespace  # noqa: E402
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: E402

EVENTS_PER_ITEM = 5
EVENTS_PER_USER = 50
DIM = 64  # of the brought vectors
WORDS = [f"word{n}" for n in range(2000)]
EPOCH_US = 1_600_000_000_000_000
SETTINGS = """
[[encoders]]
modality = "text"
encoder = "auto"
model = "model"
[[encoders]]
modality = "image"
encoder = "brought"
name = "toy"
"""
EMBED = "from sommelier.app import main; main()"


def write_model(folder: Path) -> None:
    """A BERT of one narrow layer: real code, little time."""
    torch.manual_seed(0)
    specials = ["[PAD]", "[UNK]"]
    vocabulary = {word: n for n, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    shape = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder)


def write_catalog(folder: Path, num_items: int) -> None:
    """Items with a title, a description and a vector, and the events of a user for each ten."""
    rng = np.random.default_rng(num_items)
    item_ids = [f"item-{n:07}" for n in range(num_items)]
    words = rng.choice(WORDS, size=(num_items, 24))
    items = {
        "item_id": item_ids,
        "title": [" ".join(row[:4]) for row in words],
        "description": [" ".join(row[4:]) for row in words],
        "category": [f"category {n % 20}" for n in range(num_items)],
        "created_at": pa.array(EPOCH_US + np.arange(num_items), pa.timestamp("us", tz="UTC")),
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    num_events = num_items * EVENTS_PER_ITEM
    events = {
        "user_id": [f"user-{n // EVENTS_PER_USER:06}" for n in range(num_events)],
        "item_id": pa.array(item_ids).take(pa.array(rng.integers(0, num_items, num_events))),
        "behavior": rng.choice(["view", "cart", "purchase"], num_events),
        "timestamp": pa.array(
            EPOCH_US + rng.integers(0, 10**13, num_events), pa.timestamp("us", tz="UTC")
        ),
    }
    pq.write_table(pa.table(events), folder / "interactions.parquet")
    (folder / "vectors").mkdir()
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(rng.normal(size=num_items * DIM).astype(np.float32)), DIM
    )
    pq.write_table(
        pa.table({"item_id": item_ids, "vector": vectors}), folder / "vectors/image_toy.parquet"
    )


def peak_mib(workspace: Path, *words: str) -> float:
    """Run `sommelier embed` there; the largest resident size of its process."""
    command = [sys.executable, "-c", EMBED, "embed", "--settings", "sommelier.toml", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        command, cwd=workspace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    shown = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(shown)
    return usage.ru_maxrss / 1024


def measure(workspace: Path, num_items: int) -> tuple[float, float]:
    """The peaks of the first run and of a second one, which finds nothing new."""
    (workspace / "catalog").mkdir(parents=True)
    write_model(workspace / "model")
    write_catalog(workspace / "catalog", num_items)
    (workspace / "sommelier.toml").write_text(SETTINGS)
    return peak_mib(workspace), peak_mib(workspace)


def main() -> None:
    """Measure, print, write."""
    options = parser("The memory of embedding a catalog ten times as large.")
    options.set_defaults(rounds=1)
    options.add_argument("--items", type=int, default=10_000, help="of the smaller catalog")
    asked = options.parse_args()
    values: dict[str, list[float]] = {}
    for _ in range(asked.rounds):
        with TemporaryDirectory(prefix="sommelier-memory-") as folder:
            small, small_again = measure(Path(folder) / "small", asked.items)
            large, large_again = measure(Path(folder) / "large", 10 * asked.items)
        size, ten = f"{asked.items // 1000}k", f"{asked.items // 100}k"
        found = {
            f"peak_{ten}_over_{size}": large / small,
            f"peak_{ten}_over_{size}_unchanged": large_again / small_again,
            f"peak_mib_{size}": small,
            f"peak_mib_{ten}": large,
        }
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    about = [
        "peak memory of the larger catalog / of the smaller one",
        "the same, when nothing is new",
        "MiB, the smaller catalog",
        "MiB, the larger catalog",
    ]
    publish(
        f"Memory of `sommelier embed`, {asked.rounds} rounds",
        {name: figure(rounds) for name, rounds in values.items()},
        dict(zip(values, about, strict=True)),
        file=asked.json,
        packages=("torch", "transformers", "duckdb", "pyarrow"),
    )


if __name__ == "__main__":
    main()
