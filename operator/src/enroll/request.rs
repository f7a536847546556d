//! A request for a certificate, as far as it says itself what it is: the object, and the PKCS #10 document inside it.
//!
//! The signer copies the subject and the alternative names of the document into the certificate, so they are read here to the last
//! attribute. The API server has checked already that the document is signed with its own key.

use hatrack_api::enrollment::{BOOTSTRAP_GROUP, CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION, SIGNER};
use hatrack_api::{NODE_GROUP, NODE_USER_PREFIX};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::ResourceExt;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
    OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, Oid,
};
use x509_parser::prelude::{FromDer, ParsedCriAttribute};
use x509_parser::x509::SubjectPublicKeyInfo;

/// Most characters of somebody else's text that get into a message.
const MAX_QUOTED: usize = 80;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

/// What a document asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Every attribute of the subject, by its short name or its OID.
    pub subject: Vec<(String, String)>,
    /// What is asked for beyond subject and key, in words.
    pub extras: Vec<String>,
    /// Its key, in words; the reason why it is not good enough otherwise.
    pub key: Result<String, String>,
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Text around it, or more than one.
    #[error("it is not exactly one block of PEM `CERTIFICATE REQUEST`")]
    Pem,
    /// No PKCS #10, or something behind it.
    #[error("it is no certification request (PKCS #10)")]
    Der,
    /// The subject has a text of a kind that nobody needs.
    #[error("its subject has a value that is no plain text")]
    Subject,
}

impl Document {
    /// Reads the PEM text.
    pub fn parse(pem: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(pem).map_err(|_| Unreadable::Pem)?.trim();
        // The signer reads the first block and ignores the rest: what it reads has to be what is read here.
        let is_one = text.starts_with(BEGIN) && text.ends_with(END) && text.matches("-----BEGIN").count() == 1;
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).ok().filter(|_| is_one);
        let der = der.ok_or(Unreadable::Pem)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| Unreadable::Der)?;
        if !rest.is_empty() {
            return Err(Unreadable::Der);
        }
        let info = &request.certification_request_info;
        let subject = info.subject.iter_attributes().map(|attribute| {
            let value = attribute.as_str().map_err(|_| Unreadable::Subject)?;
            Ok((short_name(attribute.attr_type()), value.to_owned()))
        });
        let attributes = info.iter_attributes().map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) if !request.extensions.is_empty() => {
                request.extensions.iter().map(|extension| extension_name(&extension.oid)).collect::<Vec<_>>().join(", ")
            }
            _ => format!("the attribute {}", attribute.oid),
        });
        Ok(Self {
            subject: subject.collect::<Result<_, _>>()?,
            extras: attributes.collect(),
            key: key(&info.subject_pki),
        })
    }

    fn values<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a str> {
        self.subject.iter().filter(move |(name, _)| name == of).map(|(_, value)| value.as_str())
    }

    /// The name of the machine, if this is its subject to the letter: `CN=society:node:NAME`, `O=society:nodes` and nothing else.
    pub fn node(&self) -> Option<&str> {
        let node = self.values("CN").next()?.strip_prefix(NODE_USER_PREFIX)?;
        let is_exact = self.subject.len() == 2 && self.values("O").next() == Some(NODE_GROUP);
        is_exact.then_some(node)
    }

    /// Whether an identity of machines is asked for, rightly or not.
    fn is_of_a_node(&self) -> bool {
        self.values("CN").any(|name| name.starts_with(NODE_USER_PREFIX)) || self.values("O").any(|of| of == NODE_GROUP)
    }

    /// The subject as people write it.
    pub fn subject_in_words(&self) -> String {
        let words: Vec<String> = self.subject.iter().map(|(name, value)| format!("{name}={value}")).collect();
        quoted(&words.join(", "))
    }
}

fn short_name(oid: &Oid<'_>) -> String {
    if *oid == OID_X509_COMMON_NAME {
        "CN".to_owned()
    } else if *oid == OID_X509_ORGANIZATION_NAME {
        "O".to_owned()
    } else {
        oid.to_string()
    }
}

fn extension_name(oid: &Oid<'_>) -> String {
    use x509_parser::oid_registry::{
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    };
    for (known, name) in [
        (OID_X509_EXT_SUBJECT_ALT_NAME, "alternative names"),
        (OID_X509_EXT_BASIC_CONSTRAINTS, "basic constraints"),
        (OID_X509_EXT_KEY_USAGE, "a key usage"),
        (OID_X509_EXT_EXTENDED_KEY_USAGE, "an extended key usage"),
    ] {
        if *oid == known {
            return name.to_owned();
        }
    }
    format!("the extension {oid}")
}

/// The key in words, or why it will not do.
fn key(info: &SubjectPublicKeyInfo<'_>) -> Result<String, String> {
    const LEAST_RSA_BITS: usize = 2048;
    const MOST_RSA_BITS: usize = 4096;
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Ok("Ed25519".to_owned());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => Ok("ECDSA P-256".to_owned()),
            Some(curve) if curve == OID_NIST_EC_P384 => Ok("ECDSA P-384".to_owned()),
            Some(curve) => Err(format!("ECDSA on the curve {curve}")),
            None => Err("ECDSA on a curve without a name".to_owned()),
        };
    }
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let bits = info.parsed().map_or(0, |key| key.key_size());
        let words = format!("RSA of {bits} bits");
        return if (LEAST_RSA_BITS..=MOST_RSA_BITS).contains(&bits) { Ok(words) } else { Err(words) };
    }
    Err(format!("a key of the kind {algorithm}"))
}

/// Somebody else's text, fit for a message: no control characters, not longer than people read.
pub fn quoted(text: &str) -> String {
    let escaped: String = text.escape_debug().collect();
    if escaped.chars().count() <= MAX_QUOTED {
        return escaped;
    }
    escaped.chars().take(MAX_QUOTED - 1).chain(['…']).collect()
}

/// A request that is this operator's to decide, or was.
#[derive(Debug, Clone)]
pub struct Request {
    /// The object, for the approval.
    pub object: CertificateSigningRequest,
    /// What is asked for.
    pub document: Result<Document, Unreadable>,
}

impl Request {
    /// `None`: it is none of ours, and is left alone. Ours are the requests of the cluster's signer for clients that ask for an identity of
    /// a machine, and those that a machine, or a machine's token, makes.
    pub fn ours(object: CertificateSigningRequest) -> Option<Self> {
        if object.spec.signer_name != SIGNER {
            return None;
        }
        let document = Document::parse(&object.spec.request.0);
        let groups = object.spec.groups.as_deref().unwrap_or_default();
        let is_ours = document.as_ref().is_ok_and(Document::is_of_a_node)
            || groups.iter().any(|group| group == BOOTSTRAP_GROUP || group == NODE_GROUP);
        is_ours.then_some(Self { object, document })
    }

    /// Name of the object.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// The machine that it is for, if that can be told.
    pub fn node(&self) -> Option<&str> {
        self.document.as_ref().ok().and_then(Document::node)
    }

    /// Who asks, by the API server's word.
    pub fn asker(&self) -> &str {
        self.object.spec.username.as_deref().unwrap_or_default()
    }

    /// The groups of who asks, by the API server's word.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.object.spec.groups.iter().flatten().map(String::as_str)
    }

    /// When it was made, by the API server's clock.
    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// The hardware id of the machine, by its own word.
    pub fn hardware_id(&self) -> Option<&str> {
        self.annotation(HARDWARE_ID_ANNOTATION)
    }

    /// The class of the machine, by its own word.
    pub fn class(&self) -> Option<&str> {
        self.annotation(CLASS_ANNOTATION)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn conditions(&self) -> impl Iterator<Item = &CertificateSigningRequestCondition> {
        self.object.status.iter().flat_map(|status| status.conditions.iter().flatten())
    }

    /// Whether somebody has decided it.
    pub fn is_decided(&self) -> bool {
        self.conditions().any(|condition| ["Approved", "Denied", "Failed"].contains(&condition.type_.as_str()))
    }

    /// Whether it was approved.
    pub fn is_approved(&self) -> bool {
        self.conditions().any(|condition| condition.type_ == "Approved")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::super::samples::{self, document, document_with};
    use super::*;

    #[test]
    fn what_an_agent_writes_is_read_to_the_letter() {
        let read = Document::parse(document("gpu-1").as_bytes()).unwrap();
        assert_eq!(read.node(), Some("gpu-1"));
        assert_eq!(read.extras, Vec::<String>::new());
        assert_eq!(read.key.as_deref(), Ok("ECDSA P-256"));
        assert_eq!(read.subject_in_words(), "O=society:nodes, CN=society:node:gpu-1");
    }

    #[test]
    fn a_subject_with_more_or_less_is_nobodys() {
        let subject = |names: &[(DnType, &str)]| {
            let pem = document_with(&samples::key(), |params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
                for (kind, name) in names {
                    params.distinguished_name.push(kind.clone(), *name);
                }
            });
            Document::parse(pem.as_bytes()).unwrap()
        };
        let (name, group) = ((DnType::CommonName, "society:node:a"), (DnType::OrganizationName, "society:nodes"));
        assert_eq!(subject(&[name.clone(), group.clone()]).node(), Some("a"), "in any order");
        let masters = (DnType::OrganizationName, "system:masters");
        let unit = (DnType::OrganizationalUnitName, "x");
        for names in [
            vec![name.clone()],
            vec![group.clone()],
            vec![name.clone(), masters],
            vec![name.clone(), group.clone(), unit],
            vec![(DnType::CommonName, "system:kube-controller-manager"), group.clone()],
            vec![],
        ] {
            assert_eq!(subject(&names).node(), None, "{names:?}");
        }
    }

    #[test]
    fn everything_beyond_subject_and_key_is_named() {
        let extras = |change: fn(&mut CertificateParams)| {
            Document::parse(document_with(&samples::key(), change).as_bytes()).unwrap().extras
        };
        let names = extras(|params| params.subject_alt_names = vec![rcgen::SanType::DnsName("a".try_into().unwrap())]);
        assert_eq!(names, ["alternative names"]);
        let authority = extras(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
        assert_eq!(authority.len(), 1);
        assert!(authority[0].contains("basic constraints"), "{authority:?}");
        let usage = extras(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
        assert_eq!(usage, ["a key usage"]);
    }

    #[test]
    fn keys_that_are_weak_or_that_nobody_uses_are_named() {
        let key_of = |pair: &KeyPair| Document::parse(document_with(pair, |_| {}).as_bytes()).unwrap().key;
        let made = |algorithm| KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(key_of(&made(&rcgen::PKCS_ECDSA_P384_SHA384)).as_deref(), Ok("ECDSA P-384"));
        assert_eq!(key_of(&made(&rcgen::PKCS_ED25519)).as_deref(), Ok("Ed25519"));
        let rsa = |file| Document::parse(file).unwrap().key;
        assert_eq!(rsa(include_bytes!("samples/rsa-2048.pem")).as_deref(), Ok("RSA of 2048 bits"));
        assert_eq!(rsa(include_bytes!("samples/rsa-1024.pem")), Err("RSA of 1024 bits".to_owned()));
        assert_eq!(rsa(include_bytes!("samples/p521.pem")), Err("ECDSA on the curve 1.3.132.0.35".to_owned()));
    }

    #[test]
    fn what_is_not_exactly_one_document_is_not_read() {
        let (good, other) = (document("gpu-1"), document("gpu-2"));
        let pem = |text: &str| Document::parse(text.as_bytes());
        assert!(pem(&format!("{good}\n")).is_ok());
        for bad in ["", "no PEM", &format!("{good}{other}"), &format!("x{good}"), &format!("{good}x")] {
            assert_eq!(pem(bad), Err(Unreadable::Pem), "{bad}");
        }
        assert_eq!(pem(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE")), Err(Unreadable::Pem));
        assert_eq!(pem(&format!("{BEGIN}\nAAAA\n{END}\n")), Err(Unreadable::Der));
    }

    /// The operator reads what anybody with a token writes, and nothing of it may end the operator.
    #[test]
    fn a_damaged_document_is_read_as_it_is_or_not_at_all() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let whole = document_with(&samples::key(), |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("a".try_into().unwrap())];
        });
        let der = CertificateSigningRequestDer::from_pem_slice(whole.as_bytes()).unwrap();
        let mut read = 0;
        for _ in 0..5_000 {
            let mut damaged = der.to_vec();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..damaged.len());
                damaged[place] = random.u8(..);
            }
            damaged.truncate(random.usize(damaged.len() / 2..damaged.len() * 2));
            let base64 = serde_json::to_value(k8s_openapi::ByteString(damaged)).unwrap();
            let pem = format!("{BEGIN}\n{}\n{END}\n", base64.as_str().unwrap());
            let document = Document::parse(pem.as_bytes());
            // Its extension does not get lost by damage elsewhere.
            if let Ok(document) = document {
                read += 1;
                assert!(!document.extras.is_empty(), "seed {seed}: {document:?}");
            }
        }
        assert!(read > 20, "seed {seed}: {read}");
    }

    #[test]
    fn a_quotation_is_short_and_has_no_lines() {
        assert_eq!(quoted("gpu-1"), "gpu-1");
        assert_eq!(quoted("a\nb"), "a\\nb");
        assert_eq!(quoted(&"ä".repeat(100)).chars().count(), MAX_QUOTED);
    }

    #[test]
    fn requests_of_others_are_left_alone() {
        use samples::{person, token};
        let ours = |object| Request::ours(object).is_some();
        assert!(ours(samples::object(&document("gpu-1"), token("gpu-1"))));
        assert!(ours(samples::object(&document("gpu-1"), person("ann"))), "who asks for a machine's identity");
        let foreign = samples::document_for("ann", "developers");
        assert!(!ours(samples::object(&foreign, person("ann"))));
        assert!(!ours(samples::object("no PEM", person("ann"))));
        assert!(ours(samples::object(&foreign, token("gpu-1"))), "whatever a machine's token asks for");
        assert!(ours(samples::object("no PEM", token("gpu-1"))));
        let mut kubelets = samples::object(&document("gpu-1"), token("gpu-1"));
        kubelets.spec.signer_name = "kubernetes.io/kube-apiserver-client-kubelet".to_owned();
        assert!(!ours(kubelets), "another signer");
    }
}
