"""Manifests and compose files are what Kubernetes and Compose accept; no engine is asked."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

INFRA = Path(__file__).resolve().parents[2] / "infra"
KUBERNETES = INFRA / "kubernetes"
APPLIED = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
MANIFESTS = [*(KUBERNETES / name for name in APPLIED), INFRA / "ray" / "cluster.yaml"]
VERSIONS = ("1.30", "1.37")
"""The oldest that the manifests are meant for, and a new one."""


def objects() -> list[dict[str, Any]]:
    found = []
    for path in MANIFESTS:
        for one in yaml.safe_load_all(path.read_text()):
            found += one["items"] if one["kind"] == "List" else [one]
    return found


def named(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", objects(), ids=named)
def test_kubernetes_would_accept_every_object_with_no_field_that_it_does_not_know(
    one: dict[str, Any], version: str
) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_noticed() -> None:
    (deployment,) = [one for one in objects() if named(one) == "Deployment sommelier-ranker"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_every_manifest_is_applied() -> None:
    others = {"kustomization.yaml", "prometheus-adapter.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} - others == set(APPLIED)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no `kubectl` on this machine")
def test_kubectl_puts_the_manifests_together() -> None:
    build = ["kubectl", "kustomize", str(KUBERNETES)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert {"CronJob", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy"} <= set(kinds)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_a_compose_file_follows_the_specification(name: str) -> None:
    assert PyCompose.from_yaml((INFRA / name).read_text())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("restart:", "restrat:"), ("interval: 10s", "interval: soon"), ("_healthy", "_happy")],
)
def test_what_the_specification_does_not_know_would_be_noticed(right: str, wrong: str) -> None:
    text = (INFRA / "compose.yaml").read_text()
    assert right in text
    with pytest.raises(ValueError, match=r"restrat|soon|happy"):
        PyCompose.from_yaml(text.replace(right, wrong, 1))


def test_the_gpu_file_changes_a_service_that_there_is_and_a_target_that_there_is() -> None:
    services, laid_over = (
        yaml.safe_load((INFRA / name).read_text())["services"]
        for name in ("compose.yaml", "compose.gpu.yaml")
    )
    assert set(laid_over) <= set(services)
    dockerfile = (INFRA / "Dockerfile").read_text()
    for one in (services["ranker"], laid_over["ranker"]):
        assert f" AS {one['build']['target']}\n" in dockerfile
