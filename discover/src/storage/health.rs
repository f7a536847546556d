//! What sysfs tells of a disk's health. It is little: SMART needs privileges that the agent does not have.

use hatrack_api::cluster_node::Health;

use super::Kind;
use crate::root::{Root, Unreadable};

/// `None` where nothing is told.
pub(super) fn read(root: &Root, path: &str, kind: Kind) -> Result<Option<Health>, Unreadable> {
    match kind {
        Kind::Nvme => nvme(root, path),
        Kind::Scsi => Ok(root.text(format!("{path}/device/state"))?.as_deref().map(scsi)),
        Kind::Mmc => mmc(root, path),
        Kind::Array => array(root, path),
        Kind::Virtual | Kind::Other => Ok(None),
    }
}

/// The controller's state, or the best one of the controllers that lead to a shared namespace.
fn nvme(root: &Root, path: &str) -> Result<Option<Health>, Unreadable> {
    if let Some(state) = root.text(format!("{path}/device/state"))? {
        return Ok(Some(controller(&state)));
    }
    let mut best: Option<Health> = None;
    for name in root.entries(format!("{path}/device"))?.unwrap_or_default() {
        let is_controller = name.strip_prefix("nvme").is_some_and(|number| number.parse::<u32>().is_ok());
        if !is_controller {
            continue;
        }
        let Some(state) = root.text(format!("{path}/device/{name}/state"))? else { continue };
        let health = controller(&state);
        if best.as_ref().is_none_or(|best| health.state < best.state) {
            best = Some(health);
        }
    }
    Ok(best)
}

/// States of an NVMe controller (Linux, `drivers/nvme/host/sysfs.c`).
fn controller(state: &str) -> Health {
    match state {
        "live" => Health::ready("ControllerLive"),
        "dead" | "deleting" | "deleting (no IO)" => Health::unusable(
            "ControllerDead",
            format!(
                "the NVMe controller is {state}: the kernel log says why; replace the disk if a reboot does not help"
            ),
        ),
        state => Health::degraded("ControllerNotLive", format!("the NVMe controller is {state}")),
    }
}

/// States of a SCSI device (Linux, `drivers/scsi/scsi_sysfs.c`, `sdev_states`).
fn scsi(state: &str) -> Health {
    match state {
        "running" => Health::ready("DiskRunning"),
        "offline" | "transport-offline" | "cancel" | "deleted" => Health::unusable(
            "DiskOffline",
            format!("the disk is {state}: check its cable and power; the kernel log says why"),
        ),
        state => Health::degraded("DiskNotRunning", format!("the disk is {state}")),
    }
}

/// Wear of eMMC (JEDEC JESD84-B51, 7.4: `PRE_EOL_INFO`, `DEVICE_LIFE_TIME_EST`); SD cards do not tell.
fn mmc(root: &Root, path: &str) -> Result<Option<Health>, Unreadable> {
    let reserve = root.text(format!("{path}/device/pre_eol_info"))?.and_then(|text| hex(&text));
    let used = root.text(format!("{path}/device/life_time"))?;
    let used = used.and_then(|text| text.split_whitespace().filter_map(hex).max());
    Ok(worn(reserve.unwrap_or(0), used.unwrap_or(0)))
}

/// `reserve`: 1 normal, 2 warning, 3 urgent; `used`: tenths of the life time, 0x0b beyond it; 0: not told.
fn worn(reserve: u32, used: u32) -> Option<Health> {
    match (reserve, used) {
        (0, 0) => None,
        (3, _) => {
            Some(Health::degraded("ReserveUsedUp", "nine tenths of the spare blocks are used: replace the storage"))
        }
        (_, 0x0b) => Some(Health::degraded("LifeTimeExceeded", "the estimated life time is over: replace the storage")),
        (2, _) => Some(Health::degraded("ReserveLow", "eight tenths of the spare blocks are used: plan a replacement")),
        _ => Some(Health::ready("WearNormal")),
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// An array of `md` (kernel documentation, `admin-guide/md.rst`).
fn array(root: &Root, path: &str) -> Result<Option<Health>, Unreadable> {
    let state = root.text(format!("{path}/md/array_state"))?;
    let missing = root.value::<u32>(format!("{path}/md/degraded"))?;
    Ok(match (state.as_deref(), missing) {
        (Some(state @ ("clear" | "inactive" | "broken")), _) => Some(Health::unusable(
            "ArrayInactive",
            format!("the array is {state}: `mdadm --detail` says what is missing"),
        )),
        (_, Some(missing)) if missing > 0 => {
            Some(Health::degraded("ArrayDegraded", format!("members missing: {missing}; `mdadm --detail` says which")))
        }
        (Some(_), _) => Some(Health::ready("ArrayActive")),
        (None, _) => None,
    })
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::HealthState::{self, Degraded, Ready, Unusable};
    use hatrack_fixtures::{MachineCopy, machine_copy};

    use super::*;
    use crate::storage;

    fn health(copy: &MachineCopy, name: &str) -> Option<(HealthState, String)> {
        let disks = storage::collect(&Root::at(copy.path())).unwrap();
        let disk = disks.into_iter().find(|disk| disk.name == name).unwrap();
        disk.health.map(|health| (health.state, health.reason))
    }

    fn told(state: HealthState, reason: &str) -> (HealthState, String) {
        (state, reason.to_owned())
    }

    #[test]
    fn a_controller_that_died_makes_its_disk_unusable() {
        let copy = machine_copy("phones-20").unwrap();
        let cases = [
            ("live", Some(told(Ready, "ControllerLive"))),
            ("resetting", Some(told(Degraded, "ControllerNotLive"))),
            ("dead", Some(told(Unusable, "ControllerDead"))),
        ];
        for (state, expected) in cases {
            copy.write("sys/class/nvme/nvme0/state", state).unwrap();
            assert_eq!(health(&copy, "nvme0n1"), expected, "{state}");
        }
        copy.make_unreadable("sys/class/nvme/nvme0/state").unwrap();
        assert!(storage::collect(&Root::at(copy.path())).is_err());
    }

    #[test]
    fn one_live_path_is_enough_for_a_shared_namespace() {
        let copy = machine_copy("vm-empty").unwrap();
        let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        copy.link("sys/block/nvme0n1", "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1").unwrap();
        copy.write(&format!("{subsystem}/nvme0n1/size"), "2048").unwrap();
        copy.link(&format!("{subsystem}/nvme0n1/device"), "../../nvme-subsys0").unwrap();
        copy.write(&format!("{subsystem}/nvme0/state"), "dead").unwrap();
        assert_eq!(health(&copy, "nvme0n1"), Some(told(Unusable, "ControllerDead")));
        copy.write(&format!("{subsystem}/nvme1/state"), "live").unwrap();
        assert_eq!(health(&copy, "nvme0n1"), Some(told(Ready, "ControllerLive")));
    }

    #[test]
    fn a_scsi_disk_says_whether_it_runs() {
        let copy = machine_copy("gpu-no-driver").unwrap();
        let cases = [
            ("running", Some(told(Ready, "DiskRunning"))),
            ("blocked", Some(told(Degraded, "DiskNotRunning"))),
            ("offline", Some(told(Unusable, "DiskOffline"))),
            ("transport-offline", Some(told(Unusable, "DiskOffline"))),
        ];
        for (state, expected) in cases {
            copy.write("sys/block/sda/device/state", state).unwrap();
            assert_eq!(health(&copy, "sda"), expected, "{state}");
        }
    }

    #[test]
    fn an_array_tells_of_its_missing_member() {
        let copy = machine_copy("vm-empty").unwrap();
        copy.link("sys/block/md127", "../devices/virtual/block/md127").unwrap();
        copy.write("sys/devices/virtual/block/md127/size", "4096").unwrap();
        copy.write("sys/devices/virtual/block/md127/md/array_state", "clean").unwrap();
        copy.write("sys/devices/virtual/block/md127/md/degraded", "0").unwrap();
        assert_eq!(health(&copy, "md127"), Some(told(Ready, "ArrayActive")));
        copy.write("sys/devices/virtual/block/md127/md/degraded", "1").unwrap();
        assert_eq!(health(&copy, "md127"), Some(told(Degraded, "ArrayDegraded")));
        copy.write("sys/devices/virtual/block/md127/md/array_state", "inactive").unwrap();
        assert_eq!(health(&copy, "md127"), Some(told(Unusable, "ArrayInactive")));
    }

    #[test]
    fn wear_of_flash_is_told_before_it_is_too_late() {
        let cases = [
            ((0, 0), None),
            ((1, 1), Some(told(Ready, "WearNormal"))),
            ((0, 9), Some(told(Ready, "WearNormal"))),
            ((2, 1), Some(told(Degraded, "ReserveLow"))),
            ((1, 0x0b), Some(told(Degraded, "LifeTimeExceeded"))),
            ((3, 0x0b), Some(told(Degraded, "ReserveUsedUp"))),
        ];
        for ((reserve, used), expected) in cases {
            assert_eq!(worn(reserve, used).map(|health| (health.state, health.reason)), expected, "{reserve} {used}");
        }
        let copy = machine_copy("pi5-ai-hat-plus").unwrap();
        assert_eq!(health(&copy, "mmcblk0"), None, "an SD card does not tell");
        copy.write("sys/block/mmcblk0/device/pre_eol_info", "0x01\n").unwrap();
        copy.write("sys/block/mmcblk0/device/life_time", "0x02 0x0b\n").unwrap();
        assert_eq!(health(&copy, "mmcblk0"), Some(told(Degraded, "LifeTimeExceeded")));
    }

    #[test]
    fn an_empty_card_reader_is_no_disk() {
        let copy = machine_copy("gpu-no-driver").unwrap();
        copy.write("sys/block/sda/size", "0\n").unwrap();
        let names: Vec<_> =
            storage::collect(&Root::at(copy.path())).unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["sdb"]);
    }
}
