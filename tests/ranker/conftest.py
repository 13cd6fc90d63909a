"""One tiny LLM and one adapter trained around it, made once; tests only read them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from feature_repo.store import Store
from ranker import model as models
from ranker.model import RankerModel
from ranker.training import train
from tests.ranker import model_world
from tests.ranker.shop_world import Shop, fill, publish


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer LLM in Hugging Face format."""
    return model_world.make_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="session")
def adapter(llm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter after a few steps: trained little, but no weight is where it started."""
    return train(
        model_world.examples(8),
        items=model_world.items(),
        titles=model_world.TITLES,
        llm=str(llm_folder),
        config=model_world.CONFIG,
        folder=tmp_path_factory.mktemp("adapters"),
    )


@pytest.fixture(scope="session")
def model(adapter: Path) -> RankerModel:
    """The adapter, loaded and merged."""
    return models.load(adapter)


@pytest.fixture(scope="session")
def shop(
    adapter: Path, llm_folder: Path, tmp_path_factory: pytest.TempPathFactory, imported_feast: None
) -> Shop:
    """One published generation over a store; to be copied by whoever damages or adds to it."""
    root = tmp_path_factory.mktemp("shop")
    store = Store(root / "store")
    fill(store, adapter)
    return Shop(store=store, generations=publish(root, adapter, llm_folder, store=store))


@pytest.fixture
def several_threads() -> Iterator[None]:
    """Torch computes on four threads, as training may, and not on one, as tests do."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)
