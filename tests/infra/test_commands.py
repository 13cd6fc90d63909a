"""What the containers run must be words that the command line knows."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sommelier import settings_file
from sommelier.commented import commented
from sommelier.settings import Settings

INFRA = Path(__file__).resolve().parents[2] / "infra"


def image_command() -> list[str]:
    text = (INFRA / "Dockerfile").read_text().replace("\\\n", "")
    found = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    return [str(word) for word in json.loads(found[-1])]


def compose_command() -> list[str]:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    return [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in services["ranker"]["command"]]


def words(command: list[str]) -> list[str]:
    """`--set=a` and `--set a` alike as two words."""
    split = [re.sub(r"^(--\w+)=", r"\1 ", word) for word in command]
    return [word for line in split for word in shlex.split(line)]


@pytest.mark.parametrize("command", [image_command(), compose_command()], ids=["image", "compose"])
def test_a_container_runs_what_the_command_line_knows(command: list[str]) -> None:
    program = [sys.executable, "-c", "from sommelier.app import main; main()"]
    done = subprocess.run([*program, *command], capture_output=True, text=True, check=False)
    settings = words(command)[words(command).index("--settings") + 1]
    assert done.returncode == 1, done.stderr  # 2 would be a word that is not known
    assert settings in done.stderr


@pytest.mark.parametrize("command", [image_command(), compose_command()], ids=["image", "compose"])
def test_a_container_listens_to_its_network_where_prometheus_looks(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sommelier.toml").write_text(commented(Settings()))
    given = words(command)
    overrides = [given[n + 1] for n, word in enumerate(given) if word == "--set"]
    server = settings_file.load(
        tmp_path / "sommelier.toml", overrides=overrides, environment={}
    ).server
    scraped = yaml.safe_load((INFRA / "prometheus.yml").read_text())["scrape_configs"]
    targets = [one for job in scraped for part in job["static_configs"] for one in part["targets"]]
    assert (server.host, server.metrics_host) == ("0.0.0.0", "0.0.0.0")
    assert f"ranker:{server.metrics_port}" in targets
