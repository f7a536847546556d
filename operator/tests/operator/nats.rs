//! A real NATS server that is killed and comes back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, consumer};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use hatrack_testbed::{Identity, soon};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

/// The subject of the default policy.
pub const SUBJECT: &str = "zeta.society.hats.ticks";

/// A server on loopback. What its streams keep is on disk, and there when it starts again.
pub struct NatsServer {
    folder: TempDir,
    address: SocketAddr,
    has_streams: bool,
    /// Files with its certificate, its key and the certificate of its authority, if it speaks TLS.
    tls: Option<[PathBuf; 3]>,
    child: Option<Child>,
}

impl NatsServer {
    /// A server with or without JetStream, at a port that is free.
    pub async fn start(has_streams: bool) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), has_streams, None).await
    }

    /// A server with JetStream that speaks TLS alone.
    pub async fn start_with_tls(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = [("cert", &identity.cert_pem), ("key", &identity.key_pem), ("ca", &identity.ca_pem)];
        let files = files.map(|(name, pem)| {
            let file = folder.path().join(name);
            std::fs::write(&file, pem).unwrap();
            file
        });
        Self::start_in(folder, true, Some(files)).await
    }

    async fn start_in(folder: TempDir, has_streams: bool, tls: Option<[PathBuf; 3]>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { folder, address, has_streams, tls, child: None };
        server.spawn(-1);
        server.address = soon("the port of the NATS server", server.chosen()).await;
        server.client().await;
        server
    }

    fn spawn(&mut self, port: i32) {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--ports_file_dir"]).arg(self.folder.path());
        if self.has_streams {
            command.arg("--jetstream").arg("--store_dir").arg(self.folder.path().join("store"));
        }
        if let Some([certificate, key, _]) = &self.tls {
            command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// The server writes down which port it took.
    async fn chosen(&self) -> SocketAddr {
        let file = format!("nats-server_{}.ports", self.child.as_ref().unwrap().id());
        loop {
            if let Some(address) = read(&self.folder.path().join(&file)) {
                return address;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "tls" } else { "nats" }, self.address)
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> &Path {
        let [_, _, authority] = self.tls.as_ref().unwrap();
        authority
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.spawn(i32::from(self.address.port()));
        self.client().await;
    }

    /// A connection, once the server takes one.
    pub async fn client(&self) -> Client {
        let connecting = async {
            loop {
                let options = match &self.tls {
                    Some([_, _, authority]) => ConnectOptions::new().add_root_certificates(authority.clone()),
                    None => ConnectOptions::new(),
                };
                match options.connect(self.url()).await {
                    Ok(client) => return client,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        soon("a connection to the NATS server", connecting).await
    }

    /// A stream of the ticks whose server forgets an id after a moment.
    pub async fn stream(&self) -> Stream {
        let config = Config {
            name: "TICKS".to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            duplicate_window: Duration::from_millis(100),
            ..Config::default()
        };
        jetstream::new(self.client().await).create_stream(config).await.unwrap()
    }

    /// Id and payload of every message in the stream, in their order.
    pub async fn messages(&self) -> Vec<(String, Value)> {
        let stream = jetstream::new(self.client().await).get_stream("TICKS").await.unwrap();
        let left = usize::try_from(stream.cached_info().state.messages).unwrap();
        let consumer = stream.create_consumer(consumer::pull::OrderedConfig::default()).await.unwrap();
        let messages = consumer.messages().await.unwrap().take(left);
        messages
            .map(|message| {
                let message = message.unwrap();
                let id = message.headers.as_ref().unwrap().get(NATS_MESSAGE_ID).unwrap().to_string();
                (id, serde_json::from_slice(&message.payload).unwrap())
            })
            .collect()
            .await
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn read(file: &Path) -> Option<SocketAddr> {
    let ports: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    ports["nats"][0].as_str()?.split_once("://")?.1.parse().ok()
}
