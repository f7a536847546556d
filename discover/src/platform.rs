//! Devices inside a system on a chip: `sys/bus/platform/devices` (kernel documentation, `driver-api/driver-model/platform.rst`).

use crate::root::{Root, Unreadable};

const DEVICES: &str = "sys/bus/platform/devices";

/// One platform device with a node in the device tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Kernel name, `fdab0000.npu`: address and kind, the same at every boot.
    pub name: String,
    /// What it is, from the most to the least exact: `rockchip,rk3588-rknpu`.
    pub compatible: Vec<String>,
    /// Bound kernel driver.
    pub driver: Option<String>,
}

/// Reads the devices whose kind (the name behind its last dot) is one of `kinds`. Systems on a chip have hundreds of
/// others, which are not opened.
pub fn scan(root: &Root, kinds: &[&str]) -> Result<Vec<Device>, Unreadable> {
    let mut devices = Vec::new();
    for name in root.entries(DEVICES)?.unwrap_or_default() {
        if !name.rsplit_once('.').is_some_and(|(_, kind)| kinds.contains(&kind)) {
            continue;
        }
        if let Some(uevent) = root.text(format!("{DEVICES}/{name}/uevent"))? {
            devices.push(Device::parse(name, &uevent));
        }
    }
    Ok(devices)
}

impl Device {
    /// Reads the lines of a `uevent` (Linux, `drivers/of/device.c`, `of_device_uevent`).
    pub fn parse(name: String, uevent: &str) -> Self {
        let lines = || uevent.lines().filter_map(|line| line.split_once('='));
        let is_compatible = |key: &str| {
            let number = key.strip_prefix("OF_COMPATIBLE_");
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        Self {
            name,
            compatible: lines().filter(|(key, _)| is_compatible(key)).map(|(_, value)| value.to_owned()).collect(),
            driver: lines().find(|(key, value)| *key == "DRIVER" && !value.is_empty()).map(|(_, v)| v.to_owned()),
        }
    }

    /// A path below the device's folder in sysfs.
    pub fn path(&self, below: &str) -> String {
        format!("{DEVICES}/{}/{below}", self.name)
    }

    /// Where it sits, in words that stay over reboots.
    pub fn slot(&self) -> String {
        slot(&self.name)
    }
}

/// The slot of the platform device with this name.
pub fn slot(name: &str) -> String {
    format!("platform/{name}")
}

/// Attribute that holds the kernel name of a platform device.
pub const PLATFORM_DEVICE: &str = "platformDevice";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compatible_strings_come_in_their_order_and_without_their_count() {
        let uevent = "DRIVER=RKNPU\nOF_NAME=npu\nOF_COMPATIBLE_0=rockchip,rk3588-rknpu\nOF_COMPATIBLE_1=rockchip,rknpu\nOF_COMPATIBLE_N=2\n";
        let device = Device::parse("fdab0000.npu".to_owned(), uevent);
        assert_eq!(device.compatible, ["rockchip,rk3588-rknpu", "rockchip,rknpu"]);
        assert_eq!((device.driver.as_deref(), device.slot().as_str()), (Some("RKNPU"), "platform/fdab0000.npu"));
    }

    proptest! {
        #[test]
        fn any_uevent_can_be_read(text in "(?s).{0,200}") {
            let _ = Device::parse(String::new(), &text);
        }
    }
}
