//! One machine, from power on to power off.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::accelerator::Accelerator;
use crate::console::{say, tail, timed};
use crate::control::{Answer, Control};
use crate::image::Image;
use crate::payload::Payload;
use crate::qemu::{Board, CONSOLE, CONTROL, JOURNAL, PAYLOAD, Qemu, SLOTS, SYSTEM, Start};
use crate::snapshot;

/// Tells one start of a machine from the next.
const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";

/// A virtual machine. It is gone with its value, and its disks with it.
pub struct Machine {
    image: Image,
    accelerator: Accelerator,
    folder: TempDir,
    uuid: String,
    running: Option<Running>,
    disks: usize,
}

struct Running {
    qemu: Qemu,
    control: Control,
}

/// What the disk of a machine is like at first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disk<'a> {
    /// Never booted.
    Image(Board),
    /// As the snapshot in this folder left it.
    Snapshot(&'a Path),
}

impl Machine {
    /// Powers a machine on that has never been booted, and waits until it answers. The payload is in place before systemd
    /// starts; units start meanwhile.
    pub async fn boot(payload: Payload) -> Result<Self> {
        Self::boot_on(Board::Legacy, payload).await
    }

    /// The same on a board with UEFI, and with 2 GiB of memory where others have 1.
    pub async fn boot_by_uefi(payload: Payload) -> Result<Self> {
        Self::boot_on(Board::Uefi, payload).await
    }

    async fn boot_on(board: Board, payload: Payload) -> Result<Self> {
        let (image, accelerator) = prepared().await?;
        let uuid = random_uuid();
        timed("powered on, answers", Self::power(&image, accelerator, Disk::Image(board), &uuid, payload)).await
    }

    /// A machine that has booted a while ago and rests, with the payload unpacked. It has ports for twenty phones
    /// (`dummy_hcd`), and the right time.
    pub async fn warm(payload: Payload) -> Result<Self> {
        let (image, accelerator) = prepared().await?;
        let snapshot = snapshot::get(&image, accelerator).await?;
        timed("restored, answers", async {
            let disk = Disk::Snapshot(&snapshot);
            let machine = Self::power(&image, accelerator, disk, snapshot::UUID, payload).await?;
            machine.wake().await?;
            Ok(machine)
        })
        .await
    }

    /// The same machine after it has lost its power, started anew as [`Machine::warm`] does: its own disk is new, those that were
    /// added are as they were left once they are added again.
    pub async fn start_again(&mut self, payload: Payload) -> Result<()> {
        let snapshot = snapshot::get(&self.image, self.accelerator).await?;
        timed("restored again, answers", async {
            self.disks = 0;
            self.prepare(Disk::Snapshot(&snapshot), payload).await?;
            self.start(Start::Saved(&snapshot)).await?;
            self.wake().await
        })
        .await
    }

    /// Tells a restored machine what it cannot know: its clock stood still, and it remembers an empty payload.
    async fn wake(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the host's clock is wrong")?;
        let awake = format!(
            "date -s @{}.{:03} && busybox hwclock -w -u && \
             blockdev --flushbufs /dev/vdb && tar -x -C / -f /dev/vdb && systemctl daemon-reload",
            now.as_secs(),
            now.subsec_millis()
        );
        self.run(&awake).await.map(drop)
    }

    pub(crate) async fn power(
        image: &Image,
        accelerator: Accelerator,
        disk: Disk<'_>,
        uuid: &str,
        payload: Payload,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hatrack-machine-").tempdir().context("cannot make a folder")?;
        let mut machine =
            Self { image: image.clone(), accelerator, folder, uuid: uuid.to_owned(), running: None, disks: 0 };
        machine.prepare(disk, payload).await?;
        let start = match disk {
            Disk::Image(board) => Start::Cold(board),
            Disk::Snapshot(saved) => Start::Saved(saved),
        };
        machine.start(start).await?;
        Ok(machine)
    }

    async fn prepare(&self, disk: Disk<'_>, payload: Payload) -> Result<()> {
        let (base, format) = match disk {
            Disk::Image(_) => (self.image.root(), "raw"),
            Disk::Snapshot(saved) => (saved.join(SYSTEM), "qcow2"),
        };
        overlay(&base, format, &self.folder.path().join(SYSTEM)).await?;
        payload.write(&self.folder.path().join(PAYLOAD))
    }

    async fn start(&mut self, start: Start<'_>) -> Result<()> {
        let qemu = Qemu::start(&self.image, self.accelerator, self.folder.path(), &self.uuid, start).await?;
        let control = Control::connect(&self.folder.path().join(CONTROL)).await?;
        qemu.go_on().await?;
        let Running { qemu, control } = self.running.insert(Running { qemu, control });
        control.ask("true", qemu).await.map(drop)
    }

    /// Runs a command as root and returns what it prints.
    ///
    /// # Errors
    /// When it ends with another status than 0; what it printed is in the message.
    pub async fn run(&self, command: &str) -> Result<String> {
        let answer = self.try_run(command).await?;
        if answer.status != 0 {
            bail!("`{command}` ended with {} in the machine:\n{}", answer.status, answer.output);
        }
        Ok(answer.output)
    }

    /// Runs a command as root, however it ends. Programs that go on in the background must not hold its output:
    /// `systemd-run` starts such.
    pub async fn try_run(&self, command: &str) -> Result<Answer> {
        self.running()?.control.run(command).await
    }

    /// Adds a disk of so many bytes, which appears as `/dev/disk/by-id/virtio-<serial>`. It is blank the first time.
    pub async fn add_disk(&mut self, serial: &str, bytes: u64) -> Result<()> {
        if self.disks == SLOTS {
            bail!("a machine takes {SLOTS} more disks");
        }
        let path = self.folder.path().join(format!("{serial}.raw"));
        let file = std::fs::File::options().create(true).append(true).open(&path);
        file.and_then(|file| file.set_len(bytes)).with_context(|| format!("cannot make {}", path.display()))?;
        let file = json!({"driver": "file", "filename": path});
        let node = json!({"node-name": serial, "driver": "raw", "file": file});
        let device = json!({"driver": "virtio-blk-pci", "drive": serial, "serial": serial, "id": serial, "bus": format!("slot{}", self.disks)});
        let qemu = &self.running()?.qemu;
        qemu.execute("blockdev-add", node).await?;
        qemu.execute("device_add", device).await?;
        self.disks += 1;
        let appears = format!("timeout 60 sh -c 'until [ -e /dev/disk/by-id/virtio-{serial} ]; do sleep 0.1; done'");
        self.run(&appears).await.map(drop)
    }

    /// A port of the host's loopback by which a port of the machine is reached.
    pub async fn forward(&self, port: u16) -> Result<u16> {
        let qemu = &self.running()?.qemu;
        qemu.tell(&format!("hostfwd_add net tcp:127.0.0.1:0-:{port}")).await?;
        let shown = qemu.tell("info usernet").await?;
        // Protocol and state, descriptor, and then both ends: address and port of the host, those of the machine.
        let mut ends = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours =
            ends.find(|words| words.first() == Some(&"TCP[HOST_FORWARD]") && words.get(5) == Some(&&*port.to_string()));
        let ours = ours.with_context(|| format!("QEMU forwards nothing to port {port}: {shown}"))?;
        ours[3].parse().with_context(|| format!("`{}` is no port", ours[3]))
    }

    /// Plugs the network cable, or pulls it.
    pub async fn set_network(&self, plugged: bool) -> Result<()> {
        self.running()?.qemu.execute("set_link", json!({"name": "nic", "up": plugged})).await.map(drop)
    }

    /// Reboots the machine, as a person does in it, and waits until it answers. What the test brought is not unpacked again: files
    /// are as the machine left them.
    pub async fn reboot(&self) -> Result<()> {
        timed("rebooted, answers", async {
            self.run("dd if=/dev/zero of=/dev/vdb bs=1k count=1 conv=fsync").await?;
            let Running { qemu, control } = self.running()?;
            let before = control.ask(BOOT, qemu).await?;
            control.give("systemctl reboot").await?;
            while control.ask(BOOT, qemu).await? == before {
                sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        })
        .await
    }

    /// Takes the power away: what the machine had not flushed to its disk is lost.
    pub async fn lose_power(&mut self) -> Result<()> {
        self.running.take().context("the machine has no power already")?.qemu.kill().await
    }

    /// Its journal since it was restored or powered on first.
    pub fn journal(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join(JOURNAL)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) async fn save(mut self, folder: &Path) -> Result<()> {
        let running = self.running.take().context("the machine has no power")?;
        running.qemu.save(folder).await?;
        let disk = self.folder.path().join(SYSTEM);
        std::fs::copy(&disk, folder.join(SYSTEM)).context("cannot keep the disk")?;
        Ok(())
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the machine has no power")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in [CONSOLE, JOURNAL] {
                say(&format!("the end of the {file}:\n{}", tail(&self.folder.path().join(file))));
            }
        }
    }
}

/// The image and what runs it; both are looked for where it blocks nobody.
async fn prepared() -> Result<(Image, Accelerator)> {
    let found = tokio::task::spawn_blocking(|| {
        let image = Image::get()?;
        let accelerator = Accelerator::find(&image)?;
        Ok((image, accelerator))
    });
    found.await.context("looking for the image was given up")?
}

/// A disk that has what `base` has and keeps what is written.
async fn overlay(base: &Path, format: &str, disk: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([base, disk])
        .output()
        .await
        .context("cannot start qemu-img")?;
    if !output.status.success() {
        bail!("qemu-img made no disk: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn random_uuid() -> String {
    let (a, b) = (fastrand::u64(..), fastrand::u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}
