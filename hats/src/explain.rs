//! Why a request is held, in words that a person can act on, summed over the nodes as kube-scheduler sums them:
//! `0/5 nodes: 3 have no gpu, 1 gpu has 16Gi of memory (needs 24Gi), 1 is cordoned`.

use std::collections::BTreeMap;

use hatrack_api::cluster_node::DeviceClass;

use crate::requirements::ExpressionError;

/// In which way a node does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// `spec.revoked`.
    Revoked,
    /// `spec.unschedulable`.
    Cordoned,
    /// It does not renew its Lease.
    NotReady,
    /// It has not yet reported the stop of a hat that it is to wear no more.
    Stopping,
    /// It wears as many hats as a node can.
    Full,
    /// A node expression is false.
    Expression(String),
    /// It has no device of this class.
    NoDevice(DeviceClass),
    /// It has devices of this class, none of which can be used.
    Unusable {
        /// The class.
        class: DeviceClass,
        /// Why the first cannot be used.
        reason: String,
    },
    /// Its devices of this class are Kubernetes' to hand out.
    LeftToKubernetes(DeviceClass),
    /// Every device of this class is somebody's.
    InUse(DeviceClass),
    /// It has some, but not enough.
    TooFew {
        /// The class.
        class: DeviceClass,
        /// What there is.
        has: usize,
        /// What is asked for.
        needs: usize,
        /// Whether others exist and are taken.
        in_use: bool,
    },
    /// The largest free device has too little of something.
    TooSmall {
        /// The class.
        class: DeviceClass,
        /// Of what.
        capacity: String,
        /// What there is.
        has: String,
        /// What is asked for.
        needs: String,
    },
    /// A selector is false of every free device.
    Selector {
        /// The class.
        class: DeviceClass,
        /// The first that is false of the largest.
        selector: String,
    },
    /// There is enough for each request alone, but not for all together.
    Contended(DeviceClass),
    /// An expression has no verdict.
    Fails {
        /// The expression.
        expression: String,
        /// What went wrong.
        error: ExpressionError,
    },
}

/// What is wrong with one node: `has no gpu`.
impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.of(1);
        match self {
            Self::TooSmall { class, .. } => write!(
                f,
                "the largest free {class}{}",
                words.trim_start_matches("1 ").trim_start_matches(class.as_str())
            ),
            _ => f.write_str(words.trim_start_matches("1 ")),
        }
    }
}

impl Misfit {
    /// Whether nothing can be said of the node, as an expression has no verdict.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Fails { .. })
    }

    /// What is wrong with so many nodes.
    fn of(&self, nodes: usize) -> String {
        let one = nodes == 1;
        let (is, has, does) = if one { ("is", "has", "does") } else { ("are", "have", "do") };
        match self {
            Self::Revoked => format!("{nodes} {is} revoked"),
            Self::Cordoned => format!("{nodes} {is} cordoned"),
            Self::Full => format!("{nodes} {is} full of hats"),
            Self::NotReady => format!("{nodes} {is} not ready"),
            Self::Stopping => format!("{nodes} {is} still stopping a hat"),
            Self::Expression(expression) => format!("{nodes} {does} not meet `{expression}`"),
            Self::NoDevice(class) => format!("{nodes} {has} no {class}"),
            Self::Unusable { class, reason } => format!("{nodes} {has} no usable {class} ({reason})"),
            Self::LeftToKubernetes(class) => format!("{nodes} {has} every {class} left to the device plugin"),
            Self::InUse(class) => format!("{nodes} {has} every {class} in use"),
            Self::TooFew { class, has: count, needs, in_use } => {
                let free = if *in_use { "free " } else { "" };
                let plural = if *count == 1 { "" } else { "s" };
                format!("{nodes} {has} {count} {free}{class}{plural} (needs {needs})")
            }
            Self::TooSmall { class, capacity, has: amount, needs } => {
                let plural = if one { "" } else { "s" };
                format!("{nodes} {class}{plural} {has} {amount} of {capacity} (needs {needs})")
            }
            Self::Selector { class, selector } => format!("{nodes} {has} no free {class} that meets `{selector}`"),
            Self::Contended(class) => format!("{nodes} {has} too few {class}s for all requests together"),
            Self::Fails { expression, error } => format!("{nodes} cannot tell: the expression `{expression}` {error}"),
        }
    }
}

/// Why no node takes a wearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is wrong with each node.
    NoNode(Vec<Misfit>),
    /// An expression has no verdict on a node that could otherwise take it.
    Expression {
        /// The expression.
        expression: String,
        /// Name of the node.
        node: String,
        /// What went wrong.
        error: ExpressionError,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoNode(misfits) if misfits.is_empty() => f.write_str("0/0 nodes: no node is registered"),
            Self::NoNode(misfits) => write!(f, "0/{} nodes: {}", misfits.len(), sum(misfits)),
            Self::Expression { expression, node, error } => {
                write!(f, "the expression `{expression}` of the hat {error} (on node {node})")
            }
        }
    }
}

/// Equal misfits together, the most frequent first.
fn sum(misfits: &[Misfit]) -> String {
    let mut kinds: BTreeMap<String, (usize, &Misfit)> = BTreeMap::new();
    for misfit in misfits {
        kinds.entry(misfit.of(1)).or_insert((0, misfit)).0 += 1;
    }
    let mut parts: Vec<(usize, &Misfit)> = kinds.into_values().collect();
    parts.sort_by_key(|(nodes, _)| std::cmp::Reverse(*nodes));
    parts.into_iter().map(|(nodes, misfit)| misfit.of(nodes)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_with_the_most_frequent_first() {
        let small = Misfit::TooSmall {
            class: DeviceClass::Gpu,
            capacity: "memory".to_owned(),
            has: "16Gi".to_owned(),
            needs: "24Gi".to_owned(),
        };
        let none = Misfit::NoDevice(DeviceClass::Gpu);
        let misfits = vec![Misfit::Cordoned, none.clone(), small, none.clone(), none];
        assert_eq!(
            Refusal::NoNode(misfits).to_string(),
            "0/5 nodes: 3 have no gpu, 1 gpu has 16Gi of memory (needs 24Gi), 1 is cordoned"
        );
        assert_eq!(Refusal::NoNode(vec![]).to_string(), "0/0 nodes: no node is registered");
    }

    #[test]
    fn one_node_is_told_without_a_number() {
        assert_eq!(Misfit::NoDevice(DeviceClass::Gpu).to_string(), "has no gpu");
        let small = Misfit::TooSmall {
            class: DeviceClass::Gpu,
            capacity: "memory".to_owned(),
            has: "16Gi".to_owned(),
            needs: "24Gi".to_owned(),
        };
        assert_eq!(small.to_string(), "the largest free gpu has 16Gi of memory (needs 24Gi)");
    }
}
