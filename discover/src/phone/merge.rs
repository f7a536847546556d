//! Which USB devices and which adb transports are one phone.

use super::adb::{Properties, State, Transport};
use super::identify::{self, Identity};
use crate::usb::Device;

/// One phone: its USB device where the bus has it, and adb's transports to it, those on USB first.
#[derive(Debug, Clone)]
pub(super) struct Phone<'a> {
    pub(super) usb: Option<(&'a Device, Identity)>,
    pub(super) transports: Vec<&'a Transport>,
}

/// Every phone. A transport on USB belongs to the device with its path, else to the only one with its serial number;
/// one over TCP belongs to the only phone with the same `ro.serialno`.
pub(super) fn phones<'a>(usb: &'a [Device], transports: &'a [Transport]) -> Vec<Phone<'a>> {
    let mut phones: Vec<Phone> = usb.iter().filter_map(on_bus).collect();
    let (wired, remote): (Vec<_>, Vec<_>) =
        transports.iter().filter(|transport| !transport.is_emulator()).partition(|transport| transport.is_wired());
    for transport in wired {
        let at = with_path(&phones, transport).or_else(|| with_usb_serial(&phones, transport));
        add(&mut phones, at, transport);
    }
    for transport in remote {
        let at = with_own_serial(&phones, transport);
        add(&mut phones, at, transport);
    }
    phones
}

fn add<'a>(phones: &mut Vec<Phone<'a>>, at: Option<usize>, transport: &'a Transport) {
    match at.and_then(|at| phones.get_mut(at)) {
        Some(phone) => phone.transports.push(transport),
        None => phones.push(Phone { usb: None, transports: vec![transport] }),
    }
}

fn on_bus(device: &Device) -> Option<Phone<'_>> {
    Some(Phone { usb: Some((device, identify::identify(device)?)), transports: Vec::new() })
}

/// The phone at the path of a transport, unless its serial number says that it came there after the transport was made.
fn with_path(phones: &[Phone], transport: &Transport) -> Option<usize> {
    let path = transport.devpath.as_deref()?;
    let is_there = |device: &Device| {
        let is_another = |serial: &String| !transport.serial.is_empty() && *serial != transport.serial;
        device.sysfs_name == path && !device.serial.as_ref().is_some_and(is_another)
    };
    phones.iter().position(|phone| phone.usb.is_some_and(|(device, _)| is_there(device)))
}

fn with_usb_serial(phones: &[Phone], transport: &Transport) -> Option<usize> {
    only(phones, |phone| {
        let serial = phone.usb.map(|(device, _)| device.serial.as_deref().unwrap_or_default());
        phone.transports.is_empty() && serial == Some(&transport.serial)
    })
}

fn with_own_serial(phones: &[Phone], transport: &Transport) -> Option<usize> {
    let serial = transport.told.as_ref()?.serial.as_deref()?;
    only(phones, |phone| {
        phone.usb_serial() == Some(serial) || phone.told().any(|told| told.serial.as_deref() == Some(serial))
    })
}

/// The only phone of which something is true: where it is true of two, nobody can tell which is meant.
fn only(phones: &[Phone], is_it: impl Fn(&Phone) -> bool) -> Option<usize> {
    let mut found = phones.iter().enumerate().filter(|(_, phone)| is_it(phone)).map(|(at, _)| at);
    found.next().filter(|_| found.next().is_none())
}

impl<'a> Phone<'a> {
    /// The serial number of the USB device, where it tells anything.
    pub(super) fn usb_serial(&self) -> Option<&'a str> {
        self.usb.and_then(|(device, _)| device.serial.as_deref()).filter(|serial| is_own(serial))
    }

    /// What the phone told, by any transport.
    pub(super) fn told(&self) -> impl Iterator<Item = &'a Properties> {
        self.transports.iter().filter_map(|transport| transport.told.as_ref())
    }

    /// The number that it is known by. That of USB comes first: the boot loader shows it too, and it is known before adb has answered.
    pub(super) fn serial(&self) -> Option<&'a str> {
        let wired = || self.transports.iter().find(|transport| transport.is_wired()).map(|t| t.serial.as_str());
        let told = || self.told().find_map(|told| told.serial.as_deref());
        self.usb_serial().or_else(|| told().filter(|serial| is_own(serial))).or_else(|| wired().filter(|s| is_own(s)))
    }
}

/// Whether a serial number can be one: makers who do not care leave the sample, or one digit all over, and an iPhone in
/// recovery mode has a whole sentence there.
fn is_own(serial: &str) -> bool {
    const SAMPLES: [&str; 4] = ["0123456789abcdef", "0123456789", "1234567890", "unknown"];
    const LONGEST: usize = 64;
    let mut bytes = serial.bytes();
    let first = bytes.next();
    let varies = bytes.any(|byte| Some(byte) != first);
    varies && serial.len() <= LONGEST && !SAMPLES.iter().any(|sample| sample.eq_ignore_ascii_case(serial))
}

impl Transport {
    /// Whether it is on USB. Only long lists have the path; without it, adb's names for network addresses tell.
    pub(super) fn is_wired(&self) -> bool {
        self.devpath.is_some() || !(self.serial.contains(':') || self.serial.contains("._adb"))
    }

    /// Whether adb can use it.
    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Device
    }

    fn is_emulator(&self) -> bool {
        self.devpath.is_none() && self.serial.starts_with("emulator-")
    }
}
