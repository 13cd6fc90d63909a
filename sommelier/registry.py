"""The settings of the embedding in, the engine that they choose out, imported when it is chosen."""

from sommelier.engine import Engine
from sommelier.settings import EmbeddingSettings

INSTALL = "pip install 'sommelier[ray]'"


def open_engine(config: EmbeddingSettings) -> Engine:
    """The engine that the settings name.

    Raises:
        ImportError: its library is missing; the message says how to install it.
    """
    if config.engine == "ray":
        try:
            from sommelier.engine_ray import RayEngine
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the engine 'ray' needs {error.name}: {INSTALL}", name=error.name
            ) from error

        return RayEngine(address=config.ray_address, num_workers=config.num_workers)
    from sommelier.engine_local import LocalEngine

    return LocalEngine(num_workers=config.num_workers)
