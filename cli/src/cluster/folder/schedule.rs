//! The operator of a folder: decides, and writes what was decided.
//!
//! A folder has no agents either: what a node is to stop counts as stopped at once, but for what a `hatrack wear … -- COMMAND` still runs.
//! Authority is not projected: there is no RBAC in a folder.

use std::time::Duration;

use hatrack_api::hat_binding::FINALIZER;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap};
use hatrack_hats::{Action, Moment, decide};
use kube::ResourceExt;

use super::writing::Writer;
use super::{Error, Folder};
use crate::cluster::society::{self, Society};

/// Decisions that follow from each other within a pass end before this many.
const MAX_ROUNDS: usize = 64;

/// What a pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// The records that it wrote, in their order.
    pub records: Vec<HatSwap>,
    /// Until something is due by time alone.
    pub wait: Option<Duration>,
}

impl Folder {
    /// Decides and writes until nothing more follows.
    pub fn schedule(&self) -> Result<Pass, Error> {
        let writer = self.lock()?;
        let mut pass = Pass::default();
        accept(&writer, &self.society()?)?;
        for _ in 0..MAX_ROUNDS {
            let now = society::now();
            self.obey(&writer, now)?;
            let plan = decide(&self.society()?.world(now), now);
            pass.wait = plan.wake_at.map(|at| at.steady.saturating_sub(now.steady));
            let mut changed = false;
            for action in &plan.actions {
                changed |= self.apply(&writer, action, &mut pass)?;
            }
            if !changed {
                break;
            }
        }
        Ok(pass)
    }

    /// What the agents of the nodes would report.
    fn obey(&self, writer: &Writer<'_>, now: Moment) -> Result<(), Error> {
        for node in self.list::<ClusterNode>()? {
            let worn = society::obeyed(&node, now.wall, |binding| self.is_running(binding));
            let known = node.status.as_ref().and_then(|status| status.worn.clone()).unwrap_or_default();
            if worn != known {
                let mut changed = node.clone();
                changed.status.get_or_insert_default().worn = Some(worn);
                writer.put(Some(&node), changed)?;
            }
        }
        Ok(())
    }

    /// Does one thing that was decided; whether it changed the folder.
    fn apply(&self, writer: &Writer<'_>, action: &Action, pass: &mut Pass) -> Result<bool, Error> {
        match action {
            Action::Record(swap) => {
                let name = swap.name_any();
                if self.get::<HatSwap>(swap.namespace().as_deref(), &name)?.is_none() {
                    pass.records.push(writer.put(None, (**swap).clone())?);
                }
            }
            Action::SetStatus { binding, status } => {
                self.change_binding(writer, binding, |object| object.status = Some((**status).clone()))?;
            }
            Action::Finalize { binding } => self.change_binding(writer, binding, |object| {
                object.finalizers_mut().push(FINALIZER.to_owned());
            })?,
            Action::Unfinalize { binding } => self.unfinalize(writer, binding)?,
            Action::Delete { binding } => {
                if let Some(object) = self.binding(binding)? {
                    writer.delete(&object)?;
                }
            }
            Action::Assign { node, hats } => {
                if let Some(old) = self.get::<ClusterNode>(None, node)? {
                    let mut new = old.clone();
                    let status = new.status.get_or_insert_default();
                    status.summary.get_or_insert_default().hats = hatrack_api::cluster_node::hats_in_words(hats);
                    status.hats = Some(hats.to_vec());
                    writer.put(Some(&old), new)?;
                }
            }
            Action::SetHatStatus { hat, status } => {
                if let Some(old) = self.get::<Hat>(None, hat)? {
                    let new = Hat { status: Some((**status).clone()), ..old.clone() };
                    writer.put(Some(&old), new)?;
                }
            }
            Action::SetPolicyStatus { status } => {
                if let Some(old) = self.get::<HatPolicy>(None, hatrack_api::hat_policy::NAME)? {
                    let new = HatPolicy { status: Some((**status).clone()), ..old.clone() };
                    writer.put(Some(&old), new)?;
                }
            }
            Action::Collect { swap } => {
                if let Some(swap) = self.get::<HatSwap>(Some(hatrack_api::SYSTEM_NAMESPACE), swap)? {
                    writer.remove(&swap)?;
                }
            }
            // A folder has neither RBAC nor Leases.
            Action::Grant(_) | Action::Withdraw { .. } | Action::Fence { .. } => return Ok(false),
        }
        Ok(true)
    }

    /// The binding of a UID.
    fn binding(&self, uid: &str) -> Result<Option<HatBinding>, Error> {
        Ok(self.list::<HatBinding>()?.into_iter().find(|binding| binding.metadata.uid.as_deref() == Some(uid)))
    }

    fn change_binding(
        &self,
        writer: &Writer<'_>,
        uid: &str,
        change: impl FnOnce(&mut HatBinding),
    ) -> Result<(), Error> {
        let Some(old) = self.binding(uid)? else { return Ok(()) };
        let mut new = old.clone();
        change(&mut new);
        writer.put(Some(&old), new).map(drop)
    }

    /// The finalizer goes, and with it an object that was deleted and has no other.
    fn unfinalize(&self, writer: &Writer<'_>, uid: &str) -> Result<(), Error> {
        let Some(old) = self.binding(uid)? else { return Ok(()) };
        let mut new = old.clone();
        new.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
        if new.metadata.deletion_timestamp.is_some() && new.finalizers().is_empty() {
            return writer.remove(&old);
        }
        writer.put(Some(&old), new).map(drop)
    }
}

/// Gives manifests that people wrote by hand what an API server would have given them.
fn accept(writer: &Writer<'_>, society: &Society) -> Result<(), Error> {
    let new = |object: &&HatBinding| object.metadata.uid.is_none();
    for binding in society.bindings.iter().filter(new) {
        writer.put(None, binding.clone())?;
    }
    Ok(())
}
