//! `hatrack phones`.

use crate::assert_golden;
use crate::golden::samples;
use crate::golden::transcript::Session;

#[test]
fn a_phone_box_slot_by_slot() {
    let mut session = Session::new();
    samples::write(&samples::three(), &session.folder().join("lab"));
    session
        .run("phones --cluster lab phones-1")
        .run("phones --cluster lab")
        .run("phones --cluster lab -o wide --no-headers");
    session.run("phones --cluster lab -o name").run("phones --cluster lab nobody-1").run("phones --cluster lab gpu-1");
    session.set("COLUMNS", "60").run("phones --cluster lab");
    assert_golden!("phones-box", session);
}
