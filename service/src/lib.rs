//! What the long-running programs of hatrack, agent and operator, share as services of a machine. Nothing here knows Kubernetes.

pub mod backoff;
pub mod clock;
pub mod log;
pub mod manager;
pub mod pages;
mod period;

pub use period::Period;
