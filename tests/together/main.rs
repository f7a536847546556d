//! Agent, operator and the people who type `hatrack`, together in one cluster, each with the rights that it has as installed and no others.
//!
//! * `people`: who asks, wears, vouches, judges and looks is told what happens.
//! * `faults`: the servers of the control plane die, are away and come back with what they once held. After each fault the object is
//!   true again, and nothing that a person wrote is lost that the API server still has.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::print_stderr, reason = "who reads how a test failed reads what people saw")]

mod cluster;
mod faults {
    mod backup;
    mod servers;
}
mod people;
mod person;
mod programs;
