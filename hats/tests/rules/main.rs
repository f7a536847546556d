//! The rules, each in both directions: what it must hold and what it must admit.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking; JSON is written in place"
)]

mod authority;
mod life;
mod places;
mod stage;
mod succession;
mod throttles;
