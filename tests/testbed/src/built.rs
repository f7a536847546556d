//! The programs of this workspace, as `cargo test --workspace` has just built them.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// One of the three programs, such as `hatrack-agent`; cargo builds it, if a source of its has changed.
///
/// # Errors
/// When it cannot be built; the compiler's words are in the message.
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(name) {
        build(name)?;
        built.insert(name.to_owned());
    }
    // A test lies beside the others in `deps`, a program one folder above.
    Ok(test.ancestors().nth(2).unwrap_or(&test).join(name))
}

/// Builds what the program's own test starts, so that nothing is left to do after `cargo test --workspace`: `cargo build` would compile
/// half of the dependencies again, with the features that one package alone asks for.
fn build(name: &str) -> Result<()> {
    let test = if name == "hatrack" { "golden" } else { name.trim_start_matches("hatrack-") };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says about this test's package would make it build some packages for C anew, twice.
    for (variable, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(variable);
        }
    }
    let output = cargo
        .args(["test", "--quiet", "--workspace", "--no-run", "--test", test])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed {
        program: format!("cargo test --no-run --test {test}"),
        status: output.status.to_string(),
        output: words,
    })
}
