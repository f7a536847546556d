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
    /// The API server refuses what is to be written of it.
    SetAside,
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
        let (is, has, does, it) = if one { ("is", "has", "does", "it") } else { ("are", "have", "do", "them") };
        match self {
            Self::Revoked => format!("{nodes} {is} revoked"),
            Self::Cordoned => format!("{nodes} {is} cordoned"),
            Self::Full => format!("{nodes} {is} full of hats"),
            Self::SetAside => format!("{nodes} {is} set aside (the API server refuses what is to be written of {it})"),
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

    /// Of one node, of two, and of one without a number.
    fn words(misfit: &Misfit) -> [&'static str; 3] {
        match misfit {
            Misfit::Revoked => ["1 is revoked", "2 are revoked", "is revoked"],
            Misfit::Cordoned => ["1 is cordoned", "2 are cordoned", "is cordoned"],
            Misfit::SetAside => [
                "1 is set aside (the API server refuses what is to be written of it)",
                "2 are set aside (the API server refuses what is to be written of them)",
                "is set aside (the API server refuses what is to be written of it)",
            ],
            Misfit::NotReady => ["1 is not ready", "2 are not ready", "is not ready"],
            Misfit::Stopping => ["1 is still stopping a hat", "2 are still stopping a hat", "is still stopping a hat"],
            Misfit::Full => ["1 is full of hats", "2 are full of hats", "is full of hats"],
            Misfit::Expression(_) => ["1 does not meet `true`", "2 do not meet `true`", "does not meet `true`"],
            Misfit::NoDevice(_) => ["1 has no gpu", "2 have no gpu", "has no gpu"],
            Misfit::Unusable { .. } => {
                ["1 has no usable gpu (Vfio)", "2 have no usable gpu (Vfio)", "has no usable gpu (Vfio)"]
            }
            Misfit::LeftToKubernetes(_) => [
                "1 has every gpu left to the device plugin",
                "2 have every gpu left to the device plugin",
                "has every gpu left to the device plugin",
            ],
            Misfit::InUse(_) => ["1 has every gpu in use", "2 have every gpu in use", "has every gpu in use"],
            Misfit::TooFew { in_use: true, .. } => {
                ["1 has 1 free gpu (needs 3)", "2 have 1 free gpu (needs 3)", "has 1 free gpu (needs 3)"]
            }
            Misfit::TooFew { in_use: false, .. } => {
                ["1 has 2 gpus (needs 3)", "2 have 2 gpus (needs 3)", "has 2 gpus (needs 3)"]
            }
            Misfit::TooSmall { .. } => [
                "1 gpu has 8Gi of memory (needs 9Gi)",
                "2 gpus have 8Gi of memory (needs 9Gi)",
                "the largest free gpu has 8Gi of memory (needs 9Gi)",
            ],
            Misfit::Selector { .. } => [
                "1 has no free gpu that meets `true`",
                "2 have no free gpu that meets `true`",
                "has no free gpu that meets `true`",
            ],
            Misfit::Contended(_) => [
                "1 has too few gpus for all requests together",
                "2 have too few gpus for all requests together",
                "has too few gpus for all requests together",
            ],
            Misfit::Fails { .. } => [
                "1 cannot tell: the expression `true` fails: no such key",
                "2 cannot tell: the expression `true` fails: no such key",
                "cannot tell: the expression `true` fails: no such key",
            ],
        }
    }

    #[test]
    fn every_kind_of_misfit_has_its_words() {
        let (class, word) = (DeviceClass::Gpu, str::to_owned);
        let too_few = |has, in_use| Misfit::TooFew { class, has, needs: 3, in_use };
        let kinds = [
            Misfit::Revoked,
            Misfit::Cordoned,
            Misfit::SetAside,
            Misfit::NotReady,
            Misfit::Stopping,
            Misfit::Full,
            Misfit::Expression(word("true")),
            Misfit::NoDevice(class),
            Misfit::Unusable { class, reason: word("Vfio") },
            Misfit::LeftToKubernetes(class),
            Misfit::InUse(class),
            too_few(1, true),
            too_few(2, false),
            Misfit::TooSmall { class, capacity: word("memory"), has: word("8Gi"), needs: word("9Gi") },
            Misfit::Selector { class, selector: word("true") },
            Misfit::Contended(class),
            Misfit::Fails { expression: word("true"), error: ExpressionError::Evaluation(word("no such key")) },
        ];
        for misfit in &kinds {
            assert_eq!([misfit.of(1), misfit.of(2), misfit.to_string()], words(misfit));
        }
    }

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
