//! Authority: what a wearer is granted now, as data.
//!
//! * Active has the hat's rules, Warmup and Probation their reading part, anything else nothing.
//! * Namespaces are those that the hat names, without those of the system; if it names none, the cluster for who wears a quorum-gated hat with
//!   a quorum (or as the exception that HatPolicy's `bootstrap` makes), else the binding's own.
//! * Nothing is granted that could make more authority: no `*` verb (it becomes the seven of an object's life), no `escalate`, `bind`,
//!   `impersonate`, `approve` or `sign`, no tokens of service accounts, and nothing but reading in the API groups that give authority.
//!   `k8s/policies/operator-fence.yaml` refuses the same.
//! * `*` as a resource reads everything but secrets and token reviews. RBAC cannot except, so it is spelled out for the groups that
//!   are known; in an unknown group it stays `*`, in one that gives authority it is nothing, and so is `pods/*`.
//! * What holds in the cluster holds in the system namespaces too: RBAC has no "but". So secrets and ways into pods are not among it; a hat that
//!   is to have them names its namespaces. `api/` and the fence refuse the same.
//! * The wearer of a supervising hat may `supervise` and `cosign` the hats right below it, and read records, while it is Active. RBAC cannot
//!   filter records by hat, so it reads them all.

use std::collections::{BTreeMap, BTreeSet};

use hatrack_api::access::hat_role_name;
use hatrack_api::hat::{Authority, AuthorityRule};
use hatrack_api::hat_binding::{HatBindingStatus, Phase, ServiceAccountRef};
use hatrack_api::{GROUP, Hat, HatBinding, SYSTEM_NAMESPACE};
use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::action::Uid;
use crate::quorum;
use crate::world::{Id, World, status_of};

/// Where rules hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A ClusterRole and its binding.
    Cluster,
    /// A Role and its binding in this namespace.
    Namespace(String),
}

/// A role and the one subject that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// UID of the binding that it comes from.
    pub binding: Uid,
    /// The hat.
    pub hat: String,
    /// Where it holds.
    pub scope: Scope,
    /// What is allowed.
    pub rules: Vec<PolicyRule>,
    /// Who may.
    pub subject: ServiceAccountRef,
}

impl Grant {
    /// Name of the role and of its binding.
    pub fn name(&self) -> String {
        hat_role_name(&self.hat, &self.binding)
    }
}

/// Verbs that only read.
const READING: [&str; 3] = ["get", "list", "watch"];
/// What `*` as a verb stands for.
const LIFE: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
/// Verbs that make authority out of nothing, by how they begin: there is more than one `impersonate`.
const ESCALATING: [&str; 6] = ["escalate", "bind", "impersonate", "approve", "sign", "attest"];
/// Whoever makes tokens of service accounts acts in their names.
const TOKENS: &str = "serviceaccounts/token";
/// Groups in which writing is giving authority.
const GUARDED: [&str; 5] = [
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
    "certificates.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
];
/// What nobody gets across the cluster, since that is in the system namespaces as well: secrets, and ways into what runs there.
const KEYS: [&str; 5] = ["secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "nodes/proxy"];
/// Resources of the groups that are known, without secrets and token reviews.
const KNOWN: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "pods/log",
            "pods/status",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ],
    ),
    ("apps", &["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("batch", &["cronjobs", "jobs"]),
    ("networking.k8s.io", &["ingressclasses", "ingresses", "networkpolicies"]),
    ("storage.k8s.io", &["storageclasses", "volumeattachments"]),
    (GROUP, &["clusternodes", "hatbindings", "hatpolicies", "hats", "hatswaps"]),
];

/// Whether nothing is ever granted in a namespace.
fn is_system(namespace: &str) -> bool {
    namespace == SYSTEM_NAMESPACE || namespace.starts_with("kube-")
}

/// What a wearer is granted, as its status shows it: namespaces, and rules as they are projected.
pub fn effective(hat: Option<&Hat>, binding: &HatBinding, status: &HatBindingStatus) -> Option<Authority> {
    let hat = hat.filter(|_| status.phase.is_worn())?;
    let is_full = status.phase == Phase::Active;
    let scopes = scopes(hat, binding, status);
    let rules = hat.spec.authority.rules.iter().filter_map(|rule| project(rule, is_full)).flatten();
    let is_everywhere = scopes.contains(&Scope::Cluster);
    let rules = rules.filter_map(|rule| if is_everywhere { without_keys(rule) } else { Some(rule) });
    let namespaces = scopes.into_iter().filter_map(|scope| match scope {
        Scope::Namespace(namespace) => Some(namespace),
        Scope::Cluster => None,
    });
    Some(Authority { namespaces: namespaces.collect(), rules: rules.collect() })
}

/// The cluster is for who has a quorum: a hat may have become gated while somebody wore it without one.
fn scopes(hat: &Hat, binding: &HatBinding, status: &HatBindingStatus) -> Vec<Scope> {
    let gated = hat.spec.throttles.as_ref().and_then(|throttles| throttles.quorum_gated) == Some(true);
    let named = &hat.spec.authority.namespaces;
    if named.is_empty() && gated && quorum::granted(status).is_some() {
        return vec![Scope::Cluster];
    }
    let own = binding.metadata.namespace.iter();
    let mut namespaces: Vec<&String> = if named.is_empty() { own.collect() } else { named.iter().collect() };
    namespaces.sort_unstable();
    namespaces.dedup();
    let granted = namespaces.into_iter().filter(|namespace| !is_system(namespace));
    granted.map(|namespace| Scope::Namespace(namespace.clone())).collect()
}

/// What may be granted of a rule across the cluster.
fn without_keys(mut rule: AuthorityRule) -> Option<AuthorityRule> {
    rule.resources.retain(|resource| !KEYS.contains(&resource.as_str()));
    (!rule.resources.is_empty()).then_some(rule)
}

/// A rule as it may be granted; `None` if nothing is left of it.
fn project(rule: &AuthorityRule, full: bool) -> Option<Vec<AuthorityRule>> {
    let core = [String::new()];
    let groups: &[String] = if rule.api_groups.is_empty() { &core } else { &rule.api_groups };
    let groups: BTreeSet<&str> = groups
        .iter()
        .flat_map(
            |group| if group == "*" { KNOWN.iter().map(|(known, _)| *known).collect() } else { vec![group.as_str()] },
        )
        .collect();
    let projected: Vec<AuthorityRule> = groups.into_iter().filter_map(|group| in_group(rule, group, full)).collect();
    (!projected.is_empty()).then_some(projected)
}

fn in_group(rule: &AuthorityRule, group: &str, full: bool) -> Option<AuthorityRule> {
    let all = rule.resources.iter().any(|resource| resource == "*");
    let only_reads = !full || all || GUARDED.contains(&group);
    let wanted = rule.verbs.iter().flat_map(|verb| if verb == "*" { LIFE.to_vec() } else { vec![verb.as_str()] });
    let verbs: BTreeSet<&str> = wanted
        .filter(|verb| {
            if only_reads {
                READING.contains(verb)
            } else {
                !ESCALATING.iter().any(|escalating| verb.starts_with(escalating))
            }
        })
        .collect();
    let known = KNOWN.iter().find(|(known, _)| *known == group).map(|(_, resources)| *resources);
    let named = rule.resources.iter().map(String::as_str).filter(|name| !name.contains('*') && *name != TOKENS);
    let resources: BTreeSet<&str> = match known {
        Some(known) if all => known.iter().copied().collect(),
        None if all && !GUARDED.contains(&group) => ["*"].into(),
        _ => named.collect(),
    };
    let owned = |words: BTreeSet<&str>| -> Vec<String> { words.into_iter().map(str::to_owned).collect() };
    (!verbs.is_empty() && !resources.is_empty()).then(|| AuthorityRule {
        verbs: owned(verbs),
        resources: owned(resources),
        api_groups: vec![group.to_owned()],
    })
}

/// Every grant that a binding has in its present phase.
pub(crate) fn grants(world: &World, id: &Id, binding: &HatBinding) -> Vec<Grant> {
    let status = status_of(binding);
    let (Some(hat), Some(subject)) = (world.hat(&binding.spec.hat), &binding.spec.wearer.service_account_ref) else {
        return vec![];
    };
    let Some(authority) = effective(Some(hat), binding, status) else { return vec![] };
    let rules: Vec<PolicyRule> = authority.rules.into_iter().map(policy_rule).collect();
    let mut by_scope: BTreeMap<Scope, Vec<PolicyRule>> = BTreeMap::new();
    for scope in scopes(hat, binding, status) {
        by_scope.entry(scope).or_default().extend(rules.iter().cloned());
    }
    if status.phase == Phase::Active && !hat.spec.supervises.is_empty() {
        by_scope.entry(Scope::Cluster).or_default().extend(supervising(&hat.spec.supervises));
    }
    let grants = by_scope.into_iter().filter(|(_, rules)| !rules.is_empty());
    grants
        .map(|(scope, rules)| Grant {
            binding: id.to_string(),
            hat: binding.spec.hat.clone(),
            scope,
            rules,
            subject: subject.clone(),
        })
        .collect()
}

fn policy_rule(rule: AuthorityRule) -> PolicyRule {
    PolicyRule {
        api_groups: Some(rule.api_groups),
        resources: Some(rule.resources),
        verbs: rule.verbs,
        ..PolicyRule::default()
    }
}

fn supervising(hats: &[String]) -> [PolicyRule; 2] {
    let owned = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let group = Some(vec![GROUP.to_owned()]);
    [
        PolicyRule {
            api_groups: group.clone(),
            resources: Some(owned(&["hats"])),
            resource_names: Some(hats.to_vec()),
            verbs: owned(&["cosign", "supervise"]),
            ..PolicyRule::default()
        },
        PolicyRule {
            api_groups: group,
            resources: Some(owned(&["hatswaps"])),
            verbs: owned(&READING),
            ..PolicyRule::default()
        },
    ]
}
