//! The machine that everything is measured on: 8 GPUs and 20 phones, on paper.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};
use hatrack_fixtures::{MachineCopy, machine_copy, uevent};

/// Name of the fixture.
pub(crate) const NAME: &str = "server-8gpu-phones-20";

/// A copy of the machine whose first phone can be unplugged.
pub(crate) struct Machine {
    copy: MachineCopy,
    phone: PathBuf,
    place: PathBuf,
    plugged: bool,
}

impl Machine {
    /// Expands the machine.
    pub(crate) fn expand() -> Result<Self> {
        let copy = machine_copy(NAME)?;
        let phone = first_phone(&copy)?;
        let place = fs::read_link(&phone).context("a USB device is no link")?;
        Ok(Self { copy, phone, place, plugged: true })
    }

    /// What stands for the machine's `/`.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.copy.path()
    }

    /// Unplugs the phone, or plugs it in again, and makes the kernel say that something changed.
    pub(crate) fn toggle(&mut self) -> Result<()> {
        if self.plugged {
            fs::remove_file(&self.phone)?;
        } else {
            symlink(&self.place, &self.phone)?;
        }
        self.plugged = !self.plugged;
        uevent::announce(uevent::Device::Bridge).context("to send a uevent one has to be root")
    }
}

fn first_phone(copy: &MachineCopy) -> Result<PathBuf> {
    let devices = copy.path().join("sys/bus/usb/devices");
    let mut names: Vec<_> = fs::read_dir(&devices)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.sort();
    let phone =
        names.into_iter().find(|path| fs::read_to_string(path.join("idVendor")).is_ok_and(|id| id.trim() == "04e8"));
    phone.with_context(|| format!("{NAME} has no phone of Samsung's"))
}
