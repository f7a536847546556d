//! Runs in a machine of the tests: makes the USB gadgets of a list (JSON, of [`Gadget`]s), and answers adb for those that are
//! to have it. Nothing is plugged in before somebody writes the name of a port into a gadget's `UDC`.
//!
//! Each gadget is one FunctionFS function (kernel: `Documentation/usb/functionfs.rst`): its descriptors are written to `ep0`, and
//! what the host sends and reads are the files of the other endpoints.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hatrack_fake_adb::adbd;
use hatrack_fake_adb::phone::Phone;
use hatrack_machine::{Gadget, Interface};
use tokio::io::{BufReader, join};

const CONFIGFS: &str = "/sys/kernel/config/usb_gadget";
const ENGLISH: &str = "0x409";

/// FUNCTIONFS_DESCRIPTORS_MAGIC_V2 and FUNCTIONFS_STRINGS_MAGIC.
const DESCRIPTORS: u32 = 3;
const STRINGS: u32 = 2;
/// FUNCTIONFS_HAS_FS_DESC | FUNCTIONFS_HAS_HS_DESC.
const FULL_AND_HIGH_SPEED: u32 = 1 | 2;
const BULK: u8 = 2;

/// A read takes a whole transfer; what does not fit would be lost. adb sends no more than the phone says it takes.
const TRANSFER: usize = 16 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let list = std::env::args_os().nth(1).context("usage: hatrack-phones LIST")?;
    let list = fs::read(&list).with_context(|| format!("cannot read {}", Path::new(&list).display()))?;
    let gadgets: Vec<Gadget> = serde_json::from_slice(&list).context("the list is none of phones")?;
    let mut control = Vec::new();
    for gadget in gadgets {
        let (ep0, folder) = make(&gadget).with_context(|| format!("cannot make {}", gadget.name))?;
        // A function is gone when its ep0 is closed.
        control.push(ep0);
        if let Some(state) = &gadget.adb {
            let phone = Phone::on_usb(gadget.serial.as_deref().unwrap_or_default(), "").in_state(state);
            tokio::spawn(speak(folder, Arc::new(phone), gadget.screen()));
        }
    }
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("nobody waits for the phones")?;
    std::future::pending().await
}

/// Makes a gadget; it lives as long as the file that is returned. Its endpoints are in the folder.
fn make(gadget: &Gadget) -> Result<(File, PathBuf)> {
    let root = Path::new(CONFIGFS).join(&gadget.name);
    let set = |path: &str, value: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    };
    set("idVendor", &format!("{:#06x}", gadget.id.0))?;
    set("idProduct", &format!("{:#06x}", gadget.id.1))?;
    set(&format!("strings/{ENGLISH}/manufacturer"), &gadget.strings.0)?;
    set(&format!("strings/{ENGLISH}/product"), &gadget.strings.1)?;
    if let Some(serial) = &gadget.serial {
        set(&format!("strings/{ENGLISH}/serialnumber"), serial)?;
    }
    let function = format!("ffs.{}", gadget.name);
    set("configs/c.1/MaxPower", "250")?;
    fs::create_dir_all(root.join("functions").join(&function)).context("cannot make the function")?;
    symlink(root.join("functions").join(&function), root.join("configs/c.1").join(&function))?;

    let folder = Path::new("/run/phones").join(&gadget.name);
    fs::create_dir_all(&folder)?;
    let mounted = Command::new("mount").args(["-t", "functionfs", &gadget.name]).arg(&folder).status();
    if !mounted.context("cannot start mount")?.success() {
        bail!("the function cannot be mounted");
    }
    let mut ep0 = OpenOptions::new().read(true).write(true).open(folder.join("ep0")).context("cannot open ep0")?;
    ep0.write_all(&descriptors(&gadget.interfaces)?).context("the kernel refuses the descriptors")?;
    ep0.write_all(&strings(&gadget.interfaces)?).context("the kernel refuses the strings")?;
    Ok((ep0, folder))
}

/// Answers adb whenever the phone is plugged in: until then reading waits, and when it is unplugged reading fails. A key that it
/// is asked to trust is the content of its screen.
async fn speak(folder: PathBuf, phone: Arc<Phone>, screen: PathBuf) -> Result<()> {
    loop {
        let read = tokio::fs::File::open(folder.join("ep1")).await.context("cannot open ep1")?;
        let write = tokio::fs::OpenOptions::new().write(true).open(folder.join("ep2")).await;
        let stream = join(BufReader::with_capacity(TRANSFER, read), write.context("cannot open ep2")?);
        // What could not be written is missed by whoever reads it.
        _ = adbd::converse(stream, phone.clone(), |key| _ = fs::write(&screen, key)).await;
    }
}

/// The same interfaces at full and at high speed, in the kernel's format.
fn descriptors(interfaces: &[Interface]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    // One descriptor for each interface, one for each of its endpoints.
    let count = u32::try_from(interfaces.len() * 3)?;
    body.extend(count.to_le_bytes());
    body.extend(count.to_le_bytes());
    for packet in [64_u16, 512] {
        for (number, interface) in (0_u8..).zip(interfaces) {
            let (class, subclass, protocol) = interface.triple;
            body.extend([9, 4, number, 0, 2, class, subclass, protocol, number + 1]);
            let (out, into) = (2 * number + 1, 0x80 | (2 * number + 2));
            for address in [out, into] {
                let [low, high] = packet.to_le_bytes();
                body.extend([7, 5, address, BULK, low, high, 0]);
            }
        }
    }
    with_header(&[DESCRIPTORS], &[FULL_AND_HIGH_SPEED], body)
}

/// The names of the interfaces, in English alone.
fn strings(interfaces: &[Interface]) -> Result<Vec<u8>> {
    let mut body = 0x0409_u16.to_le_bytes().to_vec();
    for interface in interfaces {
        body.extend(interface.name.bytes());
        body.push(0);
    }
    with_header(&[STRINGS], &[u32::try_from(interfaces.len())?, 1], body)
}

/// Puts the words of a header, with the length of everything after the first ones, before a body.
fn with_header(before: &[u32], after: &[u32], body: Vec<u8>) -> Result<Vec<u8>> {
    let length = u32::try_from(4 * (before.len() + 1 + after.len()) + body.len())?;
    let words = before.iter().chain([&length]).chain(after);
    Ok(words.flat_map(|word| word.to_le_bytes()).chain(body).collect())
}
