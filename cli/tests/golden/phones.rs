//! `hatrack phones`.

use std::process::Stdio;

use hatrack_fake_adb::phone::Phone;
use hatrack_fake_adb::server::Server;

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

/// The box of the fixture with an adb server beside it: states of adb, twins, and one phone that is gone from the bus.
#[tokio::test]
async fn a_box_whose_adb_server_answers() {
    let adb = Server::start().await.unwrap();
    let mut session = Session::new();
    session.machine("phones-20");
    adb.set(listed(&session));
    let register = format!(
        "register --root machine --cluster lab --name phones-1 --expect phones=21 --adb-server {}",
        adb.address()
    );
    // The server runs on this runtime: the command must not block it.
    let mut command = tokio::process::Command::from(session.command(&register));
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap();
    assert!(status.success());
    session.set("COLUMNS", "100").run("phones --cluster lab").run("nodes --cluster lab --no-headers");
    assert_golden!("phones-adb", session);
}

/// What adb would say of the phones that the bus has with an adb interface.
fn listed(session: &Session) -> Vec<Phone> {
    let usb = hatrack_discover::usb::scan(&hatrack_discover::root::Root::at(session.folder().join("machine"))).unwrap();
    let with_adb = usb.iter().filter(|device| device.interfaces.iter().any(|i| i.triple == (0xff, 0x42, 0x01)));
    let phone = |(number, device): (usize, &hatrack_discover::usb::Device)| {
        let phone = Phone::on_usb(device.serial.as_deref().unwrap_or_default(), &device.sysfs_name);
        match number {
            2 => phone.in_state("unauthorized"),
            5 => phone.in_state("offline"),
            _ => phone.with("ro.build.version.release", "14"),
        }
    };
    let mut phones: Vec<_> = with_adb.enumerate().map(phone).collect();
    phones.push(Phone::on_usb("GONE0001", "3-9").in_state("offline"));
    phones.push(Phone::on_tcp("10.0.0.99:5555", "TCPONLY01").with("ro.build.version.release", "13"));
    phones
}
