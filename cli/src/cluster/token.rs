//! The tokens of machines: bootstrap tokens of Kubernetes whose groups name one machine and its class.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{BOOTSTRAP_CLASS_PREFIX, TOKEN_NODE_LABEL, groups};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use ring::rand::{SecureRandom, SystemRandom};

/// Namespace of bootstrap tokens.
pub const NAMESPACE: &str = "kube-system";

/// Type of their Secrets.
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Their Secrets are named by this and the id.
const NAME_PREFIX: &str = "bootstrap-token-";

/// What ids and secrets are made of.
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Letters of an id, and of a secret.
const LENGTHS: (usize, usize) = (6, 16);

/// The operating system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a secret: the operating system gives no random numbers")]
pub struct NoRandomness;

/// What is to be known of a token, without what is secret of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The part of it that is not secret.
    pub id: String,
    /// Name of the machine that it is for.
    pub node: String,
    /// Class that it is for, unless somebody else made it.
    pub class: Option<Class>,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// Until when it can be used; absent: until it is taken back.
    pub expires: Option<Timestamp>,
}

impl Token {
    /// A token as the API server has it.
    pub fn of(secret: &Secret) -> Self {
        let field = |key| Some(String::from_utf8_lossy(&secret.data.as_ref()?.get(key)?.0).into_owned());
        let name = secret.name_any();
        let groups = field("auth-extra-groups").unwrap_or_default();
        let class = groups.split(',').find_map(|group| group.trim().strip_prefix(BOOTSTRAP_CLASS_PREFIX));
        Self {
            id: name.strip_prefix(NAME_PREFIX).unwrap_or(&name).to_owned(),
            node: secret.labels().get(TOKEN_NODE_LABEL).cloned().unwrap_or_default(),
            class: Class::ALL.into_iter().find(|known| Some(known.as_str()) == class),
            made: secret.creation_timestamp().map(|time| time.0),
            // One that cannot be read has ended for the API server.
            expires: field("expiration").map(|time| time.parse().unwrap_or(Timestamp::UNIX_EPOCH)),
        }
    }

    /// Whether it can be used no more.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.id)
    }
}

/// A token that was just thought of, with its secret.
#[derive(Clone)]
pub struct NewToken {
    /// What is not secret of it.
    pub token: Token,
    class: Class,
    secret: String,
}

/// Its secret does not get into a log.
impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token.fmt(f)
    }
}

impl NewToken {
    /// A token for a machine.
    pub fn random(node: &str, class: Class, ttl: Duration, now: Timestamp) -> Result<Self, NoRandomness> {
        // The API server knows no parts of a second.
        let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let expires = whole.checked_add(ttl).unwrap_or(Timestamp::MAX);
        let (id, secret) = (letters(LENGTHS.0)?, letters(LENGTHS.1)?);
        let token = Token { id, node: node.to_owned(), class: Some(class), made: Some(now), expires: Some(expires) };
        Ok(Self { token, class, secret })
    }

    /// The whole of it, as it is shown to the API server.
    pub fn credential(&self) -> String {
        format!("{}.{}", self.token.id, self.secret)
    }

    /// The object by which the API server knows it.
    pub fn object(&self) -> Secret {
        let Self { token: Token { id, node, expires, .. }, class, secret } = self;
        let data = [
            ("token-id", id.clone()),
            ("token-secret", secret.clone()),
            ("usage-bootstrap-authentication", "true".to_owned()),
            ("auth-extra-groups", groups(node, *class).join(",")),
            ("expiration", expires.unwrap_or(Timestamp::MAX).to_string()),
            ("description", format!("{node} ({class}) enrolls in hatrack with it")),
        ];
        let labels = BTreeMap::from([(TOKEN_NODE_LABEL.to_owned(), node.clone())]);
        Secret {
            metadata: ObjectMeta {
                name: Some(self.token.secret_name()),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            string_data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
            ..Secret::default()
        }
    }
}

/// Random letters of the alphabet, each as likely as every other.
fn letters(count: usize) -> Result<String, NoRandomness> {
    // The largest multiple of the alphabet's length that a byte holds: what is above it would favour the first letters.
    const LIMIT: u8 = 252;
    let random = SystemRandom::new();
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 32];
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        let fitting = bytes.into_iter().filter(|byte| *byte < LIMIT).map(|byte| usize::from(byte) % ALPHABET.len());
        text.extend(fitting.take(count - text.len()).map(|place| char::from(ALPHABET[place])));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00.5Z".parse().unwrap()
    }

    fn new() -> NewToken {
        NewToken::random("phones-1", Class::PhoneOrchestrator, Duration::from_hours(24), now()).unwrap()
    }

    /// As the API server gives it back.
    fn stored(new: &NewToken) -> Secret {
        let mut secret = new.object();
        let text = secret.string_data.take().unwrap();
        secret.data = Some(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect());
        secret
    }

    #[test]
    fn what_is_stored_is_what_was_made() {
        let new = new();
        let read = Token::of(&stored(&new));
        assert_eq!(read, Token { made: None, ..new.token.clone() });
        assert_eq!(read.expires, Some("2026-02-01T12:00:00Z".parse().unwrap()));
        assert!(!read.has_ended(now()) && read.has_ended(read.expires.unwrap()));
    }

    #[test]
    fn a_token_of_somebody_else_is_shown_as_far_as_it_is_known() {
        let mut secret = stored(&new());
        secret.data = None;
        let read = Token::of(&secret);
        assert_eq!((read.class, read.expires), (None, None));
        assert!(!read.has_ended(now()));
    }

    #[test]
    fn no_two_tokens_are_alike_and_the_secret_is_not_shown() {
        let (one, other) = (new(), new());
        assert_ne!(one.credential(), other.credential());
        assert!(!format!("{one:?}").contains(&one.secret));
        let of_alphabet = |byte: u8| ALPHABET.contains(&byte);
        assert!(one.credential().replace('.', "").bytes().all(of_alphabet));
        assert_eq!((one.token.id.len(), one.secret.len()), LENGTHS);
    }

    #[test]
    fn every_letter_comes_up() {
        let text = letters(10_000).unwrap();
        let mut seen: Vec<_> = text.bytes().collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, ALPHABET);
    }
}
