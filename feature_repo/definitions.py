"""What the store at `data/` holds in, Feast objects out: for Feast's own command line only.

Feast collects the attributes of this module. Nothing else imports it: Feast knows it under
another name, and two copies of a view conflict.
"""

from pathlib import Path

from feature_repo import releases, spaces, text_sources, views

_root = Path(__file__).parent / "data"

_held = spaces.read(_root), text_sources.read(_root), releases.read(_root)

globals().update(
    {f"{type(found).__name__}_{found.name}": found for found in views.build(_root, *_held)}
)
