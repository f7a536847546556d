//! Names below `/dev/disk/by-id`, which udev makes (systemd, `rules.d/60-persistent-storage.rules`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::root::{Root, Unreadable};

const FOLDER: &str = "/dev/disk/by-id";

/// Longest name that the object takes.
const MAX_LENGTH: usize = 128;

/// Prefixes of names that people choose: model and serial number, as they stand on the disk's label. A disk layout has to
/// be checked against the disk in one's hand, so these come before numbers that only programs know (`wwn-`, `nvme-eui.`).
const LABELLED: [&str; 6] = ["nvme-", "ata-", "mmc-", "md-name-", "virtio-", "usb-"];

/// Prefixes of numbers that are on no label.
const NUMBERS: [&str; 7] = ["nvme-eui.", "nvme-nvme.", "nvme-uuid.", "wwn-", "scsi-3", "md-uuid-", "dm-"];

/// The best name of every block device.
#[derive(Debug, Default)]
pub(super) struct Ids(BTreeMap<String, String>);

impl Ids {
    pub(super) fn of(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// Reads the folder once for all disks; without udev there is none.
pub(super) fn read(root: &Root) -> Result<Ids, Unreadable> {
    let mut best = BTreeMap::<String, String>::new();
    for id in root.entries(FOLDER)?.unwrap_or_default() {
        if id.len() > MAX_LENGTH {
            continue;
        }
        let Some(device) = root.link_name(format!("{FOLDER}/{id}"))? else { continue };
        match best.get(&device) {
            Some(other) if preference(other) >= preference(&id) => {}
            _ => _ = best.insert(device, id),
        }
    }
    Ok(Ids(best))
}

/// Greater is better. Of two of one kind the shorter one is meant: udev adds the number of the namespace to the longer.
pub fn preference(id: &str) -> impl Ord + use<'_> {
    let labelled = LABELLED.iter().any(|prefix| id.starts_with(prefix));
    let number = NUMBERS.iter().any(|prefix| id.starts_with(prefix));
    (labelled && !number, !number, Reverse(id.len()), Reverse(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_on_the_label_is_preferred() {
        let cases = [
            (
                &["nvme-CT1000P3PSSD8_2323E6D0A1B2", "nvme-CT1000P3PSSD8_2323E6D0A1B2_1", "nvme-eui.00a075013e6d0a1b"]
                    [..],
                0,
            ),
            (&["ata-ST8000DM004-2CX188_ZCT0A1B2", "wwn-0x5000c500c0a1b2c3"], 0),
            (&["scsi-3600508b1001c", "scsi-SATA_ST8000DM004_ZCT0A1B2", "wwn-0x600508b1001c"], 1),
            (&["nvme-uuid.1", "nvme-eui.0"], 1),
            (&["md-name-host:data", "md-uuid-1:2:3:4"], 0),
            (&["usb-Samsung_T7_S5-0:0", "wwn-0x1"], 0),
            (&["wwn-0x1", "lvm-pv-uuid-x"], 1),
        ];
        for (names, best) in cases {
            let chosen = names.iter().max_by(|a, b| preference(a).cmp(&preference(b)));
            assert_eq!(chosen, Some(&names[best]), "{names:?}");
        }
    }
}
