//! Nodes: what they are to wear, and those that fall silent.
//!
//! An assignment is taken back in two steps. When its binding is not worn here any more, its phase says so; when the agent
//! has reported `Stopped`, it goes, and with it the hold on its devices. A fenced node's assignments go at once: it
//! stops every hat before it renews again. A node that is set aside is neither assigned nor fenced: it keeps what it has.

use std::time::Duration;

use hatrack_api::cluster_node::HatAssignment;
use hatrack_api::hat_binding::HatBinding;
use hatrack_api::hat_policy::throttle as default;

use super::Decision;
use crate::action::{Action, Uid};
use crate::lifecycle::Cause;
use crate::throttles::Rule;
use crate::world::{NodeView, status_of};

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
    pub(super) fn fence(&mut self, name: &str) {
        let due = |node: &&NodeView| node.is_carrier() && !node.is_fenced() && !node.is_set_aside();
        let Some(node) = self.world.node(name).filter(due) else { return };
        let left = self.patience(node).saturating_sub(node.silence_or_age(self.now.steady));
        let transitions = node.lease.as_ref().map_or(0, |lease| lease.transitions) + 1;
        if left > Duration::ZERO {
            self.wake_after(left);
        } else {
            self.act(Action::Fence { node: name.to_owned(), transitions });
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

    pub(super) fn assign(&mut self, name: &str) {
        let is_written = |node: &&NodeView| node.is_registered() && !node.is_set_aside();
        let Some(node) = self.world.node(name).filter(is_written) else { return };
        let hats = self.wanted(node);
        if hats != node.hats() {
            self.act(Action::Assign { node: name.to_owned(), hats });
        }
    }

    /// What a node is to wear: what is worn on it, and what it has not yet stopped.
    fn wanted(&self, node: &NodeView) -> Vec<HatAssignment> {
        let ending = node.ending().filter(|hat| !self.is_done(node, &hat.binding));
        let mut hats: Vec<HatAssignment> = ending.map(|hat| self.ending(hat)).collect();
        for uid in node.carries() {
            let stamped = node.hats().iter().find(|hat| hat.binding == *uid).and_then(|hat| hat.grace_seconds);
            hats.extend(self.assignment(uid, stamped.unwrap_or_else(|| self.grace())));
        }
        hats.sort_by(|a, b| a.binding.cmp(&b.binding));
        hats
    }

    /// Whether a hat that is not worn any more needs no place in the list: its stop was reported, or forced.
    fn is_done(&self, node: &NodeView, binding: &str) -> bool {
        node.is_fenced() || node.has_stopped(binding) || !self.rules.has(Rule::Exclusive)
    }

    fn ending(&self, hat: &HatAssignment) -> HatAssignment {
        let phase = self.world.status(&hat.binding).map_or("Released", |status| status.phase.as_str());
        HatAssignment { phase: phase.to_owned(), expires_at: None, ..hat.clone() }
    }

    fn assignment(&self, uid: &Uid, grace: i64) -> Option<HatAssignment> {
        let binding = self.world.binding(uid)?;
        let status = status_of(binding);
        Some(HatAssignment {
            binding: uid.clone(),
            name: binding.spec.hat.clone(),
            wearer: binding.spec.wearer.spiffe_id.clone(),
            phase: status.phase.as_str().to_owned(),
            devices: status.devices.clone(),
            expires_at: status.expires_at.clone(),
            grace_seconds: Some(grace),
        })
    }
}
