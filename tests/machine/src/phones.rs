//! Phones that a machine's kernel enumerates: gadgets of configfs on the ports of `dummy_hcd`, which `src/bin/hatrack-phones.rs`
//! makes and speaks for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::payload::Payload;

const PROGRAM: &str = "/usr/local/bin/hatrack-phones";
const LIST: &str = "/etc/hatrack-phones.json";

/// A USB device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gadget {
    /// Name in configfs.
    pub name: String,
    /// Vendor and product id.
    pub id: (u16, u16),
    /// Manufacturer and product, as the device says them.
    pub strings: (String, String),
    /// The serial number, if it has one.
    pub serial: Option<String>,
    /// Its interfaces, each with a pair of bulk endpoints.
    pub interfaces: Vec<Interface>,
    /// What it says to adb on the first interface, by adb's word for the state that this leads to; `None` says nothing and
    /// is no adb interface.
    pub adb: Option<String>,
}

/// An interface of a USB device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Class, subclass and protocol.
    pub triple: (u8, u8, u8),
    /// Its name.
    pub name: String,
}

impl Gadget {
    /// A device with one interface.
    fn new(name: &str, id: (u16, u16), strings: (&str, &str), triple: (u8, u8, u8), interface: &str) -> Self {
        Self {
            name: name.to_owned(),
            id,
            strings: (strings.0.to_owned(), strings.1.to_owned()),
            serial: Some(format!("{}0001", name.to_uppercase().replace('-', ""))),
            interfaces: vec![Interface { triple, name: interface.to_owned() }],
            adb: None,
        }
    }

    /// A phone with adb.
    fn adb(name: &str, id: (u16, u16), strings: (&str, &str), state: &str) -> Self {
        Self { adb: Some(state.to_owned()), ..Self::new(name, id, strings, (0xff, 0x42, 0x01), "ADB Interface") }
    }

    /// File in the machine with what its screen shows: the key that it is asked to trust.
    pub fn screen(&self) -> PathBuf {
        Path::new("/run").join(format!("screen-of-{}", self.name))
    }

    fn with_serial(self, serial: Option<&str>) -> Self {
        Self { serial: serial.map(str::to_owned), ..self }
    }
}

/// Twenty devices as a box of phones has them on a bad day: phones of several makers that are well, some that wait for a
/// person, one without a serial number, two with the same, an iPhone, and a Coral accelerator between them.
pub fn twenty() -> Vec<Gadget> {
    const GOOGLE: (&str, &str) = ("Google", "Pixel 8");
    const SAMSUNG: (&str, &str) = ("SAMSUNG", "SAMSUNG_Android");
    vec![
        Gadget::adb("pixel-1", (0x18d1, 0x4ee7), GOOGLE, "device"),
        Gadget::adb("pixel-2", (0x18d1, 0x4ee7), GOOGLE, "device"),
        Gadget::adb("galaxy-1", (0x04e8, 0x6866), SAMSUNG, "device"),
        Gadget::adb("galaxy-2", (0x04e8, 0x6866), SAMSUNG, "device"),
        Gadget::adb("galaxy-3", (0x04e8, 0x6866), SAMSUNG, "device"),
        Gadget::adb("redmi", (0x2717, 0xff48), ("Xiaomi", "Redmi Note 12"), "device"),
        Gadget::adb("oneplus", (0x2a70, 0x4ee7), ("OnePlus", "KB2003"), "device"),
        Gadget::adb("oppo", (0x22d9, 0x2769), ("OPPO", "CPH2467"), "device"),
        Gadget::adb("other-maker", (0x1234, 0x5678), ("Nobody", "Phone"), "device"),
        Gadget::adb("no-serial", (0x18d1, 0x4ee7), GOOGLE, "device").with_serial(None),
        Gadget::adb("twin-1", (0x2717, 0xff48), ("Xiaomi", "Twin"), "device").with_serial(Some("TWIN")),
        Gadget::adb("twin-2", (0x2717, 0xff48), ("Xiaomi", "Twin"), "device").with_serial(Some("TWIN")),
        Gadget::adb("asks-1", (0x18d1, 0x4ee7), GOOGLE, "unauthorized"),
        Gadget::adb("asks-2", (0x04e8, 0x6866), SAMSUNG, "unauthorized"),
        Gadget::adb("silent", (0x18d1, 0x4ee7), GOOGLE, "offline"),
        Gadget::new("files-1", (0x18d1, 0x4ee1), GOOGLE, (0x06, 0x01, 0x01), "MTP"),
        Gadget::new("files-2", (0x04e8, 0x6860), SAMSUNG, (0x06, 0x01, 0x01), "MTP"),
        Gadget::new("loader", (0x18d1, 0x4ee0), GOOGLE, (0xff, 0x42, 0x03), "fastboot"),
        Gadget::new("iphone", (0x05ac, 0x12a8), ("Apple Inc.", "iPhone"), (0x06, 0x01, 0x01), "PTP"),
        Gadget::new("coral", (0x18d1, 0x9302), ("Google Inc.", "Edge TPU"), (0xff, 0x00, 0x00), "").with_serial(None),
    ]
}

/// Phones of one machine, by their place in a list.
#[derive(Debug, Clone)]
pub struct Phones {
    gadgets: Vec<Gadget>,
}

impl Phones {
    /// At most as many as the machine has ports: twenty.
    pub fn new(gadgets: Vec<Gadget>) -> Self {
        Self { gadgets }
    }

    /// The devices.
    pub fn gadgets(&self) -> &[Gadget] {
        &self.gadgets
    }

    /// Adds what speaks for the phones, the program `hatrack-phones` of this package, to what a test brings.
    pub fn add_to(&self, payload: &mut Payload, program: &Path) -> Result<()> {
        payload.program(PROGRAM, program)?;
        payload.file(LIST, serde_json::to_vec(&self.gadgets).context("the phones are no JSON")?)
    }

    /// Makes the phones in a machine that has brought them; none is plugged in.
    pub async fn make(&self, machine: &Machine) -> Result<()> {
        let start = format!("systemd-run --quiet --unit=phones --service-type=notify {PROGRAM} {LIST}");
        machine.run(&start).await.map(drop)
    }

    /// Plugs in some phones, each into its own port.
    pub async fn plug(&self, machine: &Machine, which: impl IntoIterator<Item = usize>) -> Result<()> {
        let lines: Vec<_> = which.into_iter().map(|port| self.write(port, &format!("dummy_udc.{port}"))).collect();
        machine.run(&lines.join(" && ")).await.map(drop)
    }

    /// Unplugs some phones.
    pub async fn unplug(&self, machine: &Machine, which: impl IntoIterator<Item = usize>) -> Result<()> {
        let lines: Vec<_> = which.into_iter().map(|port| self.write(port, "")).collect();
        machine.run(&lines.join(" && ")).await.map(drop)
    }

    fn write(&self, port: usize, udc: &str) -> String {
        format!("echo '{udc}' >/sys/kernel/config/usb_gadget/{}/UDC", self.gadgets[port].name)
    }
}
