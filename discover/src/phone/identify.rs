//! Which USB devices are phones, and in which mode: by interfaces first, then vendor, then product.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::usb::{Device, Interface};

/// What a phone offers on USB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// An adb interface; whether adb accepts it is for the adb server to say.
    Adb,
    /// Files over MTP, without adb.
    Mtp,
    /// Pictures over PTP, without adb.
    Ptp,
    /// Network over USB, without adb.
    Tethering,
    /// Music over MIDI, without adb.
    Midi,
    /// A camera over UVC, without adb.
    Webcam,
    /// Android Open Accessory, without adb.
    Accessory,
    /// The boot loader, with fastboot.
    Fastboot,
    /// Qualcomm's emergency download mode.
    Edl,
    /// MediaTek's preloader or boot ROM.
    Preloader,
    /// Unisoc's download mode.
    Download,
    /// Rockchip's loader or mask ROM.
    Rockusb,
    /// Samsung's download mode.
    Odin,
    /// An iPhone, iPad, iPod or Watch that runs.
    Apple,
    /// One in DFU mode.
    AppleDfu,
    /// One in recovery mode.
    AppleRecovery,
    /// One that is being restored.
    AppleRestore,
}

/// A USB device that is a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// What it offers.
    pub mode: Mode,
    /// Who has its vendor id, where that is known.
    pub maker: Option<Maker>,
}

/// Who has a vendor id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// In lower case, `samsung`.
    pub name: &'static str,
    /// Whether phones of others have this id too.
    pub is_shared: bool,
}

/// The phone that a USB device is, if it is one.
pub fn identify(device: &Device) -> Option<Identity> {
    let vendor = VENDORS.of(device.vendor);
    if vendor.is_some_and(|vendor| vendor.not_phones.contains(&device.product)) {
        return None;
    }
    let mode = by_interface(device).or_else(|| by_vendor(vendor?, device))?;
    Some(Identity { mode, maker: maker(device.vendor) })
}

/// Who has a vendor id, if phones have it.
pub fn maker(vendor: u16) -> Option<Maker> {
    VENDORS.of(vendor).map(|vendor| Maker { name: &vendor.name, is_shared: vendor.shared })
}

/// Interfaces that only phones have.
fn by_interface(device: &Device) -> Option<Mode> {
    let mode = |interface: &Interface| match interface.triple {
        // adb needs a pair of bulk endpoints (AOSP `client/usb_linux.cpp`); the second triple is adb over a debug cable.
        (0xff, 0x42, 0x01) | (0xdc, 0x02, 0x01) if interface.endpoints >= 2 => Some(Mode::Adb),
        (0xff, 0x42, 0x03) => Some(Mode::Fastboot),
        _ => None,
    };
    device.interfaces.iter().filter_map(mode).min()
}

fn by_vendor(vendor: &Vendor, device: &Device) -> Option<Mode> {
    let listed = vendor.mode(device.product);
    if vendor.only_listed || listed.is_some_and(|mode| !mode.is_android()) {
        return listed;
    }
    // What the interfaces say counts more than what the product id should mean, but an adb interface that is not
    // there is no adb interface.
    by_function(device).or(listed.filter(|mode| *mode != Mode::Adb || device.interfaces.is_empty()))
}

/// Interfaces that cameras have too: of a maker of phones they make a phone. Network functions do not: these makers sell modems and docks.
fn by_function(device: &Device) -> Option<Mode> {
    let mode = |interface: &Interface| {
        let is_mtp = interface.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("mtp"));
        match interface.triple {
            (0x06, 0x01, 0x01) | (0xff, 0xff, 0x00) if is_mtp => Some(Mode::Mtp),
            (0x06, 0x01, 0x01) => Some(Mode::Ptp),
            _ => None,
        }
    };
    device.interfaces.iter().filter_map(mode).min()
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 17] = [
        Self::Adb,
        Self::Mtp,
        Self::Ptp,
        Self::Tethering,
        Self::Midi,
        Self::Webcam,
        Self::Accessory,
        Self::Fastboot,
        Self::Edl,
        Self::Preloader,
        Self::Download,
        Self::Rockusb,
        Self::Odin,
        Self::Apple,
        Self::AppleDfu,
        Self::AppleRecovery,
        Self::AppleRestore,
    ];

    /// Whether Android runs on it, so that adb can reach it by another way if not by this one.
    pub fn is_android(self) -> bool {
        self <= Self::Accessory
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Vendor {
    name: String,
    id: Vec<u16>,
    #[serde(default)]
    modes: BTreeMap<Mode, Vec<u16>>,
    #[serde(default)]
    ranges: BTreeMap<Mode, (u16, u16)>,
    #[serde(default)]
    not_phones: Vec<u16>,
    #[serde(default)]
    only_listed: bool,
    #[serde(default)]
    shared: bool,
}

impl Vendor {
    fn mode(&self, product: u16) -> Option<Mode> {
        let listed = self.modes.iter().find(|(_, products)| products.contains(&product)).map(|(mode, _)| *mode);
        let within = |range: &(u16, u16)| RangeInclusive::new(range.0, range.1).contains(&product);
        listed.or_else(|| self.ranges.iter().find(|(_, range)| within(range)).map(|(mode, _)| *mode))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vendors {
    vendor: Vec<Vendor>,
}

impl Vendors {
    fn of(&self, id: u16) -> Option<&Vendor> {
        self.vendor.iter().find(|vendor| vendor.id.contains(&id))
    }
}

/// The table is part of the program; that it can be read is for a test to say.
static VENDORS: LazyLock<Vendors> = LazyLock::new(|| toml::from_str(include_str!("vendors.toml")).unwrap_or_default());

#[cfg(test)]
mod tests {
    use super::*;

    fn device(vendor: u16, product: u16, triples: &[(u8, u8, u8)]) -> Device {
        let interface = |triple: &(u8, u8, u8)| Interface { triple: *triple, endpoints: 2, name: None };
        Device { vendor, product, interfaces: triples.iter().map(interface).collect(), ..Device::default() }
    }

    fn mode(vendor: u16, product: u16, triples: &[(u8, u8, u8)]) -> Option<Mode> {
        identify(&device(vendor, product, triples)).map(|identity| identity.mode)
    }

    const ADB: (u8, u8, u8) = (0xff, 0x42, 1);
    const PTP: (u8, u8, u8) = (6, 1, 1);
    const RNDIS: (u8, u8, u8) = (0xe0, 1, 3);
    const VENDOR_SPECIFIC: (u8, u8, u8) = (0xff, 0xff, 0xff);

    #[test]
    fn the_table_can_be_read_and_no_id_is_in_it_twice() {
        let vendors: Vendors = toml::from_str(include_str!("vendors.toml")).unwrap();
        let ids: Vec<_> = vendors.vendor.iter().flat_map(|vendor| vendor.id.clone()).collect();
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
        for vendor in &vendors.vendor {
            let mut products: Vec<_> = vendor.modes.values().flatten().collect();
            products.sort();
            assert!(products.is_sorted_by(|a, b| a < b), "{} has a product twice", vendor.name);
        }
    }

    #[test]
    fn phones_are_known_by_interface_then_vendor_then_product() {
        let cases = [
            ("Samsung with adb", mode(0x04e8, 0x6860, &[PTP, ADB]), Some(Mode::Adb)),
            ("the same id without adb", mode(0x04e8, 0x6860, &[PTP]), Some(Mode::Ptp)),
            ("adb of a maker that no list knows", mode(0x1234, 1, &[ADB]), Some(Mode::Adb)),
            ("adb over a debug cable", mode(0x18d1, 0x4ee7, &[(0xdc, 2, 1)]), Some(Mode::Adb)),
            ("fastboot of a maker that no list knows", mode(0x1234, 1, &[(0xff, 0x42, 3)]), Some(Mode::Fastboot)),
            ("an adb id while no configuration can be read", mode(0x18d1, 0x4ee7, &[]), Some(Mode::Adb)),
            ("an adb id without the interface", mode(0x18d1, 0x4ee7, &[(3, 0, 0)]), None),
            ("tethering by product id", mode(0x18d1, 0x4ee3, &[RNDIS]), Some(Mode::Tethering)),
            ("Odin", mode(0x04e8, 0x685d, &[(2, 2, 1), (10, 0, 0)]), Some(Mode::Odin)),
            ("EDL", mode(0x05c6, 0x9008, &[VENDOR_SPECIFIC]), Some(Mode::Edl)),
            ("accessory", mode(0x18d1, 0x2d00, &[VENDOR_SPECIFIC]), Some(Mode::Accessory)),
            ("accessory with adb", mode(0x18d1, 0x2d01, &[VENDOR_SPECIFIC, ADB]), Some(Mode::Adb)),
            ("iPhone", mode(0x05ac, 0x12a8, &[PTP, (0xff, 0xfe, 2)]), Some(Mode::Apple)),
            ("iPhone that shows pictures alone", mode(0x05ac, 0x12a8, &[PTP]), Some(Mode::Apple)),
            ("iPhone in DFU mode", mode(0x05ac, 0x1227, &[(0xfe, 1, 0)]), Some(Mode::AppleDfu)),
        ];
        for (name, found, expected) in cases {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_phone_is_not_taken_for_one() {
        let cases = [
            ("Coral", mode(0x18d1, 0x9302, &[VENDOR_SPECIFIC])),
            ("Coral with anything", mode(0x18d1, 0x9302, &[ADB])),
            ("Apple keyboard", mode(0x05ac, 0x0267, &[(3, 1, 1)])),
            ("Apple T2", mode(0x05ac, 0x8600, &[(0xff, 0xfe, 2)])),
            ("camera", mode(0x04a9, 0x3218, &[PTP])),
            ("Samsung SSD", mode(0x04e8, 0x61f5, &[(8, 6, 0x50)])),
            ("Lenovo dock", mode(0x17ef, 0x3062, &[(2, 6, 0)])),
            ("Huawei modem", mode(0x12d1, 0x14db, &[RNDIS])),
            ("USB network card", mode(0x0bda, 0x8153, &[(0xff, 0xff, 0)])),
            ("adb triple without a pair of endpoints", {
                let mut device = device(0x1234, 1, &[ADB]);
                device.interfaces[0].endpoints = 1;
                identify(&device).map(|identity| identity.mode)
            }),
        ];
        for (name, found) in cases {
            assert_eq!(found, None, "{name}");
        }
    }

    #[test]
    fn mtp_is_known_by_its_name() {
        let mut phone = device(0x0fce, 0x01ff, &[(0xff, 0xff, 0)]);
        assert_eq!(identify(&phone), None);
        phone.interfaces[0].name = Some("MTP".to_owned());
        assert_eq!(identify(&phone), Some(Identity { mode: Mode::Mtp, maker: maker(0x0fce) }));
    }
}
