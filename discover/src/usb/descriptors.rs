//! The binary `descriptors` file of a USB device: its device descriptor and every configuration (USB 2.0, section 9.6).
//!
//! Devices put anything into their descriptors. Nothing here trusts a length that it was given.

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;

const DEVICE_LENGTH: usize = 18;
const CONFIGURATION_LENGTH: usize = 9;
const INTERFACE_LENGTH: usize = 9;

/// What a device says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// `bDeviceClass`; 9 is a hub, 0 and 0xef leave it to the interfaces.
    pub class: u8,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// Whether the device has a string for its maker.
    pub has_manufacturer: bool,
    /// Whether the device has a string for itself.
    pub has_product_name: bool,
    /// Whether the device has a serial number.
    pub has_serial: bool,
    /// What it can be, one of them at a time.
    pub configurations: Vec<Configuration>,
}

/// One configuration of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// `bConfigurationValue`.
    pub value: u8,
    /// Interfaces in their default setting (`bAlternateSetting` 0).
    pub interfaces: Vec<Interface>,
}

/// One interface of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interface {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// `bInterfaceClass`, `bInterfaceSubClass` and `bInterfaceProtocol`.
    pub triple: (u8, u8, u8),
    /// Endpoints without endpoint 0.
    pub endpoints: u8,
    /// Whether it has a string.
    pub has_name: bool,
}

/// Reads the descriptors as far as they make sense; `None` without a whole device descriptor.
pub fn parse(bytes: &[u8]) -> Option<Descriptors> {
    let (device, configurations) = bytes.split_at_checked(DEVICE_LENGTH)?;
    if device[1] != DEVICE {
        return None;
    }
    Some(Descriptors {
        class: device[4],
        vendor: word(device, 8),
        product: word(device, 10),
        has_manufacturer: device[14] != 0,
        has_product_name: device[15] != 0,
        has_serial: device[16] != 0,
        configurations: read_configurations(configurations),
    })
}

fn read_configurations(bytes: &[u8]) -> Vec<Configuration> {
    let mut configurations: Vec<Configuration> = Vec::new();
    let mut offset = 0;
    let mut declared_end = 0;
    while offset < bytes.len() {
        let Some(descriptor) = descriptor_at(bytes, offset) else {
            // A length that cannot be: the next configuration begins where this one said that it ends, if anywhere.
            if declared_end <= offset {
                break;
            }
            offset = declared_end;
            continue;
        };
        match (descriptor[1], configurations.last_mut()) {
            (CONFIGURATION, _) if descriptor.len() >= CONFIGURATION_LENGTH => {
                declared_end = offset + usize::from(word(descriptor, 2));
                configurations.push(Configuration { value: descriptor[5], interfaces: Vec::new() });
            }
            (INTERFACE, Some(configuration)) => configuration.interfaces.extend(default_interface(descriptor)),
            _ => {}
        }
        offset += descriptor.len();
    }
    configurations
}

/// The descriptor at an offset, if its length can be: at least length and type, and no more than there is.
fn descriptor_at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let length = usize::from(*rest.first()?);
    if length < 2 { None } else { rest.get(..length) }
}

fn default_interface(descriptor: &[u8]) -> Option<Interface> {
    let alternate_setting = *descriptor.get(3)?;
    (descriptor.len() >= INTERFACE_LENGTH && alternate_setting == 0).then(|| Interface {
        number: descriptor[2],
        triple: (descriptor[5], descriptor[6], descriptor[7]),
        endpoints: descriptor[4],
        has_name: descriptor[8] != 0,
    })
}

/// A little-endian word; callers have checked the length.
fn word(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIXEL: [u8; DEVICE_LENGTH] = [18, 1, 0x10, 2, 0, 0, 0, 64, 0xd1, 0x18, 0xe2, 0x4e, 0x40, 4, 1, 2, 3, 1];

    fn configuration(value: u8, interfaces: &[(u8, u8, u8)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (number, (class, subclass, protocol)) in (0..).zip(interfaces) {
            body.extend([9, INTERFACE, number, 0, 2, *class, *subclass, *protocol, 5]);
            body.extend([7, 5, 0x81, 2, 0, 2, 0, 7, 5, 0x01, 2, 0, 2, 0]);
        }
        let total = u8::try_from(CONFIGURATION_LENGTH + body.len()).unwrap();
        let mut bytes = vec![9, CONFIGURATION, total, 0, u8::try_from(interfaces.len()).unwrap(), value, 0, 0x80, 250];
        bytes.extend(body);
        bytes
    }

    fn triples(descriptors: &Descriptors) -> Vec<Vec<(u8, u8, u8)>> {
        let of = |c: &Configuration| c.interfaces.iter().map(|i| i.triple).collect();
        descriptors.configurations.iter().map(of).collect()
    }

    #[test]
    fn every_configuration_has_its_interfaces() {
        let bytes =
            [&PIXEL[..], &configuration(1, &[(6, 1, 1), (0xff, 0x42, 1)]), &configuration(2, &[(3, 0, 0)])].concat();
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.vendor, parsed.product, parsed.class), (0x18d1, 0x4ee2, 0));
        assert!(parsed.has_manufacturer && parsed.has_product_name && parsed.has_serial);
        assert_eq!(triples(&parsed), [vec![(6, 1, 1), (0xff, 0x42, 1)], vec![(3, 0, 0)]]);
        assert_eq!(parsed.configurations[0].interfaces[1].endpoints, 2);
        assert_eq!(parsed.configurations[1].value, 2);
    }

    #[test]
    fn only_the_default_setting_of_an_interface_counts() {
        let mut bytes = [&PIXEL[..], &configuration(1, &[(0x0e, 1, 0), (0x0e, 2, 0)])].concat();
        let second_interface = DEVICE_LENGTH + 9 + 23;
        bytes[second_interface + 3] = 1;
        assert_eq!(triples(&parse(&bytes).unwrap()), [vec![(0x0e, 1, 0)]]);
    }

    #[test]
    fn a_wrong_length_costs_its_own_configuration_only() {
        let mut broken = configuration(1, &[(6, 1, 1), (0xff, 0x42, 1)]);
        broken[9 + 9] = 0;
        let bytes = [&PIXEL[..], &broken, &configuration(2, &[(0xff, 0xfe, 2)])].concat();
        assert_eq!(triples(&parse(&bytes).unwrap()), [vec![(6, 1, 1)], vec![(0xff, 0xfe, 2)]]);
    }

    #[test]
    fn a_wrong_total_does_not_hide_what_is_there() {
        for total in [0, 9, 200] {
            let mut bytes =
                [&PIXEL[..], &configuration(1, &[(0xff, 0x42, 1)]), &configuration(2, &[(3, 1, 1)])].concat();
            bytes[DEVICE_LENGTH + 2] = total;
            assert_eq!(triples(&parse(&bytes).unwrap()), [vec![(0xff, 0x42, 1)], vec![(3, 1, 1)]], "total {total}");
        }
    }

    #[test]
    fn what_is_no_device_descriptor_is_none() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&PIXEL[..17]), None);
        assert_eq!(parse(&configuration(1, &[(6, 1, 1)])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            _ = parse(&bytes);
        }

        #[test]
        fn a_cut_anywhere_leaves_a_beginning(cut in 0usize..200, spoiled in 0usize..200, value: u8) {
            let whole = [&PIXEL[..], &configuration(1, &[(6, 1, 1), (0xff, 0x42, 1)]), &configuration(2, &[(3, 0, 0)])].concat();
            let all: Vec<_> = triples(&parse(&whole).unwrap()).concat();
            let cut_off = parse(&whole[..cut.min(whole.len())]);
            prop_assert!(cut_off.is_none_or(|parsed| all.starts_with(&triples(&parsed).concat())));
            let mut changed = whole;
            let at = spoiled % changed.len();
            changed[at] = value;
            _ = parse(&changed);
        }
    }
}
