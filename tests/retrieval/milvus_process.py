"""A Milvus of the tests' own: the engine for one machine, in a process of its own on the wire."""

import socket
import sys
from pathlib import Path

from retrieval.milvus_server import MilvusServer
from tests.feature_repo.servers import Server
from tests.ports import free_port


class MilvusProcess(Server):
    """Keeps its collections in the folder, so that it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"]
        command += ["--data-dir", str(folder / "data"), "--port", str(self.port)]
        super().__init__(command, folder=folder, user=None)

    @property
    def address(self) -> MilvusServer:
        return MilvusServer(uri=f"http://127.0.0.1:{self.port}", timeout_s=60)

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
