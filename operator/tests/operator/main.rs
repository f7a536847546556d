//! The operator as it is installed: the real program with its real, restricted credentials, against a real control plane.
//!
//! Most tests share one control plane and one operator, and keep out of each other's way by names. Those that break something have a
//! control plane of their own.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod announcements;
mod applicant;
mod canary;
mod cluster;
mod contention;
mod enrollment;
mod grants;
mod life;
mod machine;
mod nats;
mod node_labels;
mod outages;
mod placement;
mod pod;
mod program;
mod readiness;
mod refusal;
mod rights;
mod takeover;
