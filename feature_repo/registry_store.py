"""Feast's registry in a file, replaced at once: the embedded profile names this class.

Feast's own store opens the file for writing, which empties it, and writes it then: whoever starts
at that moment finds no view defined.
"""

import uuid
from datetime import UTC, datetime

from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry

from feature_repo.atomic import replace_bytes


class AtomicRegistryStore(FileRegistryStore):
    """Readers find the old registry or the new one."""

    def _write_registry(self, registry_proto: Registry) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(UTC).replace(tzinfo=None))
        self._filepath.parent.mkdir(exist_ok=True)
        replace_bytes(self._filepath, registry_proto.SerializeToString())
