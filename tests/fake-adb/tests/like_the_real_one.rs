//! The scripted server answers as a real one does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use hatrack_fake_adb::adbd::Adbd;
use hatrack_fake_adb::phone::Phone;
use hatrack_fake_adb::real::{RealServer, answer};
use hatrack_fake_adb::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALL: u64 = u64::MAX;
/// `OKAY` and the length of an empty list.
const EMPTY_LIST: u64 = 8;

/// Follows the lists until one has a word.
async fn until_listed(server: &RealServer, word: &str) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"0012host:track-devices").await.unwrap();
    let mut lists = String::new();
    while !lists.contains(word) {
        let mut bytes = [0; 256];
        let count = stream.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "the server ended after {lists:?}");
        lists.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

#[tokio::test]
async fn without_phones() {
    let home = tempfile::tempdir().unwrap();
    let real = RealServer::start(home.path()).await.unwrap();
    let fake = Server::start().await.unwrap();
    let cases: [(&[&str], u64); 10] = [
        (&["host:version"], ALL),
        (&["host:devices"], ALL),
        (&["host:devices-l"], ALL),
        (&["host:track-devices"], EMPTY_LIST),
        (&["host:track-devices-l"], EMPTY_LIST),
        (&["host:nonsense"], ALL),
        (&["host:transport:ABC"], ALL),
        (&["host:transport-id:7"], ALL),
        (&["host:reconnect-offline"], ALL),
        (&["shell:true"], ALL),
    ];
    for (services, most) in cases {
        let theirs = answer(real.address(), services, most).await.unwrap();
        assert_eq!(answer(fake.address(), services, most).await.unwrap(), theirs, "{services:?}");
    }
}

#[tokio::test]
async fn with_phones() {
    let home = tempfile::tempdir().unwrap();
    let real = RealServer::start(home.path()).await.unwrap();
    let fake = Server::start().await.unwrap();
    let mut phones = Vec::new();
    let mut running = Vec::new();
    for state in ["device", "unauthorized"] {
        let adbd = Adbd::start(Phone::on_tcp("", "R58M123ABC").in_state(state)).await.unwrap();
        phones.push(Phone::on_tcp(&adbd.address().to_string(), "R58M123ABC").in_state(state));
        answer(real.address(), &[&format!("host:connect:{}", adbd.address())], ALL).await.unwrap();
        running.push(adbd);
    }
    until_listed(&real, "unauthorized").await;
    fake.set(phones.clone());
    let shell = "shell:for p in ro.serialno ro.product.model; do :; done; cat /proc/meminfo";
    let number = running[0].address();
    let cases: [(&[&str], u64); 6] = [
        (&["host:devices"], ALL),
        (&["host:devices-l"], ALL),
        (&["host:transport-id:1", shell], ALL),
        (&[&format!("host:transport:{number}"), shell], ALL),
        (&["host:transport-id:1", "nonsense:"], ALL),
        (&["host:transport-id:2"], ALL),
    ];
    for (services, most) in cases {
        let theirs = answer(real.address(), services, most).await.unwrap();
        assert_eq!(answer(fake.address(), services, most).await.unwrap(), theirs, "{services:?}");
    }
}
