//! An adb server that does as it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::phone::Phone;

/// How the server behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Manner {
    /// As adb does.
    #[default]
    Well,
    /// As an adb before `host:track-devices-l` and `host:devices-l`.
    Old,
    /// As an old one that never answers the second question for its list, and by then at the latest lets the phones answer.
    OldAndCrowded,
    /// Accepts connections and never answers.
    Silent,
    /// Answers everything with these bytes and closes.
    Says(Vec<u8>),
    /// Answers, and sends each list but the first half only.
    HalfLists,
}

#[derive(Debug, Default)]
struct Script {
    phones: Vec<Phone>,
    manner: Manner,
    last_id: u64,
    asked: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    /// Number of the list: trackers wait for it to change.
    version: watch::Sender<u64>,
    /// A service was asked for.
    asked: Notify,
}

/// An adb server on a port of its own. It dies with its value.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server without phones.
    pub async fn start() -> io::Result<Self> {
        let shared = Shared { script: Mutex::default(), version: watch::Sender::new(0), asked: Notify::new() };
        let mut server =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), shared: Arc::new(shared), serving: None };
        server.come_back().await?;
        Ok(server)
    }

    /// Where it listens, also after it has died and come back.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives it another list. A phone that was there at the same place keeps its number.
    pub fn set(&self, phones: impl IntoIterator<Item = Phone>) {
        let mut script = self.shared.script();
        let before = std::mem::take(&mut script.phones);
        for mut phone in phones {
            if phone.id == 0 {
                let same = |old: &&Phone| old.serial == phone.serial && old.devpath == phone.devpath;
                phone.id = before.iter().find(same).map_or(script.last_id + 1, |old| old.id);
            }
            script.last_id = script.last_id.max(phone.id);
            script.phones.push(phone);
        }
        drop(script);
        self.shared.version.send_modify(|version| *version += 1);
    }

    /// Makes it behave otherwise from the next request on.
    pub fn behave(&self, manner: Manner) {
        self.shared.script().manner = manner;
    }

    /// Every service that was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.script().asked.clone()
    }

    /// Waits until a service was asked for a number of times, by the beginning of its name.
    pub async fn asked_for(&self, service: &str, times: usize) {
        self.shared.asked_for(|asked| asked.starts_with(service), times).await;
    }

    /// Dies: every connection breaks and nobody listens.
    pub async fn die(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            _ = serving.await;
        }
    }

    /// Listens again, at the same address.
    pub async fn come_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.serving = Some(tokio::spawn(serve(listener, self.shared.clone())));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often such a service was asked for.
    fn times_asked(&self, is_it: impl Fn(&str) -> bool) -> usize {
        self.script().asked.iter().filter(|asked| is_it(asked)).count()
    }

    /// Waits until such a service was asked for a number of times.
    async fn asked_for(&self, is_it: impl Fn(&str) -> bool, times: usize) {
        loop {
            let asked = self.asked.notified();
            if self.times_asked(&is_it) >= times {
                return;
            }
            asked.await;
        }
    }

    /// The list in adb's order: those on USB first, each kind by serial.
    fn list(&self, long: bool) -> String {
        let mut phones = self.script().phones.clone();
        phones.sort_by_key(|phone| (phone.devpath.is_none(), phone.serial.clone()));
        phones.iter().map(|phone| phone.line(long)).collect()
    }
}

/// What adb says of a phone that did not accept its key (AOSP `transport.cpp`).
const UNAUTHORIZED: &str = "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n\
    Try 'adb kill-server' if that seems wrong.\nOtherwise check for a confirmation dialog on your device.";

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        _ = stream.set_nodelay(true);
        conversations.spawn(converse(stream, shared.clone()));
        while conversations.try_join_next().is_some() {}
    }
}

/// One connection: requests until one of them ends it.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut phone = None;
    while let Some(service) = request(&mut stream).await? {
        let manner = {
            let mut script = shared.script();
            script.asked.push(service.clone());
            script.manner.clone()
        };
        shared.asked.notify_waiters();
        match manner {
            Manner::Silent => return hold(&mut stream).await,
            Manner::Says(bytes) => return stream.write_all(&bytes).await,
            Manner::Well | Manner::Old | Manner::OldAndCrowded | Manner::HalfLists => {}
        }
        match service.strip_prefix("host:transport") {
            Some(which) => match find(&shared, which) {
                Ok(found) => {
                    phone = Some(found);
                    stream.write_all(b"OKAY").await?;
                }
                Err(why) => return fail(&mut stream, &why).await,
            },
            None => return answer(&mut stream, &service, phone, manner, &shared).await,
        }
    }
    Ok(())
}

async fn answer(
    stream: &mut TcpStream,
    service: &str,
    phone: Option<Phone>,
    manner: Manner,
    shared: &Shared,
) -> io::Result<()> {
    let is_old = matches!(manner, Manner::Old | Manner::OldAndCrowded);
    let is_crowded = manner == Manner::OldAndCrowded;
    let is_list = |asked: &str| asked == "host:devices";
    match (service, service.split_once(':')) {
        ("host:version", _) => okay(stream, "0029").await,
        ("host:devices", _) if is_crowded && shared.times_asked(is_list) == 2 => hold(stream).await,
        ("host:devices", _) => okay(stream, &shared.list(false)).await,
        ("host:devices-l", _) if !is_old => okay(stream, &shared.list(true)).await,
        ("host:track-devices", _) => track(stream, false, manner, shared).await,
        ("host:track-devices-l", _) if !is_old => track(stream, true, manner, shared).await,
        ("host:reconnect-offline", _) => okay(stream, "").await,
        (_, Some(("shell" | "exec", command))) => {
            if is_crowded {
                shared.asked_for(is_list, 2).await;
            }
            shell(stream, phone, command).await
        }
        _ if phone.is_some() => fail(stream, "closed").await,
        _ => fail(stream, "unknown host service").await,
    }
}

/// Sends the whole list now and at each change, until the client goes.
async fn track(stream: &mut TcpStream, long: bool, manner: Manner, shared: &Shared) -> io::Result<()> {
    stream.write_all(b"OKAY").await?;
    let mut version = shared.version.subscribe();
    let mut is_first = true;
    loop {
        let frame = block(&shared.list(long));
        if manner == Manner::HalfLists && !is_first {
            stream.write_all(&frame.as_bytes()[..frame.len() / 2]).await?;
            return hold(stream).await;
        }
        stream.write_all(frame.as_bytes()).await?;
        is_first = false;
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return Ok(()) },
            ended = hold(stream) => return ended,
        }
    }
}

async fn shell(stream: &mut TcpStream, phone: Option<Phone>, command: &str) -> io::Result<()> {
    match phone {
        Some(phone) if phone.hangs => hold(stream).await,
        Some(phone) => {
            stream.write_all(b"OKAY").await?;
            stream.write_all(phone.output(command).as_bytes()).await
        }
        None => fail(stream, "device offline (no transport)").await,
    }
}

/// The phone of `-id:7` or `:SERIAL`, if a connection to it can be had.
fn find(shared: &Shared, which: &str) -> Result<Phone, String> {
    let script = shared.script();
    let serial = which.trim_start_matches(':');
    let (found, missing) = if let Some(id) = which.strip_prefix("-id:") {
        let found = script.phones.iter().find(|phone| phone.id.to_string() == id);
        (found, format!("no device with transport id '{id}'"))
    } else {
        (script.phones.iter().find(|phone| phone.serial == serial), format!("device '{serial}' not found"))
    };
    match found {
        None => Err(missing),
        Some(phone) if phone.state == "device" => Ok(phone.clone()),
        Some(phone) if phone.state == "unauthorized" => Err(UNAUTHORIZED.to_owned()),
        Some(phone) => Err(format!("device {}", phone.state)),
    }
}

async fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut digits = [0; 4];
    if let Err(error) = stream.read_exact(&mut digits).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let length = std::str::from_utf8(&digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let mut text = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut text).await?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Waits until the client goes.
async fn hold(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 64];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

async fn okay(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(format!("OKAY{}", block(text)).as_bytes()).await
}

async fn fail(stream: &mut TcpStream, why: &str) -> io::Result<()> {
    stream.write_all(format!("FAIL{}", block(why)).as_bytes()).await
}

fn block(text: &str) -> String {
    format!("{:04x}{text}", text.len())
}
