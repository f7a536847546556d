//! The programs of this workspace, as `cargo test --workspace` has just built them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Error, Result};

/// The program of a package, such as `hatrack-agent`; it is built when it is not there or older than a source of its.
///
/// # Errors
/// When it cannot be built; the compiler's words are in the message.
pub fn program(package: &str) -> Result<PathBuf> {
    let test = env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
    // A test lies beside the others in `deps`, a program one folder above.
    let program = test.ancestors().nth(2).unwrap_or(&test).join(package);
    if !is_fresh(&program) {
        build(package)?;
    }
    Ok(program)
}

/// Cargo names the sources beside the program: `target: source source`, spaces escaped.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let (Ok(built), Ok(list)) = (modified(program), fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    let sources = sources.replace("\\ ", "\0");
    sources
        .split_whitespace()
        .all(|source| modified(Path::new(&source.replace('\0', " "))).is_ok_and(|changed| changed <= built))
}

fn build(package: &str) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says about this test's package would make it build some packages for C anew, twice.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["build", "--quiet", "--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed {
        program: format!("cargo build --package {package}"),
        status: output.status.to_string(),
        output: words,
    })
}
