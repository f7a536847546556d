//! What every command prints and how it ends, as files: `INSTA_UPDATE=always cargo test -p hatrack --test golden` writes
//! them anew, and their difference is what a reviewer reads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values to be given away")]

mod golden {
    mod errors;
    mod examples;
    mod hats;
    mod help;
    mod init;
    mod machines;
    mod nodes;
    mod phones;
    pub mod samples;
    pub mod society;
    mod tokens;
    pub mod transcript;
    mod upkeep;
    mod wearing;
}
