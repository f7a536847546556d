//! Whether this machine may speak for its ClusterNode.

use std::fmt;

use crate::own::Seen;

/// Whether this machine may speak for its ClusterNode. Only [`Standing::Ours`] writes; what is not known admits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The object has not been read since the start.
    Unknown,
    /// This machine has nothing that tells it from others: it can neither register nor show that it is the registered one.
    Nameless,
    /// There is no object: it is to be created.
    Absent,
    /// The object names no machine: this one is to be pinned.
    Unpinned,
    /// The object names this machine.
    Ours,
    /// The object names another machine.
    Another {
        /// The machine that the object names.
        pinned: String,
        /// This machine.
        ours: String,
    },
}

impl Standing {
    /// The standing of the machine with the hardware id `ours`.
    pub fn of(seen: &Seen, ours: Option<&str>) -> Self {
        let Some(ours) = ours else { return Self::Nameless };
        match seen {
            Seen::Unread | Seen::Unreadable => Self::Unknown,
            Seen::Absent { .. } => Self::Absent,
            Seen::Present(node) => match node.spec.hardware_id.as_deref() {
                None | Some("") => Self::Unpinned,
                Some(pinned) if pinned == ours => Self::Ours,
                Some(pinned) => Self::Another { pinned: pinned.to_owned(), ours: ours.to_owned() },
            },
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the ClusterNode has not been read yet"),
            Self::Nameless => f.write_str(
                "this machine has no hardware id to trust (SMBIOS UUID, device-tree serial number or permanent MAC address): \
                 it cannot register",
            ),
            Self::Absent => f.write_str("the ClusterNode does not exist yet"),
            Self::Unpinned => f.write_str("the ClusterNode names no machine yet"),
            Self::Ours => f.write_str("the ClusterNode is this machine's"),
            Self::Another { pinned, ours } => write!(
                f,
                "the ClusterNode belongs to another machine: spec.hardwareID is {pinned}, this machine has {ours}; give this \
                 machine another name, or clear spec.hardwareID if it replaces the other one"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn seen(pinned: Option<&str>) -> Seen {
        let object = serde_json::json!({
            "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": "a"}, "spec": {"class": "worker", "hardwareID": pinned},
        });
        Seen::Present(Arc::new(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn only_the_pinned_machine_is_the_node() {
        let another = Standing::Another { pinned: "b".to_owned(), ours: "a".to_owned() };
        for (seen, ours, standing) in [
            (Seen::Unread, Some("a"), Standing::Unknown),
            (Seen::Unreadable, Some("a"), Standing::Unknown),
            (Seen::Absent { version: 1 }, Some("a"), Standing::Absent),
            (seen(None), Some("a"), Standing::Unpinned),
            (seen(Some("")), Some("a"), Standing::Unpinned),
            (seen(Some("a")), Some("a"), Standing::Ours),
            (seen(Some("b")), Some("a"), another),
            (seen(Some("a")), None, Standing::Nameless),
            (seen(None), None, Standing::Nameless),
            (Seen::Absent { version: 1 }, None, Standing::Nameless),
        ] {
            assert_eq!(Standing::of(&seen, ours), standing, "{seen:?} {ours:?}");
        }
    }
}
