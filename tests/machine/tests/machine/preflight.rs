//! `nix run .#install` looks at a machine by ssh before it erases anything, and refuses machines in states that a real one is in.
//!
//! What Nix says of the host is a stand-in here, and what would erase the machine is one that says that it was called: nothing
//! of a machine that is refused may get so far. `tests/nix/install` has the rest of the installer's way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use hatrack_machine::{Machine, Payload};
use serde_json::json;
use tempfile::TempDir;

use crate::can_run;

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packages/install.sh");

/// What is wrong with every machine that was restored: QEMU's own firmware, and little memory.
const LEGACY: &str = "it was not started by UEFI; switch its firmware from legacy to UEFI";
const MEMORY: &str = "MiB of memory, and the installer needs 1464";

/// The modules by which a host of Nix reaches the disks of these machines.
const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// What a host is, of which Nix is asked.
struct Host<'a> {
    system: &'a str,
    disks: &'a [&'a str],
    drivers: &'a [&'a str],
}

/// One that fits these machines.
fn host<'a>(disks: &'a [&'a str]) -> Host<'a> {
    Host { system: "x86_64-linux", disks, drivers: &DRIVERS }
}

/// A machine that lets the installer in.
struct Target {
    machine: Machine,
    port: u16,
    folder: TempDir,
}

impl Target {
    /// From a folder with keys, and a machine that has them.
    async fn of(folder: TempDir, machine: Machine) -> Self {
        machine.run("systemctl start ssh").await.unwrap();
        let port = machine.forward(22).await.unwrap();
        let target = Self { machine, port, folder };
        let host_key = fs::read_to_string(target.at("host.pub")).unwrap();
        fs::write(target.at("known"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        fs::create_dir(target.at("bin")).unwrap();
        let nix = format!(
            "case \"$*\" in *eval*) cat '{}' ;; *) echo /nix/store/built ;; esac",
            target.at("facts").display()
        );
        target.stand_in("nix", &nix);
        target.stand_in("nixos-anywhere", &format!("echo \"$@\" >>'{}'", target.at("calls").display()));
        target
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stand_in(&self, program: &str, line: &str) {
        let path = self.at("bin").join(program);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn install(&self, host: &Host<'_>) -> Output {
        let disks: Vec<_> = host.disks.iter().map(|disk| by_id(disk)).collect();
        let facts = json!({"system": host.system, "class": "worker", "install": "nixos-anywhere", "disks": disks, "encrypted": false,
            "founds": false, "initrdModules": host.drivers, "hostKey": null});
        fs::write(self.at("facts"), facts.to_string()).unwrap();
        let port = self.port.to_string();
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        Command::new(INSTALL)
            .args([
                "gpu-1",
                "root@127.0.0.1",
                "--yes-erase",
                "gpu-1",
                "--wait",
                "0",
                "--port",
                &port,
                "--port-after",
                &port,
                "--identity",
            ])
            .arg(self.at("user"))
            .env("PATH", path)
            .env("HATRACK_KNOWN_HOSTS", self.at("known"))
            .output()
            .unwrap()
    }

    /// Why a host cannot be installed there.
    fn refusal(&self, host: &Host<'_>) -> Vec<String> {
        let output = self.install(host);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: gpu-1 cannot be installed on root@127.0.0.1:"), "{said}");
        assert!(said.contains("hint: nothing was changed"), "{said}");
        assert!(!self.at("calls").exists(), "{said}");
        said.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
    }

    /// The reasons beside those that every restored machine has.
    fn refusal_beside(&self, host: &Host<'_>) -> Vec<String> {
        let mut reasons = self.refusal(host);
        reasons.retain(|reason| reason != LEGACY && !reason.ends_with(MEMORY));
        reasons
    }
}

/// Keys for the machine and for who comes to it, and the payload that has both.
fn keys() -> (TempDir, Payload) {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for key in ["user", "host"] {
        let mut keygen = Command::new("ssh-keygen");
        assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status().unwrap().success());
    }
    let mut payload = Payload::default();
    payload.root_secret("/etc/ssh/ssh_host_ed25519_key", fs::read(at("host")).unwrap()).unwrap();
    payload.root_secret("/root/.ssh/authorized_keys", fs::read(at("user.pub")).unwrap()).unwrap();
    (folder, payload)
}

fn by_id(disk: &str) -> String {
    format!("/dev/disk/by-id/virtio-{disk}")
}

fn in_use(disk: &str, how: &str) -> String {
    let advice = "what is on it would be erased: unmount it there first, and be sure that it is the right machine";
    format!("{} is in use ({how}); {advice}", by_id(disk))
}

#[tokio::test]
async fn a_machine_that_cannot_be_installed_is_refused_for_each_reason_and_keeps_what_it_has() {
    if !can_run() {
        return;
    }
    let (folder, payload) = keys();
    let mut target = Target::of(folder, Machine::warm(payload).await.unwrap()).await;
    for disk in ["system", "data"] {
        target.machine.add_disk(disk, 256 << 20).await.unwrap();
    }
    as_newer_kernels_name_drivers(&target).await;
    let both = ["system", "data"];
    let reasons = target.refusal(&host(&both));
    assert!(matches!(&reasons[..], [legacy, memory] if legacy == LEGACY && memory.ends_with(MEMORY)), "{reasons:?}");

    let another = Host { system: "aarch64-linux", disks: &["system", "absent"], drivers: &["virtio-pci"] };
    let reasons = target.refusal_beside(&another);
    let blind = format!(
        "it reaches {} by the kernel module virtio_blk, which the first stage of gpu-1 does not have",
        by_id("system")
    );
    let missing = format!("it does not have {} of the host's disks; see ls -l /dev/disk/by-id there", by_id("absent"));
    let [architecture, driver, disk] = &reasons[..] else { panic!("{reasons:?}") };
    assert_eq!((&**architecture, disk), ("it is x86_64, and gpu-1 is built for aarch64-linux", &missing));
    assert!(driver.starts_with(&blind), "{driver}");

    a_disk_in_use_is_refused(&target).await;

    // Nobody uses a disk any more.
    target.machine.run("systemd-run --quiet --unit=k3s sleep infinity").await.unwrap();
    let runs = "it is a running node of a cluster (k3s is active); drain it, then stop it there";
    assert_eq!(target.refusal_beside(&host(&both)), [runs]);
}

/// Newer kernels name a module for the driver of the bridge that a disk hangs on, which is built in. No host is asked for it.
async fn as_newer_kernels_name_drivers(target: &Target) {
    let name_it = format!(
        "set -e; driver=/sys/bus/pci/drivers/pcieport
         mount -t tmpfs none $driver && mkdir $driver/pcieportdrv && ln -s pcieportdrv $driver/module
         disk=$(readlink -f {})
         test -e $(readlink -f /sys/class/block/${{disk##*/}} | cut -d / -f 1-5)/driver/module",
        by_id("system")
    );
    target.machine.run(&name_it).await.unwrap();
}

/// By a file system on a partition, by one on a mapped device, and by swap.
async fn a_disk_in_use_is_refused(target: &Target) {
    let (both, data) = (["system", "data"], by_id("data"));
    let use_it = format!(
        "set -e; sgdisk -n 1:0:+100M -n 2:0:0 {data} >/dev/null && udevadm settle
         mkfs.ext4 -q {data}-part1 && mkdir -p '/srv/two words' && mount {data}-part1 '/srv/two words'
         echo kept >'/srv/two words/mark'
         mkswap -q {data}-part2 && swapon {data}-part2"
    );
    target.machine.run(&use_it).await.unwrap();
    assert_eq!(target.refusal_beside(&host(&both)), [in_use("data", "/srv/two words"), in_use("data", "swap")]);
    let let_go = format!(
        "umount '/srv/two words' && swapoff {data}-part2 && mount {data}-part1 /mnt && cat /mnt/mark && umount /mnt"
    );
    assert_eq!(target.machine.run(&let_go).await.unwrap(), "kept\n");

    let mapped = format!(
        "cryptsetup -q luksFormat --pbkdf-force-iterations 1000 --pbkdf pbkdf2 --key-file /etc/hostname {data}-part1 &&
         cryptsetup open --key-file /etc/hostname {data}-part1 mapped && mkfs.ext4 -q /dev/mapper/mapped && mount /dev/mapper/mapped /mnt"
    );
    target.machine.run(&mapped).await.unwrap();
    assert_eq!(target.refusal_beside(&host(&both)), [in_use("data", "/mnt")]);
    target.machine.run("umount /mnt && cryptsetup close mapped").await.unwrap();
}

#[tokio::test]
async fn a_machine_with_uefi_enough_memory_and_a_disk_that_nobody_uses_is_installed() {
    if !can_run() {
        return;
    }
    let (folder, payload) = keys();
    let mut target = Target::of(folder, Machine::boot_by_uefi(payload).await.unwrap()).await;
    target.machine.add_disk("system", 256 << 20).await.unwrap();
    let output = target.install(&host(&["system"]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let calls = fs::read_to_string(target.at("calls")).unwrap();
    let phases: Vec<_> = calls.lines().filter_map(|call| call.split_once("--phases ")?.1.split(' ').next()).collect();
    assert_eq!(phases, ["kexec", "disko,install,reboot"], "{said}");
}
