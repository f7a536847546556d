//! One QEMU process: its command line, and its monitor (QMP).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::accelerator::Accelerator;
use crate::image::Image;

/// Slots for disks that come later.
pub(crate) const SLOTS: usize = 4;

/// Names of files in the folder of a machine.
pub(crate) const SYSTEM: &str = "system.qcow2";
pub(crate) const PAYLOAD: &str = "payload.tar";
pub(crate) const CONSOLE: &str = "console";
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const CONTROL: &str = "control";
const ERRORS: &str = "qemu.log";

/// What the kernel is told. A panic ends the machine, nothing waits for a person, and a start that is slow because the host is
/// busy is no failure.
const KERNEL: &str = "console=ttyS0 panic=-1 quiet net.ifnames=0 mitigations=off systemd.show_status=0 \
                      systemd.default_timeout_start_sec=900";

/// UEFI for virtual machines.
pub(crate) const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

/// What a machine is made of beside its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Board {
    /// QEMU's own firmware, which is no UEFI, and 1 GiB of memory.
    Legacy,
    /// UEFI, and 2 GiB of memory.
    Uefi,
}

/// How a machine starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Power on.
    Cold(Board),
    /// From the state that [`Qemu::save`] left in a folder.
    Saved(&'a Path),
}

/// A running machine's process. It is killed with its value, and with the thread that started it.
pub(crate) struct Qemu {
    process: Child,
    monitor: Mutex<Monitor>,
}

struct Monitor {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qemu {
    /// Starts a machine whose files are in `folder` and whose board has this UUID.
    pub(crate) async fn start(
        image: &Image,
        accelerator: Accelerator,
        folder: &Path,
        uuid: &str,
        start: Start<'_>,
    ) -> Result<Self> {
        // Tests are killed as well, and nobody would end the machine then.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-M", "q35", "-accel", accelerator.option(), "-cpu", "max", "-smp", "2"]);
        match start {
            Start::Cold(Board::Uefi) => command.args(["-m", "2048", "-bios", UEFI]),
            Start::Cold(Board::Legacy) | Start::Saved(_) => command.args(["-m", "1024"]),
        };
        command.args(["-nodefaults", "-display", "none", "-qmp", "stdio"]);
        command.arg("-kernel").arg(image.kernel()).arg("-initrd").arg(image.initrd()).args(["-append", KERNEL]);
        command.arg("-smbios").arg(format!("type=1,manufacturer=hatrack,product=test,serial=test,uuid={uuid}"));
        let console = folder.join(CONSOLE).display().to_string().replace(',', ",,");
        command
            .arg("-chardev")
            .arg(format!("file,id=console,path={console},append=on"))
            .args(["-serial", "chardev:console"]);
        // What a machine loses with its power is what the guest had not flushed; the host need not write anything at once.
        for (file, format) in [(SYSTEM, "qcow2"), (PAYLOAD, "raw")] {
            let path = folder.join(file).display().to_string().replace(',', ",,");
            command.arg("-drive").arg(format!("if=none,id={file},file={path},format={format},cache=unsafe"));
            command.arg("-device").arg(format!("virtio-blk-pci,drive={file}"));
        }
        let control = folder.join(CONTROL).display().to_string().replace(',', ",,");
        command.arg("-chardev").arg(format!("socket,id=control,path={control},server=on,wait=off"));
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=control,name=control"]);
        let journal = folder.join(JOURNAL).display().to_string().replace(',', ",,");
        command.arg("-chardev").arg(format!("file,id=journal,path={journal},append=on"));
        command.args(["-device", "virtconsole,chardev=journal"]);
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,id=nic,netdev=net"]);
        command.args(["-device", "virtio-rng-pci"]);
        for slot in 0..SLOTS {
            command.arg("-device").arg(format!("pcie-root-port,id=slot{slot},chassis={slot},slot={slot}"));
        }
        if let Start::Saved(from) = start {
            command.current_dir(from).args(["-incoming", &format!("exec:cat {STATE}")]);
        }
        let errors = std::fs::File::create(folder.join(ERRORS)).context("cannot make QEMU's log")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start QEMU")?;
        let input = process.stdin.take().context("QEMU has no standard input")?;
        let output = BufReader::new(process.stdout.take().context("QEMU has no standard output")?);
        let qemu = Self { process, monitor: Mutex::new(Monitor { input, output }) };
        let greeted = async {
            qemu.monitor.lock().await.line().await?;
            qemu.execute("qmp_capabilities", json!({})).await
        };
        greeted.await.with_context(|| std::fs::read_to_string(folder.join(ERRORS)).unwrap_or_default())?;
        Ok(qemu)
    }

    /// Gives a command to the monitor and returns its answer.
    pub(crate) async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let mut monitor = self.monitor.lock().await;
        let request = json!({"execute": command, "arguments": arguments});
        monitor.input.write_all(format!("{request}\n").as_bytes()).await.context("QEMU has ended")?;
        loop {
            let mut answer = monitor.line().await?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            // Everything else is an event.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Gives a command to the monitor for people, which knows some more, and returns what it prints.
    pub(crate) async fn tell(&self, command: &str) -> Result<String> {
        let said = self.execute("human-monitor-command", json!({"command-line": command})).await?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    /// Stops the machine and writes its state into the folder where it was started with; then it is gone. The state goes with the
    /// disks as they are now.
    pub(crate) async fn save(mut self, folder: &Path) -> Result<()> {
        self.execute("stop", json!({})).await?;
        self.execute("migrate-set-parameters", json!({"max-bandwidth": 10_000_000_000_u64})).await?;
        let path = folder.join(STATE).display().to_string().replace('\'', "'\\''");
        self.execute("migrate", json!({"uri": format!("exec:cat >'{path}'")})).await?;
        loop {
            let answer = self.execute("query-migrate", json!({})).await?;
            match answer["status"].as_str() {
                Some("completed") => break,
                Some("failed") => bail!("the state cannot be saved: {answer}"),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
        self.execute("quit", json!({})).await?;
        self.process.wait().await.context("QEMU does not end")?;
        Ok(())
    }

    /// Waits until a saved state is loaded and lets the machine go on: it was stopped when it was saved, and remembers that.
    pub(crate) async fn go_on(&self) -> Result<()> {
        while self.execute("query-status", json!({})).await?["status"] == "inmigrate" {
            sleep(Duration::from_millis(20)).await;
        }
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Takes the power away.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.context("cannot kill QEMU")
    }
}

/// The file with a saved state.
const STATE: &str = "state";

impl Monitor {
    async fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line).await.context("cannot read from QEMU")? == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU said `{line}`"))
    }
}
