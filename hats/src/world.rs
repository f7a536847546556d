//! The world as the operator sees it, and what each action makes of it.
//!
//! A `World` is fed by [`World::observe_hat`] and its siblings with what watches deliver, and by [`World::apply`] with what a
//! plan does. Copies share structure: taking one is cheap, and a decision tries out its own effects on a copy.
//!
//! Events may come twice and late: an object with an older `resourceVersion` than the one that is known is ignored, and a
//! binding that was seen going does not come back. Until every kind has been listed once, nothing may be decided: a missing
//! hat looks the same as a deleted one.
//!
//! What is put into a world by either (`arrivals`, `effects`) moves in what is found without a search (`indexes`) and opens what it could matter to
//! (`openings`, `agenda`), so that a decision looks at nothing else.

mod agenda;
mod arrivals;
mod company;
mod effects;
mod few;
mod id;
mod indexes;
mod node;
mod openings;
mod records;

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::{FINALIZER, HatBinding, HatBindingStatus, Phase};
use hatrack_api::{Hat, HatPolicy, HatSwap};
use imbl::{OrdMap, OrdSet, Vector};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::authority::{Grant, Scope};
use crate::periods::Periods;
use crate::placement::Fits;
use crate::requirements::Judge;
pub use agenda::Outlook;
pub(crate) use agenda::{Agenda, Matter, Question, Step, Trace, Turn};
pub(crate) use company::Company;
use few::Few;
pub(crate) use id::Id;
pub(crate) use indexes::ByNode;
pub use node::{GPU_ALLOCATOR_LABEL, NodeView, Sight};
pub(crate) use records::{RecordName, cause};
pub use records::{Stay, Tally};

/// Name of a node, a hat or a wearer, shared by all who name it.
pub(crate) type Name = Arc<str>;

/// What the operator knows.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) hats: OrdMap<Name, Arc<Hat>>,
    pub(crate) bindings: OrdMap<Id, Arc<HatBinding>>,
    pub(crate) nodes: OrdMap<Name, Arc<NodeView>>,
    pub(crate) policy: Option<Arc<HatPolicy>>,
    pub(crate) records: records::Records,
    pub(crate) grants: OrdMap<(Id, Scope), Arc<Grant>>,
    pub(crate) judge: Judge,
    pub(crate) agenda: Agenda,
    /// What hats with requirements ask of nodes, by name.
    fits: OrdMap<Name, Arc<Fits>>,
    /// Bindings that have not ended, by creation: the order in which requests are considered.
    pub(crate) queue: OrdSet<Turn>,
    /// Those of them that no node could take when they were last considered.
    pub(crate) unplaced: OrdSet<Turn>,
    /// Bindings that have not ended, by hat and by wearer.
    pub(crate) live_of_hat: OrdMap<Name, OrdSet<Id>>,
    live_of_wearer: Few<Id>,
    /// Who wears each hat that somebody wears.
    pub(crate) companies: OrdMap<Name, Company>,
    pub(crate) by_node: ByNode,
    /// Bindings that have ended and still exist.
    pub(crate) ended: OrdSet<Id>,
    /// When the text of a held request was last written (steady clock).
    pub(crate) spoken: OrdMap<Id, Duration>,
    /// Bindings that cannot be written at present.
    set_aside: OrdSet<Id>,
    pub(crate) periods: Periods,
    gone: (OrdSet<Id>, Vector<Id>),
}

impl World {
    /// A world of which nothing is known yet, in which machines have so much time.
    pub fn new(periods: Periods) -> Self {
        Self { periods, ..Self::default() }
    }

    /// Every action of a plan was carried out on this world, or [is left open](Self::leave_open). What the decision looked at has to change or to
    /// become due before it is looked at again.
    pub fn conclude(&mut self, outlook: Outlook) {
        self.agenda.conclude(outlook);
        if let Some(at) = self.agenda.concluded() {
            self.records.count_since(at.a_day_ago());
        }
    }

    /// The same world with every index made anew and nothing concluded. For proofs that no decision turns on what was concluded before.
    #[must_use]
    pub fn rebuilt(&self) -> Self {
        let mut world = Self { policy: self.policy.clone(), judge: self.judge.clone(), ..Self::new(self.periods) };
        for (name, hat) in &self.hats {
            world.put_hat(name.clone(), (**hat).clone());
        }
        for (name, node) in &self.nodes {
            world.put_node(name.clone(), (**node).clone().unloaded());
        }
        for swap in self.records.shared() {
            world.records.insert(Arc::clone(swap));
        }
        for (id, binding) in &self.bindings {
            world.put_binding(id, (**binding).clone(), Duration::ZERO);
        }
        let (grants, spoken, set_aside) = (self.grants.clone(), self.spoken.clone(), self.set_aside.clone());
        world.agenda.open_everything();
        Self { grants, spoken, set_aside, gone: self.gone.clone(), ..world }
    }

    pub(crate) fn is_set_aside(&self, id: &Id) -> bool {
        self.set_aside.contains(id)
    }

    /// What a hat asks of nodes, if it does.
    pub(crate) fn fits(&self, hat: &str) -> Option<&Fits> {
        self.fits.get(hat).map(AsRef::as_ref)
    }

    /// The status of a binding; one that was never written is that of a new request.
    pub(crate) fn status(&self, id: &Id) -> Option<&HatBindingStatus> {
        self.bindings.get(id).map(|binding| status_of(binding))
    }

    /// A hat by its name.
    pub fn hat(&self, name: &str) -> Option<&Hat> {
        self.hats.get(name).map(AsRef::as_ref)
    }

    /// Every hat.
    pub fn hats(&self) -> impl Iterator<Item = &Hat> {
        self.hats.values().map(AsRef::as_ref)
    }

    /// The policy, if there is one.
    pub fn policy(&self) -> Option<&HatPolicy> {
        self.policy.as_deref()
    }

    /// A binding by its UID.
    pub fn binding(&self, uid: &str) -> Option<&HatBinding> {
        self.bound(&Id::from(uid))
    }

    /// A binding by its id.
    pub(crate) fn bound(&self, id: &Id) -> Option<&HatBinding> {
        self.bindings.get(id).map(AsRef::as_ref)
    }

    /// Every binding, by UID.
    pub fn bindings(&self) -> impl Iterator<Item = (&str, &HatBinding)> {
        self.bindings.values().map(|binding| (uid_of(&binding.metadata), binding.as_ref()))
    }

    /// UIDs of the bindings that were last forgotten.
    pub fn gone_bindings(&self) -> impl Iterator<Item = String> {
        self.gone.0.iter().map(Id::to_string)
    }

    /// Records that the API server stored after a `resourceVersion`, in its order, each with its own version.
    pub fn swaps_stored_after(&self, version: u64) -> impl Iterator<Item = (u64, &Arc<HatSwap>)> {
        self.records.stored_after(version)
    }

    /// A record by its name.
    pub fn swap(&self, name: &str) -> Option<&HatSwap> {
        self.records.get(name)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    /// Every node, by name: also those of which only the Lease is known.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeView)> {
        self.nodes.iter().map(|(name, node)| (name.as_ref(), node.as_ref()))
    }

    /// Every record, by name.
    pub fn swaps(&self) -> impl Iterator<Item = (&str, &HatSwap)> {
        self.records.all()
    }

    /// Every grant that is known to exist.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().map(AsRef::as_ref)
    }

    /// How many others than a binding wear its hat.
    pub(crate) fn others_in(&self, hat: &str, id: &Id) -> usize {
        let is_one = self.bound(id).is_some_and(|known| known.spec.hat == hat && status_of(known).phase.is_worn());
        self.companies.get(hat).map_or(0, |company| company.len() - usize::from(is_one))
    }

    /// The grants of a binding that are known to exist.
    pub(crate) fn grants_of<'a>(&'a self, id: &'a Id) -> impl Iterator<Item = &'a Grant> {
        let from = (id.clone(), Scope::Cluster);
        self.grants.range(from..).take_while(move |((of, _), _)| of == id).map(|(_, grant)| grant.as_ref())
    }

    /// Whether a binding exists and has not ended.
    pub(crate) fn is_live(&self, id: &Id) -> bool {
        self.status(id).is_some_and(|status| !status.phase.is_ended())
    }

    /// The first turn after the present one that was opened since the step was begun.
    pub(crate) fn late(&self) -> Option<&Turn> {
        self.agenda.late(&self.unplaced)
    }

    /// The bindings of a wearer that are worn.
    pub(crate) fn worn_of_wearer(&self, wearer: &str) -> impl Iterator<Item = &Id> {
        self.live_of(wearer).filter(|id| self.status(id).is_some_and(|status| status.phase.is_worn()))
    }

    /// The bindings of a wearer that have not ended.
    pub(crate) fn live_of(&self, wearer: &str) -> impl Iterator<Item = &Id> {
        self.live_of_wearer.of(wearer).into_iter().flat_map(|live| live.iter())
    }
}

static NEW: HatBindingStatus = HatBindingStatus {
    phase: Phase::Pending,
    transitions: 0,
    node_name: None,
    devices: Vec::new(),
    bound_at: None,
    warmup_ends_at: None,
    expires_at: None,
    ended_at: None,
    sticky_attribution_ends_at: None,
    effective_authority: None,
    conditions: Vec::new(),
};

/// The status of a binding; one that was never written is that of a new request.
pub(crate) fn status_of(binding: &HatBinding) -> &HatBindingStatus {
    binding.status.as_ref().unwrap_or(&NEW)
}

/// When a binding was created; one without a time was created last.
pub(crate) fn created(binding: &HatBinding) -> Timestamp {
    binding.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

/// Whether a binding has our finalizer.
pub(crate) fn is_finalized(binding: &HatBinding) -> bool {
    binding.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

pub(crate) fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn uid_of(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}
