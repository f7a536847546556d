//! A real adb server, on a port and with a key of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longer than an adb server needs to start on a machine that does much else.
const START: Duration = Duration::from_secs(30);

/// A real adb server. It dies with its value.
#[derive(Debug)]
pub struct RealServer {
    address: SocketAddr,
    process: Child,
}

impl RealServer {
    /// Starts the machine's `adb` as a server with its key below `home`, and waits until it listens.
    pub async fn start(home: &Path) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = Command::new("adb")
            .args(["-L", &format!("tcp:localhost:{}", address.port()), "nodaemon", "server"])
            .env("HOME", home)
            .env("ADB_MDNS", "0")
            .env_remove("ADB_VENDOR_KEYS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), "the real adb is missing: `tests/setup` installs it"))?;
        let mut server = Self { address, process };
        timeout(START, server.listens()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it and waits for its end.
    pub async fn die(&mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// A process tells nobody that it listens: the only way to know is to try.
    async fn listens(&mut self) -> io::Result<()> {
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.process.try_wait()? {
                return Err(io::Error::other(format!("adb ended with {status}")));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Everything that a server at an address answers to these requests on one connection, until it closes, or until so many bytes
/// have come.
pub async fn answer(server: SocketAddr, services: &[&str], most: u64) -> io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let mut answers = Vec::new();
    for (number, service) in services.iter().enumerate() {
        stream.write_all(format!("{:04x}{service}", service.len()).as_bytes()).await?;
        let is_last = number + 1 == services.len();
        (&mut stream).take(if is_last { most } else { 4 }).read_to_end(&mut answers).await?;
    }
    Ok(String::from_utf8_lossy(&answers).into_owned())
}
