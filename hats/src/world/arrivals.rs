//! What is heard: objects come, change and go, and what cannot be written stands aside.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::HatBinding;
use hatrack_api::{ClusterNode, Hat, HatPolicy, HatSwap, hat_policy};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::indexes::Stand;
use super::{Id, Name, NodeView, Question, Trace, World, name_of};
use crate::authority::{Grant, Scope};
use crate::placement::Fits;
use crate::quorum;

/// Bindings that were seen going and whose late events are still recognised.
const REMEMBERED_GONE: usize = 4096;

impl World {
    /// A hat was added or changed. Says, as all of these do, whether that was news to a decision.
    pub fn observe_hat(&mut self, hat: Hat) -> bool {
        let known = self.hats.get_key_value(name_of(&hat.metadata));
        let news = known.is_none_or(|(_, known)| is_newer(&known.metadata, &hat.metadata));
        let name = known.map_or_else(|| name_of(&hat.metadata).into(), |(name, _)| Name::clone(name));
        if news {
            self.put_hat(name, hat);
        }
        news
    }

    /// A hat is gone.
    pub fn forget_hat(&mut self, name: &str) -> bool {
        self.fits.remove(name);
        self.agenda.open_everything();
        self.hats.remove(name).is_some()
    }

    /// The catalogue matters to everything, a hat's status to those who ask for it at most.
    pub(super) fn put_hat(&mut self, name: Name, hat: Hat) {
        let known = self.hats.get(&name);
        let is_same = known.is_some_and(|known| {
            known.spec == hat.spec && known.metadata.deletion_timestamp == hat.metadata.deletion_timestamp
        });
        let is_reached = known.is_some_and(|known| quorum::has_been_reached(known) == quorum::has_been_reached(&hat));
        if !is_same {
            self.agenda.open_everything();
            match &hat.spec.requirements {
                Some(asked) => _ = self.fits.insert(name.clone(), Arc::new(Fits::new(&self.judge, asked.clone()))),
                None => _ = self.fits.remove(&name),
            }
        } else if !is_reached {
            self.open_all(&self.all_of_hat(&name));
        }
        self.agenda.ask(Question::Ledger, &name);
        self.hats.insert(name, Arc::new(hat));
    }

    /// The policy was added or changed. Only the one named `default` counts.
    pub fn observe_policy(&mut self, policy: HatPolicy) -> bool {
        let known = self.policy.as_ref();
        let news = name_of(&policy.metadata) == hat_policy::NAME
            && known.is_none_or(|known| is_newer(&known.metadata, &policy.metadata));
        if news {
            let told = |policy: &HatPolicy| {
                policy.status.as_ref().map(|status| status.bootstrapped.clone()).unwrap_or_default()
            };
            if known.is_none_or(|known| known.spec != policy.spec || told(known) != told(&policy)) {
                self.agenda.open_everything();
            }
            self.policy = Some(Arc::new(policy));
        }
        news
    }

    /// The policy is gone: requests are held, and what is worn goes on to its end.
    pub fn forget_policy(&mut self) -> bool {
        self.agenda.open_everything();
        self.policy.take().is_some()
    }

    /// A binding was added or changed. One without a UID was never accepted by an API server and is ignored.
    pub fn observe_binding(&mut self, binding: HatBinding, steady: Duration) -> bool {
        let Some(id) = binding.metadata.uid.as_deref().map(Id::from) else { return false };
        let known = self.bindings.get(&id);
        let news = !self.gone.0.contains(&id) && known.is_none_or(|known| is_newer(&known.metadata, &binding.metadata));
        if news {
            self.put_binding(&id, binding, steady);
        }
        news
    }

    /// A binding is gone.
    pub fn forget_binding(&mut self, uid: &str) -> bool {
        self.forget_bound(&uid.into())
    }

    pub(super) fn forget_bound(&mut self, id: &Id) -> bool {
        let known = self.bindings.remove(id);
        if let Some(binding) = &known {
            self.move_binding(id, Some(Stand::of(binding)), None);
        }
        self.spoken.remove(id);
        self.set_aside.remove(id);
        if self.gone.0.insert(id.clone()).is_none() {
            self.gone.1.push_back(id.clone());
        }
        while self.gone.1.len() > REMEMBERED_GONE {
            if let Some(oldest) = self.gone.1.pop_front() {
                self.gone.0.remove(&oldest);
            }
        }
        known.is_some()
    }

    /// The API server refuses what is to be written of a binding: it stays as it is, in nobody's way, until it is taken up again.
    pub fn set_aside(&mut self, uid: &str) {
        let id = Id::from(uid);
        self.open_binding(&id);
        self.set_aside.insert(id);
    }

    /// A binding that was set aside is decided upon again, also if it has ended.
    pub fn take_up(&mut self, uid: &str) {
        let id = Id::from(uid);
        self.set_aside.remove(&id);
        self.open_binding(&id);
        self.open_authority(&id);
        self.agenda.trace(Trace::End, &id);
    }

    /// The API server refuses what is to be written of a node or of its Lease: it takes nothing new and is not fenced, and what it wears stays,
    /// until it is taken up again, however often it changes. Whether it could be told otherwise is not known.
    pub fn set_aside_node(&mut self, name: &str) {
        self.open_node(name);
        self.change_node(name, |view| view.set_aside(true));
    }

    /// A node that was set aside is decided upon again.
    pub fn take_up_node(&mut self, name: &str) {
        self.open_node(name);
        self.change_node(name, |view| view.set_aside(false));
    }

    /// Everything that was set aside is decided upon again, whatever was concluded before.
    pub fn take_up_all(&mut self) {
        self.set_aside.clear();
        let aside = self.nodes.iter().filter(|(_, node)| node.is_set_aside()).map(|(name, _)| name.clone());
        for name in aside.collect::<Vec<Name>>() {
            self.take_up_node(&name);
        }
        self.agenda.open_everything();
    }

    /// A record was written.
    pub fn observe_swap(&mut self, swap: HatSwap) -> bool {
        self.put_swap(&Arc::new(swap))
    }

    pub(super) fn put_swap(&mut self, swap: &Arc<HatSwap>) -> bool {
        let news = self.records.insert(Arc::clone(swap));
        if news {
            self.open_recorded(swap);
        }
        news
    }

    /// A record was collected.
    pub fn forget_swap(&mut self, name: &str) -> bool {
        let known = self.records.remove(name);
        if let Some(swap) = &known {
            self.open_recorded(swap);
        }
        known.is_some()
    }

    /// A node was added or changed, at this time of the steady clock.
    pub fn observe_node(&mut self, node: ClusterNode, steady: Duration) -> bool {
        let name = self.name_of_node(name_of(&node.metadata));
        let view = match self.nodes.get(&name) {
            Some(known) if !known.is_registered() || is_newer(&known.node.metadata, &node.metadata) => {
                known.with_node(node, &self.judge, steady)
            }
            Some(_) => return false,
            None => NodeView::new(node, &self.judge, steady),
        };
        self.open_node(&name);
        self.put_node(name, view);
        true
    }

    /// A ClusterNode is gone. What is worn there goes on until its Lease is silent: the machine may well be alive.
    pub fn forget_node(&mut self, name: &str) -> bool {
        let Some(view) = self.nodes.get(name).filter(|view| view.is_registered()) else { return false };
        let view = view.unregistered(&self.judge);
        self.open_node(name);
        self.put_node(self.name_of_node(name), view);
        true
    }

    /// A node's Lease was added or changed, at this time of the steady clock. That a node which renewed it before does so again is no
    /// news.
    pub fn observe_lease(&mut self, lease: &Lease, steady: Duration) -> bool {
        let name = self.name_of_node(name_of(&lease.metadata));
        let known = self.nodes.get(&name).cloned();
        let view = match &known {
            Some(known) => known.with_lease(lease, steady),
            None => NodeView::awaited(&name, &self.judge, steady).lasting(self.periods.lease).with_lease(lease, steady),
        };
        let news = known.is_none_or(|known| known.standing(steady) != view.standing(steady));
        if news {
            self.open_node(&name);
        }
        self.put_node(name, view);
        news
    }

    /// No Lease could be observed for so long, up to this time of the steady clock. It counts as silence of no node: they could not be heard,
    /// nor renew.
    pub fn was_deaf(&mut self, time: Duration, steady: Duration) {
        let views: Vec<_> =
            self.nodes.iter().map(|(name, view)| (name.clone(), view.unheard_for(time, steady))).collect();
        for (name, view) in views {
            self.open_node(&name);
            self.put_node(name, view);
        }
    }

    /// The name by which a node is known, or will be.
    pub(super) fn name_of_node(&self, name: &str) -> Name {
        self.nodes.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Name::clone(name))
    }

    /// Role and RoleBinding of a wearer exist.
    pub fn observe_grant(&mut self, grant: Grant) -> bool {
        let key = (Id::from(grant.binding.as_str()), grant.scope.clone());
        let news = self.grants.get(&key).is_none_or(|known| **known != grant);
        self.grants.insert(key.clone(), Arc::new(grant));
        self.open_authority(&key.0);
        news
    }

    /// They are gone.
    pub fn forget_grant(&mut self, binding: &str, scope: &Scope) -> bool {
        let id = Id::from(binding);
        self.open_authority(&id);
        self.grants.remove(&(id, scope.clone())).is_some()
    }
}

/// Whether an object that arrives replaces the one that is known, also if it is another one of that name. Resource versions of one kind grow
/// (KEP-5504); where one is missing, as in a folder, the newest arrival counts.
fn is_newer(known: &ObjectMeta, arrived: &ObjectMeta) -> bool {
    let version = |metadata: &ObjectMeta| metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match (version(known), version(arrived)) {
        (Some(known), Some(arrived)) => arrived > known,
        _ => true,
    }
}
