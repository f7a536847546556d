//! What NVML and the adb server tell of the machine on paper, so that the object is as large as a real one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hatrack_discover::nvidia::LIBRARY_VARIABLE;
use hatrack_discover::root::Root;
use hatrack_discover::{gpu, pci, usb};
use hatrack_fake_adb::phone::Phone;
use hatrack_fake_adb::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Interface of a phone that speaks adb: class, subclass and protocol.
const ADB: (u8, u8, u8) = (0xff, 0x42, 0x01);

/// A fake `libnvidia-ml.so.1` and a scripted adb server. They last as long as this value.
pub(crate) struct Answers {
    adb: Server,
    library: PathBuf,
    nvml: PathBuf,
    _folder: TempDir,
}

impl Answers {
    /// Answers about every GPU and every phone of a machine.
    pub(crate) async fn about(machine: &Path) -> Result<Self> {
        let root = Root::at(machine);
        let folder = tempfile::tempdir()?;
        let nvml = folder.path().join("machine.json");
        std::fs::write(&nvml, gpus(&root)?.to_string())?;
        let adb = Server::start().await?;
        adb.set(phones(&root)?);
        let program = std::env::current_exe()?;
        let built = program.parent().context("a program without a folder")?.join("deps/libhatrack_fake_nvml.so");
        let library = built.canonicalize().with_context(|| format!("cargo built no `{}`", built.display()))?;
        Ok(Self { adb, library, nvml, _folder: folder })
    }

    /// What the agent's environment has to say.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [(LIBRARY_VARIABLE, &self.library), (hatrack_fake_nvml::VARIABLE, &self.nvml)]
    }

    /// What the agent's configuration has to say.
    pub(crate) fn configuration(&self) -> String {
        format!("[adb]\nserver = \"{}\"\n", self.adb.address())
    }
}

fn gpus(root: &Root) -> Result<Value> {
    let functions = pci::scan(root)?;
    let gpus = functions.iter().filter(|function| gpu::is_gpu(function)).enumerate().map(|(minor, function)| {
        let bus = function.address.trim_end_matches(".0");
        json!({"bus": bus, "minor": minor, "uuid": format!("GPU-6694f229-359b-1548-81a0-d5b3ffc6e3{minor:02}")})
    });
    Ok(json!({"gpus": gpus.collect::<Vec<_>>()}))
}

fn phones(root: &Root) -> Result<Vec<Phone>> {
    let speaks_adb = |device: &usb::Device| device.interfaces.iter().any(|interface| interface.triple == ADB);
    let devices = usb::scan(root)?.into_iter().filter(speaks_adb);
    Ok(devices.map(|device| Phone::on_usb(device.serial.as_deref().unwrap_or_default(), &device.sysfs_name)).collect())
}
