"""The manifests are what Kubernetes reads, and hang together; no cluster is needed."""

import copy
from pathlib import Path

import pytest
import yaml

BASE = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "base"


@pytest.fixture(scope="module")
def manifests():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        p.name for p in BASE.iterdir() if p.name != "kustomization.yaml"
    )
    found = [item for name in listed for item in yaml.safe_load_all((BASE / name).read_text())]
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_manifests_follow_the_schemas_of_kubernetes(manifests, version):
    """Strictly: a field that the schema does not know is an error. KEDA's kinds have none here."""
    import kubernetes_validate

    own = [item for item in manifests.values() if not item["apiVersion"].startswith("keda.sh/")]
    assert len(own) == len(manifests) - 2
    for item in own:
        kubernetes_validate.validate(item, version, strict=True)
    broken = copy.deepcopy(manifests["Deployment", "worker-cpu"])
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolcy"):
        kubernetes_validate.validate(broken, version, strict=True)


def pods(manifests):
    kinds = ("Job", "Deployment")
    return {key: m["spec"]["template"]["spec"] for key, m in manifests.items() if key[0] in kinds}


def test_no_pod_is_root_or_writes_to_its_root(manifests):
    assert len(pods(manifests)) == 3
    for pod in pods(manifests).values():
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            limits = container["securityContext"]
            assert limits["readOnlyRootFilesystem"]
            assert not limits["allowPrivilegeEscalation"]
            assert limits["capabilities"] == {"drop": ["ALL"]}


def test_every_mount_and_reference_is_there(manifests):
    for pod in pods(manifests).values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            for source in container["envFrom"]:
                assert ("ConfigMap", source["configMapRef"]["name"]) in manifests
        claim = volumes["store"]["persistentVolumeClaim"]["claimName"]
        assert ("PersistentVolumeClaim", claim) in manifests
        assert volumes["password"]["secret"]["defaultMode"] == 0o440


def test_only_the_job_may_make_tables(manifests):
    for (kind, _), pod in pods(manifests).items():
        settings = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
        makes = settings["DJ_USER"] == "inception_declare"
        assert makes == (kind == "Job")
        assert makes or settings["DJ_CREATE_TABLES"] == "false"


def test_labels_meet_for_every_queue(manifests):
    for queue in ("cpu", "gpu"):
        deployment = manifests["Deployment", f"worker-{queue}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels
        budget = manifests["PodDisruptionBudget", f"worker-{queue}"]["spec"]
        assert budget["selector"]["matchLabels"] == labels
        scaled = manifests["ScaledObject", f"worker-{queue}"]["spec"]
        assert scaled["scaleTargetRef"]["name"] == f"worker-{queue}"
        assert "inception_pending_jobs{queue=" in scaled["triggers"][0]["metadata"]["query"]
        assert "replicas" not in deployment  # the number is the scaler's


def test_gpu_workers_ask_for_one_gpu_on_nodes_that_have_them(manifests):
    pod = pods(manifests)["Deployment", "worker-gpu"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu.present" in pod["nodeSelector"]


def test_the_grace_of_a_pod_outlasts_the_workers(manifests):
    from workers.compute.worker import Options

    for queue in ("cpu", "gpu"):
        grace = pods(manifests)["Deployment", f"worker-{queue}"]["terminationGracePeriodSeconds"]
        assert grace >= Options().grace_s + 5
