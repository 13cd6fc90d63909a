import subprocess
import sys
import warnings

import pytest

from feature_repo.registry import open_feature_store
from feature_repo.store import Store

LOADED = "import sys; heavy = {'feast', 'duckdb', 'pyarrow', 'pandas', 'torch', 'grpc', 'ibis'}; "


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("import feature_repo, feature_repo.base, feature_repo.spaces", ""),
        ("import feature_repo.registry, feature_repo.histories", ""),
        ("import feature_repo.store, feature_repo.reader", "duckdb pyarrow"),
    ],
)
def test_only_what_needs_feast_imports_it(statement: str, loaded: str) -> None:
    script = f"{LOADED}{statement}; print(*sorted(heavy & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == loaded


def test_feast_leaves_the_warning_filters_as_they_were(store: Store) -> None:
    before = list(warnings.filters)
    open_feature_store(store.root, None)
    assert warnings.filters == before


def test_without_feast_the_install_line_is_given() -> None:
    script = (
        "import sys; sys.modules['feast'] = None\n"
        "from pathlib import Path; from feature_repo.registry import open_feature_store\n"
        "try: open_feature_store(Path('.'), None)\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'sommelier[store]'" in run.stdout
