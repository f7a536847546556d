//! The certificates of the cluster's authority, from a server that nothing is known of yet.
//!
//! They are public and no secret is sent for them, so they are fetched without checking who answers. What decides is the hash in the token
//! file: certificates that it does not name are dropped, and without one that it names nothing more is sent there.

use std::time::Duration;

use hatrack_api::enrollment::hash_text;
use kube::config::Kubeconfig;
use reqwest::{Client, Response, StatusCode};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

/// Where k3s has them.
const K3S: &str = "/cacerts";

/// Where kubeadm has them, in the form of a kubeconfig.
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

const TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes that are read of an answer: certificates have some thousand, and whoever answers could send without end.
const MOST: usize = 1 << 20;

/// Why no certificate can be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is no way to the server.
    #[error("the server {server} does not answer")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It has nothing at the places where clusters have their certificates.
    #[error(
        "the server {server} does not tell the certificates of its authority: {K3S} answered {k3s}, {CLUSTER_INFO} answered {cluster_info}"
    )]
    Silent {
        /// Its address.
        server: String,
        /// Status of the first answer.
        k3s: StatusCode,
        /// Status of the second.
        cluster_info: StatusCode,
    },
    /// The answer has no certificate in it.
    #[error("the answer of the server {0} has no certificate")]
    NoCertificate(String),
    /// It is another cluster, or somebody between.
    #[error(
        "the server {server} is not of the cluster that the token file is for: its authority has the hash {found}, the token file names {wanted}"
    )]
    Another {
        /// Its address.
        server: String,
        /// What it showed.
        found: String,
        /// What was to be shown.
        wanted: String,
    },
}

impl AuthorityError {
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => Some("see whether the API server runs and `server` in the token file names it"),
            Self::Silent { .. } => {
                Some("on a cluster that is not k3s, publish `cluster-info` in kube-public as kubeadm does")
            }
            Self::NoCertificate(_) => None,
            Self::Another { .. } => Some(
                "nothing was sent there: make sure of the address, and if the cluster was made anew, make a new token file",
            ),
        }
    }
}

/// Fetches the certificates (DER) of a server's authority; only those with one of these hashes.
pub async fn fetch(server: &str, hashes: &[String]) -> Result<Vec<Vec<u8>>, AuthorityError> {
    let unreachable = |source| AuthorityError::Unreachable { server: server.to_owned(), source };
    let pem = ask(server).await.map_err(unreachable)??;
    let found: Vec<CertificateDer> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    if found.is_empty() {
        return Err(AuthorityError::NoCertificate(server.to_owned()));
    }
    let (wanted, others): (Vec<_>, Vec<_>) = found.iter().partition(|certificate| hashes.contains(&hash(certificate)));
    if wanted.is_empty() {
        let found: Vec<String> = others.into_iter().map(|certificate| hash(certificate)).collect();
        return Err(AuthorityError::Another {
            server: server.to_owned(),
            found: found.join(", "),
            wanted: hashes.join(", "),
        });
    }
    Ok(wanted.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// Whether one of these certificates (DER) has one of these hashes.
pub fn is_named(authority: &[Vec<u8>], hashes: &[String]) -> bool {
    authority.iter().any(|certificate| hashes.contains(&hash(certificate)))
}

fn hash(certificate: &[u8]) -> String {
    hash_text(digest(&SHA256, certificate).as_ref())
}

/// The one request that trusts nobody.
async fn ask(server: &str) -> reqwest::Result<Result<Vec<u8>, AuthorityError>> {
    let client = Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let server = server.trim_end_matches('/');
    let answer = client.get(format!("{server}{K3S}")).send().await?;
    let k3s = answer.status();
    if k3s.is_success() {
        return Ok(Ok(body(answer).await?));
    }
    let answer = client.get(format!("{server}{CLUSTER_INFO}")).send().await?;
    let cluster_info = answer.status();
    if !cluster_info.is_success() {
        return Ok(Err(AuthorityError::Silent { server: server.to_owned(), k3s, cluster_info }));
    }
    let pem = of_cluster_info(&body(answer).await?);
    Ok(pem.ok_or_else(|| AuthorityError::NoCertificate(server.to_owned())))
}

async fn body(mut answer: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MOST
        && let Some(chunk) = answer.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[derive(Deserialize)]
struct ClusterInfo {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    kubeconfig: String,
}

fn of_cluster_info(body: &[u8]) -> Option<Vec<u8>> {
    let ClusterInfo { data } = serde_json::from_slice(body).ok()?;
    let kubeconfig = Kubeconfig::from_yaml(&data.kubeconfig).ok()?;
    let base64 = kubeconfig.clusters.into_iter().next()?.cluster?.certificate_authority_data?;
    serde_json::from_value(base64.into()).ok().map(|k8s_openapi::ByteString(pem)| pem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let sending = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 1 << 14]).await.is_ok() {}
        });
        let error = fetch(&server, &[]).await.unwrap_err();
        assert!(matches!(error, AuthorityError::NoCertificate(_)), "{error}");
        sending.await.unwrap();
    }

    proptest! {
        #[test]
        fn any_cluster_info_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), kubeconfig in "\\PC{0,200}") {
            let _ = of_cluster_info(&body);
            let _ = of_cluster_info(&serde_json::to_vec(&serde_json::json!({"data": {"kubeconfig": kubeconfig}})).unwrap());
        }

        #[test]
        fn the_authority_of_a_cluster_info_comes_back(pem in prop::collection::vec(any::<u8>(), 0..100)) {
            let kubeconfig = serde_json::json!({
                "clusters": [{"name": "", "cluster": {"certificate-authority-data": k8s_openapi::ByteString(pem.clone())}}],
            });
            let body = serde_json::json!({"data": {"kubeconfig": kubeconfig.to_string()}}).to_string();
            prop_assert_eq!(of_cluster_info(body.as_bytes()), Some(pem));
        }
    }
}
