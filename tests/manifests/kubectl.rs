//! A real kubectl against a real API server that knows nothing of hatrack yet.

use std::path::{Path, PathBuf};

use hatrack_testbed::{ControlPlane, Options};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{k8s, named};

/// kubectl with the rights of an administrator.
struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What it printed, and whether it was content.
struct Said {
    well: bool,
    out: String,
    err: String,
}

impl Kubectl {
    fn of(plane: &ControlPlane) -> Self {
        let kubeconfig = plane.kubeconfig_for(&plane.admin_identity().unwrap()).unwrap();
        Self { program: hatrack_testbed::kubectl().unwrap(), kubeconfig }
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(&self.program);
        // Its cache of what a server serves is by address, and the next server has the address of an earlier one.
        let cache = self.kubeconfig.with_extension("cache");
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments).arg("--cache-dir").arg(cache);
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { well: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    async fn apply(&self, folder: &Path) -> Said {
        self.run(&["apply", "--kustomize", folder.to_str().unwrap()]).await
    }

    /// As Argo CD does.
    async fn apply_by_the_server(&self, folder: &Path) -> Said {
        self.run(&["apply", "--server-side", "--force-conflicts", "--kustomize", folder.to_str().unwrap()]).await
    }
}

impl Said {
    #[track_caller]
    fn well(self) -> String {
        assert!(self.well, "{}{}", self.out, self.err);
        self.out
    }
}

/// What `kubectl kustomize` makes of a folder; no server is asked.
pub(crate) async fn built(folder: &Path) -> Vec<DynamicObject> {
    let program = hatrack_testbed::kubectl().unwrap();
    let output = Command::new(program).arg("kustomize").arg(folder).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// Name and version of every object in `k8s/`, as the server has them.
async fn versions(plane: &ControlPlane) -> Vec<(String, String)> {
    let admin = plane.admin().await.unwrap();
    let mut versions = vec![];
    for object in hatrack_testbed::manifests(&k8s("")).unwrap() {
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let (resource, _) = kube::discovery::pinned_kind(&admin, &kind).await.unwrap();
        let api: Api<DynamicObject> = match object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &resource),
            None => Api::all_with(admin.clone(), &resource),
        };
        let stored = api.get(object.metadata.name.as_deref().unwrap()).await.unwrap();
        versions.push((named(&object), stored.metadata.resource_version.unwrap()));
    }
    versions
}

/// As in README.md. kubectl looks the kinds up before it applies anything, so that those of `k8s/crds` have to be there before.
#[tokio::test]
async fn everything_is_applied_and_again_changes_nothing() {
    let plane = ControlPlane::private(Options::default()).await.unwrap();
    let kubectl = Kubectl::of(&plane);
    let early = kubectl.apply(&k8s("hats")).await;
    assert!(!early.well && early.err.contains("no matches for kind \"Hat\""), "{}", early.err);
    kubectl.apply(&k8s("crds")).await.well();
    kubectl.run(&["wait", "--for=condition=Established", "crd", "--all"]).await.well();
    kubectl.apply(&k8s("")).await.well();
    let applied = versions(&plane).await;
    assert!(applied.len() > 30, "{applied:?}");
    let again = kubectl.apply(&k8s("")).await.well();
    let changed: Vec<_> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
    assert_eq!((changed, again.lines().count()), (vec![], applied.len()));
    assert_eq!(versions(&plane).await, applied);
    kubectl.apply_by_the_server(&k8s("")).await.well();
    let applied = versions(&plane).await;
    kubectl.apply_by_the_server(&k8s("")).await.well();
    assert_eq!(versions(&plane).await, applied);
}

/// Go writes a whole number without a point.
fn plain(value: Value) -> Value {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "it has no fraction")]
        Value::Number(number) => match number.as_f64().filter(|float| float.fract() == 0.0) {
            Some(whole) => json!(whole as i64),
            None => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}

/// What the other tests install is what people install.
#[tokio::test]
async fn the_test_bed_applies_what_kubectl_applies() {
    for folder in ["", "operator"] {
        let ours = hatrack_testbed::manifests(&k8s(folder)).unwrap();
        let theirs = built(&k8s(folder)).await;
        let names = |objects: &[DynamicObject]| objects.iter().map(named).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "k8s/{folder}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(plain(json!(ours)) == plain(json!(theirs)), "k8s/{folder}: {} differs", named(ours));
        }
    }
}

#[tokio::test]
async fn the_health_checks_leave_the_rest_of_argo_cds_configuration() {
    let plane = ControlPlane::shared().await.unwrap();
    let admin = plane.admin().await.unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "argocd"}})).unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(admin, "argocd");
    let theirs = json!({"metadata": {"name": "argocd-cm"}, "data": {"url": "https://argocd.example.org"}});
    maps.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
    let kubectl = Kubectl::of(&plane);
    let said = kubectl.apply_by_the_server(&k8s("apps")).await;
    assert!(said.err.contains("no matches for kind \"Application\""), "{}", said.err);
    assert_eq!(said.out.trim(), "configmap/argocd-cm serverside-applied");
    let data = maps.get("argocd-cm").await.unwrap().data.unwrap();
    assert_eq!(data["url"], "https://argocd.example.org");
    let checks = ["HatBinding", "ClusterNode", "Hat"]
        .map(|kind| format!("resource.customizations.health.society.zeta.io_{kind}"));
    for check in checks {
        assert!(data[&check].contains("return health(\"Healthy\""), "{check}");
    }
}
