//! What tells this machine from every other, whatever is installed on it.
//!
//! The sources are asked in one order and the first that has something to trust is taken:
//!
//! 1. the SMBIOS UUID. Linux lets root alone read it, so the service manager hands it to the agent as the credential
//!    [`CREDENTIAL`]; an empty credential (its default) says that the machine has none.
//! 2. the device tree's serial number.
//! 3. the lowest permanent MAC address that a maker gave, of a built-in interface before one on USB.
//!
//! A source that cannot be read is not an absent one. If it were, an agent that lost its credential would call itself by
//! its MAC address, and be refused as another machine, or registered as one. So it ends the search with an error.

use crate::host::{DEVICE_TREE, is_filler};
use crate::network;
use crate::root::{Root, Unreadable};

/// Name of the credential with the SMBIOS UUID.
pub const CREDENTIAL: &str = "product_uuid";

/// Longest id that the schema takes.
const MAX_LENGTH: usize = 64;

/// UUIDs that many machines have. Values of one repeated byte and those that end in `ffff-ffff-ffff-ffffffffffff` are
/// refused by rule. The sources are beside them; a UUID that firmware makes of a MAC address or of a service tag is unique.
const SHARED: [&str; 16] = [
    // AMI's default, in both byte orders that firmware writes (OSHI issue 2417; FreeBSD, `libexec/rc/rc.d/hostid`).
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    // More of FreeBSD's list.
    "07090201-0103-0301-0807-060504030201",
    "11111111-2222-3333-4444-555555555555",
    "890e2d14-cacd-45d1-ae66-bc80e8bfeb0f",
    "8e275844-178f-44a8-aceb-a7d7e5178c63",
    "dc698397-fa54-4cf2-82c8-b1b5307a6a7f",
    // Dell's for a service tag that was never written, seven spaces, in both byte orders.
    "4c4c4544-0000-2010-8020-80c04f202020",
    "44454c4c-0000-1020-8020-80c04f202020",
    // Fillers of boards sold alone (FOG project, `Host` class; Insyde).
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "12345678-1234-5678-1234-567812345678",
    "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "01020304-0506-0708-090a-0b0c0d0e0f10",
    "01234567-89ab-cdef-0123-456789abcdef",
    "deadbeef-dead-beef-dead-beefdeadbeef",
    // EDK II's example, shipped as it is (SolidRun/lx2160a_uefi issue 4).
    "8a95d198-7f46-11e5-bf8b-08002704d48e",
];

/// The id, in lower case where it is a UUID or an address.
pub(super) fn read(root: &Root) -> Result<Option<String>, Unreadable> {
    if let Some(uuid) = smbios(root)? {
        return Ok(Some(uuid));
    }
    let serial = root.text(format!("{DEVICE_TREE}/serial-number"))?;
    if let Some(serial) = serial.filter(|serial| is_serial(serial)) {
        return Ok(Some(serial));
    }
    Ok(lowest_address(&network::ports(root)?))
}

fn smbios(root: &Root) -> Result<Option<String>, Unreadable> {
    let handed = root.credential(CREDENTIAL)?;
    let text = match handed {
        Some(text) => Some(text),
        None => root.text("/sys/class/dmi/id/product_uuid")?,
    };
    Ok(text.as_deref().and_then(trusted_uuid))
}

/// The UUID in lower case, if it is one and not shared by many machines.
pub fn trusted_uuid(text: &str) -> Option<String> {
    let uuid = text.trim().to_ascii_lowercase();
    let groups: Vec<_> = uuid.split('-').collect();
    let shape = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let is_hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !shape || !is_hex {
        return None;
    }
    let digits = groups.concat();
    let one_byte = digits.as_bytes().chunks(2).all(|byte| byte == &digits.as_bytes()[..2]);
    let unset = digits.ends_with("ffffffffffffffffffffffff");
    let shared = SHARED.contains(&uuid.as_str());
    (!one_byte && !unset && !shared).then_some(uuid)
}

/// Whether a serial number of the device tree can be one machine's alone, and an id.
pub fn is_serial(text: &str) -> bool {
    let is_id = text.len() <= MAX_LENGTH
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    let mut digits: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let counted = digits.windows(2).all(|pair| pair[1] == pair[0] + 1 || (pair[0], pair[1]) == (b'9', b'0'));
    digits.sort_unstable();
    digits.dedup();
    is_id && text.len() >= 4 && digits.len() > 1 && !counted && !is_filler(text)
}

/// The lowest address that a maker gave: of the interfaces that are built in, else of those on USB.
fn lowest_address(ports: &[network::Port]) -> Option<String> {
    let lowest = |on_usb| {
        let addresses =
            ports.iter().filter(|port| port.on_usb == on_usb).filter_map(|port| port.interface.mac.as_deref());
        addresses.filter(|address| is_of_a_maker(address)).min().map(str::to_owned)
    };
    lowest(false).or_else(|| lowest(true))
}

/// Whether an Ethernet address is globally unique: six bytes, and the last two bits of the first one, for a group and for
/// a local administrator, are 0 (IEEE 802, 8.2).
fn is_of_a_maker(address: &str) -> bool {
    let bytes: Option<Vec<u8>> = address.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let Some([first, rest @ ..]) = bytes.as_deref() else { return false };
    rest.len() == 5 && first.trailing_zeros() >= 2 && rest.iter().any(|byte| byte != first)
}

#[cfg(test)]
mod tests {
    use hatrack_fixtures::{MachineCopy, machine_copy};
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "4c4c4544-0044-3510-8052-b4c04f4b3032";
    const FILE: &str = "sys/class/dmi/id/product_uuid";

    /// A machine with an Ethernet address `70:85:c2:1d:3e:5f` and this UUID.
    fn machine(uuid: &str) -> MachineCopy {
        let copy = machine_copy("vm-empty").unwrap();
        copy.write("sys/class/net/enp1s0/address", "70:85:c2:1d:3e:5f\n").unwrap();
        copy.write(FILE, uuid).unwrap();
        copy
    }

    fn id(copy: &MachineCopy) -> Option<String> {
        read(&Root::at(copy.path())).unwrap()
    }

    #[test]
    fn a_uuid_is_trusted_only_if_it_can_be_one_machine_s() {
        for good in [UUID, "03aa02fc-0414-05d0-c606-a80700080009", "00000000-0000-0000-0000-ac1f6b0e5045"] {
            assert_eq!(trusted_uuid(good).as_deref(), Some(good));
        }
        assert_eq!(trusted_uuid(&format!(" {} \n", UUID.to_uppercase())).as_deref(), Some(UUID));
        let bad = [
            "",
            "none",
            "Not Settable",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "ffffff00-ffff-ffff-ffff-ffffffffffff",
            "11111111-1111-1111-1111-111111111111",
            "03000200-0400-0500-0006-000700080009",
            "4C4C4544-0000-2010-8020-80C04F202020",
            "4c4c4544-0044-3510-8052-b4c04f4b303",
            "4c4c4544-0044-3510-8052-b4c04f4b303g",
            "4c4c4544004435108052b4c04f4b3032",
            "4c4c-45440044-3510-8052-b4c04f4b3032",
        ];
        for uuid in bad.into_iter().chain(SHARED) {
            assert_eq!(trusted_uuid(uuid), None, "{uuid}");
        }
    }

    #[test]
    fn the_uuid_comes_before_the_address_unless_it_is_junk() {
        assert_eq!(id(&machine(UUID)).as_deref(), Some(UUID));
        assert_eq!(id(&machine("03000200-0400-0500-0006-000700080009")).as_deref(), Some("70:85:c2:1d:3e:5f"));
        let absent = machine(UUID);
        absent.remove(FILE).unwrap();
        assert_eq!(id(&absent).as_deref(), Some("70:85:c2:1d:3e:5f"));
    }

    #[test]
    fn a_uuid_that_cannot_be_read_does_not_make_another_machine() {
        let copy = machine(UUID);
        copy.make_unreadable(FILE).unwrap();
        let error = read(&Root::at(copy.path())).unwrap_err();
        assert_eq!(error.path.to_string_lossy(), "/sys/class/dmi/id/product_uuid");
        let host = crate::host::collect(&Root::at(copy.path()));
        assert_eq!((host.hardware_id, host.unreadable.len()), (None, 1));
    }

    #[test]
    fn the_credential_is_read_in_place_of_the_file_that_only_root_reads() {
        let copy = machine(UUID);
        copy.make_unreadable(FILE).unwrap();
        let credentials = tempfile::tempdir().unwrap();
        let with = || Root::at(copy.path()).with_credentials(credentials.path());
        assert!(read(&with()).is_err(), "no credential was handed over");
        std::fs::write(credentials.path().join(CREDENTIAL), format!("{UUID}\n")).unwrap();
        assert_eq!(read(&with()).unwrap().as_deref(), Some(UUID));
        std::fs::write(credentials.path().join(CREDENTIAL), "").unwrap();
        assert_eq!(read(&with()).unwrap().as_deref(), Some("70:85:c2:1d:3e:5f"), "handed over: there is none");
    }

    #[test]
    fn a_serial_number_is_an_id_only_if_it_can_be_one_board_s() {
        for good in ["10000000a3b1c2d4", "1424524012345", "SN-12.34:5_6"] {
            assert!(is_serial(good), "{good}");
        }
        let bad = ["", "0", "0000000000000000", "0123456789", "1234567890", "abcdef", "Default string"];
        for serial in bad.into_iter().chain(["unknown", "a b c d", "-123x", "12€34", "To be filled by O.E.M.", "a1b"])
        {
            assert!(!is_serial(serial), "{serial}");
        }
        assert!(!is_serial(&"ab".repeat(40)));
    }

    #[test]
    fn the_lowest_address_of_a_maker_is_taken_from_what_is_built_in() {
        let port = |mac: &str, on_usb| {
            let name = mac.to_owned();
            let interface =
                hatrack_api::cluster_node::Interface { name, mac: Some(mac.to_owned()), speed: None, carrier: None };
            network::Port { interface, on_usb }
        };
        let dongle = port("00:e0:4c:00:00:01", true);
        let cases = [
            (
                "the lowest",
                vec![port("70:85:c2:1d:3e:5f", false), port("3c:ec:ef:44:a1:b0", false)],
                Some("3c:ec:ef:44:a1:b0"),
            ),
            ("no dongle beside it", vec![port("70:85:c2:1d:3e:5f", false), dongle.clone()], Some("70:85:c2:1d:3e:5f")),
            ("a dongle alone", vec![dongle], Some("00:e0:4c:00:00:01")),
            ("locally administered", vec![port("52:54:00:8a:1c:3e", false)], None),
            ("multicast", vec![port("01:00:5e:00:00:01", false)], None),
            ("zeros", vec![port("00:00:00:00:00:00", false)], None),
            ("InfiniBand", vec![port("a0:88:c2:03:00:60:1b:a9", false)], None),
            ("nothing", vec![], None),
        ];
        for (name, ports, expected) in cases {
            assert_eq!(lowest_address(&ports).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_uuid_is_one_machine_s_or_none(text in "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\\PC{0,40}") {
            if let Some(uuid) = trusted_uuid(&text) {
                prop_assert!(uuid.len() == 36 && !SHARED.contains(&uuid.as_str()));
                prop_assert_eq!(uuid.as_str(), text.trim().to_ascii_lowercase());
                prop_assert_eq!(trusted_uuid(&uuid), Some(uuid));
            }
        }

        #[test]
        fn any_serial_number_is_an_id_that_the_schema_takes_or_none(text in "\\PC{0,80}|[0-9a-zA-Z.:_-]{0,80}") {
            if is_serial(&text) {
                prop_assert!(text.len() <= MAX_LENGTH && text.is_ascii());
                let ends = text.bytes().next().into_iter().chain(text.bytes().last());
                prop_assert!(ends.into_iter().all(|end| end.is_ascii_alphanumeric()), "{}", text);
            }
        }
    }
}
