//! Succession: who has a hat when a term ends.
//!
//! * `Queue`: requests are considered in the order of creation, so the longest-waiting eligible one takes the place, and its record
//!   names the wearer before it.
//! * `Renew`: as `Queue`, but if no request would be admitted in the holder's place, the holder's term starts again. A
//!   request that would be admitted anyway does not take it away.
//! * `None`: nobody inherits. A request that was made before a term ended is not admitted after it; one made
//!   afterwards is.

use hatrack_api::hat::SuccessionPolicy;
use hatrack_api::hat_swap::{PreviousWearer, SwapEvent};
use hatrack_api::{Hat, HatSwap};

use crate::lifecycle::Cause;
use crate::throttles::{Held, Request, Rule};
use crate::world::{World, cause, created};

/// How the next wearer of a hat is found.
pub fn policy(hat: &Hat) -> SuccessionPolicy {
    hat.spec.succession.as_ref().map(|succession| succession.policy).unwrap_or_default()
}

pub(crate) fn may_follow(request: &Request<'_>) -> Result<(), Held> {
    if policy(request.hat) != SuccessionPolicy::None || request.was_worn() {
        return Ok(());
    }
    let asked = created(request.binding);
    let ended = request.world.records.of_hat(&request.binding.spec.hat).find(|swap| ends_a_term(swap));
    match ended.filter(|swap| swap.spec.occurred_at.0 >= asked) {
        None => Ok(()),
        Some(swap) => {
            let message = format!(
                "{} has no succession and a term of it ended at {}, after this request: ask anew",
                request.binding.spec.hat, swap.spec.occurred_at.0
            );
            Err(Held::new(Rule::Succession, message))
        }
    }
}

fn ends_a_term(swap: &HatSwap) -> bool {
    swap.spec.event == SwapEvent::SwapOff && cause(&swap.spec) == Some(Cause::TermEnded)
}

/// Whose place a request takes: with a limit on wearers, that of the last one whose term ended and whom nobody has
/// succeeded yet.
pub(crate) fn predecessor(world: &World, name: &str, hat: &Hat) -> Option<PreviousWearer> {
    hat.spec.max_wearers?;
    let mut succeeded = 0_usize;
    for swap in world.records.of_hat(name).take(LOOK_BACK) {
        match cause(&swap.spec) {
            Some(Cause::Succeeded) => succeeded += 1,
            Some(Cause::TermEnded) if succeeded == 0 => return swap.spec.previous_wearer.clone(),
            Some(Cause::TermEnded) => succeeded -= 1,
            _ => {}
        }
    }
    None
}

/// Records of a hat that are searched for a place that is free.
const LOOK_BACK: usize = 256;
