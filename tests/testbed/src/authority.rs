//! The certificate authority of one control plane: the API server, the fault proxy and every
//! user have certificates that it signed, and kube-controller-manager signs requests with it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::error::{Error, Result};

/// Names and addresses under which a server of the control plane is reached. 10.0.2.2 is what virtual machines on the user
/// network of QEMU call our loopback.
const SERVER_NAMES: [&str; 7] =
    ["127.0.0.1", "10.0.0.1", "10.0.2.2", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

/// Certificates begin a little in the past, as those of Kubernetes' own signer do, so that a
/// machine whose clock is slightly behind accepts them.
const BACKDATE: Duration = Duration::from_mins(5);

/// How long the authority and its servers are valid: longer than any run.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// A client certificate with its key and the authority it belongs to, all in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The client certificate.
    pub cert_pem: String,
    /// Its private key (PKCS #8, P-256).
    pub key_pem: String,
    /// The certificate of the authority, which also signed the API server's certificate.
    pub ca_pem: String,
}

/// A certificate authority with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Authority {
    /// Makes a new authority and keeps it in `ca.pem` and `ca.key` in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate().map_err(Error::certificate("make a key"))?;
        let certificate =
            authority_params().self_signed(&key).map_err(Error::certificate("sign the authority's certificate"))?;
        write(&dir.join("ca.key"), &key.serialize_pem())?;
        write(&dir.join("ca.pem"), &certificate.pem())?;
        Ok(Self::new(certificate.pem(), key))
    }

    /// Reads the authority that [`Authority::create`] left in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let read = |name| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(Error::file("read", &path))
        };
        let key = KeyPair::from_pem(&read("ca.key")?).map_err(Error::certificate("read the authority's key"))?;
        Ok(Self::new(read("ca.pem")?, key))
    }

    /// Subject and key identifier follow from the constant parameters and the key, so the
    /// certificate itself need not be parsed.
    fn new(ca_pem: String, key: KeyPair) -> Self {
        Self { issuer: Issuer::new(authority_params(), key), ca_pem }
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A certificate for a server on loopback.
    pub(crate) fn server(&self) -> Result<Identity> {
        let params = CertificateParams::new(SERVER_NAMES.map(String::from).to_vec())
            .map_err(Error::certificate("name a server"))?;
        self.sign(params, LIFETIME, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for the user `common_name` in the groups `organizations` (two at most),
    /// which ends `lifetime` from now.
    pub(crate) fn client(&self, common_name: &str, organizations: &[&str], lifetime: Duration) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = client_name(common_name, organizations)?;
        self.sign(params, lifetime, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, params: CertificateParams, lifetime: Duration, usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        let key = KeyPair::generate().map_err(Error::certificate("make a key"))?;
        let mut params = valid_for(params, lifetime);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::certificate("sign a certificate"))?;
        Ok(Identity { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: self.ca_pem.clone() })
    }
}

/// The key pair with which the API server signs and checks service account tokens.
pub(crate) struct SigningKey {
    pub(crate) private_pem: String,
    pub(crate) public_pem: String,
}

/// Makes a key pair for service account tokens.
pub(crate) fn signing_key() -> Result<SigningKey> {
    let key = KeyPair::generate().map_err(Error::certificate("make a key"))?;
    Ok(SigningKey { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() })
}

/// Writes a file that only its owner may read.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(Error::file("write", path))
}

fn authority_params() -> CertificateParams {
    let mut params = valid_for(CertificateParams::default(), LIFETIME);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "hatrack-testbed");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn valid_for(mut params: CertificateParams, lifetime: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    params.use_authority_key_identifier_extension = true;
    params
}

/// A subject with its groups. rcgen keeps one value for each attribute type, so the second
/// organization is written under the number of the same type (2.5.4.10).
fn client_name(common_name: &str, organizations: &[&str]) -> Result<DistinguishedName> {
    let organization_types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    if organizations.len() > organization_types.len() {
        return Err(Error::TooManyOrganizations(organizations.len()));
    }
    let mut name = DistinguishedName::new();
    for (kind, organization) in organization_types.into_iter().zip(organizations) {
        name.push(kind, *organization);
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}
