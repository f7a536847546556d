//! The identity of this machine: a certificate, its key and the cluster that they are for, in one kubeconfig file.
//!
//! One file is replaced at once, so there is never a key without its certificate; and whoever administers the machine can use it:
//! `kubectl --kubeconfig /var/lib/hatrack/kubeconfig auth whoami`.

use std::fs;
use std::io;
use std::path::Path;

use hatrack_api::NODE_USER_PREFIX;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::parse_x509_certificate;

use super::request::{self, Pending};
use crate::files::{self, Folder};

/// Name of the file in the state folder.
pub const FILE_NAME: &str = "kubeconfig";

/// Name of the extension of the kubeconfig that has what hatrack wants to know of it.
const EXTENSION: &str = "society.zeta.io/enrollment";

/// Why there is no identity to use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("failed to {action} `{path}`")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key cannot be made or used.
    #[error("failed to make a key")]
    Key(#[source] rcgen::Error),
    /// The file is not what the agent writes: it is as good as none, and is replaced.
    #[error("`{0}` cannot be understood")]
    Damaged(String),
    /// The certificate is none, or another's.
    #[error("{0}")]
    Content(&'static str),
}

impl IdentityError {
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { action, path, source }
    }
}

/// A cluster that this machine is sure of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Address of its API server.
    pub server: String,
    /// Certificates (DER) of its authority.
    pub authority: Vec<Vec<u8>>,
}

impl Cluster {
    /// The access by a bootstrap token.
    pub fn by_token(&self, token: &str) -> Kubeconfig {
        serde_json::from_value(self.kubeconfig(&json!({"token": token}))).unwrap_or_default()
    }

    fn kubeconfig(&self, user: &Value) -> Value {
        let authority: String = self.authority.iter().map(|certificate| pem(certificate)).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "hatrack",
            "clusters": [{"name": "hatrack", "cluster": {
                "server": self.server, "certificate-authority-data": ByteString(authority.into_bytes()),
            }}],
            "users": [{"name": "hatrack", "user": user}],
            "contexts": [{"name": "hatrack", "context": {"cluster": "hatrack", "user": "hatrack"}}],
        })
    }
}

/// What is to be known of a certificate that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it is for.
    pub cluster: Cluster,
    /// When it was received, by the API server's clock.
    pub received: Timestamp,
    /// Until when it is valid.
    pub expires: Timestamp,
}

/// The parts of the file that are read.
#[derive(Deserialize)]
struct File {
    clusters: [Named; 1],
    users: [Named; 1],
    extensions: Vec<Extension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Named {
    cluster: Option<FileCluster>,
    user: Option<FileUser>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileCluster {
    server: String,
    certificate_authority_data: ByteString,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileUser {
    client_certificate_data: ByteString,
}

#[derive(Deserialize)]
struct Extension {
    name: String,
    extension: Received,
}

#[derive(Deserialize)]
struct Received {
    received: Timestamp,
}

impl Identity {
    /// A certificate that has just come.
    pub fn issued(
        cluster: Cluster,
        certificate: &[u8],
        pending: &Pending,
        name: &str,
        now: Timestamp,
    ) -> Result<Issued, IdentityError> {
        let expires = checked(certificate, Some((name, pending)))?;
        Ok(Issued { identity: Self { cluster, received: now, expires }, certificate: certificate.to_vec() })
    }

    /// The identity that was put away, if there is one.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::file("read", &path)(error)),
        };
        Self::parse(&text).map(Some).ok_or_else(|| IdentityError::Damaged(path.display().to_string()))
    }

    /// What a file says.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let File { clusters: [cluster], users: [user], extensions } = serde_json::from_slice(text).ok()?;
        let FileCluster { server, certificate_authority_data } = cluster.cluster?;
        let authority = certificates(&certificate_authority_data.0);
        let expires = checked(&user.user?.client_certificate_data.0, None).ok()?;
        let received = extensions.into_iter().find(|extension| extension.name == EXTENSION)?.extension.received;
        Some(Self { cluster: Cluster { server, authority }, received, expires })
    }
}

/// A certificate that has come and is to be put away.
pub struct Issued {
    identity: Identity,
    certificate: Vec<u8>,
}

impl std::ops::Deref for Issued {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

impl Issued {
    /// Puts it away with its key, in place of what was there. The key waits for a certificate no longer.
    pub fn put_away(&self, folder: &Folder, pending: &Pending) -> Result<(), IdentityError> {
        let user = json!({
            "client-certificate-data": ByteString(self.certificate.clone()),
            "client-key-data": ByteString(pending.key.serialize_pem().into_bytes()),
        });
        let mut file = self.cluster.kubeconfig(&user);
        file["extensions"] = json!([{"name": EXTENSION, "extension": {"received": self.received}}]);
        let written = folder.replace(FILE_NAME, format!("{file:#}\n").as_bytes());
        written.map_err(IdentityError::file("write", &folder.path(FILE_NAME)))?;
        let pending = request::FILE_NAME;
        folder.remove(pending).map_err(IdentityError::file("remove", &folder.path(pending)))
    }
}

/// Gives the kept identity another address for its cluster: certificate, key and authority stay.
pub fn rename_server(folder: &Path, server: &str) -> Result<(), IdentityError> {
    let path = folder.join(FILE_NAME);
    let text = fs::read(&path).map_err(IdentityError::file("read", &path))?;
    let damaged = || IdentityError::Damaged(path.display().to_string());
    let mut file: Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
    *file.pointer_mut("/clusters/0/cluster/server").ok_or_else(damaged)? = json!(server);
    files::replace(&path, format!("{file:#}\n").as_bytes()).map_err(IdentityError::file("write", &path))
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).flatten().map(|certificate| certificate.to_vec()).collect()
}

/// When a certificate ends. `of`: the machine and the key that it has to be for.
fn checked(pem: &[u8], of: Option<(&str, &Pending)>) -> Result<Timestamp, IdentityError> {
    const NONE: IdentityError = IdentityError::Content("what was received is no certificate");
    let chain = certificates(pem);
    let (_, certificate) = chain.first().and_then(|der| parse_x509_certificate(der).ok()).ok_or(NONE)?;
    if let Some((name, pending)) = of {
        let mut names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        if names.next() != Some(&format!("{NODE_USER_PREFIX}{name}")) {
            return Err(IdentityError::Content("the certificate that was received is for another name"));
        }
        if certificate.public_key().subject_public_key.data != pending.public_key() {
            return Err(IdentityError::Content("the certificate that was received is for another key"));
        }
    }
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|_| NONE)
}

/// PEM text of a certificate.
fn pem(der: &[u8]) -> String {
    let base64 = json!(ByteString(der.to_vec()));
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64.as_str().unwrap_or_default().as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn issued(name: &str) -> (Pending, String) {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::load_or_create(folder.path()).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{NODE_USER_PREFIX}{name}"));
        let certificate = params.self_signed(&pending.key).unwrap().pem();
        (pending, certificate)
    }

    #[test]
    fn a_certificate_for_another_name_or_key_is_refused() {
        let cluster = Cluster { server: "https://a".to_owned(), authority: vec![] };
        let (pending, certificate) = issued("a");
        let take = |pending: &Pending, name: &str| {
            let taken = Identity::issued(cluster.clone(), certificate.as_bytes(), pending, name, Timestamp::now());
            taken.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(take(&pending, "a"), Ok(()));
        assert_eq!(take(&pending, "b"), Err("the certificate that was received is for another name".to_owned()));
        assert_eq!(take(&issued("a").0, "a"), Err("the certificate that was received is for another key".to_owned()));
    }

    #[test]
    fn what_was_put_away_is_what_is_found_and_half_of_it_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (pending, certificate) = issued("a");
        let cluster = Cluster { server: "https://a".to_owned(), authority: vec![b"der".to_vec()] };
        let issued = Identity::issued(cluster, certificate.as_bytes(), &pending, "a", Timestamp::UNIX_EPOCH).unwrap();
        issued.put_away(&Folder::make(folder.path()).unwrap(), &pending).unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap().as_ref(), Some(&*issued));
        rename_server(folder.path(), "https://b").unwrap();
        let moved = Cluster { server: "https://b".to_owned(), authority: vec![b"der".to_vec()] };
        assert_eq!(
            Identity::load(folder.path()).unwrap(),
            Some(Identity { cluster: moved, ..Identity::clone(&issued) })
        );
        let text = fs::read(folder.path().join(FILE_NAME)).unwrap();
        for length in (0..text.len() - 2).step_by(7) {
            assert_eq!(Identity::parse(&text[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_file_and_any_certificate_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Identity::parse(&bytes), None);
            prop_assert!(checked(&bytes, None).is_err() && checked(pem(&bytes).as_bytes(), None).is_err());
        }

        #[test]
        fn pem_comes_back(der in prop::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(certificates(pem(&der).as_bytes()), vec![der]);
        }
    }
}
