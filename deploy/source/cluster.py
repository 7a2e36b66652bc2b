"""What can be seen of the Kubernetes file without a cluster: its schemas, and that its parts fit each other and the gateway.
Wants PyYAML, and kubernetes-validate for the schemas."""

import subprocess
import tempfile
from pathlib import Path

from stage import ROOT
from written import KUBERNETES, LAST_SPANS_SECONDS, OPERATORS_PORT, SETTINGS, default, setting

# The oldest version that has everything the file uses (ReadWriteOncePod), and the newest that is looked at.
VERSIONS = ("1.29", "1.34")


def objects(text):
    import yaml

    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def schemas_allow(texts, validator):
    """Every object is what its kind prescribes, with no field that is not known."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "objects.yaml")
        file.write_text(texts[KUBERNETES])
        for version in VERSIONS:
            done = subprocess.run([validator, "--strict", "--kubernetes-version", version, file], capture_output=True, text=True)
            if done.returncode != 0:
                yield f"kubernetes-validate, {version}: {(done.stdout + done.stderr).strip()}"


def parts_fit(texts):
    """What no schema knows."""
    found = objects(texts[KUBERNETES])
    stateful = found["StatefulSet", "notification-gateway"]
    pod = stateful["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    if stateful["spec"]["replicas"] != 1:
        yield "more than one process would want the log"
    if pod["terminationGracePeriodSeconds"] <= default("shutdown.timeout") + LAST_SPANS_SECONDS:
        yield "the pod is killed before it has told everybody to leave"
    if container["image"].partition(":")[2] in ("", "latest"):
        yield "the image has no version"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if ports != {"http": 8000, "ops": OPERATORS_PORT}:
        yield f"the ports are {ports}"
    for kind, path in (("startup", "live"), ("readiness", "ready"), ("liveness", "live")):
        probe = container.get(f"{kind}Probe", {}).get("httpGet", {})
        if probe != {"path": f"/health/{path}", "port": "ops"}:
            yield f"the {kind} probe asks {probe}"
    yield from files_are_there(texts, stateful, pod, container)
    yield from confined(pod, container)
    yield from only_who_may(found, labels)


def files_are_there(texts, stateful, pod, container):
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    if any("subPath" in mount for mount in mounts.values()):
        yield "a file that is mounted by subPath never changes"
    # Where the image keeps the log.
    log = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if "GATEWAY_LOG_STORE=" in line)
    directory = log.partition("GATEWAY_LOG_STORE=disk:")[2].split()[0]
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    if mounts.get(directory, {}).get("name") not in claims:
        yield f"no volume is at {directory}, where the log is"
    if any(spec["accessModes"] != ["ReadWriteOncePod"] for spec in claims.values()):
        yield "another pod could open the log"
    projected = next(volume["projected"] for volume in pod["volumes"] if volume["name"] == "configuration")
    items = [item["path"] for source in projected["sources"] for item in source.get("secret", {}).get("items", [])]
    for key in ("auth.api_keys_file", "auth.token_key_files"):
        path = Path(setting(texts[SETTINGS], key).strip('[]"'))
        if str(path.parent) not in mounts or path.name not in items:
            yield f"{key}, {path}, is not mounted"


def confined(pod, container):
    context = container["securityContext"]
    if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"] or context["capabilities"] != {"drop": ["ALL"]}:
        yield "the container may do more than it needs"
    if not pod["securityContext"]["runAsNonRoot"] or pod["automountServiceAccountToken"] or pod["enableServiceLinks"]:
        yield "the pod may do more than it needs"
    if f"useradd --system --uid {pod['securityContext']['runAsUser']} " not in (ROOT / "Dockerfile").read_text():
        yield "the image has no such user"
    if "memory" not in container["resources"].get("limits", {}):
        yield "nothing says from how much memory on the gateway has to refuse"


def only_who_may(found, labels):
    for (kind, name), one in found.items():
        if kind == "Service" and one["spec"]["selector"] != labels:
            yield f"the service {name} finds no pod"
    public = {port["targetPort"] for port in found["Service", "notification-gateway"]["spec"]["ports"]}
    if public != {"http"}:
        yield "the public service leads to the operators' port"
    policy = found["NetworkPolicy", "notification-gateway"]["spec"]
    if policy["podSelector"] != {"matchLabels": labels}:
        yield "the network policy finds no pod"
    for rule in policy["ingress"]:
        if not rule.get("from") or not rule.get("ports"):
            yield "the network policy lets everybody in, or to every port"
        elif {port["port"] for port in rule["ports"]} not in ({"http"}, {"ops"}):
            yield "whoever may reach one port may reach the other"
    ingress = found["Ingress", "notification-gateway"]
    timeout = ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/proxy-read-timeout", "0")
    if int(timeout) < 2 * 1.2 * default("sessions.heartbeat"):
        yield "the ingress ends a socket that is silent between two heartbeats"
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            if path["backend"]["service"] != {"name": "notification-gateway", "port": {"name": "http"}}:
                yield "the ingress leads elsewhere"


# Faults: what is written instead of what, and the words that have to be said of it.
FAULTS = (
    ("replicas: 1", "replicas: 2", "more than one process"),
    ("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 12", "is killed before"),
    ("gateway:0.1.0", "gateway:latest", "no version"),
    ("path: /health/ready, port: ops", "path: /health/ready, port: http", "the readiness probe asks"),
    ("mountPath: /data}", "mountPath: /var/data}", "no volume is at /data"),
    ("[ReadWriteOncePod]", "[ReadWriteMany]", "could open the log"),
    ("path: token-key}", "path: token}", "auth.token_key_files"),
    ("readOnly: true}", "readOnly: true, subPath: gateway.toml}", "never changes"),
    ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "the container may do more"),
    ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "the pod may do more"),
    ("runAsUser: 10001", "runAsUser: 10002", "no such user"),
    ("            limits: {memory: 4Gi}\n", "", "from how much memory"),
    ("port: 8000, targetPort: http", "port: 8000, targetPort: ops", "leads to the operators' port"),
    ("ports: [{port: ops}]", "ports: [{port: ops}, {port: http}]", "may reach the other"),
    ("    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]\n      ports:",
     "    - ports:", "lets everybody in"),
    ('proxy-read-timeout: "75"', 'proxy-read-timeout: "30"', "the ingress ends"),
    ("backend: {service: {name: notification-gateway,", "backend: {service: {name: gateway,", "leads elsewhere"),
)  # fmt: skip
FAULTS_OF_SCHEMAS = (
    ("terminationGracePeriodSeconds: 30", "terminationGraceSeconds: 30\n      terminationGracePeriodSeconds: 30",
     "kubernetes-validate"),
    ("failureThreshold: 150", "failureThreshold: many", "kubernetes-validate"),
    ("pathType: Prefix", "pathKind: Prefix", "kubernetes-validate"),
)  # fmt: skip
