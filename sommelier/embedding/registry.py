"""The settings of the embedding in, the engine that they choose out, imported when it is chosen."""

import os
from typing import TYPE_CHECKING

from sommelier.settings import EmbeddingSettings

if TYPE_CHECKING:
    from sommelier.embedding.engine import Engine

INSTALL = "pip install 'sommelier[ray]'"


def open_engine(config: EmbeddingSettings) -> "Engine":
    """The engine that the settings name.

    Raises:
        ImportError: its library is missing; the message says how to install it.
    """
    if config.engine == "ray":
        # Ray reads these while it is imported: nothing is told to its makers, its core keeps to
        # itself what Ray Data does on purpose, and a cluster of this machine alone listens on the
        # loopback, by Ray's switch for systems that ask about ports.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        if config.ray_address is None:
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            from sommelier.embedding.engine_ray import RayEngine
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the engine 'ray' needs {error.name}: {INSTALL}", name=error.name
            ) from error

        return RayEngine(
            address=config.ray_address,
            num_workers=config.num_workers,
            cpus=config.ray_cpus,
            gpus=config.ray_gpus,
        )
    from sommelier.embedding.engine_local import LocalEngine

    return LocalEngine(num_workers=config.num_workers)
