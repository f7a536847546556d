//! Where a USB device sits, in words that stay when buses are numbered anew.

use std::path::{Component, Path};

use super::DEVICES;
use crate::root::{Root, Unreadable};

/// The slot of a device, as in [`super::Device::slot`]; `None` when the device went away.
pub(super) fn slot(root: &Root, name: &str) -> Result<Option<String>, Unreadable> {
    let Some(target) = root.link(format!("{DEVICES}/{name}"))? else { return Ok(None) };
    let Some((controller, bus)) = controller(&target) else { return Ok(None) };
    let ports = match ports(name) {
        None => return Ok(Some(controller.to_owned())),
        Some(ports) => usb2_ports(root, name, bus)?.unwrap_or_else(|| ports.to_owned()),
    };
    Ok(Some(format!("{controller}/{ports}")))
}

/// The chain of ports in a kernel name: `1.2` of `3-1.2`, none of `usb3`.
fn ports(name: &str) -> Option<&str> {
    name.split_once('-').map(|(_, ports)| ports)
}

/// The name of the controller and that of the root hub below it, `0000:00:14.0` and `usb3`.
fn controller(target: &Path) -> Option<(&str, &str)> {
    let names: Vec<&str> = target
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    let bus = names.iter().position(|name| is_root_hub(name))?;
    let (above, below) = names.split_at(bus);
    let parent = above.last()?;
    let lasting = above.iter().rev().find(|name| is_pci_address(name) || is_unit_address(name));
    // `xhci-hcd.1.auto` is numbered in the order of probing; what firmware names stands above it.
    let name = if parent.starts_with("xhci-hcd.") { lasting.unwrap_or(parent) } else { parent };
    Some((name, below.first()?))
}

fn is_root_hub(name: &str) -> bool {
    name.strip_prefix("usb").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// `0000:00:14.0`; a domain can have more than four digits (`10000:00:02.0` behind Intel VMD).
fn is_pci_address(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once(':') else { return false };
    let shape: Vec<u8> = rest.bytes().map(|byte| if byte.is_ascii_hexdigit() { b'x' } else { byte }).collect();
    domain.len() >= 4 && domain.bytes().all(|byte| byte.is_ascii_hexdigit()) && shape == b"xx:xx.x"
}

/// `1f00300000.usb`: a device-tree node with the address of its registers.
fn is_unit_address(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(address, _)| address.len() >= 4 && address.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The chain of ports of the USB 2 half of the port that a SuperSpeed device is on, where the kernel knows it
/// (`port/peer`, kernel documentation `ABI/testing/sysfs-bus-usb`).
fn usb2_ports(root: &Root, name: &str, bus: &str) -> Result<Option<String>, Unreadable> {
    let Some(peer) = root.link_name(format!("{DEVICES}/{name}/port/peer"))? else { return Ok(None) };
    let Some((hub, port)) = peer.split_once("-port") else { return Ok(None) };
    // The link leads both ways; the bus with the lower number is the USB 2 half, as xhci-hcd adds it first.
    let number = |bus: &str| bus.trim_start_matches("usb").split('-').next().and_then(|number| number.parse().ok());
    let (Some(theirs), Some(ours)): (Option<u32>, Option<u32>) = (number(hub), number(bus)) else { return Ok(None) };
    Ok((theirs < ours).then(|| match ports(hub) {
        Some(ports) => format!("{ports}.{port}"),
        None => port.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    /// A device below a root hub whose port has a peer on the other bus.
    fn slot_of(name: &str, bus: &str, peer: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let below = format!("devices/pci0000:00/0000:00:14.0/{bus}/{name}");
        let (devices, device) = (folder.path().join("sys/bus/usb/devices"), folder.path().join("sys").join(&below));
        fs::create_dir_all(&devices).unwrap();
        fs::create_dir_all(device.join("port")).unwrap();
        symlink(format!("../../../{below}"), devices.join(name)).unwrap();
        if let Some(peer) = peer {
            symlink(format!("../../{peer}"), device.join("port/peer")).unwrap();
        }
        slot(&Root::at(folder.path()), name).unwrap().unwrap()
    }

    #[test]
    fn a_port_has_one_slot_at_every_speed() {
        for (name, bus, peer, expected) in [
            ("4-3", "usb4", Some("usb3-port1"), "0000:00:14.0/1"),
            ("3-1", "usb3", Some("usb4-port3"), "0000:00:14.0/1"),
            ("4-3.2", "usb4", Some("3-1-port4"), "0000:00:14.0/1.4"),
            ("3-1.4", "usb3", Some("4-3-port2"), "0000:00:14.0/1.4"),
            ("4-3", "usb4", None, "0000:00:14.0/3"),
            ("4-3", "usb4", Some("nonsense"), "0000:00:14.0/3"),
        ] {
            assert_eq!(slot_of(name, bus, peer), expected, "{name} beside {peer:?}");
        }
    }

    #[test]
    fn the_controller_is_named_by_what_stays() {
        let cases = [
            ("../../../devices/pci0000:00/0000:00:14.0/usb3/3-1/3-1.2", "0000:00:14.0"),
            ("../../../devices/pci0000:00/0000:00:1c.0/0000:02:00.0/usb1", "0000:02:00.0"),
            ("../../../devices/platform/axi/1000120000.pcie/1f00300000.usb/xhci-hcd.1/usb3/3-1", "1f00300000.usb"),
            ("../../../devices/platform/soc@0/a600000.usb/xhci-hcd.0.auto/usb1/1-1", "a600000.usb"),
            ("../../../devices/platform/soc/3f980000.usb/usb1/1-1", "3f980000.usb"),
            ("../../../devices/platform/dummy_hcd.0/usb1/1-1", "dummy_hcd.0"),
            ("../../../devices/platform/xhci-hcd.0.auto/usb1/1-1", "xhci-hcd.0.auto"),
        ];
        for (target, expected) in cases {
            assert_eq!(controller(Path::new(target)).unwrap().0, expected, "{target}");
        }
        assert_eq!(controller(Path::new("../../../devices/pci0000:00/0000:00:14.0")), None);
    }

    proptest! {
        #[test]
        fn any_place_is_read_or_refused(target in "(\\.\\./|/|[a-z0-9:.-]{1,14}/|usb[0-9]{0,3}/){0,8}", name in "\\PC{0,24}") {
            let _ = ports(&name);
            if let Some((above, bus)) = controller(Path::new(&target)) {
                prop_assert!(!above.is_empty() && is_root_hub(bus), "{} and {}", above, bus);
            }
        }
    }
}
