from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("imported_feast")


def test_a_write_that_fails_leaves_the_registry_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.protos.feast.core.Registry_pb2 import Registry
    from feast.repo_config import RegistryConfig

    from feature_repo.registry_store import AtomicRegistryStore

    store = AtomicRegistryStore(RegistryConfig(path=str(tmp_path / "registry.db")), tmp_path)
    store.update_registry_proto(Registry(registry_schema_version="1"))

    def refuse(path: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="full"):
        store.update_registry_proto(Registry(registry_schema_version="2"))
    assert store.get_registry_proto().registry_schema_version == "1"
