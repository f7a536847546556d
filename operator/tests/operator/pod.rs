//! The operator in a pod: the address in its environment, a token and a certificate authority in a volume that the kubelet renews.

use std::os::unix::fs::symlink;
use std::path::Path;

use hatrack_api::SYSTEM_NAMESPACE;
use hatrack_api::access::OPERATOR_ACCOUNT;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{Program, unique};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::{Bench, Cluster, MANIFESTS, breakable};
use crate::program::Setup;

/// Gives the program, as its own, a folder where those in pods find what they are.
const IN_A_POD: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount \
    && mount --bind \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";

/// A volume of kind `projected`: what is in it is replaced at once, by a link.
struct Volume(TempDir);

impl Volume {
    fn new(token: &str, authority: &str) -> Self {
        let volume = Self(TempDir::new().unwrap());
        for file in ["token", "ca.crt", "namespace"] {
            symlink(Path::new("..data").join(file), volume.0.path().join(file)).unwrap();
        }
        volume.holds(token, authority);
        volume
    }

    fn holds(&self, token: &str, authority: &str) {
        let name = unique("..");
        let folder = self.0.path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        for (file, text) in [("token", token), ("ca.crt", authority), ("namespace", SYSTEM_NAMESPACE)] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let link = self.0.path().join("..data_tmp");
        symlink(&name, &link).unwrap();
        std::fs::rename(link, self.0.path().join("..data")).unwrap();
    }

    /// Starts the operator in a pod that has this volume.
    fn start(&self, cluster: &Cluster) -> Program {
        let setup = Setup { api: String::new(), tables: String::new() };
        let operator = setup.command(cluster.plane.folder());
        let mut command = std::process::Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", IN_A_POD]).arg(self.0.path());
        command.arg(operator.get_program()).args(operator.get_args());
        command.envs(operator.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (host, port) = cluster.plane.url().trim_start_matches("https://").rsplit_once(':').unwrap();
        command.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
        Program::start(&mut command)
    }
}

/// A token of the operator's service account that is worth something for as long as a Secret is there.
async fn token(bench: &Bench, bound_to: &Secret) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(bench.admin.clone(), SYSTEM_NAMESPACE);
    let to =
        json!({"apiVersion": "v1", "kind": "Secret", "name": bound_to.metadata.name, "uid": bound_to.metadata.uid});
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "boundObjectRef": to}})).unwrap();
    let issued = accounts.create_token_request(OPERATOR_ACCOUNT, &PostParams::default(), &request).await.unwrap();
    issued.status.unwrap().token
}

async fn secret(bench: &Bench) -> (Api<Secret>, Secret) {
    let secrets: Api<Secret> = Api::namespaced(bench.admin.clone(), SYSTEM_NAMESPACE);
    let secret = serde_json::from_value(json!({"metadata": {"name": unique("bound")}})).unwrap();
    let secret = secrets.create(&PostParams::default(), &secret).await.unwrap();
    (secrets, secret)
}

#[tokio::test]
async fn in_a_pod_it_acts_as_its_service_account_and_takes_the_next_token_and_authority() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    cluster.plane.install(&Path::new(MANIFESTS).join("operator/service-account.yaml")).await.unwrap();
    let ((secrets, first), (_, second)) = (secret(&bench).await, secret(&bench).await);
    let foreign = rcgen::generate_simple_self_signed(["another authority".to_owned()]).unwrap().cert.pem();
    let volume = Volume::new(&token(&bench, &first).await, &foreign);
    let operator = volume.start(&cluster);
    let why = operator.not_ready("the API server cannot be reached").await;
    assert!(why.contains("invalid peer certificate: UnknownIssuer"), "{why}");
    volume.holds(&token(&bench, &first).await, cluster.plane.ca_pem());
    operator.ready().await;
    let before = bench.ask(&hat, "ann").await;
    bench.phase(&before, Phase::Active).await;
    let account = format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{OPERATOR_ACCOUNT}");
    assert!(cluster.plane.requests_of(&account).unwrap().iter().any(|request| request.resource == "hatswaps"));

    secrets.delete(first.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    operator.not_ready("Unauthorized").await;
    let after = bench.ask(&hat, "bob").await;
    volume.holds(&token(&bench, &second).await, cluster.plane.ca_pem());
    bench.phase(&after, Phase::Active).await;
    operator.ready().await;
    for binding in [&before, &after] {
        assert_eq!(bench.reasons(binding).await, ["Admitted"]);
    }
}
