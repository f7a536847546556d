//! Somebody who types `hatrack`: a person with a certificate or a service account with a token, each with the roles that
//! `k8s/rbac/people.yaml` has for those who edit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hatrack_api::{GROUP, HatBinding, HatPolicy};
use hatrack_testbed::{PATIENCE, Program, program, soon, unique};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::cluster::{Cluster, create};

/// How often something is asked that nobody announces.
const ASK: Duration = Duration::from_millis(50);

/// Somebody with a kubeconfig.
pub struct Person<'a> {
    cluster: &'a Cluster,
    user: String,
    spiffe_id: String,
    kubeconfig: PathBuf,
}

/// A `hatrack` that has ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl<'a> Person<'a> {
    /// A person who is in `identities` of HatPolicy `default`.
    pub async fn arrives(cluster: &'a Cluster, name: &str) -> Self {
        let (user, spiffe_id) = (unique(name), format!("spiffe://cluster.local/people/{name}"));
        let row = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy",
            "spec": {"identities": [{"user": user, "spiffeID": spiffe_id}]}});
        let policies: Api<HatPolicy> = Api::all(cluster.admin.clone());
        policies.patch("default", &PatchParams::apply(&user), &Patch::Apply(row)).await.unwrap();
        let certificate = cluster.plane.client_certificate(&user, &[], PATIENCE * 60).unwrap();
        let kubeconfig = cluster.plane.kubeconfig_for(&certificate).unwrap();
        Self { cluster, user, spiffe_id, kubeconfig }.edits().await
    }

    /// A service account of the tenant's namespace, with a token from the API server.
    pub async fn account(cluster: &'a Cluster, name: &str) -> Self {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.admin.clone(), &cluster.namespace);
        create(accounts.clone(), json!({"metadata": {"name": name}})).await;
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let issued = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        let kubeconfig = cluster.plane.kubeconfig_for(&cluster.plane.admin_identity().unwrap()).unwrap();
        let mut document: Value = serde_json::from_str(&std::fs::read_to_string(&kubeconfig).unwrap()).unwrap();
        document["users"][0]["user"] = json!({"token": issued.status.unwrap().token});
        std::fs::write(&kubeconfig, document.to_string()).unwrap();
        let user = format!("system:serviceaccount:{}:{name}", cluster.namespace);
        let spiffe_id = format!("spiffe://cluster.local/ns/{}/sa/{name}", cluster.namespace);
        Self { cluster, user, spiffe_id, kubeconfig }.edits().await
    }

    /// Gives somebody the roles of those who edit.
    async fn edits(self) -> Self {
        for role in ["hatrack:view", "hatrack:edit"] {
            self.is_bound_to(role).await;
        }
        self.is_allowed(&json!({"group": GROUP, "resource": "hats", "verb": "list"})).await;
        self.is_allowed(&json!({"group": GROUP, "resource": "hatbindings", "verb": "patch"})).await;
        self
    }

    /// Gives somebody a verb on a hat.
    pub async fn may(&self, verb: &str, hat: &str) {
        let name = unique("may");
        let rule = json!({"apiGroups": [GROUP], "resources": ["hats"], "resourceNames": [hat], "verbs": [verb]});
        let role = json!({"metadata": {"name": name}, "rules": [rule]});
        create::<ClusterRole>(Api::all(self.cluster.admin.clone()), role).await;
        self.is_bound_to(&name).await;
        self.is_allowed(&json!({"group": GROUP, "resource": "hats", "name": hat, "verb": verb})).await;
    }

    async fn is_bound_to(&self, role: &str) {
        let binding = json!({"metadata": {"name": unique("bound")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}]});
        create::<ClusterRoleBinding>(Api::all(self.cluster.admin.clone()), binding).await;
    }

    /// Waits until the authorizer allows it.
    pub async fn is_allowed(&self, attributes: &Value) {
        let review = json!({"metadata": {}, "spec": {"user": self.user, "resourceAttributes": attributes}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let reviews = Api::all(self.cluster.admin.clone());
        let asked = async {
            while !reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed {
                sleep(ASK).await;
            }
        };
        soon(&format!("that {} may {attributes}", self.user), asked).await;
    }

    /// Waits until the policies know the SPIFFE id: they learn of it a moment later, by a watch of their own. Somebody may wear the hat.
    pub async fn is_known_to_wear(&self, hat: &str) {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let bindings = Api::namespaced(Client::try_from(config).unwrap(), &self.cluster.namespace);
        let spec = json!({"hat": hat, "wearer": {"spiffeID": self.spiffe_id}});
        let own = HatBinding::new(&unique("probe"), serde_json::from_value(spec).unwrap());
        let try_out = PostParams { dry_run: true, ..PostParams::default() };
        let asked = async {
            while bindings.create(&try_out, &own).await.is_err() {
                sleep(ASK).await;
            }
        };
        soon(&format!("that {} is known", self.user), asked).await;
    }

    /// `hatrack`, with the words of `line` as its arguments.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program("hatrack").unwrap());
        command.args(line.split_whitespace()).env_clear().env("KUBECONFIG", &self.kubeconfig);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Types a line, and reads what comes of it.
    pub async fn types(&self, line: &str) -> Ended {
        self.shown(line, self.run(line).await)
    }

    async fn run(&self, line: &str) -> Ended {
        let mut command = self.command(line);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Who reads how a test failed reads what people saw.
    fn shown(&self, line: &str, ended: Ended) -> Ended {
        eprintln!("{} $ hatrack {line}\n{}{}", self.user, ended.stdout, ended.stderr);
        ended
    }

    /// Types a line that succeeds.
    pub async fn does(&self, line: &str) -> String {
        let ended = self.types(line).await;
        assert_eq!(ended.code, 0, "{line}");
        ended.stdout
    }

    /// Types it until it says so: what is told follows what was done a moment later.
    pub async fn until_told(&self, line: &str, words: &[&str]) -> Ended {
        let mut last = String::new();
        let asked = async {
            loop {
                let ended = self.run(line).await;
                if words.iter().all(|words| ended.stdout.contains(words)) {
                    return self.shown(line, ended);
                }
                last = ended.stdout;
                sleep(ASK).await;
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(ended) => ended,
            Err(elapsed) => panic!("`hatrack {line}` does not say {words:?}: {elapsed}: {last}"),
        }
    }

    /// The structure that a line prints.
    pub async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.types(&format!("{line} -o json")).await.stdout).unwrap()
    }

    /// Types a line that goes on, with a command behind it perhaps.
    pub fn begins(&self, line: &str, behind: &[&str]) -> Running {
        let file = self.cluster.plane.folder().join(unique("printed"));
        let mut command = self.command(line);
        command.args(behind).stdout(std::fs::File::create(&file).unwrap()).stdin(Stdio::null());
        Running { program: Program::start(&mut command), file }
    }
}

/// A `hatrack` that runs. What it says to people is the log of `program`.
pub struct Running {
    pub program: Program,
    file: PathBuf,
}

impl Running {
    /// What it has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// Waits until it has printed something.
    pub async fn prints(&self, words: &str) -> String {
        let read = async {
            loop {
                let printed = self.printed();
                if printed.contains(words) {
                    return printed;
                }
                sleep(ASK).await;
            }
        };
        match timeout(PATIENCE, read).await {
            Ok(printed) => printed,
            Err(elapsed) => {
                panic!("{words:?} is not printed: {elapsed}: {}\n{:#?}", self.printed(), self.program.lines())
            }
        }
    }
}

/// A command that prints what it is told, goes on until a file is there, and says in which way it was ended.
pub fn script(file: &Path) -> String {
    format!("trap 'echo ended; exit 3' TERM; env; until [ -e '{}' ]; do sleep 0.05; done; exit 7", file.display())
}
