//! The scripts that disko renders for the layouts of `disko/`, run in a machine on blank disks with Debian's tools.
//!
//! The layouts on ZFS are not among them: their scripts need ZFS 2.2, which Debian 12 does not have.

use std::collections::BTreeMap;

use hatrack_machine::{Machine, Payload, text};
use serde::Deserialize;

use crate::can_run;

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// What is on one partition: disk, number, type, label, file system.
type Partition = (&'static str, u8, &'static str, &'static str, &'static str);

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
    for (layout, _) in LAYOUTS {
        for script in ["format.sh", "mount.sh"] {
            payload
                .file(&format!("/disks/{layout}/{script}"), text(&format!("disks/{layout}"), script).unwrap())
                .unwrap();
        }
    }
    payload.file("/tmp/disk.key", "a passphrase").unwrap();
    let mut machine = Machine::warm(payload).await.unwrap();
    for disk in ["system", "data-1", "data-2"] {
        machine.add_disk(disk, 3 << 30).await.unwrap();
    }
    for (layout, partitions) in LAYOUTS {
        let mounts: BTreeMap<String, Mount> =
            serde_json::from_str(&text(&format!("disks/{layout}"), "mounts.json").unwrap()).unwrap();
        make(&machine, layout).await;
        is_as_wanted(&machine, layout, partitions, &mounts).await;
        for place in mounts.keys() {
            machine.run(&format!("echo kept >/mnt{place}/mark")).await.unwrap();
        }
        // The installer runs them on a machine that it has installed before, too.
        make(&machine, layout).await;
        is_as_wanted(&machine, layout, partitions, &mounts).await;
        for place in mounts.keys() {
            assert_eq!(machine.run(&format!("cat /mnt{place}/mark")).await.unwrap(), "kept\n", "{layout} {place}");
        }
        blank(&machine).await;
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
        let show = format!("findmnt -nro SOURCE,FSTYPE,OPTIONS {at} && readlink -f {}", mount.device);
        let shown = machine.run(&show).await.unwrap();
        let words: Vec<_> = shown.split_whitespace().collect();
        let [source, kind, options, device] = words[..] else { panic!("{layout} {place}: {shown}") };
        assert_eq!(kind, mount.fs_type, "{layout} {place}");
        let is_mounted = source == device || source == mount.device;
        assert!(is_mounted, "{layout} {place}: {source} is mounted, not {} ({device})", mount.device);
        assert_eq!(mount.options.iter().any(|o| o == "noatime"), options.split(',').any(|o| o == "noatime"), "{shown}");
    }
}

/// Leaves nothing of a layout.
async fn blank(machine: &Machine) {
    const BLANK: &str = "
        set -e
        findmnt -rno TARGET | grep '^/mnt' | sort -r | xargs -r umount
        for mapped in system data-1 data-2; do [ ! -e /dev/mapper/$mapped ] || cryptsetup close $mapped; done
        udevadm settle
        for disk in system data-1 data-2; do
            for part in /dev/disk/by-id/virtio-$disk-part*; do [ ! -e $part ] || wipefs -aq $part; done
            wipefs -aq /dev/disk/by-id/virtio-$disk
            blockdev --rereadpt /dev/disk/by-id/virtio-$disk
        done
        udevadm settle";
    machine.run(BLANK).await.unwrap();
}
