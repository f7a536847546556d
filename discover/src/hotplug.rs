//! That something changed: uevents of the kernel, and libusb's arrivals and departures.
//!
//! An event says that it is time to look, not what to believe: facts come from [`crate::inventory::look`] alone. So a
//! source may tell of one thing twice, and neither may keep silent about one: what could not be read is
//! [`Event::Overflow`]. Netlink is needed for both (`RestrictAddressFamilies=AF_NETLINK` in a sandbox); libusb opens no
//! device here and so needs no permission.

mod kernel;
pub mod uevent;
mod usb;

use std::io;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};
pub use uevent::Action;

use kernel::Uevents;
use usb::Arrivals;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The kernel told of a device that can matter.
    Device {
        /// What happened to it.
        action: Action,
        /// The kernel's name for its kind: `pci`, `usb`, `block`.
        subsystem: String,
        /// Its path below `/sys`.
        path: String,
    },
    /// libusb saw a device arrive or leave: one event for any number of them.
    Usb,
    /// More happened than could be read: everything may have changed.
    Overflow,
}

/// No source of events can be opened: what is left is to look now and then.
#[derive(Debug, thiserror::Error)]
#[error("failed to open a source of hotplug events (libusb: {usb})")]
pub struct Unavailable {
    /// Why there are no uevents.
    #[source]
    uevents: io::Error,
    usb: rusb::Error,
}

/// Every source of events ended while the program ran.
#[derive(Debug, thiserror::Error)]
#[error("every source of hotplug events has ended")]
pub struct Ended;

/// The sources of events of this machine.
#[derive(Debug)]
pub struct Hotplug {
    uevents: Option<Uevents>,
    usb: Usb,
}

/// libusb asks every device for its descriptors when it is opened, which takes milliseconds.
#[derive(Debug)]
enum Usb {
    Unopened,
    Opening(JoinHandle<rusb::Result<Arrivals>>),
    Open(Arrivals),
    Ended,
}

impl Hotplug {
    /// Opens what can be opened; one source alone is enough. It must be called in a Tokio runtime with I/O.
    ///
    /// Beside uevents, libusb is opened by the first [`Hotplug::changed`], on a thread of its own: the first look at the
    /// machine need not wait for it.
    pub fn open() -> Result<Self, Unavailable> {
        match Uevents::open() {
            Ok(uevents) => Ok(Self { uevents: Some(uevents), usb: Usb::Unopened }),
            Err(uevents) => match Arrivals::open() {
                Ok(arrivals) => {
                    tracing::warn!(error = %uevents, "no uevents of the kernel: libusb alone tells of changes");
                    Ok(Self { uevents: None, usb: Usb::Open(arrivals) })
                }
                Err(usb) => Err(Unavailable { uevents, usb }),
            },
        }
    }

    /// Waits until something changed. Nothing is lost when the future is dropped before it is ready.
    pub async fn changed(&mut self) -> Result<Event, Ended> {
        loop {
            if let (None, Usb::Ended) = (&self.uevents, &self.usb) {
                return Err(Ended);
            }
            tokio::select! {
                event = next_uevent(self.uevents.as_ref()) => match event {
                    Ok(event) => return Ok(event),
                    Err(error) => {
                        tracing::warn!(%error, "the kernel's uevents ended");
                        self.uevents = None;
                    }
                },
                arrived = self.usb.next(), if !matches!(self.usb, Usb::Ended) => match arrived {
                    Some(()) => return Ok(Event::Usb),
                    None => self.usb = Usb::Ended,
                },
            }
        }
    }
}

impl Usb {
    /// Waits for the next arrivals or departures; `None` when there will be none.
    async fn next(&mut self) -> Option<()> {
        loop {
            match self {
                Self::Unopened => *self = Self::Opening(spawn_blocking(Arrivals::open)),
                Self::Opening(opening) => *self = opened(opening.await),
                Self::Open(arrivals) => return arrivals.next().await,
                Self::Ended => return None,
            }
        }
    }
}

fn opened(result: Result<rusb::Result<Arrivals>, JoinError>) -> Usb {
    match result {
        Ok(Ok(arrivals)) => Usb::Open(arrivals),
        Ok(Err(error)) => {
            tracing::info!(%error, "no USB events of libusb: uevents alone tell of changes");
            Usb::Ended
        }
        Err(error) => {
            tracing::warn!(%error, "opening libusb failed: uevents alone tell of changes");
            Usb::Ended
        }
    }
}

async fn next_uevent(uevents: Option<&Uevents>) -> io::Result<Event> {
    match uevents {
        Some(uevents) => uevents.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hatrack_fixtures::uevent;

    use super::*;

    #[tokio::test]
    async fn without_a_source_it_ends_instead_of_waiting_for_ever() {
        let mut hotplug = Hotplug { uevents: None, usb: Usb::Ended };
        assert!(matches!(hotplug.changed().await, Err(Ended)));
    }

    #[tokio::test]
    async fn a_change_is_told() {
        let mut hotplug = Hotplug::open().unwrap();
        if !uevent::is_announced(uevent::Device::Bridge) {
            return;
        }
        let told = async {
            loop {
                if let Event::Device { action: Action::Change, subsystem, .. } = hotplug.changed().await.unwrap()
                    && subsystem == "pci"
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("the change is told");
    }
}
