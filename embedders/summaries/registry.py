"""A writer's configuration in, the writer that it names out, its model loaded or its server asked.

The only place of this room that imports engines, each when it is chosen.
"""

from embedders.summaries.base import Writer
from embedders.summaries.config import WriterConfig

INSTALL = {
    "transformers": "pip install 'sommelier[embed]'",
    "openai": "pip install 'sommelier[write]'",
}


def open_writer(config: WriterConfig, *, key: str | None = None) -> Writer:
    """Open the engine; whoever opens a writer closes it.

    Args:
        config: Which engine, and how it writes.
        key: A server's, as the environment variable `config.key_variable` holds it; None sends
            none. Other engines take none.

    Raises:
        ValueError: the template, which is no writer, or a model or address that will not do.
        ImportError: a library is missing; the message says how to install it.
        ConnectionError: the server does not answer.
    """
    try:
        match config.engine:
            case "transformers":
                from embedders.summaries.engine_transformers import TransformersWriter

                return TransformersWriter(config)
            case "openai":
                from embedders.summaries.engine_openai import OpenAiWriter

                return OpenAiWriter(config, key=key)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ImportError(
            f"the engine {config.engine!r} needs {missing}: {INSTALL[config.engine]}", name=missing
        ) from error
    raise ValueError("the template needs no writer: it is the catalog's own words, put in order")
