"""The manifests name commands, files and volumes that are there, and nothing runs as root."""

import fcntl
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ranker.limits import ServerConfig
from ranker.pb import ranker_pb2 as pb
from sommelier import settings_file
from sommelier.commented import commented
from sommelier.settings import Settings

INFRA = Path(__file__).resolve().parents[2] / "infra"
NIGHTLY = INFRA / "kubernetes" / "embed-cronjob.yaml"
RANKER = INFRA / "kubernetes" / "ranker.yaml"
MATERIALIZE = INFRA / "kubernetes" / "materialize-cronjob.yaml"
TRAIN = INFRA / "kubernetes" / "train-cronjob.yaml"
RAY = INFRA / "ray" / "cluster.yaml"
ALL = (NIGHTLY, MATERIALIZE, TRAIN, RANKER, RAY)
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RankerService"].full_name
ROUTE = ["embed", "materialize", "train", "index", "publish"]


def resources(path: Path) -> list[dict[str, Any]]:
    found = []
    for one in yaml.safe_load_all(path.read_text()):
        found += one["items"] if one["kind"] == "List" else [one]
    return found


def pods(path: Path) -> Iterator[dict[str, Any]]:
    for one in resources(path):
        if one["kind"] == "CronJob":
            yield one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif one["kind"] == "Deployment":
            yield one["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def everything() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(pod, one) for path in ALL for pod in pods(path) for one in containers(pod)]


def sommelier_commands() -> list[list[str]]:
    """The words after `sommelier` of every container that runs it."""
    commands = []
    for _, one in everything():
        words = [*one.get("command", ["sommelier"]), *one["args"]]
        if words[:2] == ["sh", "-c"]:
            words = shlex.split(words[2])
        if "sommelier" in words:
            commands.append(words[words.index("sommelier") + 1 :])
    return commands


def test_the_nightly_job_goes_the_route_in_its_order() -> None:
    (pod,) = pods(NIGHTLY)
    assert [one["args"][0] for one in containers(pod)] == ROUTE
    assert len(pod["containers"]) == 1  # the others are init containers: one after the other
    (job,) = [one for one in resources(NIGHTLY) if one["kind"] == "CronJob"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("command", sommelier_commands(), ids=lambda words: words[0])
def test_a_pod_runs_what_the_command_line_knows(command: list[str]) -> None:
    program = [sys.executable, "-c", "from sommelier.app import main; main()"]
    done = subprocess.run([*program, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # 2 would be a word that is not known
    assert "no settings file /workspace/sommelier.toml" in done.stderr


@pytest.mark.parametrize("command", sommelier_commands(), ids=lambda words: words[0])
def test_a_pod_sets_what_the_settings_know(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "sommelier.toml").write_text(commented(Settings()))
    overrides = [word.removeprefix("--set=") for word in command if word.startswith("--set=")]
    assert settings_file.load(tmp_path / "sommelier.toml", overrides=overrides, environment={})


@pytest.mark.parametrize(
    ("path", "route"),
    [(MATERIALIZE, ["embed", "materialize"]), (TRAIN, ["train", "index", "publish"])],
)
def test_the_other_jobs_go_parts_of_the_route_in_its_order(path: Path, route: list[str]) -> None:
    (pod,) = pods(path)
    assert [one["args"][0] for one in containers(pod)] == route
    assert [one for one in ROUTE if one in route] == route


def test_what_stands_over_the_settings_is_known_and_opens_the_ports_that_are_probed(
    tmp_path: Path,
) -> None:
    (tmp_path / "sommelier.toml").write_text(commented(Settings()))
    (facts,) = [one for one in resources(RANKER) if one["kind"] == "ConfigMap"]
    server = settings_file.load(tmp_path / "sommelier.toml", environment=facts["data"]).server
    (pod,) = pods(RANKER)
    (ranker,) = containers(pod)
    ports = {one["name"]: one["containerPort"] for one in ranker["ports"]}
    assert ports == {"grpc": server.port, "metrics": server.metrics_port}
    assert (server.host, server.metrics_host) == ("0.0.0.0", "0.0.0.0")
    for name in ("startupProbe", "readinessProbe"):
        assert ranker[name]["grpc"]["port"] == server.port
    assert ranker["readinessProbe"]["grpc"]["service"] == SERVICE_NAME


def test_the_ranker_is_found_scaled_and_guarded_by_one_label() -> None:
    by_kind = {one["kind"]: one for one in resources(RANKER)}
    label = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"] == label
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert by_kind[kind]["spec"]["selector"]["matchLabels"] == label
    assert by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
    name = by_kind["Deployment"]["metadata"]["name"]
    assert by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == name
    assert by_kind["HorizontalPodAutoscaler"]["spec"]["minReplicas"] > 1


def test_a_pod_has_time_to_end_its_requests() -> None:
    (pod,) = pods(RANKER)
    pause_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause_s + ServerConfig().grace_s


def test_every_mount_is_a_volume_of_the_pod_and_the_workspace_is_the_images() -> None:
    assert re.search(r"^VOLUME /workspace$", (INFRA / "Dockerfile").read_text(), re.MULTILINE)
    for pod, one in everything():
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert set(mounts) <= {volume["name"] for volume in pod["volumes"]}
        assert mounts["workspace"] == "/workspace"
        assert mounts["tmp"] == "/tmp"  # the root is read-only


def test_every_claim_is_declared() -> None:
    declared = {
        one["metadata"]["name"]
        for one in resources(NIGHTLY)
        if one["kind"] == "PersistentVolumeClaim"
    }
    claimed = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod, _ in everything()
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claimed == declared


def test_nothing_runs_as_root_or_writes_into_its_image() -> None:
    user = re.search(r"useradd --uid (\d+)", (INFRA / "Dockerfile").read_text())
    assert user
    for pod, one in everything():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == int(user.group(1))
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
        assert {"requests", "limits"} <= set(one["resources"])


def test_whoever_embeds_is_given_what_the_production_profile_reads() -> None:
    profile = (INFRA.parent / "feature_repo" / "production.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)\}", profile))
    assert named
    assert all(f"{name}=" in NIGHTLY.read_text() for name in named)  # in how the secret is made
    for pod, one in everything():
        if one["name"] in [*ROUTE, "ranker"]:
            sources = [source.get("secretRef", {}).get("name") for source in one["envFrom"]]
            assert "sommelier-stores" in sources, pod


def test_the_workers_and_the_job_look_for_the_head_where_it_is() -> None:
    (service,) = [one for one in resources(RAY) if one["kind"] == "Service"]
    address = f"--address={service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    heads = [
        one
        for one in resources(RAY)
        if one["kind"] == "Deployment"
        and one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
    ]
    assert len(heads) == 1
    starts = [" ".join(one["args"]) for pod in pods(RAY) for one in containers(pod)]
    assert len([one for one in starts if "--head --port=6379" in one]) == 1
    assert len([one for one in starts if address in one]) == len(starts) - 1


def test_a_ray_cluster_lets_nobody_in_without_its_token() -> None:
    for pod in pods(RAY):
        for one in containers(pod):
            assert {"name": "RAY_AUTH_MODE", "value": "token"} in one["env"]
            assert "sommelier-ray" in [source["secretRef"]["name"] for source in one["envFrom"]]


def nightly(folder: Path, *, fails: str = "") -> subprocess.CompletedProcess[str]:
    """The script with a program that notes its stage, and fails in one of them."""
    program = folder / "sommelier"
    program.write_text(f'#!/bin/sh\necho "$1" >> stages\necho "said $1"\n[ "$1" != "{fails}" ]\n')
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "SOMMELIER": str(program)}
    script = [str(INFRA / "nightly.sh"), str(folder)]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)


def test_the_nightly_script_goes_the_route_in_silence(tmp_path: Path) -> None:
    done = nightly(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "stages").read_text().split() == ROUTE
    assert "said publish" in (tmp_path / "nightly.log").read_text()


def test_the_nightly_script_stops_at_what_fails_and_says_so(tmp_path: Path) -> None:
    done = nightly(tmp_path, fails="train")
    assert done.returncode == 1
    assert "sommelier train failed" in done.stdout
    assert "said train" in done.stdout
    assert (tmp_path / "stages").read_text().split() == ROUTE[:3]


def test_two_nightly_runs_do_not_go_on_beside_each_other(tmp_path: Path) -> None:
    with (tmp_path / "nightly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = nightly(tmp_path)
    assert done.returncode == 1
    assert "still going on" in done.stdout
    assert not (tmp_path / "stages").exists()


def test_cron_runs_the_script() -> None:
    (line,) = [one for one in (INFRA / "crontab").read_text().splitlines() if one[:1].isdigit()]
    assert line.split()[5].endswith("/infra/nightly.sh")
    assert os.access(INFRA / "nightly.sh", os.X_OK)
