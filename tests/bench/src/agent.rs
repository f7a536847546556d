//! The agent under measurement, with its own certificate, against a control plane with everything in `k8s/`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use hatrack_api::access;
use hatrack_testbed::{ControlPlane, Identity, unique};
use kube::Client;
use kube::api::{Api, PostParams};
use tempfile::TempDir;

use crate::answers::Answers;

/// A control plane that knows what a node is.
pub(crate) struct Cluster {
    /// The administrator's client.
    pub(crate) admin: Client,
    binary: PathBuf,
}

/// A node that may register.
pub(crate) struct Node {
    /// Name of its ClusterNode.
    pub(crate) name: String,
    /// Its certificate.
    pub(crate) identity: Identity,
    folder: TempDir,
}

/// A running agent; it ends with this value.
pub(crate) struct Agent(Child);

impl Cluster {
    /// Applies `k8s/` to a control plane.
    pub(crate) async fn install(plane: &ControlPlane, binary: PathBuf) -> Result<Self> {
        plane.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s")).await?;
        Ok(Self { admin: plane.admin().await?, binary })
    }

    /// Lets a new node in, and waits until it may write.
    pub(crate) async fn admit(&self, plane: &ControlPlane) -> Result<Node> {
        let name = unique("bench");
        let (role, binding) = access::node(&name);
        Api::all(self.admin.clone()).create(&PostParams::default(), &role).await?;
        Api::all(self.admin.clone()).create(&PostParams::default(), &binding).await?;
        let identity = plane.node_identity(&name)?;
        let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
            Api::namespaced(plane.client_for(&identity).await?, hatrack_api::SYSTEM_NAMESPACE);
        while let Err(kube::Error::Api(status)) = leases.get(&name).await
            && status.code == 403
        {
            tokio::task::yield_now().await;
        }
        Ok(Node { name, identity, folder: tempfile::tempdir()? })
    }

    /// Starts the agent on a machine on paper, of which `answers` tell more.
    pub(crate) fn start(
        &self,
        node: &Node,
        kubeconfig: &Path,
        root: &Path,
        answers: Option<&Answers>,
    ) -> Result<Agent> {
        let file = node.folder.path().join("agent.toml");
        let state = node.folder.path().join("state");
        let told = answers.map_or_else(|| "[nvml]\nmode = \"off\"\n".to_owned(), Answers::configuration);
        std::fs::write(&file, configuration(node, kubeconfig, root, &state) + &told)?;
        let child = Command::new(&self.binary)
            .args(["run", "--config"])
            .arg(&file)
            .envs(answers.into_iter().flat_map(Answers::environment))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.binary.display()))?;
        Ok(Agent(child))
    }
}

fn configuration(node: &Node, kubeconfig: &Path, root: &Path, state: &Path) -> String {
    let Node { name, .. } = node;
    let (kubeconfig, root, state) = (kubeconfig.display(), root.display(), state.display());
    format!(
        "name = \"{name}\"\nclass = \"gpu-worker\"\nlisten = \"127.0.0.1:0\"\nroot = \"{root}\"\nstate-dir = \"{state}\"\n\
         [api]\nkubeconfig = \"{kubeconfig}\"\n"
    )
}

impl Agent {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A child that has ended already is what is wanted.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
