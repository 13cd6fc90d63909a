"""A profile in, the feature store that serves it out: the room's only lazy import."""

import warnings
from pathlib import Path

from feature_repo import feast_import
from feature_repo.base import FeatureStore


def open_feature_store(root: Path, profile: Path | None) -> FeatureStore:
    """Feast on the store at `root`. The first call of a process imports Feast: seconds.

    Raises:
        ImportError: Feast is not installed; the message gives the install line.
        StoreError: the profile cannot be used.
    """
    try:
        # Feast resets the process's warning filters while it is imported.
        with warnings.catch_warnings(), feast_import.quick():
            from feature_repo.feast_store import FeastStore
    except ImportError as error:
        raise ImportError(f"{error}; install Feast: pip install 'sommelier[store]'") from error
    return FeastStore(root, profile=profile)
