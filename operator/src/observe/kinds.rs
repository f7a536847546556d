//! The kinds that are watched, and what each of them is to the world.

use std::collections::BTreeMap;
use std::time::Duration;

use hatrack_api::cluster_node::{NodeLease, check_name};
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap, SYSTEM_NAMESPACE};
use hatrack_hats::World;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{Api, Resource};
use tokio::task::JoinSet;

use super::grants::Half;
use super::{Observed, Seen, Steady, Watching};

/// Every kind, as it is called in sentences.
pub const KINDS: [&str; 10] = [
    Hat::KIND,
    HatPolicy::KIND,
    HatBinding::KIND,
    HatSwap::KIND,
    ClusterNode::KIND,
    NodeLease::KIND,
    <Role as Kept>::KIND,
    <RoleBinding as Kept>::KIND,
    <ClusterRole as Kept>::KIND,
    <ClusterRoleBinding as Kept>::KIND,
];

pub(super) fn begin(tasks: &mut JoinSet<()>, watching: &Watching<'_>) {
    let client = watching.client;
    watching.watch::<Hat>(tasks, Api::all(client.clone()));
    watching.watch::<HatPolicy>(tasks, Api::all(client.clone()));
    watching.watch::<HatBinding>(tasks, Api::all(client.clone()));
    watching.watch::<HatSwap>(tasks, Api::namespaced(client.clone(), SYSTEM_NAMESPACE));
    watching.watch::<ClusterNode>(tasks, Api::all(client.clone()));
    watching.watch::<NodeLease>(tasks, Api::namespaced(client.clone(), SYSTEM_NAMESPACE));
    // All of them and not those with the operator's label: a grant from which somebody took the label would seem to be gone.
    watching.watch::<Role>(tasks, Api::all(client.clone()));
    watching.watch::<RoleBinding>(tasks, Api::all(client.clone()));
    watching.watch::<ClusterRole>(tasks, Api::all(client.clone()));
    watching.watch::<ClusterRoleBinding>(tasks, Api::all(client.clone()));
}

/// Objects of a kind as the world keeps them. Field managers are dropped: nothing turns on them, and they are a tenth of an object.
pub trait Kept: Resource + Sized {
    /// The kind as it is called in sentences.
    const KIND: &'static str;

    /// By what the world knows an object.
    fn key(&self) -> String {
        self.meta().name.clone().unwrap_or_default()
    }

    /// The object is there. Says whether that is news.
    fn observe(self, seen: &mut Seen, now: Steady) -> bool;

    /// The object is gone. Says whether that is news.
    fn forget(seen: &mut Seen, key: &str) -> bool;

    /// Everything of this kind that is known, with its `resourceVersion`: 0 where that is not, and [`GONE`] for what will never be listed
    /// again.
    fn known(seen: &Seen) -> BTreeMap<String, u64>;

    /// Nothing of this kind could be heard for so long.
    fn unheard(_: &mut Seen, _: Duration, _: Steady) {}

    /// The watch of this kind has come to this `resourceVersion`: nothing older is unknown.
    fn reached(_: &Observed, _: u64) {}
}

/// Kinds of which the operator writes single objects, and is answered with what they are then.
pub trait Written: Kept {
    /// The same object as the world has it.
    fn counterpart<'a>(&self, world: &'a World) -> Option<&'a Self>;

    /// Whether the world has a later version of it: a watch may bring that before the answer to an older write comes.
    fn is_outdated(&self, world: &World) -> bool {
        self.counterpart(world).is_some_and(|known| version(known) > version(self))
    }
}

impl Written for Hat {
    fn counterpart<'a>(&self, world: &'a World) -> Option<&'a Self> {
        world.hat(&self.key())
    }
}

impl Written for HatPolicy {
    fn counterpart<'a>(&self, world: &'a World) -> Option<&'a Self> {
        world.policy()
    }
}

impl Written for HatBinding {
    fn counterpart<'a>(&self, world: &'a World) -> Option<&'a Self> {
        world.binding(&self.key())
    }
}

impl Written for ClusterNode {
    fn counterpart<'a>(&self, world: &'a World) -> Option<&'a Self> {
        world.node(&self.key()).map(|view| view.node.as_ref())
    }
}

/// The version of what is gone for good: newer than any that can be listed.
const GONE: u64 = u64::MAX;

/// The `resourceVersion` of an object as a number; `None` where it has none.
pub fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

fn versions<'a, K: Kept + 'a>(objects: impl Iterator<Item = &'a K>) -> BTreeMap<String, u64> {
    objects.map(|object| (object.key(), version(object).unwrap_or_default())).collect()
}

fn without_managers<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

impl Kept for Hat {
    const KIND: &'static str = "hats";

    fn observe(self, seen: &mut Seen, _: Steady) -> bool {
        seen.world.observe_hat(without_managers(self))
    }

    fn forget(seen: &mut Seen, key: &str) -> bool {
        seen.world.forget_hat(key)
    }

    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        versions(seen.world.hats())
    }
}

impl Kept for HatPolicy {
    const KIND: &'static str = "policies";

    fn observe(self, seen: &mut Seen, _: Steady) -> bool {
        seen.world.observe_policy(without_managers(self))
    }

    fn forget(seen: &mut Seen, key: &str) -> bool {
        key == hatrack_api::hat_policy::NAME && seen.world.forget_policy()
    }

    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        versions(seen.world.policy().into_iter())
    }
}

impl Kept for HatBinding {
    const KIND: &'static str = "bindings";

    fn key(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    fn observe(self, seen: &mut Seen, now: Steady) -> bool {
        seen.world.observe_binding(without_managers(self), now)
    }

    fn forget(seen: &mut Seen, key: &str) -> bool {
        seen.world.forget_binding(key)
    }

    /// A binding that was deleted does not come back under its UID.
    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        let gone = seen.world.gone_bindings().map(|uid| (uid, GONE));
        versions(seen.world.bindings().map(|(_, binding)| binding)).into_iter().chain(gone).collect()
    }
}

impl Kept for HatSwap {
    const KIND: &'static str = "records";

    fn observe(self, seen: &mut Seen, _: Steady) -> bool {
        seen.world.observe_swap(without_managers(self))
    }

    fn forget(seen: &mut Seen, key: &str) -> bool {
        seen.world.forget_swap(key)
    }

    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        versions(seen.world.swaps().map(|(_, swap)| swap))
    }

    fn reached(observed: &Observed, version: u64) {
        observed.recorded_up_to(version);
    }
}

impl Kept for ClusterNode {
    const KIND: &'static str = "nodes";

    /// Nothing is decided by disks and interfaces.
    fn observe(mut self, seen: &mut Seen, now: Steady) -> bool {
        if let Some(status) = &mut self.status {
            (status.storage, status.interfaces) = (None, None);
        }
        seen.world.observe_node(without_managers(self), now)
    }

    fn forget(seen: &mut Seen, key: &str) -> bool {
        seen.world.forget_node(key)
    }

    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        let registered = seen.world.nodes().filter(|(_, node)| node.is_registered());
        versions(registered.map(|(_, view)| view.node.as_ref()))
    }
}

/// A Lease that is gone is a silent one: nothing is forgotten.
impl Kept for NodeLease {
    const KIND: &'static str = "leases";

    /// Others, such as the operator's own, have names that no machine has.
    fn observe(self, seen: &mut Seen, now: Steady) -> bool {
        check_name(&self.key()).is_ok() && seen.world.observe_lease(&self, now)
    }

    fn forget(_: &mut Seen, _: &str) -> bool {
        false
    }

    fn unheard(seen: &mut Seen, time: Duration, now: Steady) {
        seen.world.was_deaf(time, now);
    }

    fn known(seen: &Seen) -> BTreeMap<String, u64> {
        let versions =
            seen.world.nodes().map(|(name, view)| (name, view.lease.as_ref().and_then(|lease| lease.version)));
        versions.filter_map(|(name, version)| Some((name.to_owned(), version?))).collect()
    }
}

macro_rules! half_of_a_grant {
    ($($kind:ty: $called:literal,)*) => {$(
        impl Kept for $kind {
            const KIND: &'static str = $called;

            fn key(&self) -> String {
                Half::key(self)
            }

            fn observe(self, seen: &mut Seen, _: Steady) -> bool {
                seen.halves.put(&self, &mut seen.world)
            }

            fn forget(seen: &mut Seen, key: &str) -> bool {
                seen.halves.take::<Self>(key, &mut seen.world)
            }

            fn known(seen: &Seen) -> BTreeMap<String, u64> {
                seen.halves.keys::<Self>().into_iter().map(|key| (key, 0)).collect()
            }
        }
    )*};
}

half_of_a_grant! {
    Role: "roles",
    RoleBinding: "role bindings",
    ClusterRole: "cluster roles",
    ClusterRoleBinding: "cluster role bindings",
}
