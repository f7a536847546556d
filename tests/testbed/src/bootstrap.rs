//! What a cluster has for machines that know nothing yet: tokens, and the public description of itself.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};

const TOKENS: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";

/// A bootstrap token: what `kubeadm token create` makes.
#[derive(Debug, Clone)]
pub struct BootstrapToken {
    /// What is shown to the API server, `<id>.<secret>`.
    pub token: String,
    /// Name of its Secret in `kube-system`.
    pub secret: String,
}

impl ControlPlane {
    /// A token that lets its bearer in with these groups besides `system:bootstrappers`.
    ///
    /// # Errors
    /// When the API server refuses its Secret.
    pub async fn bootstrap_token(&self, groups: &[String]) -> Result<BootstrapToken> {
        let (id, rest) = (random(6)?, random(16)?);
        let secret = format!("bootstrap-token-{id}");
        let content = json!({"type": "bootstrap.kubernetes.io/token", "stringData": {
            "token-id": id, "token-secret": rest, "usage-bootstrap-authentication": "true",
            "auth-extra-groups": groups.join(","),
        }});
        self.put::<Secret>(TOKENS, &secret, content).await?;
        Ok(BootstrapToken { token: format!("{id}.{rest}"), secret })
    }

    /// Ends a token.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn revoke_token(&self, token: &BootstrapToken) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.admin().await?, TOKENS);
        let deleted = secrets.delete(&token.secret, &DeleteParams::default()).await;
        deleted.map(drop).map_err(Error::api(format!("delete {}", token.secret)))
    }

    /// Lets everybody read the address and the authority of this cluster, as kubeadm does.
    ///
    /// # Errors
    /// When the API server refuses an object.
    pub async fn publish_cluster_info(&self) -> Result<()> {
        let authority = ByteString(self.ca_pem().as_bytes().to_vec());
        let cluster = json!({"server": self.url(), "certificate-authority-data": authority});
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}]});
        let data = json!({"data": {"kubeconfig": kubeconfig.to_string()}});
        self.put::<ConfigMap>(PUBLIC, CLUSTER_INFO, data).await?;
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CLUSTER_INFO], "verbs": ["get"]}]);
        self.put::<Role>(PUBLIC, CLUSTER_INFO, json!({"rules": rules})).await?;
        let group = "rbac.authorization.k8s.io";
        let subjects = json!([{"apiGroup": group, "kind": "User", "name": "system:anonymous"}]);
        let role = json!({"apiGroup": group, "kind": "Role", "name": CLUSTER_INFO});
        self.put::<RoleBinding>(PUBLIC, CLUSTER_INFO, json!({"roleRef": role, "subjects": subjects})).await
    }

    /// `sha256:` and the hash of the authority's certificate: what a machine's token file names.
    ///
    /// # Errors
    /// When the authority's file is no PEM.
    pub fn ca_hash(&self) -> Result<String> {
        let certificate = CertificateDer::from_pem_slice(self.ca_pem().as_bytes())
            .map_err(|error| Error::Manifest { path: "ca.pem".into(), reason: error.to_string() })?;
        let hash = digest(&SHA256, &certificate);
        let digits: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("sha256:{}", digits.concat()))
    }

    async fn put<K>(&self, namespace: &str, name: &str, mut content: Value) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        content["apiVersion"] = K::api_version(&kind).into();
        content["kind"] = K::kind(&kind).into();
        content["metadata"] = json!({"name": name});
        let api: Api<K> = Api::namespaced(self.admin().await?, namespace);
        let params = PatchParams::apply("hatrack-testbed").force();
        let applied = api.patch(name, &params, &Patch::Apply(content)).await;
        applied.map(drop).map_err(Error::api(format!("apply {name}")))
    }
}

/// Letters and digits in lower case.
fn random(length: usize) -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = vec![0; length];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::Socket { action: "draw random numbers", source: std::io::ErrorKind::Other.into() })?;
    Ok(bytes.into_iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}
