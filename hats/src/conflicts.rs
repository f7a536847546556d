//! Conflicts: two hats that one wearer may not have on together. One of them says so, and it holds for both.

use hatrack_api::Hat;

use crate::throttles::{Held, Request, Rule};

/// Whether two hats conflict, whichever of them says so.
pub fn conflict(one: (&str, &Hat), other: (&str, &Hat)) -> bool {
    names(one.1, other.0) || names(other.1, one.0)
}

fn names(hat: &Hat, other: &str) -> bool {
    hat.spec.throttles.iter().any(|throttles| throttles.conflicts_with.iter().any(|name| name == other))
}

/// A hat that the wearer has on and that is gone from the catalogue cannot be asked: what this one says decides alone, and
/// the other comes off.
pub(crate) fn none_worn(request: &Request<'_>) -> Result<(), Held> {
    let hat = &request.binding.spec.hat;
    for id in request.world.worn_of_wearer(request.wearer()).filter(|id| *id != request.id) {
        let Some(other) = request.world.bound(id) else { continue };
        let name = &other.spec.hat;
        let conflicts = match request.world.hat(name) {
            Some(worn) => conflict((hat, request.hat), (name, worn)),
            None => names(request.hat, name),
        };
        if conflicts {
            let message = format!("{} wears {name}, which conflicts with {hat}: take it off first", request.wearer());
            return Err(Held::new(Rule::Conflict, message));
        }
    }
    Ok(())
}
