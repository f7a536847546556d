//! The resource types of hatrack and the CustomResourceDefinitions made from them.
//!
//! This crate does no I/O. The types are the contract: `k8s/crds/` is generated from them
//! (`UPDATE_MANIFESTS=1 cargo test -p hatrack-api --test manifests`), and everything that a schema can check, it checks.

pub mod access;
pub mod cluster_node;
pub mod crds;
pub mod enrollment;
pub mod environment;
pub mod hat;
pub mod hat_binding;
pub mod hat_policy;
pub mod hat_swap;
pub mod quantity;

pub use cluster_node::{ClusterNode, ClusterNodeSpec, ClusterNodeStatus};
pub use hat::{Hat, HatSpec, HatStatus};
pub use hat_binding::{HatBinding, HatBindingSpec, HatBindingStatus};
pub use hat_policy::{HatPolicy, HatPolicySpec, HatPolicyStatus};
pub use hat_swap::{HatSwap, HatSwapSpec};

/// API group of every resource and domain of every label.
pub const GROUP: &str = "society.zeta.io";

/// The served and stored version of every resource.
pub const VERSION: &str = "v1alpha1";

/// The namespace of Leases and records: what belongs to the cluster and not to a tenant.
pub const SYSTEM_NAMESPACE: &str = "society-system";

/// Label with the class of a node, for `kubectl get cn -l`.
pub const CLASS_LABEL: &str = "society.zeta.io/class";

/// Label of what there is for a hat, records and roles: the hat's name.
pub const HAT_LABEL: &str = "society.zeta.io/hat";

/// User name of a node's client certificate: this prefix and the ClusterNode's name.
pub const NODE_USER_PREFIX: &str = "society:node:";

/// Group of every node's client certificate.
pub const NODE_GROUP: &str = "society:nodes";
