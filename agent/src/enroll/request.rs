//! The request for a certificate: its key, its object, its outcome.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use hatrack_api::{NODE_GROUP, NODE_USER_PREFIX};
use hatrack_service::backoff::jittered;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::identity::IdentityError;
use super::{EnrollError, object};
use crate::client::ApiServer;
use crate::client::outcome::Failure;
use crate::files;

/// Name of the file of a key that has no certificate yet.
pub const FILE_NAME: &str = "requested.key";

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// How long one watch lasts. What came between two is seen by the second.
const WATCH: Duration = Duration::from_mins(2);

/// The longest time between two watches.
const PAUSE: Duration = Duration::from_secs(2);

/// Who asks, and for what.
#[derive(Debug)]
pub struct Applicant {
    /// Name of the ClusterNode.
    pub name: String,
    /// Class of the machine.
    pub class: String,
    /// What tells it from every other.
    pub hardware_id: String,
    /// Who is to sign.
    pub signer: String,
    /// How long the certificate should last.
    pub lifetime: Duration,
}

/// A key for which there is no certificate yet.
pub struct Pending {
    /// The key (ECDSA, P-256).
    pub key: KeyPair,
}

impl Pending {
    /// The key that a restart left behind, or a new one, which is kept before it is used.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(FILE_NAME);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => KeyPair::from_pem(&text).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(IdentityError::file("read", &path)(error)),
        };
        if let Some(key) = kept {
            return Ok(Self { key });
        }
        let pending = Self::create()?;
        files::replace(&path, pending.key.serialize_pem().as_bytes()).map_err(IdentityError::file("write", &path))?;
        Ok(pending)
    }

    /// A new key, which is in no file.
    pub fn create() -> Result<Self, IdentityError> {
        Ok(Self { key: KeyPair::generate().map_err(IdentityError::Key)? })
    }

    /// The key will have no certificate.
    pub fn forget(folder: &Path) -> Result<(), IdentityError> {
        let path = folder.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IdentityError::file("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The bits of the public key.
    pub fn public_key(&self) -> &[u8] {
        self.key.der_bytes()
    }

    /// The same for the same key, so that a restart finds its request; other for another name, whose requests it must not take for its own.
    fn request_name(&self, applicant: &Applicant) -> String {
        let hash = digest(&SHA256, self.public_key());
        let short = hash.as_ref().iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("hatrack-{}-{short:012x}", applicant.name)
    }

    fn pem(&self, applicant: &Applicant) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, NODE_GROUP);
        params.distinguished_name.push(DnType::CommonName, format!("{NODE_USER_PREFIX}{}", applicant.name));
        params.serialize_request(&self.key).and_then(|request| request.pem()).map_err(IdentityError::Key)
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// Asks for a certificate and waits until there is one, in PEM.
pub async fn certificate(server: &ApiServer, applicant: &Applicant, pending: &Pending) -> Result<Vec<u8>, EnrollError> {
    let name = pending.request_name(applicant);
    let object = object(applicant, &name, &pending.pem(applicant)?);
    match server.create::<CertificateSigningRequest>(REQUESTS, &object).await {
        Ok(_) => tracing::info!(request = name, signer = applicant.signer, "asked for a certificate"),
        Err(Failure::Outdated { .. }) => tracing::info!(request = name, "a request for a certificate was made before"),
        Err(failure) => return Err(failure.into()),
    }
    loop {
        let request: CertificateSigningRequest = match server.get(&format!("{REQUESTS}/{name}")).await {
            Err(Failure::NotFound { .. }) => return Err(EnrollError::Gone),
            request => request?,
        };
        if let Some(certificate) = outcome(&request)? {
            return Ok(certificate);
        }
        if let Some(certificate) = follow(server, &request).await? {
            return Ok(certificate);
        }
        // Who is in between may end watches as soon as they begin.
        sleep(jittered(PAUSE)).await;
    }
}

async fn follow(server: &ApiServer, request: &CertificateSigningRequest) -> Result<Option<Vec<u8>>, EnrollError> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let version = request.metadata.resource_version.as_deref().unwrap_or_default();
    let path = format!(
        "{REQUESTS}?fieldSelector=metadata.name%3D{name}&watch=true&timeoutSeconds={}&resourceVersion={version}",
        WATCH.as_secs()
    );
    let mut lines = server.watch(&path).await?;
    loop {
        let line = match timeout(WATCH, lines.next()).await {
            Err(_) | Ok(Ok(None) | Err(Failure::Broken(_))) => return Ok(None),
            Ok(line) => line?.unwrap_or_default(),
        };
        let event: Event = serde_json::from_slice(&line).map_err(Failure::Unintelligible)?;
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let request = serde_json::from_value(event.object).map_err(Failure::Unintelligible)?;
                if let Some(certificate) = outcome(&request)? {
                    return Ok(Some(certificate));
                }
            }
            "DELETED" => return Err(EnrollError::Gone),
            _ => return Ok(None),
        }
    }
}

/// The certificate, if there is one already.
fn outcome(request: &CertificateSigningRequest) -> Result<Option<Vec<u8>>, EnrollError> {
    let Some(status) = &request.status else { return Ok(None) };
    for condition in status.conditions.iter().flatten() {
        let message = || condition.message.clone().unwrap_or_default();
        match condition.type_.as_str() {
            "Denied" => return Err(EnrollError::Denied(message())),
            "Failed" => return Err(EnrollError::Failed(message())),
            _ => {}
        }
    }
    Ok(status.certificate.as_ref().map(|certificate| certificate.0.clone()))
}
