"""What is wrong is found, and named with the command that repairs it."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from feature_repo.store import Store
from tests.sommelier.conftest import Run
from tests.sommelier.doctoring import assert_mended, examined


def test_all_is_well_after_all_stages(run: Run, built: Path) -> None:
    result = run("doctor", "--settings", built)
    assert result.exit_code == 0, result.output
    assert "All is well" in result.output
    assert "✗" not in result.output


def test_a_deleted_index_is_found_and_repaired(run: Run, copy_of_built: Path) -> None:
    shutil.rmtree(copy_of_built.parent / "index")
    result = run("doctor", "--settings", copy_of_built)
    assert result.exit_code == 1
    assert "sommelier index" in faults(result.output)
    refused = run("publish", "--settings", copy_of_built)
    assert refused.exit_code == 1
    assert "run `sommelier index`" in refused.stderr
    assert run("index", "--settings", copy_of_built).exit_code == 0
    assert run("doctor", "--settings", copy_of_built).exit_code == 0


def test_changed_content_is_stale_until_it_is_embedded(run: Run, copy_of_built: Path) -> None:
    pictures = sorted((copy_of_built.parent / "catalog/media/pictures").glob("*.png"))
    Image.new("RGB", (64, 64), "teal").save(pictures[0])
    result = run("doctor", "--settings", copy_of_built)
    assert result.exit_code == 1
    assert "1 stale" in result.output
    assert "sommelier embed" in faults(result.output)
    assert run("embed", "--settings", copy_of_built).exit_code == 0
    assert "sommelier train" in faults(run("doctor", "--settings", copy_of_built).output)


def test_a_damaged_generation_is_found(run: Run, copy_of_built: Path) -> None:
    served = copy_of_built.parent / "generations/g-000001/index/index.safetensors"
    served.write_bytes(served.read_bytes()[:-1] + b"x")
    result = run("doctor", "--settings", copy_of_built)
    assert result.exit_code == 1
    assert "generation" in faults(result.output)


def test_an_empty_workspace_begins_with_embedding(
    run: Run, shop: Path, tmp_path: Path, imported_feast: None
) -> None:
    (tmp_path / "sommelier.toml").write_text(f'[catalog]\npath = "{shop / "catalog"}"')
    result = run("doctor", "--settings", tmp_path / "sommelier.toml")
    assert result.exit_code == 1
    assert "sommelier embed" in faults(result.output)


def test_tokens_that_are_gone_are_fused_again(run: Run, copy_of_built: Path) -> None:
    store = Store(copy_of_built.parent / "store")
    (tokens,) = (space for space in store.spaces().values() if space.modality is None)
    assert store.delete(["box-0000", "box-0001"], at=datetime.now(UTC), space=tokens) == 2
    found = assert_mended(run, copy_of_built, "fused tokens", repair="sommelier index")
    assert found["counts"]["without tokens"] == 2
    assert examined(run, copy_of_built)["items served"]["verdict"] == "good"


def faults(shown: str) -> str:
    """The rows that need repair."""
    return "\n".join(line for line in shown.splitlines() if "✗" in line)
