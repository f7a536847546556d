//! Kubeconfigs made from identities.

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::authority::Identity;
use crate::error::{Error, Result};

/// The kubeconfig of `identity` for the API server at `server`. It holds everything itself, so it
/// can be copied; JSON is YAML, so it is written as it is.
pub(crate) fn document(server: &str, identity: &Identity) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {
            "server": server,
            "certificate-authority-data": base64(&identity.ca_pem),
        }}],
        "users": [{"name": "testbed", "user": {
            "client-certificate-data": base64(&identity.cert_pem),
            "client-key-data": base64(&identity.key_pem),
        }}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
    })
}

/// The client configuration of `identity` for the API server at `server`.
pub(crate) async fn config(server: &str, identity: &Identity) -> Result<kube::Config> {
    let kubeconfig = Kubeconfig::from_yaml(&document(server, identity).to_string()).map_err(Error::Kubeconfig)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(Error::Kubeconfig)
}

/// A client of `identity` for the API server at `server`. Clients do their work on the runtime
/// that made them, so each test makes its own.
pub(crate) async fn client(server: &str, identity: &Identity) -> Result<kube::Client> {
    kube::Client::try_from(config(server, identity).await?).map_err(Error::api("make a client"))
}

/// Kubeconfigs carry PEM text in base64; `ByteString` is the type whose JSON form is that.
fn base64(text: &str) -> k8s_openapi::ByteString {
    k8s_openapi::ByteString(text.as_bytes().to_vec())
}
