//! What an action makes of the world once it is done.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::Hat;
use hatrack_api::hat_binding::FINALIZER;

use super::{Id, World, is_finalized, status_of};
use crate::action::Action;

impl World {
    /// The action was done: what it makes of the world is there.
    pub fn apply(&mut self, action: &Action, steady: Duration) {
        match action {
            Action::Finalize { binding } => self.change_metadata(&binding.as_str().into(), |metadata| {
                metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }),
            Action::Record(swap) => {
                self.put_swap(swap);
            }
            Action::SetStatus { binding, status } => {
                let id = Id::from(binding.as_str());
                // The watch may have brought its end meanwhile, after which nothing would forget it.
                if self.put_status(&id, status, steady) {
                    self.spoken.insert(id, steady);
                }
            }
            Action::Unfinalize { binding } => self.unfinalize(&binding.as_str().into()),
            Action::Delete { binding } => self.delete(&binding.as_str().into()),
            Action::Fence { node, transitions } => {
                self.open_node(node);
                self.change_node(node, |view| view.fence(*transitions));
            }
            Action::Assign { node, hats } => self.change_node(node, |view| view.assign(Arc::clone(hats))),
            Action::Grant(grant) => {
                self.observe_grant((**grant).clone());
            }
            Action::Withdraw { binding, scope } => {
                self.forget_grant(binding, scope);
            }
            Action::SetHatStatus { hat, status } => {
                if let Some((name, known)) = self.hats.get_key_value(hat.as_str()) {
                    let (metadata, spec) = (known.metadata.clone(), known.spec.clone());
                    self.put_hat(name.clone(), Hat { metadata, spec, status: Some((**status).clone()) });
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
    fn unfinalize(&mut self, id: &Id) {
        self.change_metadata(id, |metadata| {
            if let Some(finalizers) = &mut metadata.finalizers {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
            }
        });
        let goes = self.bindings.get(id).is_some_and(|binding| {
            let metadata = &binding.metadata;
            metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        });
        if goes {
            self.forget_bound(id);
        }
    }

    fn delete(&mut self, id: &Id) {
        let Some(binding) = self.bindings.get(id) else { return };
        if !is_finalized(binding) {
            self.forget_bound(id);
            return;
        }
        let ended = status_of(binding).ended_at.clone();
        self.change_metadata(id, |metadata| metadata.deletion_timestamp = ended);
    }
}
