//! `hatrack` against a real API server.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

#[path = "kubernetes/hats.rs"]
mod hats;
#[path = "kubernetes/tokens.rs"]
mod tokens;
#[path = "kubernetes/wearing.rs"]
mod wearing;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::{ClusterNode, access};
use hatrack_testbed::{ControlPlane, FaultProxy, unique};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s");

/// For what a test awaits: longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Cluster {
    plane: Arc<ControlPlane>,
    nodes: Api<ClusterNode>,
    nodes_as_operator: Api<ClusterNode>,
    kubeconfig: PathBuf,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        plane.install(Path::new(MANIFESTS)).await.unwrap();
        let nodes = Api::all(plane.admin().await.unwrap());
        let nodes_as_operator = Api::all(plane.operator().await.unwrap());
        let kubeconfig = plane.kubeconfig_for(&plane.admin_identity().unwrap()).unwrap();
        Self { plane, nodes, nodes_as_operator, kubeconfig }
    }

    fn command(&self, line: &str) -> Command {
        command(&self.kubeconfig, line)
    }

    async fn run(&self, line: &str) -> Ended {
        run(&self.kubeconfig, line).await
    }
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(kubeconfig: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hatrack"));
    command.args(line.split_whitespace()).env_clear().env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    command
}

async fn run(kubeconfig: &Path, line: &str) -> Ended {
    let output = command(kubeconfig, line).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A machine that can be registered, as an argument.
fn root(machine: &hatrack_fixtures::Fixture) -> String {
    format!("--root {}", machine.path().display())
}

#[tokio::test]
async fn a_machine_is_registered_and_registered_again() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let machine = hatrack_fixtures::machine("phones-20").unwrap();
    let register = format!("register --name {name} {} --class phone-orchestrator", root(&machine));
    let first = cluster.run(&format!("{register} --expect phones=20")).await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stdout.contains(&name) && first.stdout.contains("0/20"), "{}", first.stdout);

    let node = cluster.nodes.get(&name).await.unwrap();
    assert_eq!(node.spec.expects.as_ref().unwrap().phones, Some(20));
    assert_eq!(node.metadata.labels.as_ref().unwrap()["society.zeta.io/class"], "phone-orchestrator");
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, node.metadata.generation);
    assert_eq!(status.devices.as_ref().unwrap().iter().filter(|d| d.class.as_str() == "phone").count(), 20);
    let writers = node.metadata.managed_fields.as_ref().unwrap();
    let mut writers: Vec<_> = writers.iter().map(|w| (w.manager.as_deref(), w.subresource.as_deref())).collect();
    writers.sort_unstable();
    assert_eq!(writers, [(Some("hatrack"), None), (Some("hatrack-agent"), Some("status"))]);

    let again = cluster.run(&register).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    let same = cluster.nodes.get(&name).await.unwrap();
    assert_eq!(
        same.metadata.resource_version, node.metadata.resource_version,
        "nothing changed, so nothing is written"
    );
}

#[tokio::test]
async fn another_machine_and_a_broken_rule_are_refused() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let machine = hatrack_fixtures::machine("server-8gpu").unwrap();
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let before = cluster.nodes.get(&name).await.unwrap();

    let other = hatrack_fixtures::machine("phones-20").unwrap();
    let refused = cluster.run(&format!("register --name {name} {}", root(&other))).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is another machine") && refused.stderr.contains("hint: "), "{}", refused.stderr);

    let hats = json!({"status": {"hats": [{"binding": "b", "name": "executor", "wearer": "w", "phase": "Active"}]}});
    cluster.nodes_as_operator.patch_status(&name, &PatchParams::default(), &Patch::Merge(hats)).await.unwrap();
    let refused = cluster.run(&format!("register --name {name} {} --class worker", root(&machine))).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("spec.class cannot change while hats are worn"), "{}", refused.stderr);

    let after = cluster.nodes.get(&name).await.unwrap();
    assert_eq!(after.spec, before.spec);
    assert!(after.status.unwrap().hats.is_some());
}

#[tokio::test]
async fn nodes_are_listed_by_name_and_in_every_form() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let machine = hatrack_fixtures::machine("vm-empty").unwrap();
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let table = cluster.run(&format!("nodes {name}")).await;
    assert!(table.stdout.contains(&name) && table.stdout.contains("Unknown"), "{}", table.stdout);
    let list: Value = serde_json::from_str(&cluster.run(&format!("nodes {name} -o json")).await.stdout).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], name);
    let names = cluster.run(&format!("nodes {name} -o name")).await;
    assert_eq!(names.stdout, format!("clusternode.society.zeta.io/{name}\n"));
    let nobody = cluster.run(&format!("nodes {name}-x")).await;
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""));
    assert_eq!(cluster.run(&format!("phones {name}")).await.code, 0);
}

#[tokio::test]
async fn what_the_api_server_does_not_allow_is_said_with_a_hint() {
    let cluster = Cluster::start().await;
    let stranger = cluster.plane.client_certificate("nobody", &["strangers"], PATIENCE).unwrap();
    let kubeconfig = cluster.plane.kubeconfig_for(&stranger).unwrap();
    let refused = run(&kubeconfig, "nodes").await;
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.starts_with("error: the API server refused to list nodes\n"), "{}", refused.stderr);
    assert!(refused.stderr.contains("User \"nobody\" cannot list resource \"clusternodes\""), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: ask who runs the cluster"), "{}", refused.stderr);
}

/// A person with a role of `k8s/rbac/people.yaml`, once the API server acts on it.
async fn person(cluster: &Cluster, role: &str) -> PathBuf {
    let user = unique("person");
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": user}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.plane.admin().await.unwrap());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let certificate = cluster.plane.client_certificate(&user, &[], PATIENCE).unwrap();
    let kubeconfig = cluster.plane.kubeconfig_for(&certificate).unwrap();
    let listed = async { while run(&kubeconfig, "nodes").await.code != 0 {} };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
    kubeconfig
}

#[tokio::test]
async fn who_administers_nodes_cordons_revokes_and_repins_them() {
    let cluster = Cluster::start().await;
    let (name, machine) = (unique("cli"), hatrack_fixtures::machine("vm-empty").unwrap());
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let admin = person(&cluster, "hatrack:admin").await;
    let spec = async |line: &str| {
        let ended = run(&admin, &line.replace("NODE", &name)).await;
        assert!(ended.code == 0 && ended.stderr.starts_with("ok: "), "{line}: {}", ended.stderr);
        cluster.nodes.get(&name).await.unwrap().spec
    };
    assert_eq!(spec("node cordon NODE").await.unschedulable, Some(true));
    assert_eq!(spec("node uncordon NODE").await.unschedulable, None);
    assert_eq!(spec("node repin NODE --yes").await.hardware_id, None);
    assert_eq!(spec("node revoke NODE").await.revoked, Some(true));
    let node = cluster.nodes.get(&name).await.unwrap();
    let owners =
        node.metadata.managed_fields.unwrap().into_iter().filter(|field| field.manager.as_deref() == Some("hatrack"));
    assert!(owners.count() >= 1, "what a person says is theirs");

    let viewer = person(&cluster, "hatrack:view").await;
    let denied = run(&viewer, &format!("node cordon {name}")).await;
    assert_eq!(denied.code, 2);
    assert!(denied.stderr.starts_with("error: the API server refused to change the node\n"), "{}", denied.stderr);
    assert!(denied.stderr.contains("cannot patch resource \"clusternodes\""), "{}", denied.stderr);
    assert!(denied.stderr.contains("hint: ask who runs the cluster"), "{}", denied.stderr);
}

#[tokio::test]
async fn a_node_is_removed_with_its_rights_or_not_at_all() {
    let cluster = Cluster::start().await;
    let (name, machine) = (unique("cli"), hatrack_fixtures::machine("vm-empty").unwrap());
    let client = cluster.plane.admin().await.unwrap();
    let (role, binding) = access::node(&name);
    let (roles, bindings) = (Api::<ClusterRole>::all(client.clone()), Api::<ClusterRoleBinding>::all(client.clone()));
    roles.create(&PostParams::default(), &role).await.unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let grant = access::node_role_name(&name);

    let admin = person(&cluster, "hatrack:admin").await;
    let denied = run(&admin, &format!("node remove {name} --yes")).await;
    assert_eq!(denied.code, 2);
    let said = "error: the API server refused to remove what the node may do\n";
    assert!(denied.stderr.starts_with(said) && denied.stderr.contains("cannot delete"), "{}", denied.stderr);
    assert!(bindings.get_opt(&grant).await.unwrap().is_some() && cluster.nodes.get_opt(&name).await.unwrap().is_some());

    let hats = json!({"status": {"hats": [{"binding": "b", "name": "executor", "wearer": "w", "phase": "Active"}]}});
    cluster.nodes_as_operator.patch_status(&name, &PatchParams::default(), &Patch::Merge(hats)).await.unwrap();
    let worn = cluster.run(&format!("node remove {name} --yes")).await;
    assert_eq!(worn.code, 1);
    assert!(worn.stderr.starts_with(&format!("error: hats are worn on {name}: executor\n")), "{}", worn.stderr);
    assert!(cluster.nodes.get_opt(&name).await.unwrap().is_some());

    let removed = cluster.run(&format!("node remove {name} --yes --force")).await;
    assert_eq!(removed.stderr, format!("ok: {name} is removed: ClusterRoleBinding, ClusterRole, ClusterNode\n"));
    assert!(bindings.get_opt(&grant).await.unwrap().is_none() && roles.get_opt(&grant).await.unwrap().is_none());
    assert!(cluster.nodes.get_opt(&name).await.unwrap().is_none());
    assert_eq!(cluster.run(&format!("node remove {name} --yes")).await.code, 1, "there is no such node");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_an_error_and_not_an_empty_cluster() {
    let cluster = Cluster::start().await;
    let admin = cluster.plane.admin_identity().unwrap();
    let proxy = FaultProxy::start(&cluster.plane, &admin).unwrap();
    proxy.refuse_connections().await;
    let kubeconfig = cluster.plane.kubeconfig_via(proxy.url(), &admin).unwrap();
    let failed = run(&kubeconfig, "nodes").await;
    assert_eq!((failed.code, failed.stdout.as_str()), (2, ""));
    assert!(failed.stderr.contains("failed to list nodes") && failed.stderr.contains("hint: "), "{}", failed.stderr);
}

/// A `hatrack nodes --watch` and what it prints.
struct Watching {
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Watching {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { lines, _process: process }
    }

    /// The next line that says something about `what`.
    async fn line(&mut self, what: &str) -> String {
        let find = async {
            loop {
                let line = self.lines.next_line().await.unwrap().unwrap();
                if line.contains(what) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, find).await.unwrap()
    }
}

async fn set_ready(cluster: &Cluster, name: &str, status: &str) {
    let condition = json!({
        "type": "Ready", "status": status, "reason": "Said", "message": "a test says so",
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    });
    let patch = json!({"status": {"conditions": [condition]}});
    cluster.nodes_as_operator.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_watch_shows_each_change_as_a_line() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let machine = hatrack_fixtures::machine("vm-empty").unwrap();
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let mut watching = Watching::start(cluster.command(&format!("nodes --watch {name}")));
    assert!(watching.line(&name).await.starts_with(&name));
    set_ready(&cluster, &name, "True").await;
    assert!(watching.line(&name).await.ends_with(&format!("{name}  Unknown -> Ready")));
    set_ready(&cluster, &name, "False").await;
    assert!(watching.line(&name).await.contains("Ready -> NotReady"));
    cluster.nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    assert!(watching.line(&name).await.ends_with("gone"));
}

#[tokio::test]
async fn a_watch_outlives_the_connection() {
    let cluster = Cluster::start().await;
    let admin = cluster.plane.admin_identity().unwrap();
    let proxy = FaultProxy::start(&cluster.plane, &admin).unwrap();
    let kubeconfig = cluster.plane.kubeconfig_via(proxy.url(), &admin).unwrap();
    let name = unique("cli");
    let machine = hatrack_fixtures::machine("vm-empty").unwrap();
    assert_eq!(cluster.run(&format!("register --name {name} {}", root(&machine))).await.code, 0);
    let mut watching = Watching::start(command(&kubeconfig, &format!("nodes --watch {name} -o json")));
    let first: Value = serde_json::from_str(&watching.line(&name).await).unwrap();
    assert_eq!(
        (first["type"].as_str(), first["object"]["metadata"]["name"].as_str()),
        (Some("Applied"), Some(name.as_str()))
    );
    proxy.cut().await;
    cluster.nodes.delete(&name, &DeleteParams::default()).await.unwrap();
    proxy.restore().unwrap();
    let last: Value = serde_json::from_str(&watching.line(&name).await).unwrap();
    assert_eq!(last["type"], "Deleted");
}
