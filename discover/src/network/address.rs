//! IP addresses under which other machines can reach this one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

use super::CLASS;
use crate::root::{Root, Unreadable};

/// Most addresses that the object takes.
const MOST: usize = 32;

/// Flags in `/proc/net/if_inet6` (Linux, `include/uapi/linux/if_addr.h`): temporary (or secondary), duplicate, deprecated, tentative.
const NOT_FOR_OTHERS: u8 = 0x01 | 0x08 | 0x20 | 0x40;

/// Every such address, IPv4 first; none for a copied tree, which has no network.
///
/// Only interfaces of hardware, what is built on them (bonds, bridges, VLANs) and tunnels that were made to be reached
/// (WireGuard, TUN) count: the bridge of a container engine, or of virtual machines with their taps, has the same address on every machine.
pub(crate) fn reachable(root: &Root) -> Result<Vec<String>, Unreadable> {
    if !root.is_machine() {
        return Ok(Vec::new());
    }
    let mut addresses = BTreeSet::new();
    for (interface, address) in ipv4()?.into_iter().chain(ipv6(&root.text("/proc/net/if_inet6")?.unwrap_or_default())) {
        if is_for_others(address) && leads_outside(root, &interface, 0)? {
            addresses.insert(address);
        }
    }
    Ok(addresses.into_iter().take(MOST).map(|address| address.to_string()).collect())
}

fn ipv4() -> Result<Vec<(String, IpAddr)>, Unreadable> {
    let all = getifaddrs().map_err(|error| Unreadable { path: CLASS.into(), source: error.into() })?;
    let address = |found: nix::ifaddrs::InterfaceAddress| {
        let address: Ipv4Addr = found.address?.as_sockaddr_in()?.ip();
        Some((interface_of(&found.interface_name).to_owned(), IpAddr::V4(address)))
    };
    Ok(all.filter_map(address).collect())
}

/// An IPv4 address may have a label (`eth0:vip`, ip-address(8)), which the C library gives in place of the interface's name.
fn interface_of(label: &str) -> &str {
    label.split_once(':').map_or(label, |(interface, _)| interface)
}

/// The addresses in `/proc/net/if_inet6`, without those that are no use to others: address, index, prefix, scope and flags
/// in hex, and the interface (Linux, `net/ipv6/addrconf.c`, `if6_seq_show`).
pub fn ipv6(table: &str) -> Vec<(String, IpAddr)> {
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        let address = columns.next().filter(|digits| digits.len() == 32)?;
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        let flags = u8::from_str_radix(columns.nth(3)?, 16).ok()?;
        let interface = columns.next()?.to_owned();
        (flags & NOT_FOR_OTHERS == 0).then_some((interface, IpAddr::V6(address)))
    };
    table.lines().filter_map(row).collect()
}

fn is_for_others(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local() && !address.is_unspecified(),
        IpAddr::V6(address) => {
            !address.is_loopback()
                && !address.is_unicast_link_local()
                && !address.is_unspecified()
                && !address.is_multicast()
        }
    }
}

/// Whether an interface is hardware, stands on hardware, or is a tunnel of this machine.
fn leads_outside(root: &Root, interface: &str, depth: u8) -> Result<bool, Unreadable> {
    /// A VLAN on a bridge on a bond on a card.
    const DEEPEST: u8 = 4;
    let path = format!("{CLASS}/{interface}");
    let is_tunnel = depth == 0 && root.exists(format!("{path}/tun_flags"))?;
    if is_tunnel || root.exists(format!("{path}/device"))? {
        return Ok(true);
    }
    let kind = root.text(format!("{path}/uevent"))?.unwrap_or_default();
    let kind = kind.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default();
    match kind {
        "wireguard" => return Ok(true),
        "bond" | "bridge" | "vlan" | "macvlan" | "team" if depth < DEEPEST => {}
        _ => return Ok(false),
    }
    for name in root.entries(&path)?.unwrap_or_default() {
        if let Some(lower) = name.strip_prefix("lower_")
            && leads_outside(root, lower, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_will_not_last_are_left_out() {
        let table = "\
            20010db8000000000000000000000001 02 40 00 80     eth0\n\
            20010db8000000000000000000000002 02 40 00 01     eth0\n\
            20010db8000000000000000000000003 02 40 00 20     eth0\n\
            20010db8000000000000000000000004 02 40 00 c8     eth0\n\
            fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
            20010db8000000000000000000000005 02 40 00\n\
            2001 02 40 00 80 eth0\n";
        let found: Vec<_> = ipv6(table).into_iter().filter(|(_, address)| is_for_others(*address)).collect();
        assert_eq!(found, [("eth0".to_owned(), "2001:db8::1".parse().unwrap())]);
    }

    #[test]
    fn an_address_for_this_machine_alone_is_for_nobody_else() {
        let cases = [
            ("10.0.0.7", true),
            ("203.0.113.5", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_for_others(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_container_bridge_leads_nowhere_and_a_bridge_on_a_bond_leads_out() {
        let copy = hatrack_fixtures::machine_copy("vm-empty").unwrap();
        let virtual_one = |name: &str, kind: &str, lower: Option<&str>| {
            let place = format!("sys/devices/virtual/net/{name}");
            copy.link(&format!("sys/class/net/{name}"), &format!("../../devices/virtual/net/{name}")).unwrap();
            copy.write(&format!("{place}/uevent"), format!("DEVTYPE={kind}\nINTERFACE={name}\n")).unwrap();
            if let Some(lower) = lower {
                copy.link(&format!("{place}/lower_{lower}"), &format!("../{lower}")).unwrap();
            }
        };
        virtual_one("bond0", "bond", Some("enp1s0"));
        virtual_one("br0", "bridge", Some("bond0"));
        virtual_one("docker0", "bridge", Some("veth0"));
        virtual_one("veth0", "veth", None);
        virtual_one("virbr0", "bridge", Some("vnet0"));
        virtual_one("vnet0", "", None);
        copy.write("sys/devices/virtual/net/vnet0/tun_flags", "0x5002\n").unwrap();
        virtual_one("loop0", "bridge", Some("loop0"));
        virtual_one("wg0", "wireguard", None);
        virtual_one("flannel.1", "vxlan", Some("enp1s0"));
        let root = Root::at(copy.path());
        let outside = ["enp1s0", "bond0", "br0", "wg0", "vnet0"].map(|name| (name, true));
        let inside = ["docker0", "veth0", "virbr0", "loop0", "flannel.1", "lo", "nothing"].map(|name| (name, false));
        for (name, expected) in outside.into_iter().chain(inside) {
            assert_eq!(leads_outside(&root, name, 0).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_label_names_its_interface() {
        for (label, interface) in [("eth0", "eth0"), ("eth0:vip", "eth0"), ("br0.7:a:b", "br0.7")] {
            assert_eq!(interface_of(label), interface);
        }
    }

    #[test]
    fn this_machine_answers_and_a_copy_has_none() {
        let addresses = reachable(&Root::machine()).unwrap();
        assert!(addresses.iter().all(|address| is_for_others(address.parse().unwrap())), "{addresses:?}");
        let copy = hatrack_fixtures::machine("vm-empty").unwrap();
        assert!(reachable(&Root::at(copy.path())).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_table_is_read(table in "[0-9a-f \\tx\n]{0,120}") {
            let _ = ipv6(&table);
        }
    }
}
