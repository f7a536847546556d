//! Who gets a certificate: the rules, without I/O and without a clock.
//!
//! [`claim`] is about the request alone: what it asks for, and whether who asks may ask for that. [`judge`] is about the cluster: what is known of
//! the machine, of other machines, and of earlier requests. What cannot be told holds a request, and approves none.

use std::time::Duration;

use hatrack_api::cluster_node::{Class, check_name, condition, ready};
use hatrack_api::enrollment::{
    BOOTSTRAP_CLASS_PREFIX, BOOTSTRAP_GROUP, BOOTSTRAP_NODE_PREFIX, CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION,
    KUBELET_USER_PREFIX, SHORTEST_LIFE, USAGE,
};
use hatrack_api::{ClusterNode, NODE_GROUP, NODE_USER_PREFIX};
use hatrack_service::Period;
use jiff::Timestamp;

use super::request::{Request, quoted};

/// User names of bootstrap tokens: this prefix and the id of the token.
const TOKEN_USER_PREFIX: &str = "system:bootstrap:";

/// Group of kubelets.
const KUBELET_GROUP: &str = "system:nodes";

/// Longest hardware id, as in the schema of ClusterNodes.
const MAX_HARDWARE_ID: usize = 64;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets its certificate.
    Approve {
        /// The machine has never been here: it is given its access first.
        is_first: bool,
    },
    /// It does not, and the message says what to do.
    Deny(Refusal),
    /// That is decided later.
    Hold(Delay),
}

/// Why a request is refused. The words are read by whoever looks after the machine, in its `/readyz`, its log and `kubectl describe csr`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The document inside is none.
    #[error("the request cannot be read: {0}. Is it one of hatrack-agent?")]
    Unreadable(String),
    /// The subject is not exactly a machine's.
    #[error(
        "the request is for `{0}`: a machine gets exactly CN={NODE_USER_PREFIX}NAME, O={NODE_GROUP}, where NAME is that of its ClusterNode"
    )]
    Subject(String),
    /// It asks for alternative names, or for other extensions.
    #[error("the request asks for {0} beside its subject: a machine gets none")]
    Extras(String),
    /// A key that is too weak, or of a kind that is not used.
    #[error("the key is {0}: use ECDSA (P-256, P-384), Ed25519 or RSA of 2048 to 4096 bits")]
    Key(String),
    /// More than to be a client.
    #[error("the usages are `{0}`: a machine gets `{USAGE}` alone")]
    Usages(String),
    /// For ever, or for longer than certificates last here.
    #[error("{asked}: from 10m to {longest} are given (`enrollment.longest-life` of the operator)")]
    Life {
        /// What it asks for, in words.
        asked: String,
        /// What is given at most.
        longest: Period,
    },
    /// The token was made for another machine, or is this one's kubelet, or this machine, but another's name is asked for.
    #[error("{asker} asks for the name {asked}: use the token that was made for {asked}")]
    AnotherName {
        /// Who asks.
        asker: String,
        /// The machine that it asks for.
        asked: String,
    },
    /// Nobody who could vouch for a machine.
    #[error(
        "{0} may not ask for the identity of a machine: its token may (`hatrack token create`), the kubelet of the same name, or the machine itself"
    )]
    Stranger(String),
    /// A token with the groups of several machines, or of none.
    #[error(
        "the token is for {0}: it has to be for one machine and one class. Make another with `hatrack token create NAME --class CLASS`"
    )]
    Token(String),
    /// The machine does not say what it is.
    #[error("the request says nothing to tell the machine by: annotation `{HARDWARE_ID_ANNOTATION}` is {0}")]
    HardwareId(String),
    /// The machine does not say what it is for.
    #[error("the request names no class of machines: annotation `{CLASS_ANNOTATION}` is {0}")]
    NoClass(String),
    /// Configured for another class than the token.
    #[error(
        "the machine is configured as {configured}, its token was made for {token}: correct `class` in agent.toml, or make another token"
    )]
    AnotherClassThanToken {
        /// What the machine says.
        configured: String,
        /// What the token says.
        token: String,
    },
    /// Configured for another class than the ClusterNode.
    #[error(
        "the machine is configured as {configured}, and ClusterNode {node} says {known}: correct `class` in agent.toml, or spec.class"
    )]
    AnotherClass {
        /// The machine.
        node: String,
        /// What the machine says.
        configured: String,
        /// What the ClusterNode says.
        known: String,
    },
    /// A person said no.
    #[error("{0} is revoked: nobody gets a certificate of this name while `spec.revoked` is set")]
    Revoked(String),
    /// The name is pinned to another machine.
    #[error(
        "{node} is the machine {pinned}, and this one is {claimed}: choose another name, or let it take this one with `hatrack node repin {node}`"
    )]
    AnotherMachine {
        /// The name.
        node: String,
        /// Who has it.
        pinned: String,
        /// Who wants it.
        claimed: String,
    },
    /// The machine is here already under another name.
    #[error(
        "this machine ({hardware_id}) is here already as {other}, which is alive: one machine has one name. Stop the agent of {other}, or \
         correct `name`"
    )]
    HeldElsewhere {
        /// Who it is.
        hardware_id: String,
        /// Its other name.
        other: String,
    },
    /// One token for two machines.
    #[error(
        "the token was used by the machine {0} already: a token is for one machine. Make another with `hatrack token create`"
    )]
    UsedToken(String),
    /// It is no newcomer, and has no access: somebody took it away.
    #[error(
        "{0} was registered before and may do nothing now (there is no ClusterRoleBinding hatrack:node:{0}), and no certificate gives that \
         back: `hatrack node remove {0}`, then a new token"
    )]
    NoAccess(String),
    /// It renews a certificate, and there is no such machine.
    #[error("there is no ClusterNode {0} any more: to come back it needs a token (`hatrack token create {0}`)")]
    Removed(String),
}

impl Refusal {
    /// One word for conditions and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "Unreadable",
            Self::Subject(_) => "Subject",
            Self::Extras(_) => "Extras",
            Self::Key(_) => "Key",
            Self::Usages(_) => "Usages",
            Self::Life { .. } => "Life",
            Self::AnotherName { .. } => "AnotherName",
            Self::Stranger(_) => "Stranger",
            Self::Token(_) => "Token",
            Self::HardwareId(_) => "HardwareID",
            Self::NoClass(_) => "NoClass",
            Self::AnotherClassThanToken { .. } | Self::AnotherClass { .. } => "AnotherClass",
            Self::Revoked(_) => "Revoked",
            Self::AnotherMachine { .. } => "AnotherMachine",
            Self::HeldElsewhere { .. } => "HeldElsewhere",
            Self::UsedToken(_) => "UsedToken",
            Self::NoAccess(_) => "NoAccess",
            Self::Removed(_) => "Removed",
        }
    }
}

/// Why a request waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Delay {
    /// Too many in a row.
    #[error(
        "{count} requests for {what} were made within {within}, {limit} are decided: this one waits. Is an agent caught in a loop?"
    )]
    TooMany {
        /// What they have in common.
        what: String,
        /// How many came before this one.
        count: usize,
        /// How many are decided.
        limit: usize,
        /// In how long.
        within: Period,
    },
    /// The operator's own fence does not hold.
    #[error("no authority is given: {0}")]
    Fence(String),
    /// Something is not known.
    #[error("{0}")]
    Unknown(&'static str),
}

impl Delay {
    /// One word for metrics and Events.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "TooMany",
            Self::Fence(_) => "Fence",
            Self::Unknown(_) => "Unknown",
        }
    }
}

/// What is asked for and by whom, found to be in order by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name of the ClusterNode.
    pub node: String,
    /// Class that the machine is configured for.
    pub class: Class,
    /// Who the machine is, by its own word.
    pub hardware_id: String,
    /// What vouches for it.
    pub by: Voucher,
}

/// What vouches for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// A bootstrap token for this machine.
    Token,
    /// The kubelet of the same name.
    Kubelet,
    /// Its own certificate.
    Itself,
}

impl Voucher {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "its token",
            Self::Kubelet => "its kubelet",
            Self::Itself => "its own certificate",
        }
    }
}

/// Judges a request by itself. `longest` is the longest life that is given.
pub fn claim(request: &Request, longest: Period) -> Result<Claim, Refusal> {
    let node = asked_for(request, longest)?;
    let configured = class(request)?;
    let by = voucher(request, node, configured)?;
    Ok(Claim { node: node.to_owned(), class: configured, hardware_id: hardware_id(request)?, by })
}

/// The name that is asked for, if nothing else is.
fn asked_for(request: &Request, longest: Period) -> Result<&str, Refusal> {
    let document = request.document.as_ref().map_err(|why| Refusal::Unreadable(why.to_string()))?;
    let node = document.node().filter(|node| check_name(node).is_ok());
    let node = node.ok_or_else(|| Refusal::Subject(document.subject_in_words()))?;
    if !document.extras.is_empty() {
        return Err(Refusal::Extras(quoted(&document.extras.join(", "))));
    }
    document.key.as_ref().map_err(|key| Refusal::Key(quoted(key)))?;
    let usages = request.object.spec.usages.as_deref().unwrap_or_default();
    if usages != [USAGE] {
        return Err(Refusal::Usages(quoted(&usages.join(", "))));
    }
    let life = request.object.spec.expiration_seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    match life.map(Duration::from_secs) {
        Some(life) if (SHORTEST_LIFE..=longest.get()).contains(&life) => Ok(node),
        Some(life) => Err(Refusal::Life { asked: format!("the request is for {life:?}"), longest }),
        None => Err(Refusal::Life { asked: "the request has no expirationSeconds".to_owned(), longest }),
    }
}

fn class(request: &Request) -> Result<Class, Refusal> {
    let text = request.class();
    let known = text.and_then(|text| Class::ALL.into_iter().find(|class| class.as_str() == text));
    known.ok_or_else(|| {
        Refusal::NoClass(text.map_or_else(|| "missing".to_owned(), |text| format!("`{}`", quoted(text))))
    })
}

/// As the schema of ClusterNodes has it.
fn hardware_id(request: &Request) -> Result<String, Refusal> {
    let text = request.hardware_id().ok_or_else(|| Refusal::HardwareId("missing".to_owned()))?;
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte);
    let is_one = text.len() <= MAX_HARDWARE_ID
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(is_inner);
    if is_one { Ok(text.to_owned()) } else { Err(Refusal::HardwareId(format!("`{}`", quoted(text)))) }
}

/// Whether who asks may ask for this name.
fn voucher(request: &Request, node: &str, configured: Class) -> Result<Voucher, Refusal> {
    let asker = request.asker();
    let is_in = |group: &str| request.groups().any(|of| of == group);
    let another = || Refusal::AnotherName { asker: format!("`{}`", quoted(asker)), asked: node.to_owned() };
    if let Some(own) = asker.strip_prefix(NODE_USER_PREFIX).filter(|_| is_in(NODE_GROUP)) {
        return if own == node { Ok(Voucher::Itself) } else { Err(another()) };
    }
    if let Some(own) = asker.strip_prefix(KUBELET_USER_PREFIX).filter(|_| is_in(KUBELET_GROUP)) {
        return if own == node { Ok(Voucher::Kubelet) } else { Err(another()) };
    }
    if asker.starts_with(TOKEN_USER_PREFIX) && is_in(BOOTSTRAP_GROUP) {
        return token(request, node, configured);
    }
    Err(Refusal::Stranger(format!("`{}`", quoted(asker))))
}

fn token(request: &Request, node: &str, configured: Class) -> Result<Voucher, Refusal> {
    let of = |prefix: &'static str| request.groups().filter_map(move |group| group.strip_prefix(prefix));
    let (names, classes): (Vec<_>, Vec<_>) =
        (of(BOOTSTRAP_NODE_PREFIX).collect(), of(BOOTSTRAP_CLASS_PREFIX).collect());
    let ([name], [class]) = (names.as_slice(), classes.as_slice()) else {
        let list =
            |words: &[&str], none: &str| if words.is_empty() { none.to_owned() } else { quoted(&words.join(", ")) };
        let words = format!("{} as {}", list(&names, "no machine"), list(&classes, "no class"));
        return Err(Refusal::Token(words));
    };
    if *name != node {
        let asker = format!("the token of {}", quoted(name));
        return Err(Refusal::AnotherName { asker, asked: node.to_owned() });
    }
    if *class != configured.as_str() {
        return Err(Refusal::AnotherClassThanToken { configured: configured.to_string(), token: quoted(class) });
    }
    Ok(Voucher::Token)
}

/// How many requests are decided.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// For one machine, or by one asker.
    pub limit: usize,
    /// Within this time.
    pub within: Period,
}

/// Whether a request has to wait because of those that were made before it: for the same machine, or by the same asker.
pub fn too_many<'a>(
    request: &Request,
    others: impl Iterator<Item = &'a Request>,
    rate: Rate,
    now: Timestamp,
) -> Option<Delay> {
    let Some(created) = request.created() else {
        return Some(Delay::Unknown("the request does not say when it was made"));
    };
    let is_recent = |made: Timestamp| {
        let age = Duration::try_from(now.duration_since(made)).unwrap_or_default();
        age < rate.within.get()
    };
    let is_before = |other: &Request| {
        other.created().is_some_and(|made| is_recent(made) && (made, other.name()) < (created, request.name()))
    };
    let is_alike = |other: &Request| {
        other.asker() == request.asker() || request.node().is_some_and(|node| other.node() == Some(node))
    };
    let count = others.filter(|other| is_before(other) && is_alike(other)).count();
    let what = request.node().map_or_else(|| format!("`{}`", quoted(request.asker())), str::to_owned);
    (count >= rate.limit).then_some(Delay::TooMany { what, count, limit: rate.limit, within: rate.within })
}

/// What is known of the cluster.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The ClusterNode of this name, as the API server has it now.
    pub node: Option<&'a ClusterNode>,
    /// Whether the ClusterRoleBinding of this node exists now.
    pub has_access: bool,
    /// Whether its ClusterRole does.
    pub has_role: bool,
    /// The name of another node that is alive and is pinned to the same hardware.
    pub alive_as: Option<&'a str>,
    /// Hardware ids of other machines that got a certificate with the same token, as far as requests are still kept.
    pub token_used_by: Option<&'a str>,
    /// Why no authority is given, if none is.
    pub no_authority: Option<&'a str>,
}

/// Judges a request by what is known of the cluster.
pub fn judge(claim: &Claim, facts: &Facts<'_>) -> Verdict {
    match objection(claim, facts) {
        Some(refusal) => Verdict::Deny(refusal),
        None => match facts.no_authority {
            Some(why) => Verdict::Hold(Delay::Fence(why.to_owned())),
            None => Verdict::Approve { is_first: !was_here(facts) },
        },
    }
}

fn objection(claim: &Claim, facts: &Facts<'_>) -> Option<Refusal> {
    let name = || claim.node.clone();
    let pinned = facts.node.and_then(|node| node.spec.hardware_id.as_deref()).filter(|id| !id.is_empty());
    if let Some(node) = facts.node {
        if node.spec.revoked == Some(true) {
            return Some(Refusal::Revoked(name()));
        }
        // Afterwards it is the condition AsExpected that shows a difference: a class gives no rights, and a renewal is no time to find out.
        if node.spec.class != claim.class && claim.by != Voucher::Itself {
            let (configured, known) = (claim.class.to_string(), node.spec.class.to_string());
            return Some(Refusal::AnotherClass { node: name(), configured, known });
        }
    } else if claim.by == Voucher::Itself {
        return Some(Refusal::Removed(name()));
    }
    if let Some(pinned) = pinned.filter(|pinned| *pinned != claim.hardware_id) {
        let (pinned, claimed) = (pinned.to_owned(), claim.hardware_id.clone());
        return Some(Refusal::AnotherMachine { node: name(), pinned, claimed });
    }
    if !facts.has_access && (was_here(facts) || claim.by == Voucher::Itself) {
        return Some(Refusal::NoAccess(name()));
    }
    if let Some(other) = facts.alive_as.filter(|_| pinned.is_none()) {
        return Some(Refusal::HeldElsewhere { hardware_id: claim.hardware_id.clone(), other: other.to_owned() });
    }
    facts.token_used_by.filter(|_| claim.by == Voucher::Token).map(|machine| Refusal::UsedToken(quoted(machine)))
}

/// Whether a machine has ever been let in under this name. A pinned hardware id may be a person's, and what a machine says of itself it can take
/// back: so it counts as well that the operator has seen its Lease, and that its ClusterRole is there, which is made behind the binding and
/// goes with `hatrack node remove`.
fn was_here(facts: &Facts<'_>) -> bool {
    let Some(node) = facts.node else { return false };
    let status = node.status.as_ref();
    let is_registered = status.is_some_and(|status| status.identity.is_some() || status.system.is_some());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == condition::READY);
    let was_alive = ready.is_some_and(|ready| ready.reason != ready::NO_LEASE);
    is_registered || was_alive || (facts.has_role && !facts.has_access)
}

/// The hardware id of another machine that got a certificate with the token of this request.
pub fn token_used_by<'a>(request: &Request, others: impl Iterator<Item = &'a Request>) -> Option<&'a str> {
    others
        .filter(|other| other.is_approved() && other.asker() == request.asker())
        .filter_map(Request::hardware_id)
        .find(|hardware_id| Some(*hardware_id) != request.hardware_id())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
    use serde_json::{Value, json};

    use super::super::samples::{self, Asker, document, document_for, document_with, itself, kubelet, person, token};
    use super::*;

    const MONTH: Period = Period::from_secs(30 * 24 * 3600);

    fn read(object: CertificateSigningRequest) -> Request {
        Request::ours(object).unwrap()
    }

    /// The request of `gpu-1` with its token, changed.
    fn changed(change: impl FnOnce(&mut CertificateSigningRequest)) -> Request {
        let mut object = samples::object(&document("gpu-1"), token("gpu-1"));
        change(&mut object);
        read(object)
    }

    fn by(asker: Asker) -> Request {
        read(samples::object(&document("gpu-1"), asker))
    }

    fn with_document(text: &str) -> Request {
        read(samples::object(text, token("gpu-1")))
    }

    fn annotated(key: &str, value: Option<&str>) -> Request {
        changed(|object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            match value {
                Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
                None => annotations.remove(key),
            };
        })
    }

    #[track_caller]
    fn refused(request: &Request, reason: &str, words: &str) {
        let refusal = claim(request, MONTH).unwrap_err();
        assert_eq!(refusal.reason(), reason);
        assert!(refusal.to_string().contains(words), "{refusal}");
    }

    #[test]
    fn its_token_its_kubelet_and_the_machine_itself_may_ask() {
        for (asker, voucher) in
            [(token("gpu-1"), Voucher::Token), (kubelet("gpu-1"), Voucher::Kubelet), (itself("gpu-1"), Voucher::Itself)]
        {
            let expected =
                Claim { node: "gpu-1".to_owned(), class: Class::GpuWorker, hardware_id: "A1".to_owned(), by: voucher };
            assert_eq!(claim(&by(asker), MONTH), Ok(expected));
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_is_refused() {
        refused(&with_document("no PEM"), "Unreadable", "not exactly one block of PEM");
    }

    #[test]
    fn a_subject_that_is_not_exactly_a_machines_is_refused() {
        for (name, group, words) in [
            ("society:node:gpu-1", "system:masters", "`O=system:masters, CN=society:node:gpu-1`"),
            ("system:kube-controller-manager", "society:nodes", "CN=system:kube-controller-manager`"),
            ("society:node:", "society:nodes", "exactly CN=society:node:NAME"),
            ("society:node:GPU-1", "society:nodes", "where NAME is that of its ClusterNode"),
            ("society:operator", "society:nodes", "society:operator"),
            ("ann", "developers", "CN=ann"),
        ] {
            refused(&with_document(&document_for(name, group)), "Subject", words);
        }
    }

    #[test]
    fn alternative_names_are_refused() {
        let names = document_with(&samples::key(), |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("kubernetes".try_into().unwrap())];
        });
        refused(&with_document(&names), "Extras", "asks for alternative names");
    }

    #[test]
    fn a_weak_key_is_refused() {
        refused(&with_document(include_str!("samples/rsa-1024.pem")), "Key", "the key is RSA of 1024 bits: use ECDSA");
        assert!(claim(&with_document(include_str!("samples/rsa-2048.pem")), MONTH).is_ok());
    }

    #[test]
    fn other_usages_are_refused() {
        for usages in
            [vec![], vec!["client auth", "server auth"], vec!["digital signature", "client auth"], vec!["any"]]
        {
            let usages: Vec<String> = usages.into_iter().map(str::to_owned).collect();
            let words = format!("the usages are `{}`", usages.join(", "));
            refused(&changed(|object| object.spec.usages = Some(usages)), "Usages", &words);
        }
        refused(&changed(|object| object.spec.usages = None), "Usages", "`client auth` alone");
    }

    #[test]
    fn a_life_without_an_end_or_that_is_too_long_is_refused() {
        let lasting = |seconds: Option<i32>| changed(|object| object.spec.expiration_seconds = seconds);
        refused(&lasting(None), "Life", "has no expirationSeconds: from 10m to 720h are given");
        for seconds in [-1, 0, 599, 30 * 24 * 3600 + 1] {
            refused(&lasting(Some(seconds)), "Life", "enrollment.longest-life");
        }
        for seconds in [600, 30 * 24 * 3600] {
            assert!(claim(&lasting(Some(seconds)), MONTH).is_ok(), "{seconds}");
        }
    }

    #[test]
    fn who_asks_for_anothers_name_is_refused() {
        refused(
            &by(token("gpu-2")),
            "AnotherName",
            "the token of gpu-2 asks for the name gpu-1: use the token that was made for gpu-1",
        );
        refused(&by(kubelet("gpu-2")), "AnotherName", "`system:node:gpu-2` asks for the name gpu-1");
        refused(&by(itself("gpu-2")), "AnotherName", "`society:node:gpu-2` asks for the name gpu-1");
        refused(&by(token("gpu-11")), "AnotherName", "the token of gpu-11");
    }

    #[test]
    fn a_stranger_is_refused() {
        let with = |name: &str, groups: &[&str]| {
            by(Asker(name.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect()))
        };
        refused(&by(person("ann")), "Stranger", "`ann` may not ask for the identity of a machine");
        // Names without the groups that authentication gives with them, and groups without the names.
        for stranger in [
            with("society:node:gpu-1", &[]),
            with("system:node:gpu-1", &["society:nodes"]),
            with("ann", &["society:nodes", "system:nodes"]),
            with("ann", &["system:bootstrappers:society", "system:bootstrappers:society:gpu-1"]),
            with("system:bootstrap:abcdef", &["system:bootstrappers", "system:bootstrappers:society:gpu-1"]),
            with("system:serviceaccount:default:society:node:gpu-1", &["system:serviceaccounts"]),
        ] {
            refused(&stranger, "Stranger", "may not ask");
        }
    }

    #[test]
    fn a_token_for_several_machines_or_for_none_is_refused() {
        let without = |prefix: &str| {
            let Asker(name, groups) = token("gpu-1");
            by(Asker(name, groups.into_iter().filter(|group| !group.starts_with(prefix)).collect()))
        };
        let more = |group: &str| {
            let Asker(name, mut groups) = token("gpu-1");
            groups.push(group.to_owned());
            by(Asker(name, groups))
        };
        refused(&without(BOOTSTRAP_NODE_PREFIX), "Token", "the token is for no machine as gpu-worker");
        refused(&without(BOOTSTRAP_CLASS_PREFIX), "Token", "the token is for gpu-1 as no class");
        refused(&more("system:bootstrappers:society:gpu-2"), "Token", "for gpu-1, gpu-2 as gpu-worker");
        refused(&more("system:bootstrappers:society-class:worker"), "Token", "gpu-worker, worker");
    }

    #[test]
    fn a_machine_that_does_not_say_who_it_is_or_what_for_is_refused() {
        refused(&annotated(HARDWARE_ID_ANNOTATION, None), "HardwareID", "society.zeta.io/hardware-id` is missing");
        for id in ["", "-a", "a b", "a\nb", &"a".repeat(65)] {
            refused(&annotated(HARDWARE_ID_ANNOTATION, Some(id)), "HardwareID", "nothing to tell the machine by");
        }
        refused(&annotated(CLASS_ANNOTATION, None), "NoClass", "society.zeta.io/class` is missing");
        refused(&annotated(CLASS_ANNOTATION, Some("gpu")), "NoClass", "`gpu`");
    }

    #[test]
    fn a_machine_of_another_class_than_its_token_is_refused() {
        let words = "the machine is configured as worker, its token was made for gpu-worker";
        refused(&annotated(CLASS_ANNOTATION, Some("worker")), "AnotherClass", words);
    }

    fn claimed(by: Voucher) -> Claim {
        Claim { node: "gpu-1".to_owned(), class: Class::GpuWorker, hardware_id: "A1".to_owned(), by }
    }

    fn node(spec: &Value, is_registered: bool) -> ClusterNode {
        let status = if is_registered { json!({"identity": {"hostname": "gpu-1"}}) } else { json!({"conditions": []}) };
        let mut whole = json!({"class": "gpu-worker"});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": "gpu-1"}, "spec": whole, "status": status}))
        .unwrap()
    }

    /// A cluster in which nothing stands against a first request.
    const NEW: Facts<'static> = Facts {
        node: None,
        has_access: false,
        has_role: false,
        alive_as: None,
        token_used_by: None,
        no_authority: None,
    };

    #[track_caller]
    fn denied(by: Voucher, facts: &Facts<'_>, reason: &str, words: &str) {
        match judge(&claimed(by), facts) {
            Verdict::Deny(refusal) => {
                assert_eq!(refusal.reason(), reason);
                assert!(refusal.to_string().contains(words), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_request_is_one_of_a_machine_that_was_never_here() {
        let first = Verdict::Approve { is_first: true };
        for by in [Voucher::Token, Voucher::Kubelet] {
            assert_eq!(judge(&claimed(by), &NEW), first);
            // An operator ended between access and approval.
            assert_eq!(judge(&claimed(by), &Facts { has_access: true, ..NEW }), first);
        }
        // GitOps may have made the object, even with its hardware id, and the operator has said that it is not Ready.
        for spec in [json!({}), json!({"hardwareID": ""}), json!({"hardwareID": "A1"})] {
            let declared = node(&spec, false);
            assert_eq!(judge(&claimed(Voucher::Token), &Facts { node: Some(&declared), ..NEW }), first);
        }
        let known = node(&json!({"hardwareID": "A1"}), true);
        let facts = Facts { node: Some(&known), has_access: true, ..NEW };
        for by in [Voucher::Token, Voucher::Kubelet, Voucher::Itself] {
            assert_eq!(judge(&claimed(by), &facts), Verdict::Approve { is_first: false });
        }
    }

    #[test]
    fn a_revoked_name_gets_nothing() {
        let revoked = node(&json!({"hardwareID": "A1", "revoked": true}), true);
        for has_access in [true, false] {
            let facts = Facts { node: Some(&revoked), has_access, ..NEW };
            for by in [Voucher::Token, Voucher::Kubelet, Voucher::Itself] {
                denied(by, &facts, "Revoked", "gpu-1 is revoked: nobody gets a certificate of this name");
            }
        }
    }

    #[test]
    fn another_machine_than_the_pinned_one_gets_nothing() {
        let known = node(&json!({"hardwareID": "B2"}), true);
        let words = "gpu-1 is the machine B2, and this one is A1: choose another name, or let it take this one with `hatrack node repin gpu-1`";
        for by in [Voucher::Token, Voucher::Kubelet, Voucher::Itself] {
            denied(by, &Facts { node: Some(&known), has_access: true, ..NEW }, "AnotherMachine", words);
        }
        let repinned = node(&json!({}), true);
        let facts = Facts { node: Some(&repinned), has_access: true, ..NEW };
        assert_eq!(judge(&claimed(Voucher::Token), &facts), Verdict::Approve { is_first: false });
    }

    #[test]
    fn access_that_was_taken_away_is_not_given_back() {
        let known = node(&json!({"hardwareID": "A1"}), true);
        let words = "(there is no ClusterRoleBinding hatrack:node:gpu-1), and no certificate gives that back: `hatrack node remove gpu-1`, \
            then a new token";
        for by in [Voucher::Token, Voucher::Kubelet, Voucher::Itself] {
            denied(by, &Facts { node: Some(&known), ..NEW }, "NoAccess", words);
        }
        let declared = node(&json!({}), false);
        denied(Voucher::Itself, &Facts { node: Some(&declared), ..NEW }, "NoAccess", "may do nothing now");
    }

    #[test]
    fn who_takes_back_what_it_said_of_itself_was_here_all_the_same() {
        let mut silent = node(&json!({"hardwareID": "A1"}), false);
        let with_ready = |reason: &str| {
            let ready = json!({"type": "Ready", "status": "Unknown", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({"conditions": [ready]})).unwrap()
        };
        for reason in [ready::LEASE_RENEWED, ready::LEASE_SILENT, ready::FENCED] {
            silent.status = with_ready(reason);
            denied(Voucher::Token, &Facts { node: Some(&silent), ..NEW }, "NoAccess", "`hatrack node remove gpu-1`");
        }
        // One that never renewed a Lease, where a person deleted the binding and left the role.
        for status in [with_ready(ready::NO_LEASE), None] {
            silent.status = status;
            let facts = Facts { node: Some(&silent), has_role: true, ..NEW };
            denied(Voucher::Kubelet, &facts, "NoAccess", "`hatrack node remove gpu-1`");
            let first = Verdict::Approve { is_first: true };
            assert_eq!(
                judge(&claimed(Voucher::Kubelet), &Facts { has_access: true, ..facts }),
                first,
                "an operator ended half way"
            );
            assert_eq!(
                judge(&claimed(Voucher::Kubelet), &Facts { has_role: false, ..facts }),
                first,
                "declared by GitOps"
            );
        }
    }

    #[test]
    fn a_machine_that_was_removed_does_not_come_back_by_its_old_certificate() {
        for has_access in [true, false] {
            denied(Voucher::Itself, &Facts { has_access, ..NEW }, "Removed", "to come back it needs a token");
        }
    }

    #[test]
    fn another_class_than_the_cluster_nodes_is_refused_but_stops_no_renewal() {
        let known = node(&json!({"hardwareID": "A1", "class": "worker"}), true);
        let facts = Facts { node: Some(&known), has_access: true, ..NEW };
        let words = "the machine is configured as gpu-worker, and ClusterNode gpu-1 says worker";
        denied(Voucher::Token, &facts, "AnotherClass", words);
        denied(Voucher::Kubelet, &facts, "AnotherClass", words);
        assert_eq!(judge(&claimed(Voucher::Itself), &facts), Verdict::Approve { is_first: false });
    }

    #[test]
    fn a_machine_that_is_alive_under_another_name_gets_no_second_one() {
        let facts = Facts { alive_as: Some("gpu-7"), ..NEW };
        denied(Voucher::Token, &facts, "HeldElsewhere", "this machine (A1) is here already as gpu-7, which is alive");
        // Boards of some makers share one id: who is here already stays here.
        let known = node(&json!({"hardwareID": "A1"}), true);
        let facts = Facts { node: Some(&known), has_access: true, alive_as: Some("gpu-7"), ..NEW };
        assert_eq!(judge(&claimed(Voucher::Itself), &facts), Verdict::Approve { is_first: false });
    }

    #[test]
    fn a_token_is_for_one_machine() {
        let used = Facts { token_used_by: Some("B2"), ..NEW };
        denied(Voucher::Token, &used, "UsedToken", "the token was used by the machine B2 already");
        assert_eq!(judge(&claimed(Voucher::Kubelet), &used), Verdict::Approve { is_first: true });

        let approved = |id: &str, verdict: &str| {
            let mut request = annotated(HARDWARE_ID_ANNOTATION, Some(id));
            let condition = json!({"conditions": [{"type": verdict, "status": "True"}]});
            request.object.status = serde_json::from_value(condition).unwrap();
            request
        };
        let request = by(token("gpu-1"));
        let by_others = |others: &[Request]| token_used_by(&request, others.iter()).map(str::to_owned);
        assert_eq!(by_others(&[approved("A1", "Approved"), approved("B2", "Denied")]), None);
        assert_eq!(by_others(&[approved("A1", "Approved"), approved("B2", "Approved")]).as_deref(), Some("B2"));
    }

    #[test]
    fn nothing_is_approved_while_no_authority_is_given() {
        let facts = Facts { no_authority: Some("the fence was not tried yet"), ..NEW };
        let held = Verdict::Hold(Delay::Fence("the fence was not tried yet".to_owned()));
        assert_eq!(judge(&claimed(Voucher::Token), &facts), held);
        // What is refused in any case is refused.
        let revoked = node(&json!({"revoked": true}), true);
        denied(Voucher::Token, &Facts { node: Some(&revoked), ..facts }, "Revoked", "gpu-1 is revoked");
    }

    #[test]
    fn requests_without_end_wait() {
        let made = |name: &str, at: &str, asker: Asker, of: &str| {
            let mut object = samples::object(&document(of), asker);
            object.metadata.name = Some(name.to_owned());
            object.metadata.creation_timestamp = serde_json::from_value(json!(at)).unwrap();
            read(object)
        };
        let rate = Rate { limit: 2, within: Period::from_secs(3600) };
        let now = |text: &str| text.parse::<Timestamp>().unwrap();
        let earlier = [
            made("a", "2026-01-01T00:00:00Z", token("gpu-1"), "gpu-1"),
            made("b", "2026-01-01T00:10:00Z", kubelet("gpu-1"), "gpu-1"),
            made("c", "2026-01-01T00:20:00Z", person("ann"), "gpu-9"),
            made("e", "2026-01-01T00:50:00Z", token("gpu-1"), "gpu-1"),
        ];
        let request = made("d", "2026-01-01T00:30:00Z", token("gpu-1"), "gpu-1");
        let waits = |at| too_many(&request, earlier.iter(), rate, now(at));
        let delay = waits("2026-01-01T00:30:00Z").unwrap();
        assert_eq!(delay.reason(), "TooMany");
        let words =
            "2 requests for gpu-1 were made within 1h, 2 are decided: this one waits. Is an agent caught in a loop?";
        assert_eq!(delay.to_string(), words);
        assert_eq!(waits("2026-01-01T01:00:00Z"), None, "the first counts no more");
        assert_eq!(too_many(&request, earlier[1..].iter(), rate, now("2026-01-01T00:30:00Z")), None);
        // Whoever asks for many names counts as well.
        let stranger = [
            made("f", "2026-01-01T00:00:00Z", person("ann"), "gpu-2"),
            made("g", "2026-01-01T00:00:00Z", person("ann"), "gpu-3"),
        ];
        let third = made("h", "2026-01-01T00:00:00Z", person("ann"), "gpu-4");
        assert!(too_many(&third, stranger.iter(), rate, now("2026-01-01T00:00:01Z")).is_some());
        let mut ageless = by(token("gpu-1"));
        ageless.object.metadata.creation_timestamp = None;
        let unknown = too_many(&ageless, std::iter::empty(), rate, now("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(unknown.reason(), "Unknown");
    }
}
