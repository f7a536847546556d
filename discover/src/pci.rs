//! PCI functions that can be devices of ours: `sys/bus/pci/devices` (kernel documentation, `PCI/sysfs-pci.rst` and
//! `ABI/testing/sysfs-bus-pci`).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hatrack_api::cluster_node::{Health, attribute};

use crate::accelerator;
use crate::root::{Root, Unreadable};
use crate::sighting::Sighting;

const DEVICES: &str = "sys/bus/pci/devices";

/// Widths that a PCIe link can have (PCI Express Base Specification, Link Capabilities). Virtual machines show 0 and 255.
const WIDTHS: [u8; 7] = [1, 2, 4, 8, 12, 16, 32];

/// The width that a register of all ones holds: nothing answered.
const NO_ANSWER: u8 = 63;

/// Class and subclass of processing accelerators.
pub const PROCESSING_ACCELERATOR: u16 = 0x1200;

/// Class and subclass of co-processors.
pub const CO_PROCESSOR: u16 = 0x0b40;

/// One PCI function of a display, processing or accelerator class, or with the ids of an accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `0000:3b:00.0`.
    pub address: String,
    /// The root complex above it, `pci0000:3a`.
    pub root: Option<String>,
    /// Class, subclass and programming interface, `0x030200`.
    pub class: u32,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor and device id.
    pub subsystem: (u16, u16),
    /// Bound kernel driver.
    pub driver: Option<String>,
    /// NUMA node; absent where firmware names none (`-1`).
    pub numa_node: Option<u32>,
    /// The PCIe link; absent for functions without one.
    pub link: Option<Link>,
    /// Address of the physical function, for an SR-IOV virtual function.
    pub physical_function: Option<String>,
    /// Number of SR-IOV virtual functions that it has.
    pub virtual_functions: u16,
    /// Whether functions of another vendor share its slot: then it is a part of the processor, not a card.
    pub mixed_slot: bool,
    /// False when it has power and does not answer on the bus: sysfs shows what was read before it fell off.
    pub answers: bool,
}

/// The PCIe link between a card and the slot that it sits in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Address of the card's end: the function itself, or the outer side of a switch on the card.
    pub end: String,
    /// Lanes in use.
    pub width: u8,
    /// Lanes that the card has.
    pub max_width: u8,
    /// Lanes that the port above the card has, where it tells.
    pub slot_width: Option<u8>,
    /// Speed that the card has, in tenths of GT/s (25, 50, 80, 160, 320, 640). The speed in use drops whenever a card
    /// idles: it is a gauge, not a fact.
    pub max_speed: Option<u16>,
}

/// What a link does at this moment, for people and gauges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkNow {
    /// Address of the function behind it.
    pub address: String,
    /// The link.
    pub link: Link,
    /// Speed in use, in tenths of GT/s.
    pub speed: Option<u16>,
}

/// The links of functions, with the speed that each runs at now.
pub fn links_now(root: &Root, functions: &[Function]) -> Vec<LinkNow> {
    let now = |function: &Function| {
        let link = function.link.clone()?;
        let speed = told(root.text(format!("{DEVICES}/{}/current_link_speed", link.end)));
        Some(LinkNow { address: function.address.clone(), speed: speed.as_deref().and_then(parse_speed), link })
    };
    functions.iter().filter_map(now).collect()
}

impl Function {
    /// Class and subclass, `0x0302`.
    pub fn kind(&self) -> u16 {
        u16::try_from(self.class >> 8).unwrap_or(u16::MAX)
    }

    /// The address without the function: what a card with several functions has in common, `0000:3b:00`.
    pub fn slot(&self) -> &str {
        self.address.rsplit_once('.').map_or(&self.address, |(slot, _)| slot)
    }

    /// `10de:2330`.
    pub fn ids(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    /// A path below the function's folder in sysfs.
    pub fn path(&self, below: &str) -> String {
        format!("{DEVICES}/{}/{below}", self.address)
    }

    /// Adds what PCI tells of a device: its place, its driver and its link.
    pub fn describe(&self, sighting: Sighting) -> Sighting {
        sighting
            .on_pci(&self.address, self.root.as_deref())
            .number(attribute::NUMA_NODE, self.numa_node)
            .text(attribute::DRIVER, self.driver.as_deref())
            .number("pcieWidth", self.link.as_ref().map(|link| link.width))
            .number("pcieMaxWidth", self.link.as_ref().map(|link| link.max_width))
            .text("pcieMaxSpeed", self.link.as_ref().and_then(|link| link.max_speed).map(speed_in_words))
            .number("virtualFunctions", (self.virtual_functions > 0).then_some(self.virtual_functions))
    }

    /// What the bus and the bound driver say of the device's health, if it is bad. `drivers` are those that serve it, none named
    /// meaning any; `module` is the one to load, in words: `` `amdgpu` ``, `of its maker`.
    pub fn access_trouble(&self, drivers: &[impl AsRef<str>], module: &str) -> Option<Health> {
        if !self.answers {
            let message = "it no longer answers on the PCI bus: power the machine off and on; if it happens again, look \
                           at the card's power, its seat and its temperature";
            return Some(Health::unusable("FellOffBus", message));
        }
        let Some(driver) = self.driver.as_deref() else {
            let message =
                format!("no driver is bound: load the kernel module {module}, and see the kernel log if it is");
            return Some(Health::unusable("NoDriver", message));
        };
        if driver.contains("vfio") {
            let message = format!(
                "`{driver}` holds it for a virtual machine: unbind it and load the kernel module {module} to use it here"
            );
            return Some(Health::unusable("BoundToVfio", message));
        }
        let serves = drivers.is_empty() || drivers.iter().any(|known| known.as_ref() == driver);
        (!serves).then(|| {
            let message = format!(
                "the driver `{driver}` holds it, which does not serve it: unbind it and load the kernel module {module}"
            );
            Health::unusable("OtherDriver", message)
        })
    }

    /// What the link says of the card's health, if it is bad.
    pub fn link_trouble(&self) -> Option<Health> {
        let link = self.link.as_ref().filter(|link| link.is_narrow())?;
        let (width, possible) = (link.width, link.possible_width());
        Some(Health::degraded(
            "PcieLinkNarrow",
            format!(
                "the PCIe link has {width} of {possible} lanes: reseat the card and its riser, and look at the slot's \
                 setting in the firmware"
            ),
        ))
    }
}

impl Link {
    /// Lanes that both ends have.
    pub fn possible_width(&self) -> u8 {
        self.slot_width.map_or(self.max_width, |slot| slot.min(self.max_width))
    }

    /// Whether the link has fewer lanes than both ends have. Where the port above does not tell what it has, half of the
    /// card's lanes are taken for a slot that has no more, and less for a bad contact, a riser or the wrong slot.
    /// Only the width counts: speed drops whenever a card idles.
    pub fn is_narrow(&self) -> bool {
        match self.slot_width {
            Some(_) => self.width < self.possible_width(),
            None => self.width * 2 < self.max_width,
        }
    }
}

/// Reads every function that can be a device of ours.
pub fn scan(root: &Root) -> Result<Vec<Function>, Unreadable> {
    let mut known = BTreeMap::new();
    for address in root.entries(DEVICES)?.unwrap_or_default() {
        let uevent = root.text(format!("{DEVICES}/{address}/uevent"))?;
        match uevent.as_deref().and_then(Identity::parse) {
            Some(identity) => drop(known.insert(address, identity)),
            None if root.exists(format!("{DEVICES}/{address}"))? => return Err(unidentified(&address)),
            None => {}
        }
    }
    let interesting = known.iter().filter(|(_, identity)| identity.is_interesting());
    let mut functions: Vec<_> = interesting.map(|(address, identity)| read(root, address, identity, &known)).collect();
    count_virtual_functions(&mut functions);
    Ok(functions)
}

/// A function that is there and does not say what it is: it may be a device of ours.
fn unidentified(address: &str) -> Unreadable {
    let source = io::Error::new(io::ErrorKind::InvalidData, "it names no PCI class and ids");
    Unreadable { path: format!("{DEVICES}/{address}/uevent").into(), source }
}

/// What one read tells of a function: its `uevent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    class: u32,
    ids: (u16, u16),
    subsystem: (u16, u16),
    driver: Option<String>,
}

impl Identity {
    /// Reads the lines of a PCI function's `uevent` (Linux, `drivers/pci/pci-driver.c`, `pci_uevent`); `None` when its
    /// class or ids are missing.
    pub fn parse(uevent: &str) -> Option<Self> {
        let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(Self {
            class: u32::from_str_radix(value("PCI_CLASS")?, 16).ok()?,
            ids: pair(value("PCI_ID")?)?,
            subsystem: value("PCI_SUBSYS_ID").and_then(pair).unwrap_or_default(),
            driver: value("DRIVER").filter(|driver| !driver.is_empty()).map(str::to_owned),
        })
    }

    fn is_interesting(&self) -> bool {
        const DISPLAY: u32 = 0x03;
        let kinds = [u32::from(PROCESSING_ACCELERATOR), u32::from(CO_PROCESSOR)];
        let of_a_class = self.class >> 16 == DISPLAY || kinds.contains(&(self.class >> 8));
        of_a_class || accelerator::is_known(self.ids.0, self.ids.1)
    }
}

/// `10DE:2330`.
fn pair(text: &str) -> Option<(u16, u16)> {
    let (vendor, device) = text.split_once(':')?;
    Some((u16::from_str_radix(vendor, 16).ok()?, u16::from_str_radix(device, 16).ok()?))
}

fn read(root: &Root, address: &str, identity: &Identity, known: &BTreeMap<String, Identity>) -> Function {
    let place = told(root.link(format!("{DEVICES}/{address}"))).map(|target| Place::parse(&target)).unwrap_or_default();
    let path = |name: &str| format!("{DEVICES}/{address}/{name}");
    let end = End::find(address, identity, &place, known);
    let width = told(root.value(format!("{DEVICES}/{}/current_link_width", end.address)));
    Function {
        address: address.to_owned(),
        root: place.root.clone(),
        class: identity.class,
        vendor: identity.ids.0,
        device: identity.ids.1,
        subsystem: identity.subsystem,
        driver: identity.driver.clone(),
        numa_node: told(root.value(path("numa_node"))),
        link: width.and_then(|width| link(root, &end, width)),
        mixed_slot: is_mixed(address, identity, known),
        answers: width != Some(NO_ANSWER) || is_suspended(root, end.address),
        physical_function: told(root.link_name(path("physfn"))),
        virtual_functions: 0,
    }
}

fn is_mixed(address: &str, identity: &Identity, known: &BTreeMap<String, Identity>) -> bool {
    let Some((slot, _)) = address.rsplit_once('.') else { return false };
    let others = known.iter().filter(|(other, _)| other.rsplit_once('.').is_some_and(|(of, _)| of == slot));
    others.into_iter().any(|(_, other)| other.ids.0 != identity.ids.0)
}

/// A fact that cannot be read is one that the device does not tell: the device itself stays listed.
fn told<T>(read: Result<Option<T>, Unreadable>) -> Option<T> {
    read.inspect_err(|error| tracing::debug!(%error, "a PCI attribute could not be read")).ok().flatten()
}

/// Where a function sits: the root complex and the bridges between it and the function, from the top.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    root: Option<String>,
    bridges: Vec<String>,
}

impl Place {
    /// Reads the target of a link in [`DEVICES`], `../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0`.
    fn parse(target: &Path) -> Self {
        let names: Vec<_> = target.iter().filter_map(|name| name.to_str()).collect();
        let is_root = |name: &&str| name.starts_with("pci") && name.contains(':');
        let is_address = |name: &&&str| name.contains(':') && name.contains('.');
        let above = names.split_last().map_or([].as_slice(), |(_, above)| above);
        Self {
            root: names.iter().copied().find(is_root).map(str::to_owned),
            bridges: above.iter().filter(is_address).map(|name| (*name).to_owned()).collect(),
        }
    }
}

/// The card's end of the link that leads out of it, and the port at the other end.
struct End<'a> {
    address: &'a str,
    port: Option<&'a str>,
}

impl<'a> End<'a> {
    /// GPUs of AMD (since Vega) and Intel (Arc) sit behind a switch on the card itself, whose inner links say nothing:
    /// two bridges of the card's own vendor right above the function, below a root port.
    fn find(address: &'a str, identity: &Identity, place: &'a Place, known: &BTreeMap<String, Identity>) -> Self {
        let own = |bridge: &String| known.get(bridge).is_some_and(|bridge| bridge.ids.0 == identity.ids.0);
        match place.bridges.as_slice() {
            [.., port, upstream, downstream] if own(upstream) && own(downstream) => {
                Self { address: upstream, port: Some(port) }
            }
            bridges => Self { address, port: bridges.last().map(String::as_str) },
        }
    }
}

fn link(root: &Root, end: &End<'_>, width: u8) -> Option<Link> {
    let widest = |of: &str| {
        let width = told(root.value::<u8>(format!("{DEVICES}/{of}/max_link_width")));
        width.filter(|width| WIDTHS.contains(width))
    };
    let speed = told(root.text(format!("{DEVICES}/{}/max_link_speed", end.address)));
    let max_width = widest(end.address)?;
    WIDTHS.contains(&width).then(|| Link {
        end: end.address.to_owned(),
        width,
        max_width,
        slot_width: end.port.and_then(widest),
        max_speed: speed.as_deref().and_then(parse_speed),
    })
}

/// A card that sleeps without power (D3cold) answers nothing either; the kernel wakes it when it is used.
fn is_suspended(root: &Root, address: &str) -> bool {
    told(root.text(format!("{DEVICES}/{address}/power/runtime_status"))).is_some_and(|status| status == "suspended")
}

/// A speed as sysfs writes it, `32.0 GT/s`.
pub fn speed_in_words(tenths: u16) -> String {
    format!("{}.{} GT/s", tenths / 10, tenths % 10)
}

/// `32.0 GT/s PCIe` in tenths of GT/s: 320. Old kernels write `8 GT/s`.
pub fn parse_speed(text: &str) -> Option<u16> {
    let number = text.split_whitespace().next()?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenths.get(..1)?.parse().ok()?)
}

fn count_virtual_functions(functions: &mut [Function]) {
    let mut count: BTreeMap<String, u16> = BTreeMap::new();
    for physical in functions.iter().filter_map(|function| function.physical_function.clone()) {
        *count.entry(physical).or_default() += 1;
    }
    for function in functions {
        function.virtual_functions = count.get(&function.address).copied().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    /// A machine whose functions are given as sysfs paths below `sys/devices` with their `uevent` and attributes.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn function(self, path: &str, uevent: &str, attributes: &[(&str, &str)]) -> Self {
            let folder = self.0.path().join("sys/devices").join(path);
            let address = folder.file_name().unwrap();
            fs::create_dir_all(&folder).unwrap();
            fs::create_dir_all(self.0.path().join(DEVICES)).unwrap();
            symlink(Path::new("../../../devices").join(path), self.0.path().join(DEVICES).join(address)).unwrap();
            fs::write(folder.join("uevent"), uevent).unwrap();
            for (name, value) in attributes {
                fs::write(folder.join(name), value).unwrap();
            }
            self
        }

        fn virtual_function(self, path: &str, physical: &str, uevent: &str) -> Self {
            let folder = self.0.path().join("sys/devices").join(path);
            let machine = self.function(path, uevent, &[]);
            symlink(Path::new("..").join(physical), folder.join("physfn")).unwrap();
            machine
        }

        fn scan(&self) -> Vec<Function> {
            scan(&Root::at(self.0.path())).unwrap()
        }
    }

    const H100: &str =
        "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:2330\nPCI_SUBSYS_ID=10DE:16C1\nPCI_SLOT_NAME=0000:3b:00.0\n";
    const ROOT_PORT: &str = "DRIVER=pcieport\nPCI_CLASS=60400\nPCI_ID=8086:352A\n";

    fn widths<'a>(current: &'a str, max: &'a str) -> [(&'a str, &'a str); 4] {
        [
            ("current_link_width", current),
            ("max_link_width", max),
            ("current_link_speed", "2.5 GT/s PCIe"),
            ("max_link_speed", "32.0 GT/s PCIe"),
        ]
    }

    #[test]
    fn a_card_is_read_with_its_place_and_its_link() {
        let machine = Machine::new()
            .function("pci0000:3a/0000:3a:00.0", ROOT_PORT, &[("max_link_width", "16")])
            .function("pci0000:3a/0000:3a:00.0/0000:3b:00.0", H100, &widths("16", "16"));
        let [gpu] = machine.scan().try_into().unwrap();
        assert_eq!(gpu.root.as_deref(), Some("pci0000:3a"));
        assert_eq!((gpu.kind(), gpu.ids().as_str(), gpu.slot()), (0x0302, "10de:2330", "0000:3b:00"));
        let end = "0000:3b:00.0".to_owned();
        let link = Link { end, width: 16, max_width: 16, slot_width: Some(16), max_speed: Some(320) };
        assert_eq!(gpu.link, Some(link));
        assert_eq!(gpu.link_trouble(), None, "an idle link is slow, which is no trouble");
    }

    #[test]
    fn a_link_tells_its_speed_of_now_or_nothing() {
        let address = "pci0000:3a/0000:3a:00.0/0000:3b:00.0";
        let speed_of = |more: &[(&str, &str)]| {
            let widths = widths("16", "16");
            let attributes: Vec<_> = widths.iter().copied().chain(more.iter().copied()).collect();
            let machine = Machine::new().function(address, H100, &attributes);
            let links = links_now(&Root::at(machine.0.path()), &machine.scan());
            assert_eq!(links[0].address, "0000:3b:00.0");
            links[0].speed
        };
        assert_eq!(speed_of(&[]), Some(25), "an idle card");
        assert_eq!(speed_of(&[("current_link_speed", "32.0 GT/s PCIe")]), Some(320));
        assert_eq!(speed_of(&[("current_link_speed", "Unknown")]), None);
    }

    #[test]
    fn a_link_is_narrow_below_what_both_ends_have() {
        let narrow = |width, max_width, slot_width| {
            Link { end: String::new(), width, max_width, slot_width, max_speed: None }.is_narrow()
        };
        for (width, max, slot, expected) in [
            (1, 16, Some(16), true),
            (4, 16, Some(16), true),
            (8, 16, Some(16), true),
            (8, 16, Some(8), false),
            (8, 16, None, false),
            (1, 16, None, true),
            (16, 16, Some(16), false),
            (1, 16, Some(1), false),
            (4, 16, Some(4), false),
            (1, 4, None, true),
            (2, 4, None, false),
            (1, 1, Some(16), false),
        ] {
            assert_eq!(narrow(width, max, slot), expected, "x{width} of x{max} in a slot of {slot:?}");
        }
    }

    #[test]
    fn the_link_of_a_card_with_a_switch_of_its_own_is_the_one_above_the_switch() {
        let bridge = |id: &str| format!("PCI_CLASS=60400\nPCI_ID={id}\n");
        let top = "pci0000:00/0000:00:01.0";
        let machine = Machine::new()
            .function(top, ROOT_PORT, &[("max_link_width", "16")])
            .function(&format!("{top}/0000:01:00.0"), &bridge("1002:1478"), &widths("1", "16"))
            .function(&format!("{top}/0000:01:00.0/0000:02:00.0"), &bridge("1002:1479"), &widths("16", "16"))
            .function(
                &format!("{top}/0000:01:00.0/0000:02:00.0/0000:03:00.0"),
                "PCI_CLASS=30000\nPCI_ID=1002:744C\n",
                &widths("16", "16"),
            );
        let [gpu] = machine.scan().try_into().unwrap();
        assert_eq!(gpu.link_trouble().unwrap().reason, "PcieLinkNarrow");
        assert_eq!(gpu.link.unwrap().width, 1);
    }

    #[test]
    fn a_link_that_tells_no_width_is_no_link() {
        for odd in ["0", "63", "255", "Unknown", ""] {
            let machine = Machine::new().function("pci0000:00/0000:00:05.0", H100, &widths(odd, odd));
            assert_eq!(machine.scan()[0].link, None, "{odd}");
            assert_eq!(machine.scan()[0].answers, odd != "63", "{odd}");
        }
    }

    #[test]
    fn a_card_that_sleeps_has_not_fallen_off_the_bus() {
        let machine = Machine::new().function("pci0000:00/0000:00:05.0", H100, &widths("63", "16"));
        assert_eq!(machine.scan()[0].access_trouble(&["nvidia"], "`nvidia`").unwrap().reason, "FellOffBus");
        let power = machine.0.path().join(DEVICES).join("0000:00:05.0/power");
        fs::create_dir(&power).unwrap();
        fs::write(power.join("runtime_status"), "suspended\n").unwrap();
        assert_eq!(machine.scan()[0].access_trouble(&["nvidia"], "`nvidia`"), None);
    }

    #[test]
    fn a_function_that_does_not_say_what_it_is_is_not_passed_over() {
        let machine = Machine::new().function("pci0000:00/0000:00:05.0", "MODALIAS=pci:\n", &[]);
        let error = scan(&Root::at(machine.0.path())).unwrap_err();
        assert_eq!(error.to_string(), "failed to read `sys/bus/pci/devices/0000:00:05.0/uevent`");
    }

    #[test]
    fn virtual_functions_are_counted_on_their_physical_function() {
        let machine = Machine::new()
            .function("pci0000:3a/0000:3b:00.0", H100, &[])
            .virtual_function("pci0000:3a/0000:3b:00.4", "0000:3b:00.0", H100)
            .virtual_function("pci0000:3a/0000:3b:00.5", "0000:3b:00.0", H100);
        let counts: Vec<_> = machine.scan().iter().map(|function| function.virtual_functions).collect();
        assert_eq!(counts, [2, 0, 0]);
    }

    #[test]
    fn bridges_switches_and_audio_functions_are_not_of_interest() {
        let machine = Machine::new()
            .function("pci0000:00/0000:00:01.0", ROOT_PORT, &[])
            .function("pci0000:00/0000:00:02.0", "PCI_CLASS=68000\nPCI_ID=10DE:22A3\n", &[])
            .function("pci0000:00/0000:00:03.1", "PCI_CLASS=40300\nPCI_ID=10DE:228B\n", &[])
            .function("pci0000:00/0000:00:04.0", "PCI_CLASS=20000\nPCI_ID=10EE:5084\n", &[]);
        assert_eq!(machine.scan(), []);
    }

    #[test]
    fn a_root_complex_is_found_behind_a_platform_device() {
        let place = Place::parse(Path::new(
            "../../../devices/platform/axi/1000110000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0",
        ));
        assert_eq!(place, Place { root: Some("pci0000:00".to_owned()), bridges: vec!["0000:00:00.0".to_owned()] });
    }

    proptest! {
        #[test]
        fn any_uevent_is_read_or_refused(text in "(?s).{0,200}", ids in "[0-9A-F:]{0,12}", class in "[0-9A-F]{0,10}") {
            let _ = Identity::parse(&text);
            let _ = Identity::parse(&format!("PCI_CLASS={class}\nPCI_ID={ids}\n{text}"));
            let _ = parse_speed(&text);
        }

        #[test]
        fn a_uevent_keeps_its_ids(class in 0u32..0x0100_0000, vendor: u16, device: u16) {
            let identity = Identity::parse(&format!("DRIVER=\nPCI_CLASS={class:X}\nPCI_ID={vendor:04X}:{device:04X}\n"));
            let identity = identity.unwrap();
            prop_assert_eq!((identity.class, identity.ids, identity.driver), (class, (vendor, device), None));
        }
    }
}
