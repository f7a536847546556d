//! Who asks for a certificate: the real agent of a machine on paper, or somebody who writes a request by hand.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION, SIGNER, USAGE, groups};
use hatrack_api::{ClusterNode, NODE_GROUP, NODE_USER_PREFIX};
use hatrack_fixtures::{MachineCopy, machine_copy};
use hatrack_testbed::{BootstrapToken, ControlPlane, Program, program, unique};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::until;
use crate::machine::condition;

/// Periods that no test has to wait for.
const PERIODS: &str = "
[lease]
period = \"200ms\"
duration = \"3s\"
[backoff]
min = \"20ms\"
max = \"300ms\"
[nvml]
mode = \"off\"
";

/// A machine with an agent, a token file and nothing else.
pub struct Applicant {
    pub name: String,
    pub hardware_id: String,
    machine: MachineCopy,
    folder: TempDir,
}

impl Applicant {
    /// A worker of this name that no other machine is.
    pub fn new(name: &str) -> Self {
        let machine = machine_copy("vm-empty").unwrap();
        let hardware_id = format!("4c4c4544-0000-4000-8000-{:012x}", fastrand::u64(..) >> 16);
        machine.write("sys/class/dmi/id/product_uuid", format!("{hardware_id}\n")).unwrap();
        Self { name: name.to_owned(), hardware_id, machine, folder: TempDir::new().unwrap() }
    }

    /// Gives the machine its token file.
    pub fn gets(&self, plane: &ControlPlane, token: &BootstrapToken) {
        let text = format!(
            "name = \"{}\"\nclass = \"worker\"\nserver = \"{}\"\nca-hashes = [\"{}\"]\ntoken = \"{}\"\n",
            self.name,
            plane.url(),
            plane.ca_hash().unwrap(),
            token.token
        );
        std::fs::write(self.folder.path().join("token"), text).unwrap();
    }

    /// Takes the token file away.
    pub fn loses_its_token(&self) {
        std::fs::remove_file(self.folder.path().join("token")).unwrap();
    }

    /// Starts its agent.
    pub fn start(&self) -> Program {
        self.program("run", &[])
    }

    /// Asks once with the kubeconfig of its kubelet, as root does.
    pub fn enroll_with(&self, kubeconfig: &Path) -> Program {
        self.program("enroll", &["--with".as_ref(), kubeconfig.as_os_str()])
    }

    fn program(&self, verb: &str, arguments: &[&OsStr]) -> Program {
        let folder = self.folder.path();
        let text = format!(
            "name = \"{}\"\nclass = \"worker\"\nroot = \"{}\"\nstate-dir = \"{}\"\nlisten = \"127.0.0.1:0\"\n{PERIODS}\
             [enrollment]\ntoken-file = \"{}\"\nretry-refused = \"200ms\"\nlifetime = \"10m\"\n",
            self.name,
            self.machine.path().display(),
            folder.join("state").display(),
            folder.join("token").display(),
        );
        let file = folder.join("agent.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program("hatrack-agent").unwrap());
        command.args([verb, "--log-format", "json", "--config"]).arg(&file).args(arguments);
        command.env("HATRACK_LOG", "info,hatrack_agent=debug");
        Program::start(&mut command)
    }
}

/// A token for a worker of this name.
pub async fn token(plane: &ControlPlane, name: &str) -> BootstrapToken {
    plane.publish_cluster_info().await.unwrap();
    plane.bootstrap_token(&groups(name, Class::Worker)).await.unwrap()
}

/// A token for a GPU worker of this name.
pub async fn gpu_token(plane: &ControlPlane, name: &str) -> BootstrapToken {
    plane.bootstrap_token(&groups(name, Class::GpuWorker)).await.unwrap()
}

/// Whoever has a token.
pub async fn bearer(plane: &ControlPlane, token: &BootstrapToken) -> Client {
    let mut config = plane.config_for(&plane.admin_identity().unwrap()).await.unwrap();
    config.auth_info = AuthInfo { token: Some(token.token.clone().into()), ..AuthInfo::default() };
    Client::try_from(config).unwrap()
}

/// What somebody writes by hand: a machine's request, in order unless it is changed.
pub fn request(name: &str, hardware_id: &str) -> Value {
    let subject = format!("{NODE_USER_PREFIX}{name}");
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": unique("hatrack"), "annotations": {HARDWARE_ID_ANNOTATION: hardware_id, CLASS_ANNOTATION: "worker"}},
        "spec": {"request": document(&subject, NODE_GROUP), "signerName": SIGNER, "usages": [USAGE], "expirationSeconds": 600},
    })
}

/// A certification request for a key of its own, as the object has it.
pub fn document(name: &str, group: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    json!(k8s_openapi::ByteString(request.pem().unwrap().into_bytes()))
}

/// Makes a request as somebody.
pub async fn ask(client: &Client, request: Value) -> CertificateSigningRequest {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    requests.create(&PostParams::default(), &serde_json::from_value(request).unwrap()).await.unwrap()
}

fn verdict_of(request: &CertificateSigningRequest) -> Option<CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.as_ref()?.first().cloned()
}

/// Waits for the decision on a request: its type, reason and message.
pub async fn verdict(admin: &Client, request: &CertificateSigningRequest) -> (String, String, String) {
    let requests: Api<CertificateSigningRequest> = Api::all(admin.clone());
    let decided = until(&requests, &request.name_any(), |request| verdict_of(request).is_some()).await;
    let condition = verdict_of(&decided).unwrap();
    (condition.type_, condition.reason.unwrap_or_default(), condition.message.unwrap_or_default())
}

/// Whether nobody has decided a request.
pub async fn is_undecided(admin: &Client, request: &CertificateSigningRequest) -> bool {
    let requests: Api<CertificateSigningRequest> = Api::all(admin.clone());
    verdict_of(&requests.get(&request.name_any()).await.unwrap()).is_none()
}

/// Waits until the machine has its certificate and its ClusterNode is Ready.
pub async fn registered(admin: &Client, agent: &Program, name: &str) -> ClusterNode {
    agent.ready().await;
    let nodes: Api<ClusterNode> = Api::all(admin.clone());
    let is_ready = |node: &ClusterNode| condition(node, "Ready").is_some_and(|ready| ready.status == "True");
    until(&nodes, name, is_ready).await
}
