//! The rules of hats: who may wear which, when, and on which node. No I/O and no clock: the time is an argument.
//!
//! * [`decide`](decide()) says what is to happen in a [`World`] at a [`Moment`]; it is the one authority for the operator, for a dry run and
//!   for a cluster in a folder.
//! * [`World::apply`] is how each of them sees the effect.
//! * [`lifecycle`] has the transitions, [`throttles`] the rules, [`placement`] the places.
//!
//! Missing data holds a request and never admits it.

pub mod action;
pub mod authority;
pub mod conflicts;
pub mod decide;
pub mod explain;
pub mod graph;
pub mod lifecycle;
mod moment;
mod periods;
pub mod placement;
pub mod quorum;
pub mod requirements;
pub mod succession;
pub mod supervision;
pub mod throttles;
pub mod ticks;
pub mod world;

pub use action::{Action, Plan, Uid};
pub use decide::{decide, decide_by, why};
pub use moment::Moment;
pub use periods::Periods;
pub use world::World;
