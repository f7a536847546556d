//! The scripts that disko renders for the layouts of `disko/`, run in a machine on blank disks with Debian's tools.
//! Those on ZFS are in `mirror`.

use std::collections::BTreeMap;

use hatrack_machine::{Machine, Payload, text};
use serde::Deserialize;

use crate::can_run;

pub const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
pub const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// What is on one partition: disk, number, type, label, file system.
pub type Partition = (&'static str, u8, &'static str, &'static str, &'static str);

/// A layout with the partitions that it is to make.
const LAYOUTS: [(&str, &[Partition]); 4] = [
    ("single-disk", &[("system", 1, ESP, "disk-system-ESP", "vfat"), ("system", 2, LINUX, "disk-system-root", "ext4")]),
    (
        "data-disks",
        &[("data-1", 1, LINUX, "disk-data-1-volumes", "ext4"), ("data-2", 1, LINUX, "disk-data-2-volumes", "ext4")],
    ),
    (
        "single-disk-encrypted",
        &[("system", 1, ESP, "disk-system-ESP", "vfat"), ("system", 2, LINUX, "disk-system-root", "crypto_LUKS")],
    ),
    (
        "data-disks-encrypted",
        &[
            ("data-1", 1, LINUX, "disk-data-1-volumes", "crypto_LUKS"),
            ("data-2", 1, LINUX, "disk-data-2-volumes", "crypto_LUKS"),
        ],
    ),
];

/// What NixOS mounts for a layout (`mounts.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    device: String,
    fs_type: String,
    options: Vec<String>,
}

#[tokio::test]
async fn each_layout_is_made_on_blank_disks_and_made_again_without_loss() {
    if !can_run() {
        return;
    }
    let mut payload = Payload::default();
    bring(&mut payload, &LAYOUTS.map(|(layout, _)| layout));
    let mut machine = Machine::warm(payload).await.unwrap();
    for disk in ["system", "data-1", "data-2"] {
        machine.add_disk(disk, 3 << 30).await.unwrap();
    }
    for (layout, partitions) in LAYOUTS {
        make_twice(&machine, layout, partitions).await;
        blank(&machine, &["system", "data-1", "data-2"]).await;
    }
}

/// Adds the scripts of layouts to what a test brings, and the passphrase that those under LUKS want.
pub fn bring(payload: &mut Payload, layouts: &[&str]) {
    for layout in layouts {
        for script in ["format.sh", "mount.sh"] {
            let script_text = text(&format!("disks/{layout}"), script).unwrap();
            payload.file(&format!("/disks/{layout}/{script}"), script_text).unwrap();
        }
    }
    payload.file("/tmp/disk.key", "a passphrase").unwrap();
}

/// Makes a layout and makes it again, as the installer does on a machine that it has installed before. Each of its places has the
/// file `mark` then.
pub async fn make_twice(machine: &Machine, layout: &str, partitions: &[Partition]) {
    let mounts: BTreeMap<String, Mount> =
        serde_json::from_str(&text(&format!("disks/{layout}"), "mounts.json").unwrap()).unwrap();
    make(machine, layout).await;
    is_as_wanted(machine, layout, partitions, &mounts).await;
    for place in mounts.keys() {
        machine.run(&format!("echo kept >/mnt{place}/mark")).await.unwrap();
    }
    make(machine, layout).await;
    is_as_wanted(machine, layout, partitions, &mounts).await;
    for place in mounts.keys() {
        assert_eq!(machine.run(&format!("cat /mnt{place}/mark")).await.unwrap(), "kept\n", "{layout} {place}");
    }
}

async fn make(machine: &Machine, layout: &str) {
    for script in ["format.sh", "mount.sh"] {
        machine.run(&format!("mkdir -p /mnt && bash /disks/{layout}/{script}")).await.unwrap();
    }
}

async fn is_as_wanted(machine: &Machine, layout: &str, partitions: &[Partition], mounts: &BTreeMap<String, Mount>) {
    for (disk, number, kind, label, file_system) in partitions {
        let show = format!("lsblk -dnro PARTTYPE,PARTLABEL,FSTYPE /dev/disk/by-id/virtio-{disk}-part{number}");
        let shown = machine.run(&show).await.unwrap();
        assert_eq!(shown.trim(), format!("{kind} {label} {file_system}"), "{layout}: {disk}, partition {number}");
    }
    for (place, mount) in mounts {
        let at = if place == "/" { "/mnt".to_owned() } else { format!("/mnt{place}") };
        let show = format!("findmnt -nro SOURCE,FSTYPE,OPTIONS {at} && realpath -m {}", mount.device);
        let shown = machine.run(&show).await.unwrap();
        let words: Vec<_> = shown.split_whitespace().collect();
        let [source, kind, options, device] = words[..] else { panic!("{layout} {place}: {shown}") };
        assert_eq!(kind, mount.fs_type, "{layout} {place}");
        let is_mounted = source == device || source == mount.device;
        assert!(is_mounted, "{layout} {place}: {source} is mounted, not {} ({device})", mount.device);
        // A property of the pool, where it is on ZFS.
        let wants_no_times = kind == "zfs" || mount.options.iter().any(|option| option == "noatime");
        assert_eq!(wants_no_times, options.split(',').any(|option| option == "noatime"), "{shown}");
    }
}

/// Leaves nothing of a layout on some disks.
pub async fn blank(machine: &Machine, disks: &[&str]) {
    let disks = disks.join(" ");
    let blank = format!(
        "set -e
        findmnt -rno TARGET | grep '^/mnt' | sort -r | xargs -r umount
        for mapped in {disks}; do [ ! -e /dev/mapper/$mapped ] || cryptsetup close $mapped; done
        udevadm settle
        for disk in {disks}; do
            for part in /dev/disk/by-id/virtio-$disk-part*; do [ ! -e $part ] || wipefs -aq $part; done
            wipefs -aq /dev/disk/by-id/virtio-$disk
            blockdev --rereadpt /dev/disk/by-id/virtio-$disk
        done
        udevadm settle"
    );
    machine.run(&blank).await.unwrap();
}
