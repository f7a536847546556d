//! Agent and operator together, as they are installed, while the servers of the control plane die, are away and come back with what they
//! once held. After each fault the object is true again, and nothing that a person wrote is lost that the API server still has.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod backup;
mod cluster;
mod programs;
mod servers;
