//! The layouts on ZFS: made in a machine on blank disks as the others are, then with one half gone and replaced; and what writes both ESPs.

use hatrack_machine::{Machine, text, zfs};

use crate::can_run;
use crate::disks::{ESP, LINUX, Partition, blank, bring, make_twice};

const DISKS: [&str; 2] = ["system-1", "system-2"];

/// What is on a mirror; the halves of its pool are of this kind on the partitions.
const fn mirror(half: &'static str) -> [Partition; 4] {
    [
        ("system-1", 1, ESP, "disk-system-1-ESP", "vfat"),
        ("system-1", 2, LINUX, "disk-system-1-root", half),
        ("system-2", 1, ESP, "disk-system-2-ESP", "vfat"),
        ("system-2", 2, LINUX, "disk-system-2-root", half),
    ]
}

const LAYOUTS: [(&str, [Partition; 4]); 2] =
    [("zfs-mirror-encrypted", mirror("crypto_LUKS")), ("zfs-mirror", mirror("zfs_member"))];

/// Loads the modules; `depmod` over all others takes minutes where the machine is emulated.
const START: &str = "cd /lib/modules/$(uname -r)/updates/dkms && insmod spl.ko && insmod zfs.ko";

/// Where NixOS looks for pools (`boot.zfs.devNodes`).
const IMPORT: &str = "zpool import -d /dev/disk/by-id -N system";

/// What systemd-boot's installer runs after it has written the first ESP, without a `PATH`.
const COPY: &str = "env --ignore-environment PATH=/nowhere /nix/store/hatrack-copy-esp/bin/hatrack-copy-esp";

const EQUAL: &str = "diff -r /boot /boot-mirror && test -f /boot-mirror/loader/entries/2.conf";

async fn run(machine: &Machine, command: &str) -> String {
    machine.run(command).await.unwrap()
}

#[tokio::test]
async fn a_mirror_is_made_on_blank_disks_and_again_without_loss_and_works_with_one_half_gone_or_replaced() {
    if !can_run() {
        return;
    }
    let mut payload = zfs().await.unwrap();
    bring(&mut payload, &LAYOUTS.map(|(layout, _)| layout));
    for (script, place) in [
        ("check-esps.sh", "/nix/store/hatrack-check-esps/bin/hatrack-check-esps"),
        ("copy-esp.sh", "/nix/store/hatrack-copy-esp/bin/hatrack-copy-esp"),
    ] {
        payload.file(place, text("disks/zfs-mirror", script).unwrap()).unwrap();
    }
    payload.file("/look.sh", include_str!("../../../../packages/look.sh")).unwrap();
    let mut machine = Machine::warm(payload).await.unwrap();
    run(&machine, START).await;
    for disk in DISKS {
        machine.add_disk(disk, 3 << 30).await.unwrap();
    }
    let [(encrypted, its_partitions), (plain, partitions)] = LAYOUTS;
    make_twice(&machine, encrypted, &its_partitions).await;
    the_pool_is_a_mirror(&machine).await;
    one_half_goes(&machine).await;
    it_comes_back(&machine).await;
    run(&machine, "umount /mnt && zpool destroy system").await;
    blank(&machine, &DISKS).await;

    make_twice(&machine, plain, &partitions).await;
    the_pool_is_a_mirror(&machine).await;
    both_esps_are_written_or_none(&machine).await;
    its_disks_are_in_use(&machine).await;
    one_half_goes(&machine).await;
    machine.add_disk("new", 3 << 30).await.unwrap();
    it_is_replaced_as_the_manual_says(&machine).await;
}

async fn the_pool_is_a_mirror(machine: &Machine) {
    let shown = run(machine, "zpool status system").await;
    let devices: Vec<_> = shown.lines().map(str::trim_start).filter(|line| line.contains("ONLINE")).collect();
    let kinds: Vec<_> = devices.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(matches!(kinds[..], ["state:", "system", "mirror-0", _, _]), "{shown}");
    // Since ZFS 2.3 `on` and `sa` are one.
    let properties = "zfs get -H -o value acltype,atime,compression,xattr system/var | sed 's/on/sa/'";
    assert_eq!(run(machine, properties).await, "posix\noff\nzstd\nsa\n");
    assert_eq!(run(machine, "zpool get -H -o value ashift,autotrim,cachefile system").await, "12\non\nnone\n");
}

/// The script of the flake, which finds the programs of the packages that it names and no others.
async fn both_esps_are_written_or_none(machine: &Machine) {
    const PREPARE: &str = "set -e
        for package in bash coreutils rsync util-linux; do
            mkdir -p /nix/store/$package/bin
            dpkg --listfiles $package | grep -E '^(/usr)?/s?bin/[^/]+$' | xargs ln -sf -t /nix/store/$package/bin
        done
        chmod +x /nix/store/hatrack-*/bin/*
        mkdir -p /boot /boot-mirror
        mount /dev/disk/by-partlabel/disk-system-1-ESP /boot
        mount /dev/disk/by-partlabel/disk-system-2-ESP /boot-mirror
        mkdir -p /boot/loader/entries && echo new >/boot/loader/entries/2.conf
        mkdir -p /boot-mirror/loader/entries && echo old >/boot-mirror/loader/entries/1.conf";
    run(machine, PREPARE).await;
    assert_eq!(run(machine, COPY).await, "");
    run(machine, EQUAL).await;
    for (esp, label) in [("/boot", "disk-system-1-ESP"), ("/boot-mirror", "disk-system-2-ESP")] {
        let refused = machine.try_run(&format!("umount {esp} && {COPY}")).await.unwrap();
        let says = format!("{esp} is not mounted: mount it, or replace its disk, before the next switch\n");
        assert_eq!((refused.status, refused.output), (1, says));
        run(machine, &format!("mount /dev/disk/by-partlabel/{label} {esp} && {EQUAL}")).await;
    }
    run(machine, "umount /boot /boot-mirror").await;
}

/// The installer sees a mounted pool, and that a system which runs on it ends with its disks.
async fn its_disks_are_in_use(machine: &Machine) {
    const LOOK: &str = "sh /look.sh /dev/disk/by-id/virtio-system-1 /dev/disk/by-id/virtio-system-2";
    const AS_ROOT: &str = "set -e
        mkdir -p /mnt/usr /mnt/etc /mnt/dev /mnt/proc /mnt/sys /mnt/run
        for place in usr etc dev proc sys run; do mount --rbind /$place /mnt/$place; done
        ln -s usr/bin usr/sbin usr/lib usr/lib64 /mnt && cp /look.sh /mnt";
    let seen = run(machine, &format!("{LOOK} | sed -n 's/^busy=.*-system-//p'")).await;
    let mounted = [
        ["1 /mnt", "1 /mnt/boot", "1 /mnt/nix", "1 /mnt/var"],
        ["2 /mnt", "2 /mnt/boot-mirror", "2 /mnt/nix", "2 /mnt/var"],
    ];
    assert_eq!(seen.lines().collect::<Vec<_>>(), mounted.concat());
    let in_it = format!(
        "unshare --mount sh -c '{AS_ROOT}; chroot /mnt {LOOK}' 2>/dev/null | grep -E '^(busy|disk)=' | cut -d = -f 1"
    );
    assert_eq!(run(machine, &in_it).await, "disk\ndisk\n");
}

/// A disk dies: the pool is imported without it.
async fn one_half_goes(machine: &Machine) {
    const LOSE: &str = "set -e
        umount -R /mnt && zpool export system
        [ ! -e /dev/mapper/system-2 ] || cryptsetup close system-2
        disk=$(basename $(readlink -f /dev/disk/by-id/virtio-system-2))
        echo 1 >$(readlink -f /sys/class/block/$disk/device/..)/remove
        udevadm settle
        test ! -e /dev/disk/by-id/virtio-system-2";
    run(machine, LOSE).await;
    run(machine, &format!("{IMPORT} && mount -t zfs system/root /mnt")).await;
    assert_eq!(run(machine, "zpool get -H -o value health system && cat /mnt/mark").await, "DEGRADED\nkept\n");
    run(machine, "echo alone >/mnt/alone && sync").await;
}

/// Which half of the pool is not there, as `zpool status` names it.
const OLD: &str = "zpool status system | awk '$2 == \"UNAVAIL\" || $2 == \"REMOVED\" {print $1; exit}'";

async fn it_comes_back(machine: &Machine) {
    let back = format!(
        "set -e
        echo 1 >/sys/bus/pci/rescan
        timeout 60 sh -c 'until [ -e /dev/disk/by-partlabel/disk-system-2-root ]; do sleep 0.1; done'
        cryptsetup open --key-file /tmp/disk.key /dev/disk/by-partlabel/disk-system-2-root system-2
        udevadm settle
        zpool online system $({OLD})
        zpool wait -t resilver system"
    );
    run(machine, &back).await;
    is_whole(machine).await;
}

/// With the commands of the manual, on a disk that replaces the one that is gone.
async fn it_is_replaced_as_the_manual_says(machine: &Machine) {
    let manual = include_str!("../../../../docs/day-2.md");
    let commands = manual.split_once("then replace it in the pool:\n\n").unwrap().1.split_once("\n\n").unwrap().0;
    let commands: Vec<_> = commands.lines().map(str::trim).filter(|line| !line.starts_with("nix shell ")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let commands =
        commands.join("\n").replace("by-id/NEW", "by-id/virtio-new").replace("by-id/LEFT", "by-id/virtio-system-1");
    run(machine, &format!("set -e\n{}", commands.replace("OLD", &format!("$({OLD})")))).await;
    run(machine, "zpool wait -t replace system").await;
    is_whole(machine).await;
    run(machine, "mount /dev/disk/by-partlabel/disk-system-1-ESP /boot").await;
    run(machine, "mount /dev/disk/by-partlabel/disk-system-2-ESP /boot-mirror").await;
    assert_eq!(run(machine, COPY).await, "");
    run(machine, EQUAL).await;
}

async fn is_whole(machine: &Machine) {
    assert_eq!(run(machine, "zpool get -H -o value health system && cat /mnt/alone").await, "ONLINE\nalone\n");
}
