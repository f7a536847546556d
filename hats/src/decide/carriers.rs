//! Nodes: what they are to wear, and those that fall silent.
//!
//! An assignment is taken back in two steps. When its binding is not worn here any more, its phase says so; when the agent
//! has reported `Stopped`, it goes, and with it the hold on its devices. A fenced node's assignments go at once: it
//! stops every hat before it renews again. A node that is set aside is neither assigned nor fenced: it keeps what it has.

use std::borrow::Cow;
use std::time::Duration;

use hatrack_api::cluster_node::HatAssignment;
use hatrack_api::hat_binding::HatBinding;
use hatrack_api::hat_policy::throttle as default;

use super::Decision;
use crate::action::Action;
use crate::lifecycle::Cause;
use crate::throttles::Rule;
use crate::world::{Id, Name, NodeView, status_of};

impl Decision {
    fn grace(&self) -> i64 {
        let policy = self.world.policy.as_ref();
        policy.and_then(|policy| policy.spec.node_grace_seconds).unwrap_or(default::NODE_GRACE_SECONDS)
    }

    /// Silence after which a node has stopped everything by itself: the largest grace that it was ever told, the time that
    /// it may take to stop, and one hundredth for clocks that do not run alike.
    fn patience(&self, node: &NodeView) -> Duration {
        let stamped = node.hats().iter().filter_map(|hat| hat.grace_seconds).max();
        let grace = u64::try_from(stamped.unwrap_or_else(|| self.grace())).unwrap_or(0);
        Duration::from_secs(grace + grace.div_ceil(100)).saturating_add(self.world.periods.stop)
    }

    /// Fences a node that carries something and has been silent for too long.
    pub(super) fn fence(&mut self, name: &Name) {
        let due = |node: &&NodeView| node.is_carrier() && !node.is_fenced() && !node.is_set_aside();
        let Some(node) = self.world.node(name).filter(due) else { return };
        let left = self.patience(node).saturating_sub(node.silence_or_age(self.now.steady));
        let transitions = node.lease.as_ref().map_or(0, |lease| lease.transitions) + 1;
        if left > Duration::ZERO {
            self.wake_after(left);
        } else {
            self.act(Action::Fence { node: name.to_string(), transitions });
        }
    }

    /// A worn binding whose node was fenced, or one of whose devices did not come back.
    pub(super) fn loss(&mut self, binding: &HatBinding) -> Option<(Cause, String)> {
        let status = status_of(binding);
        let name = status.node_name.as_deref().filter(|_| status.phase.is_worn())?;
        let node = self.world.node(name)?;
        if node.is_fenced() {
            return Some((Cause::NodeLost, format!("node {name} was silent and is fenced")));
        }
        // What cannot be told to stop does not begin elsewhere.
        if !node.is_registered() || !node.is_ready(self.now.steady) || node.is_set_aside() {
            return None;
        }
        let grace = self.world.periods.device_grace;
        let lost = status.devices.iter().filter_map(|device| Some((device, node.lost_since(device)?)));
        let (device, since) = lost.min_by_key(|(_, since)| *since)?;
        let left = grace.saturating_sub(self.now.steady.saturating_sub(since));
        let message = format!("{device} on node {name} is gone or unusable for {} s", grace.as_secs());
        if left == Duration::ZERO {
            return Some((Cause::DeviceLost, message));
        }
        self.wake_after(left);
        None
    }

    pub(super) fn assign(&mut self, name: &Name) {
        let is_written = |node: &&NodeView| node.is_registered() && !node.is_set_aside();
        let Some(node) = self.world.node(name).filter(is_written) else { return };
        let hats = self.wanted(node);
        if !hats.iter().map(AsRef::as_ref).eq(node.hats()) {
            let hats = hats.into_iter().map(Cow::into_owned).collect();
            self.act(Action::Assign { node: name.to_string(), hats });
        }
    }

    /// What a node is to wear: what is worn on it, and what it has not yet stopped.
    fn wanted<'a>(&self, node: &'a NodeView) -> Vec<Cow<'a, HatAssignment>> {
        let ending = node.ending().filter(|(id, _)| !self.is_done(node, id));
        let mut hats: Vec<_> = ending.map(|(id, hat)| self.ending(id, hat)).collect();
        hats.extend(node.carries().filter_map(|id| self.assignment(id, node.assignment(id))));
        hats.sort_by(|a, b| a.binding.cmp(&b.binding));
        hats
    }

    /// Whether a hat that is not worn any more needs no place in the list: its stop was reported, or forced.
    fn is_done(&self, node: &NodeView, id: &Id) -> bool {
        node.is_fenced() || node.has_stopped(id) || !self.rules.has(Rule::Exclusive)
    }

    fn ending<'a>(&self, id: &Id, hat: &'a HatAssignment) -> Cow<'a, HatAssignment> {
        let phase = self.world.status(id).map_or("Released", |status| status.phase.as_str());
        if hat.phase == phase && hat.expires_at.is_none() {
            return Cow::Borrowed(hat);
        }
        Cow::Owned(HatAssignment { phase: phase.to_owned(), expires_at: None, ..hat.clone() })
    }

    /// What is to be said of a worn binding. What was said of it stays if it is still true, and so does the grace that was stamped.
    fn assignment<'a>(&self, id: &Id, known: Option<&'a HatAssignment>) -> Option<Cow<'a, HatAssignment>> {
        let binding = self.world.bound(id)?;
        let (spec, status) = (&binding.spec, status_of(binding));
        let is_true = |hat: &&HatAssignment| {
            (&hat.name, &hat.wearer, &*hat.phase) == (&spec.hat, &spec.wearer.spiffe_id, status.phase.as_str())
                && (&hat.devices, &hat.expires_at) == (&status.devices, &status.expires_at)
                && hat.grace_seconds.is_some()
        };
        if let Some(hat) = known.filter(is_true) {
            return Some(Cow::Borrowed(hat));
        }
        Some(Cow::Owned(HatAssignment {
            binding: id.to_string(),
            name: spec.hat.clone(),
            wearer: spec.wearer.spiffe_id.clone(),
            phase: status.phase.as_str().to_owned(),
            devices: status.devices.clone(),
            expires_at: status.expires_at.clone(),
            grace_seconds: known.and_then(|hat| hat.grace_seconds).or_else(|| Some(self.grace())),
        }))
    }
}
