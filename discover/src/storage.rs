//! Block devices: `sys/block` (kernel documentation, `ABI/stable/sysfs-block`).

pub mod by_id;
mod health;

use hatrack_api::cluster_node::Disk;
use hatrack_api::quantity;

use crate::host::{cut, is_filler};
use crate::root::{Root, Unreadable};

const BLOCK: &str = "/sys/block";

/// `size` counts these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// What a name says of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nvme,
    /// SCSI, and what Linux shows as SCSI: SATA, SAS, USB, UFS.
    Scsi,
    /// eMMC and SD.
    Mmc,
    /// An array of `md`.
    Array,
    /// A disk of a hypervisor.
    Virtual,
    Other,
}

/// Every disk, sorted by name; no partitions, loop devices, RAM disks, mapped devices or empty readers.
///
/// An `md` array is listed beside its members, because it is what tells that one of them is missing.
pub fn collect(root: &Root) -> Result<Vec<Disk>, Unreadable> {
    let names = root.entries(BLOCK)?.unwrap_or_default();
    let ids = by_id::read(root)?;
    let disks = names.into_iter().map(|name| disk(root, name, &ids));
    disks.filter_map(Result::transpose).collect()
}

fn disk(root: &Root, name: String, ids: &by_id::Ids) -> Result<Option<Disk>, Unreadable> {
    let Some(place) = root.link(format!("{BLOCK}/{name}"))? else { return Ok(None) };
    let Some(kind) = kind(&name, &place.to_string_lossy()) else { return Ok(None) };
    let path = format!("{BLOCK}/{name}");
    let sectors = root.value::<u64>(format!("{path}/size"))?.filter(|sectors| *sectors > 0);
    let Some(size) = sectors.and_then(|sectors| sectors.checked_mul(SECTOR)) else { return Ok(None) };
    let rotational = match kind {
        // Neither has a plate that it knows of: virtio says 1 by default, an array what its members said when it was made.
        Kind::Virtual | Kind::Array => None,
        _ => root.value::<u8>(format!("{path}/queue/rotational"))?.map(|rotational| rotational != 0),
    };
    Ok(Some(Disk {
        by_id: ids.of(&name),
        model: model(root, &path, kind)?,
        size: quantity::from_bytes(size),
        rotational,
        health: health::read(root, &path, kind)?,
        name,
    }))
}

/// `None` for what is no disk of the machine.
fn kind(name: &str, place: &str) -> Option<Kind> {
    let starts =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if starts("md") {
        return Some(Kind::Array);
    }
    // With native multipath, Linux keeps a namespace with its subsystem and not with one of its controllers.
    if place.contains("/virtual/") && !place.contains("/nvme-subsystem/") {
        return None;
    }
    // A volume on the network is no disk of the machine: iSCSI's are below a session, `platform/host2/session1/target2:0:0/…`.
    if place.contains("/session") {
        return None;
    }
    if starts("nvme") {
        // `nvme0c1n1` is one path to `nvme0n1`.
        return (!name["nvme".len()..].contains('c')).then_some(Kind::Nvme);
    }
    if starts("mmcblk") {
        // Boot and replay-protected partitions of eMMC are devices of their own: `mmcblk0boot0`, `mmcblk0rpmb`.
        let rest = name["mmcblk".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        return rest.is_empty().then_some(Kind::Mmc);
    }
    let is_no_disk = ["sr", "fd", "rbd", "nbd", "mtdblock"].into_iter().any(starts);
    let letters =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    match name {
        _ if is_no_disk => None,
        _ if letters("sd") => Some(Kind::Scsi),
        _ if letters("vd") || letters("xvd") => Some(Kind::Virtual),
        _ => Some(Kind::Other),
    }
}

fn model(root: &Root, path: &str, kind: Kind) -> Result<Option<String>, Unreadable> {
    let file = match kind {
        Kind::Nvme | Kind::Scsi | Kind::Other => "device/model",
        Kind::Mmc => "device/name",
        Kind::Array => "md/level",
        Kind::Virtual => return Ok(None),
    };
    let model = root.text(format!("{path}/{file}"))?.filter(|model| !is_filler(model));
    Ok(model.map(|model| cut(&model, 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_told_from_what_is_none() {
        let pci = "../devices/pci0000:00/0000:00:17.0/x";
        let made_up = "../devices/virtual/block/x";
        let cases = [
            ("nvme0n1", pci, Some(Kind::Nvme)),
            ("nvme0n1", "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", Some(Kind::Nvme)),
            ("nvme0c0n1", pci, None),
            ("sda", pci, Some(Kind::Scsi)),
            ("sdb", "../devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdb", None),
            ("vda", pci, Some(Kind::Virtual)),
            ("xvda", "../devices/vbd-768/block/xvda", Some(Kind::Virtual)),
            ("mmcblk0", pci, Some(Kind::Mmc)),
            ("mmcblk0boot0", pci, None),
            ("mmcblk0rpmb", pci, None),
            ("mmcblk0gp0", pci, None),
            ("md127", made_up, Some(Kind::Array)),
            ("pmem0", pci, Some(Kind::Other)),
            ("sr0", pci, None),
            ("fd0", "../devices/platform/floppy.0/block/fd0", None),
            ("rbd0", "../devices/rbd/0/block/rbd0", None),
            ("mtdblock0", pci, None),
            ("loop0", made_up, None),
            ("ram0", made_up, None),
            ("zram0", made_up, None),
            ("dm-0", made_up, None),
            ("zd0", made_up, None),
            ("nbd0", made_up, None),
        ];
        for (name, place, expected) in cases {
            assert_eq!(kind(name, place), expected, "{name} at {place}");
        }
    }
}
