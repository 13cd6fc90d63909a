"""The tiny shop as a catalog that states nothing but a split: no times, no positions."""

import csv
import random
import shutil
from pathlib import Path

from tests.sommelier.conftest import SETTINGS

SHARES = (("train", 0.8), ("valid", 0.9), ("test", 1.0))


def write_given_shop(shop: Path, folder: Path) -> Path:
    """A copy of the shop with a split of each user's events drawn at random; its settings file."""
    shutil.copytree(shop / "catalog", folder / "catalog")
    path = folder / "catalog" / "interactions.csv"
    with path.open(newline="") as file:
        last = {(row["user_id"], row["item_id"]): row for row in csv.DictReader(file)}
    rows = list(last.values())  # one of each, so that what is drawn as test is new
    draws = random.Random(0)
    for row in rows:
        draw = draws.random()
        row["timestamp"] = ""
        row["split"] = next(name for name, share in SHARES if draw < share)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = folder / "sommelier.toml"
    settings.write_text(f'[time]\nsplit = "given"\n{SETTINGS}')
    return settings
