"""A tiny shop, and a workspace in which every stage has run once, through the command line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from sommelier.commands.route import app
from sommelier.demo import shop as demo_shop

Run = Callable[..., Result]

SETTINGS = """
[graph]
dim = 16
epochs = 5

[sequence]
dim = 16
num_layers = 1
epochs = 2

[target]
behaviors = ["cart", "purchase"]

[ranker.fusion]
width = 16
heads = 2
num_tokens = 2

[ranker.llm]
lora_rank = 4

[ranker.llm.embedded]
hidden_size = 32
num_layers = 1
num_heads = 2
vocab_size = 400
warm_up_steps = 3

[ranker.training]
single_modality_steps = 2
fusion_steps = 3
batch_size = 4
num_negatives = 5
max_examples = 60

[index]
num_probes = 4

[evaluation]
samples = 100
max_users = 8
"""
STAGES = ("embed", "materialize", "train", "index", "publish")


def run_app(*words: str | Path) -> Result:
    """One command in this process; its messages apart from its output."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def run() -> Run:
    return run_app


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog of sixty boxes and sixty users, and a settings file."""
    folder = tmp_path_factory.mktemp("shop")
    demo_shop.write(folder / "catalog", config=demo_shop.ShopConfig(num_items=60, num_users=60))
    (folder / "sommelier.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="session")
def built(shop: Path, imported_feast: None) -> Path:
    """The settings file of a shop that is embedded, trained, indexed and published."""
    for stage in STAGES:
        result = run_app(stage, "--settings", shop / "sommelier.toml")
        assert result.exit_code == 0, result.output + result.stderr
    return shop / "sommelier.toml"


@pytest.fixture
def copy_of_built(built: Path, tmp_path: Path) -> Path:
    """A copy to damage. What the state names by absolute path stays the original's."""
    shutil.copytree(built.parent, tmp_path / "shop")
    return tmp_path / "shop" / "sommelier.toml"


STORED = """
[[encoders]]
modality = "image"
encoder = "hog"

[[encoders]]
modality = "text"
encoder = "brought"
name = "toy"
"""


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, shop: Path, imported_feast: None) -> Path:
    """The settings file of a shop whose pictures and brought vectors are embedded and online."""
    folder = tmp_path_factory.mktemp("stored") / "shop"
    shutil.copytree(shop / "catalog", folder / "catalog")
    bring_texts(folder, seed=0)
    (folder / "sommelier.toml").write_text(STORED)
    for stage in ("embed", "materialize"):
        result = run_app(stage, "--settings", folder / "sommelier.toml")
        assert result.exit_code == 0, result.output + result.stderr
    return folder / "sommelier.toml"


@pytest.fixture
def copy_of_stored(stored: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(stored.parent, tmp_path / "shop")
    return tmp_path / "shop" / "sommelier.toml"


def bring_texts(folder: Path, *, seed: int) -> None:
    """Write random vectors of the sixty boxes into the catalog of a folder."""
    vectors_ND = np.random.default_rng(seed).standard_normal((60, 8)).astype(np.float32)
    table = pa.table(
        {"item_id": [f"box-{n:04d}" for n in range(60)], "vector": vectors_ND.tolist()}
    )
    (folder / "catalog/vectors").mkdir(exist_ok=True)
    pq.write_table(table, folder / "catalog/vectors/text_toy.parquet")
