//! Quorum: enough distinct others have vouched for a request, or it is the one that starts a society.
//!
//! Co-signers are counted as identities, not as entries, and the wearer is none of them. An absent list is an empty one.
//! Whether a co-signature is the co-signer's own is admission's to see; here it is taken as written.
//!
//! Bootstrap: HatPolicy's `bootstrap` names one hat and one wearer. Until a binding of that hat has been Active with a quorum (the hat's condition
//! `QuorumReached`, and `bootstrapped` in the policy's status, which outlives the hat), one binding of that wearer passes without; its QuorumGrant
//! has the reason `Bootstrap`. Then the exception is over, for good, and what was put on by it ends, unless it has a quorum of its own by then.

use std::collections::BTreeSet;

use hatrack_api::hat_binding::{HatBindingStatus, Phase, condition};
use hatrack_api::{Hat, HatBinding, hat};

use crate::lifecycle::{Cause, condition_of, is_true};
use crate::throttles::{Held, Request, Rule};
use crate::world::World;

/// Distinct identities that vouch for a wearer, without itself.
pub fn cosigners(binding: &HatBinding) -> BTreeSet<&str> {
    let wearer = binding.spec.wearer.spiffe_id.as_str();
    binding.spec.cosigned_by.iter().map(|entry| entry.spiffe_id.as_str()).filter(|signer| *signer != wearer).collect()
}

/// By what a request passes, if it does: enough co-signers, or the exception. `None`: the hat needs no quorum.
pub(crate) fn grant(request: &Request<'_>) -> Result<Option<Cause>, Held> {
    let Some(size) = request.limits().quorum else { return Ok(None) };
    let count = i64::try_from(cosigners(request.binding).len()).unwrap_or(i64::MAX);
    if count >= size {
        return Ok(Some(Cause::Quorum));
    }
    if is_excepted(request) {
        return Ok(Some(Cause::Bootstrap));
    }
    let missing = size - count;
    let message = format!(
        "{count} of {size} co-signers: {missing} more needed in spec.cosignedBy, where the wearer does not count"
    );
    Err(Held::new(Rule::Quorum, message))
}

pub(crate) fn met(request: &Request<'_>) -> Result<(), Held> {
    grant(request).map(|_| ())
}

fn is_excepted(request: &Request<'_>) -> bool {
    let hat = &request.binding.spec.hat;
    let named = request
        .policy
        .bootstrap
        .as_ref()
        .is_some_and(|bootstrap| bootstrap.hat == *hat && bootstrap.wearer == request.wearer());
    let taken = || request.world.others_in(hat, request.id) > 0;
    named && !is_bootstrapped(request.world, request.hat) && !taken()
}

/// Whether a hat of this name has had its quorum once.
pub(crate) fn is_bootstrapped(world: &World, hat: &Hat) -> bool {
    let status = world.policy.as_ref().and_then(|policy| policy.status.as_ref());
    let known = status.map(|status| status.bootstrapped.as_slice()).unwrap_or_default();
    has_been_reached(hat) || hat.metadata.name.as_ref().is_some_and(|name| known.contains(name))
}

/// Whether this hat says that it has had its quorum.
pub(crate) fn has_been_reached(hat: &Hat) -> bool {
    let conditions = hat.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    is_true(conditions, hat::condition::QUORUM_REACHED)
}

/// By what the recorded grant of a binding with this status was given.
pub(crate) fn granted(status: &HatBindingStatus) -> Option<Cause> {
    let met = condition_of(&status.conditions, condition::QUORUM_MET)?;
    if met.status == "True" { Cause::named(&met.reason) } else { None }
}

/// Whether a binding is Active with a quorum: what ends bootstrap.
pub(crate) fn proves_a_quorum(status: &HatBindingStatus) -> bool {
    status.phase == Phase::Active && granted(status) == Some(Cause::Quorum)
}
