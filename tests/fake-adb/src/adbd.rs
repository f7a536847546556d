//! A phone that a real adb server can connect to: the other end of adb (AOSP `packages/modules/adb/protocol.txt`), over TCP
//! or any other stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::phone::Phone;

const CNXN: u32 = u32::from_le_bytes(*b"CNXN");
const AUTH: u32 = u32::from_le_bytes(*b"AUTH");
const OPEN: u32 = u32::from_le_bytes(*b"OPEN");
const OKAY: u32 = u32::from_le_bytes(*b"OKAY");
const WRTE: u32 = u32::from_le_bytes(*b"WRTE");
const CLSE: u32 = u32::from_le_bytes(*b"CLSE");

/// The version since which checksums of the data are not looked at.
const VERSION: u32 = 0x0100_0001;
const MAX_DATA: u32 = 4096;
const TOKEN: u32 = 1;
/// No signature is good enough.
const SIGNATURE: u32 = 2;
/// Comes after the last signature: a phone shows it on its screen, and asks whether it is to be trusted.
const PUBLIC_KEY: u32 = 3;
const TOKEN_LENGTH: usize = 20;

/// A phone that listens for adb on a port of its own. It dies with its value.
#[derive(Debug)]
pub struct Adbd {
    address: SocketAddr,
    serving: AbortHandle,
}

impl Adbd {
    /// A phone with these properties. In the state `unauthorized` it never accepts a key.
    pub async fn start(phone: Phone) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, Arc::new(phone))).abort_handle();
        Ok(Self { address, serving })
    }

    /// Where it listens: what `adb connect` takes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Adbd {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, phone: Arc<Phone>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, phone.clone(), |_| {}));
    }
}

struct Message {
    command: u32,
    first: u32,
    data: Vec<u8>,
}

/// What a phone says to an adb server, until one of them is gone. In the state `unauthorized` it never accepts a key and gives
/// the public one to its screen (base 64, a space, and whose it is); in the state `offline` it says nothing.
///
/// # Errors
/// When the stream ends.
pub async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    phone: Arc<Phone>,
    screen: impl Fn(&str),
) -> io::Result<()> {
    let mut streams = 0;
    loop {
        let message = receive(&mut stream).await?;
        match message.command {
            CNXN if phone.state == "device" => {
                let property =
                    |name: &str| format!("{name}={};", phone.properties.get(name).map_or("", String::as_str));
                let banner = ["ro.product.name", "ro.product.model", "ro.product.device"].map(property).concat();
                send(&mut stream, CNXN, VERSION, MAX_DATA, format!("device::{banner}features=cmd").as_bytes()).await?;
            }
            CNXN if phone.state == "offline" => {}
            CNXN => send(&mut stream, AUTH, TOKEN, 0, &[7; TOKEN_LENGTH]).await?,
            AUTH if message.first == SIGNATURE => send(&mut stream, AUTH, TOKEN, 0, &[7; TOKEN_LENGTH]).await?,
            AUTH if message.first == PUBLIC_KEY => {
                screen(String::from_utf8_lossy(&message.data).trim_end_matches('\0'));
            }
            OPEN => {
                streams += 1;
                open(&mut stream, &phone, streams, &message).await?;
            }
            _ => {}
        }
    }
}

/// Runs a shell command: accepts the stream, prints, and closes it when the output was taken.
async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    phone: &Phone,
    own: u32,
    message: &Message,
) -> io::Result<()> {
    let theirs = message.first;
    let service = String::from_utf8_lossy(&message.data);
    let Some(command) = service.trim_end_matches('\0').strip_prefix("shell:") else {
        return send(stream, CLSE, 0, theirs, &[]).await;
    };
    send(stream, OKAY, own, theirs, &[]).await?;
    if phone.hangs {
        return Ok(());
    }
    send(stream, WRTE, own, theirs, phone.output(command).as_bytes()).await?;
    while receive(stream).await?.command != OKAY {}
    send(stream, CLSE, own, theirs, &[]).await
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let command = stream.read_u32_le().await?;
    let (first, _second) = (stream.read_u32_le().await?, stream.read_u32_le().await?);
    let length = stream.read_u32_le().await?;
    let _checksum_and_magic = stream.read_u64_le().await?;
    let mut data = Vec::new();
    stream.take(length.into()).read_to_end(&mut data).await?;
    Ok(Message { command, first, data })
}

/// Header and data are written apart: over USB each is a transfer of its own.
async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    command: u32,
    first: u32,
    second: u32,
    data: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let checksum = data.iter().map(|byte| u32::from(*byte)).sum();
    let header = [command, first, second, length, checksum, !command];
    let header: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    stream.write_all(&header).await?;
    stream.write_all(data).await?;
    stream.flush().await
}
