//! Keys and secrets are made by another program, which comes with what it needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::assert_golden;
use crate::golden::transcript::Session;

#[test]
fn what_was_typed_is_handed_on() {
    let mut session = Session::new();
    session.file("bin/hatrack-init", "#!/bin/sh\necho \"made with: $*\"\nexit 2\n");
    let program = session.folder().join("bin/hatrack-init");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    session.note("where there is none").run("init");
    session.set("PATH", "bin").note("where there is one").run("init").run("init --trust-domain home.example");
    assert_golden!("init", session);
}
