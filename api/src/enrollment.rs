//! How a machine gets its identity: what its request says, who may make it, and the token file that begins it.
//!
//! A token of the cluster's own kind (`bootstrap.kubernetes.io/token`) carries its machine and class as groups, which the API server
//! writes into each request that is made with it: the operator reads there for whom the token was made, and no requester can say otherwise.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster_node::{Class, check_name};

/// The signer that every cluster has for identities of clients.
pub const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// What a certificate may be used for: nothing but this.
pub const USAGE: &str = "client auth";

/// The shortest life of a certificate that the API server lets anybody ask for.
pub const SHORTEST_LIFE: Duration = Duration::from_mins(10);

/// Group of every token of a machine: it may make a request and follow it (`k8s/rbac/enrollment.yaml`).
pub const BOOTSTRAP_GROUP: &str = "system:bootstrappers:society";

/// Group of the token of one machine: this prefix and the name of its ClusterNode.
pub const BOOTSTRAP_NODE_PREFIX: &str = "system:bootstrappers:society:";

/// Group of the token of one machine: this prefix and the class it was made for.
pub const BOOTSTRAP_CLASS_PREFIX: &str = "system:bootstrappers:society-class:";

/// User name of a kubelet: this prefix and the name of its Node.
pub const KUBELET_USER_PREFIX: &str = "system:node:";

/// Annotation of a request with the hardware id of the machine: its own word.
pub const HARDWARE_ID_ANNOTATION: &str = "society.zeta.io/hardware-id";

/// Annotation of a request with the class that the machine is configured for.
pub const CLASS_ANNOTATION: &str = "society.zeta.io/class";

/// Label of the Secret of a token with the name of its machine.
pub const TOKEN_NODE_LABEL: &str = "society.zeta.io/node";

/// Length of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// The groups of a machine's token.
pub fn groups(name: &str, class: Class) -> [String; 3] {
    [
        BOOTSTRAP_GROUP.to_owned(),
        format!("{BOOTSTRAP_NODE_PREFIX}{name}"),
        format!("{BOOTSTRAP_CLASS_PREFIX}{}", class.as_str()),
    ]
}

/// What a machine enrolls with, as TOML. Whoever has it can become this machine until the token ends: a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenFile {
    /// Name of the ClusterNode that the token is for.
    pub name: String,
    /// Class that it is for.
    pub class: Class,
    /// Address of the API server, `https://10.0.0.1:6443`.
    pub server: String,
    /// `sha256:` and the hash in hexadecimal of each certificate (DER) of the cluster's authority: no other is accepted.
    pub ca_hashes: Vec<String>,
    /// `<id>.<secret>`: 6 and 16 lower-case letters and digits.
    pub token: String,
}

/// The token does not get into a log.
impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why something is no token file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// No ClusterNode can have this name.
    #[error("`name` cannot be a ClusterNode's: {0}")]
    Name(#[source] crate::cluster_node::InvalidName),
    /// Not `https://`.
    #[error("`server` is no address such as `https://10.0.0.1:6443`: {0}")]
    Server(String),
    /// Without a hash any server would do.
    #[error("`ca-hashes` names no certificate")]
    NoHash,
    /// Not `sha256:` and 64 digits.
    #[error("`{0}` in `ca-hashes` is not `sha256:` and {HASH_LENGTH} hexadecimal digits in lower case")]
    Hash(String),
    /// Not `<id>.<secret>`.
    #[error("`token` is not `<id>.<secret>` of 6 and 16 lower-case letters and digits")]
    Token,
}

impl TokenFile {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), InvalidToken> {
        check_name(&self.name).map_err(InvalidToken::Name)?;
        if !self.server.strip_prefix("https://").is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
            return Err(InvalidToken::Server(self.server.clone()));
        }
        if self.ca_hashes.is_empty() {
            return Err(InvalidToken::NoHash);
        }
        if let Some(hash) = self.ca_hashes.iter().find(|hash| !is_hash(hash)) {
            return Err(InvalidToken::Hash(hash.clone()));
        }
        let of_token = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
        };
        match self.token.split_once('.') {
            Some((id, secret)) if of_token(id, 6) && of_token(secret, 16) => Ok(()),
            _ => Err(InvalidToken::Token),
        }
    }
}

/// `sha256:` and the digest of a certificate in hexadecimal.
pub fn hash_text(digest: &[u8]) -> String {
    use fmt::Write as _;
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == HASH_LENGTH && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> TokenFile {
        TokenFile {
            name: "gpu-1".to_owned(),
            class: Class::GpuWorker,
            server: "https://10.0.0.1:6443".to_owned(),
            ca_hashes: vec![hash_text(&[0xab; 32])],
            token: "abcdef.0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn a_token_file_is_checked_part_by_part() {
        assert_eq!(file().check(), Ok(()));
        assert!(matches!(TokenFile { name: "A".to_owned(), ..file() }.check(), Err(InvalidToken::Name(_))));
        for server in ["http://10.0.0.1", "https://", "https:///x", "10.0.0.1:6443"] {
            assert!(matches!(TokenFile { server: server.to_owned(), ..file() }.check(), Err(InvalidToken::Server(_))));
        }
        assert_eq!(TokenFile { ca_hashes: vec![], ..file() }.check(), Err(InvalidToken::NoHash));
        for hash in ["sha256:ab", "md5:00", &hash_text(&[0xab; 32]).to_uppercase()] {
            let refused = TokenFile { ca_hashes: vec![hash.to_owned()], ..file() }.check();
            assert_eq!(refused, Err(InvalidToken::Hash(hash.to_owned())));
        }
        for token in ["abcdef", "abcde.0123456789abcdef", "abcdef.0123456789ABCDEF", "abcdef.0123456789abcde"] {
            assert_eq!(TokenFile { token: token.to_owned(), ..file() }.check(), Err(InvalidToken::Token), "{token}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", file()).contains("0123456789abcdef"));
    }
}
