//! Network interfaces with hardware behind them: `sys/class/net` (kernel documentation, `ABI/testing/sysfs-class-net`).

pub mod address;

use hatrack_api::cluster_node::Interface;

use crate::root::{Root, Unreadable};

pub(crate) const CLASS: &str = "/sys/class/net";

/// `addr_assign_type` of an address that the hardware has (Linux, `include/uapi/linux/netdevice.h`, `NET_ADDR_PERM`).
const PERMANENT: u8 = 0;

/// An interface and what only this machine needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// As the object shows it.
    pub interface: Interface,
    /// Whether it is on USB: it can be pulled out and put into another machine.
    pub on_usb: bool,
}

/// Every interface with a device behind it, sorted by name; virtual functions (SR-IOV) are their owners', not the machine's.
pub fn collect(root: &Root) -> Result<Vec<Interface>, Unreadable> {
    Ok(ports(root)?.into_iter().map(|port| port.interface).collect())
}

/// Every interface with a device behind it, sorted by name.
pub fn ports(root: &Root) -> Result<Vec<Port>, Unreadable> {
    let names = root.entries(CLASS)?.unwrap_or_default();
    let ports = names.into_iter().map(|name| port(root, name));
    ports.filter_map(Result::transpose).collect()
}

fn port(root: &Root, name: String) -> Result<Option<Port>, Unreadable> {
    let path = format!("{CLASS}/{name}");
    // `bonding_masters` is a file; a virtual interface has no device, and its path says so without another look.
    let Some(place) = root.link(&path)? else { return Ok(None) };
    let place = place.to_string_lossy();
    if place.contains("/virtual/") || !root.exists(format!("{path}/device"))? {
        return Ok(None);
    }
    if root.exists(format!("{path}/device/physfn"))? {
        return Ok(None);
    }
    let mac = permanent_address(root, &path)?;
    let speed = while_up(root.value::<i64>(format!("{path}/speed"))).filter(|speed| *speed > 0);
    let carrier = while_up(root.value::<u8>(format!("{path}/carrier"))).map(|carrier| carrier != 0);
    Ok(Some(Port { interface: Interface { name, mac, speed, carrier }, on_usb: place.contains("/usb") }))
}

/// These attributes answer EINVAL while the interface is down, which is no doubt about the machine.
fn while_up<T>(read: Result<Option<T>, Unreadable>) -> Option<T> {
    read.unwrap_or(None)
}

/// The address that the hardware has, whatever it was told to use: a member of a bond shows the bond's address and has
/// its own elsewhere.
fn permanent_address(root: &Root, path: &str) -> Result<Option<String>, Unreadable> {
    let address = match root.value::<u8>(format!("{path}/addr_assign_type"))? {
        Some(PERMANENT) => root.text(format!("{path}/address"))?,
        _ => root.text(format!("{path}/bonding_slave/perm_hwaddr"))?,
    };
    Ok(address.as_deref().and_then(stable_part))
}

/// The part of a hardware address that stays: an Ethernet address as it is.
/// Of the 20 bytes of an InfiniBand address only the last eight, the port's GUID, stay
/// over a restart of the driver (RFC 4391, 9.1.1).
pub fn stable_part(address: &str) -> Option<String> {
    let address = address.to_ascii_lowercase();
    let bytes: Vec<_> = address.split(':').collect();
    let is_hex = bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let told = bytes.iter().any(|byte| *byte != "00");
    match bytes.len() {
        6 | 8 if is_hex && told => Some(address),
        20 if is_hex && told => Some(bytes[12..].join(":")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hatrack_fixtures::{MachineCopy, machine_copy};
    use proptest::prelude::*;

    use super::*;

    const CARD: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:03:00.0";

    /// An interface of a card, as the kernel shows it.
    fn add(copy: &MachineCopy, name: &str, device: &str, attributes: &[(&str, &str)]) {
        copy.link(&format!("sys/class/net/{name}"), &format!("../../../{device}/net/{name}")).unwrap();
        copy.link(&format!("{device}/net/{name}/device"), "../..").unwrap();
        for (attribute, value) in attributes {
            copy.write(&format!("{device}/net/{name}/{attribute}"), format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn virtual_functions_belong_to_who_uses_them() {
        let copy = machine_copy("vm-arm64-empty").unwrap();
        let facts = [("addr_assign_type", "0"), ("address", "90:E2:BA:01:02:03"), ("speed", "-1"), ("carrier", "0")];
        add(&copy, "ens1f0", CARD, &facts);
        add(&copy, "ens1f0v0", "sys/devices/pci0000:00/0000:00:02.0/0000:03:10.0", &facts);
        copy.link("sys/devices/pci0000:00/0000:00:02.0/0000:03:10.0/physfn", "../0000:03:00.0").unwrap();
        let mac = Some("90:e2:ba:01:02:03".to_owned());
        let expected = Interface { name: "ens1f0".to_owned(), mac, speed: None, carrier: Some(false) };
        assert_eq!(collect(&Root::at(copy.path())).unwrap(), [expected]);
    }

    #[test]
    fn an_address_that_was_set_is_not_permanent() {
        let copy = machine_copy("vm-arm64-empty").unwrap();
        for (name, kind) in [("random", "1"), ("stolen", "2"), ("set", "3")] {
            add(&copy, name, CARD, &[("addr_assign_type", kind), ("address", "90:e2:ba:01:02:03")]);
        }
        add(&copy, "bonded", CARD, &[("addr_assign_type", "3"), ("bonding_slave/perm_hwaddr", "90:e2:ba:01:02:04")]);
        let macs: Vec<_> =
            collect(&Root::at(copy.path())).unwrap().into_iter().map(|port| (port.name, port.mac)).collect();
        let none = |name: &str| (name.to_owned(), None);
        let bonded = ("bonded".to_owned(), Some("90:e2:ba:01:02:04".to_owned()));
        assert_eq!(macs, [bonded, none("random"), none("set"), none("stolen")]);
    }

    #[test]
    fn an_address_that_cannot_be_read_is_a_doubt() {
        let copy = machine_copy("vm-arm64-empty").unwrap();
        add(&copy, "eth0", CARD, &[("addr_assign_type", "0")]);
        copy.make_unreadable(&format!("{CARD}/net/eth0/address")).unwrap();
        assert!(collect(&Root::at(copy.path())).is_err());
    }

    #[test]
    fn only_hardware_addresses_are_addresses() {
        let infiniband = "00:00:10:49:fe:80:00:00:00:00:00:00:a0:88:c2:03:00:60:1b:a9";
        assert_eq!(stable_part(infiniband).as_deref(), Some("a0:88:c2:03:00:60:1b:a9"));
        for junk in ["", "00:00:00:00:00:00", "0.0.0.0", "70:85:c2:1d:3e", "70:85:c2:1d:3e:5g", "7:085:c2:1d:3e:5f"] {
            assert_eq!(stable_part(junk), None, "{junk}");
        }
    }

    proptest! {
        #[test]
        fn any_address_is_read_or_refused(address in "([0-9a-fA-F]{2}:?|:|.){0,24}") {
            if let Some(part) = stable_part(&address) {
                prop_assert!(matches!(part.split(':').count(), 6 | 8) && part.bytes().any(|byte| byte.is_ascii_hexdigit()));
                prop_assert_eq!(stable_part(&part), Some(part), "what stays is what stays of itself");
            }
        }
    }
}
