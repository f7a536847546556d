//! Uevents of the kernel by netlink (netlink(7), `NETLINK_KOBJECT_UEVENT`).

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Event;
use super::uevent::Uevent;

/// Multicast group of the kernel; udev's own messages are in group 2.
const KERNEL_GROUP: u32 = 1;

/// A message has a header with a path and at most `UEVENT_BUFFER_SIZE` (2048) bytes of values (Linux, `include/linux/kobject.h`).
const MAX_MESSAGE: usize = 8192;

/// A hub with twenty phones that leaves is some hundred messages in a moment.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The kernel's uevents.
#[derive(Debug)]
pub(super) struct Uevents {
    socket: AsyncFd<OwnedFd>,
}

/// What one reading from the socket gave.
enum Read {
    Event(Event),
    /// A message that does not matter, or is not the kernel's.
    Nothing,
}

impl Uevents {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent)?;
        // The large buffer is a privilege; without it the kernel cuts the wish down to its limit.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { socket: readable(socket)? })
    }

    /// Waits for the next event that can matter.
    pub(super) async fn next(&self) -> io::Result<Event> {
        loop {
            if let Read::Event(event) = self.socket.async_io(Interest::READABLE, read).await? {
                return Ok(event);
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that can swap their descriptor, which `OwnedFd` cannot"
)]
fn readable(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

fn read(socket: &OwnedFd) -> io::Result<Read> {
    let mut buffer = [0; MAX_MESSAGE];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = match recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
        Ok(received) => received,
        // The kernel dropped messages for want of space in the buffer.
        Err(Errno::ENOBUFS) => return Ok(Read::Event(Event::Overflow)),
        Err(error) => return Err(error.into()),
    };
    // Only the kernel has port 0; a process with the right to send could otherwise ring at will.
    if received.address.is_none_or(|sender| sender.pid() != 0) {
        return Ok(Read::Nothing);
    }
    if received.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(Read::Event(Event::Overflow));
    }
    let length = received.bytes;
    Ok(interpret(&buffer[..length]))
}

fn interpret(message: &[u8]) -> Read {
    match Uevent::parse(message) {
        Ok(uevent) if uevent.can_matter() => Read::Event(uevent.into()),
        Ok(_) => Read::Nothing,
        Err(error) => {
            tracing::warn!(%error, "a uevent of the kernel is not understood: everything is looked at");
            Read::Event(Event::Overflow)
        }
    }
}

impl From<Uevent<'_>> for Event {
    fn from(uevent: Uevent<'_>) -> Self {
        Self::Device { action: uevent.action, subsystem: uevent.subsystem.to_owned(), path: uevent.path.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hatrack_fixtures::{skip, uevent};
    use nix::sys::socket::{getsockname, sendto};
    use tokio::time::timeout;

    use super::*;

    /// Waits for the first message that `wanted` knows, as it came from the socket.
    async fn first(uevents: &Uevents, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let receive = |socket: &OwnedFd| {
            let mut buffer = vec![0; MAX_MESSAGE];
            let length = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            buffer.truncate(length);
            Ok(buffer)
        };
        let search = async {
            loop {
                let message = uevents.socket.async_io(Interest::READABLE, receive).await.unwrap();
                if wanted(&message) {
                    return message;
                }
            }
        };
        timeout(Duration::from_secs(20), search).await.expect("no such message came")
    }

    #[tokio::test]
    async fn the_kernel_is_heard() {
        let uevents = Uevents::open().unwrap();
        if !uevent::is_announced(uevent::Device::Loopback) {
            return;
        }
        let message = first(&uevents, |message| message.starts_with(b"change@/devices/virtual/net/lo\0")).await;
        let uevent = Uevent::parse(&message).unwrap();
        assert_eq!((uevent.subsystem, uevent.can_matter()), ("net", false));
    }

    #[tokio::test]
    async fn another_process_is_not_taken_for_the_kernel() {
        const FORGED: &[u8] = b"add@/devices/a\0ACTION=add\0DEVPATH=/devices/a\0SUBSYSTEM=pci\0";
        let uevents = Uevents::open().unwrap();
        let forger =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkKObjectUEvent)
                .unwrap();
        let listener: NetlinkAddr = getsockname(uevents.socket.as_raw_fd()).unwrap();
        if let Err(error) = sendto(forger.as_raw_fd(), FORGED, &listener, MsgFlags::empty()) {
            return skip(&format!("a message cannot be forged here: {error}"));
        }
        let read = uevents.socket.async_io(Interest::READABLE, read);
        assert!(matches!(timeout(Duration::from_secs(20), read).await.unwrap(), Ok(Read::Nothing)));
        assert!(matches!(interpret(FORGED), Read::Event(_)), "the kernel would have been heard");
    }

    #[tokio::test]
    async fn dropped_messages_are_an_event() {
        let uevents = Uevents::open().unwrap();
        setsockopt(uevents.socket.get_ref(), sockopt::RcvBuf, &0).unwrap();
        for _ in 0..1000 {
            if !uevent::is_announced(uevent::Device::Loopback) {
                return;
            }
        }
        let overflow = async { while uevents.next().await.unwrap() != Event::Overflow {} };
        timeout(Duration::from_secs(20), overflow).await.expect("an overflow is told");
    }

    #[test]
    fn what_is_not_understood_makes_everything_be_looked_at() {
        assert!(matches!(interpret(b"?"), Read::Event(Event::Overflow)));
    }
}
