"""Command words in, an exit code out: 0 done, 1 something to mend, 2 misused, 130 interrupted."""

import os
import sys

# For the libraries, which read them while they are imported. Idle OpenMP threads sleep, for
# spinning ones slow down every other process; and the progress shown is our own.
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}

INSTALL = "pip install 'sommelier[all]'"


def main() -> None:
    """The `sommelier` command."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from sommelier.commands.route import app
    except ModuleNotFoundError as error:
        # Only for what a smaller installation lacks: a fault of our own must not hide behind it.
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "pydantic"):
            raise
        print(f"the command line needs {error.name}: {INSTALL}", file=sys.stderr)
        sys.exit(1)
    app()
