//! What an action makes of the world once it is done.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::Hat;
use hatrack_api::hat_binding::{FINALIZER, HatBinding};

use super::{World, is_finalized};
use crate::action::Action;

impl World {
    /// The action was done: what it makes of the world is there.
    pub fn apply(&mut self, action: &Action, steady: Duration) {
        match action {
            Action::Finalize { binding } => self.change_binding(binding, steady, |object| {
                object.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }),
            Action::Record(swap) => {
                self.put_swap(swap);
            }
            Action::SetStatus { binding, status } => {
                // The watch may have brought its end meanwhile, after which nothing would forget it.
                if self.bindings.contains_key(binding) {
                    self.spoken.insert(binding.clone(), steady);
                }
                self.change_binding(binding, steady, |object| object.status = Some((**status).clone()));
            }
            Action::Unfinalize { binding } => self.unfinalize(binding, steady),
            Action::Delete { binding } => self.delete(binding, steady),
            Action::Fence { node, transitions } => {
                self.open_node(node);
                self.change_node(node, |view| view.fence(*transitions));
            }
            Action::Assign { node, hats } => self.change_node(node, |view| view.assign(hats)),
            Action::Grant(grant) => {
                self.observe_grant((**grant).clone());
            }
            Action::Withdraw { binding, scope } => {
                self.forget_grant(binding, scope);
            }
            Action::SetHatStatus { hat, status } => {
                if let Some(known) = self.hats.get(hat) {
                    self.put_hat(hat.clone(), Hat { status: Some((**status).clone()), ..(**known).clone() });
                }
            }
            Action::SetPolicyStatus { status } => {
                if let Some(policy) = &mut self.policy {
                    Arc::make_mut(policy).status = Some((**status).clone());
                }
            }
            Action::Collect { swap } => {
                self.forget_swap(swap);
            }
        }
    }

    /// The finalizer goes; an object that was deleted and has no other goes with it.
    fn unfinalize(&mut self, uid: &str, steady: Duration) {
        self.change_binding(uid, steady, |object| {
            if let Some(finalizers) = &mut object.metadata.finalizers {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
            }
        });
        let goes = self.bindings.get(uid).is_some_and(|binding| {
            let metadata = &binding.metadata;
            metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        });
        if goes {
            self.forget_binding(uid);
        }
    }

    fn delete(&mut self, uid: &str, steady: Duration) {
        let goes = self.bindings.get(uid).is_some_and(|binding| !is_finalized(binding));
        if goes {
            self.forget_binding(uid);
            return;
        }
        self.change_binding(uid, steady, |object| {
            let ended = object.status.as_ref().and_then(|status| status.ended_at.clone());
            object.metadata.deletion_timestamp = ended;
        });
    }

    fn change_binding(&mut self, uid: &str, steady: Duration, change: impl FnOnce(&mut HatBinding)) {
        if let Some(known) = self.bindings.get(uid) {
            let mut binding = (**known).clone();
            change(&mut binding);
            self.put_binding(uid, binding, steady);
        }
    }
}
