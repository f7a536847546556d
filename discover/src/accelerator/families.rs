//! The table of accelerator families: `families.toml`, which says what its fields mean.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hatrack_api::cluster_node::{Health, HealthState};
use serde::Deserialize;

const TABLE: &str = include_str!("families.toml");

/// One entry of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// What selectors ask for.
    pub name: String,
    /// Maker.
    pub vendor: String,
    model: String,
    #[serde(default)]
    pci: Vec<Id>,
    #[serde(default)]
    except: Vec<Id>,
    #[serde(default)]
    usb: Vec<Id>,
    /// End of the name of a platform device.
    pub platform: Option<String>,
    #[serde(default)]
    compatible: Vec<String>,
    #[serde(default)]
    companions: Vec<Id>,
    /// Kernel drivers that serve it; empty: any.
    #[serde(default)]
    pub drivers: Vec<String>,
    module: Option<String>,
    /// No kernel driver is needed.
    #[serde(default)]
    pub userspace: bool,
    /// Where its nodes are named.
    #[serde(default)]
    pub nodes: Vec<NodeRule>,
    /// Attribute and file.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    #[serde(default)]
    models: BTreeMap<String, String>,
    #[serde(default)]
    undecided: Vec<String>,
    #[serde(default)]
    boards: BTreeMap<String, String>,
    /// What its driver can say of one that is ill.
    #[serde(default)]
    pub symptoms: Vec<Symptom>,
    /// What is wrong with every device of the entry.
    pub fault: Option<Fault>,
}

/// Vendor and device, or every device of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Id {
    vendor: u16,
    device: Option<u16>,
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |digits: &str| u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4);
        let id = text.split_once(':').and_then(|(vendor, device)| {
            let device = if device == "*" { None } else { Some(number(device)?) };
            Some(Self { vendor: number(vendor)?, device })
        });
        id.ok_or_else(|| format!("`{text}` is no id: four hexadecimal digits, `:` and four more, or `*`"))
    }
}

/// Where nodes are named.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum NodeRule {
    /// A class of sysfs.
    Class {
        /// Name of the class.
        class: String,
        /// What a node's name begins with.
        #[serde(default)]
        prefix: String,
        /// The node, `{}` being the name in the class; the default is `/dev/{}`.
        node: Option<String>,
        /// Attribute that holds the PCI address, for a class without a link to the device.
        locate: Option<String>,
        /// The class has neither: its nodes are told only while there is one device.
        #[serde(default)]
        shared: bool,
    },
    /// Names below `/dev` that begin so, told only while there is one device.
    Dev {
        /// Beginning of the names.
        dev: String,
    },
    /// A name that follows from the PCI address.
    Address {
        /// The node, with `{domain}`, `{bus}` and `{function}` in hexadecimal.
        address: String,
    },
}

/// What is wrong with every device of an entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// One word for programs.
    pub reason: String,
    /// What to do.
    pub message: String,
}

/// What a file of the driver says of a device that is ill.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symptom {
    /// Where it is said: the first that is there counts.
    pub files: Vec<String>,
    words: Vec<String>,
    state: HealthState,
    reason: String,
    message: String,
}

impl Symptom {
    /// The health that follows from what the driver says, if it says this.
    pub fn health(&self, said: &str) -> Option<Health> {
        let is_said = self.words.iter().any(|word| word.eq_ignore_ascii_case(said));
        is_said.then(|| Health { state: self.state, reason: self.reason.clone(), message: self.message.clone() })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    no_accelerators: Vec<Id>,
    family: Vec<Family>,
}

/// The table is part of the program, and a test reads it: at run time it is never empty.
fn table() -> &'static Table {
    static READ: LazyLock<Table> =
        LazyLock::new(|| toml::from_str(TABLE).unwrap_or(Table { no_accelerators: Vec::new(), family: Vec::new() }));
    &READ
}

/// Every entry.
pub fn all() -> &'static [Family] {
    &table().family
}

/// Whether a PCI function has the class of an accelerator and is none.
pub fn is_no_accelerator(vendor: u16, device: u16) -> bool {
    matches(&table().no_accelerators, vendor, device)
}

/// The entry for a PCI function, companions included.
pub fn of_pci(vendor: u16, device: u16) -> Option<&'static Family> {
    all().iter().find(|family| family.has_pci(vendor, device))
}

/// The entry for a USB device.
pub fn of_usb(vendor: u16, product: u16) -> Option<&'static Family> {
    all().iter().find(|family| matches(&family.usb, vendor, product))
}

/// The entry for a device of the device tree.
pub fn of_compatible(compatible: &[String]) -> Option<&'static Family> {
    all().iter().find(|family| family.compatible.iter().any(|known| compatible.contains(known)))
}

impl Family {
    fn has_pci(&self, vendor: u16, device: u16) -> bool {
        let listed = matches(&self.pci, vendor, device) || matches(&self.companions, vendor, device);
        listed && !matches(&self.except, vendor, device)
    }

    /// Whether these are the ids of a further function of a card.
    pub fn is_companion(&self, vendor: u16, device: u16) -> bool {
        matches(&self.companions, vendor, device)
    }

    /// Vendor and product of every mode of a stick.
    #[cfg(test)]
    pub fn usb_ids(&self) -> impl Iterator<Item = (u16, u16)> {
        self.usb.iter().filter_map(|id| Some((id.vendor, id.device?)))
    }

    /// The model of a device, as far as its ids tell.
    pub fn model(&self, ids: &str, subsystem: u16, revision: Option<&str>) -> &str {
        let by_revision = revision.and_then(|revision| self.models.get(&format!("{ids}@{revision}")));
        let by_subsystem = || self.models.get(&format!("{ids}:{subsystem:04x}"));
        by_revision.or_else(by_subsystem).or_else(|| self.models.get(ids)).unwrap_or(&self.model)
    }

    /// Whether a model is the one that is said where ids do not tell.
    pub fn is_undecided(&self, model: &str) -> bool {
        !self.undecided.is_empty() && model == self.model
    }

    /// The model that a Raspberry Pi's board on top has, by the number in the board's name.
    pub fn model_on_board(&self, product: &str) -> Option<&str> {
        let (_, rest) = product.split_once("AI HAT+")?;
        let number: String = rest.chars().filter(char::is_ascii_digit).collect();
        self.boards.get(&number).map(String::as_str)
    }

    /// The kernel module to load where no driver is bound, in words.
    pub fn module(&self) -> String {
        self.module.as_ref().map_or_else(|| "of its maker".to_owned(), |module| format!("`{module}`"))
    }

    /// Whether the revision tells the models of an id apart.
    pub fn has_revisions(&self, ids: &str) -> bool {
        self.models.keys().any(|key| key.strip_prefix(ids).is_some_and(|rest| rest.starts_with('@')))
    }
}

fn matches(ids: &[Id], vendor: u16, device: u16) -> bool {
    ids.iter().any(|id| id.vendor == vendor && id.device.is_none_or(|known| known == device))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_can_be_read() {
        let table: Table = toml::from_str(TABLE).unwrap();
        assert_eq!(table.family.len(), all().len());
    }

    #[test]
    fn every_entry_says_how_it_is_told_and_driven() {
        for family in all() {
            let told = !(family.pci.is_empty() && family.usb.is_empty() && family.compatible.is_empty());
            assert!(told, "{} cannot be told", family.name);
            assert!(!family.userspace || family.module.is_none(), "{} has a driver too many", family.name);
            assert!(family.drivers.is_empty() || family.module.is_some(), "{} has drivers and no module", family.name);
            assert!(family.compatible.is_empty() == family.platform.is_none(), "{}", family.name);
        }
    }

    #[test]
    fn every_id_is_of_one_entry_and_every_model_of_an_id() {
        let mut seen = BTreeSet::new();
        for family in all() {
            for id in [&family.pci, &family.except, &family.usb, &family.companions].into_iter().flatten() {
                assert!(seen.insert(id), "{id:?} is in two places");
            }
            for key in family.models.keys() {
                let ids = key.get(..9).unwrap_or_else(|| panic!("{key} is no id"));
                let Id { vendor, device } = Id::try_from(ids.to_owned()).unwrap();
                assert!(device.is_some_and(|device| family.has_pci(vendor, device)), "{key}: a model without its id");
                let rest = &key[9..];
                let told_by = rest.strip_prefix(':').or(rest.strip_prefix('@'));
                assert!(rest.is_empty() || told_by.is_some_and(|rest| u16::from_str_radix(rest, 16).is_ok()), "{key}");
            }
        }
    }

    #[test]
    fn a_board_and_a_symptom_are_of_their_entry() {
        for family in all() {
            assert!(family.undecided.len() != 1, "{}: one model is no choice", family.name);
            let models = family.boards.values();
            assert!(models.into_iter().all(|model| family.undecided.contains(model)), "{}", family.name);
            for symptom in &family.symptoms {
                assert!(!symptom.files.is_empty() && symptom.state != HealthState::Ready, "{}", symptom.reason);
                assert!(symptom.words.iter().all(|word| *word == word.to_lowercase()), "{}", symptom.reason);
                assert!(!symptom.message.is_empty() && symptom.message.chars().count() <= 512, "{}", symptom.reason);
            }
        }
    }

    #[test]
    fn a_board_tells_the_model_by_the_number_in_its_name() {
        let (eight, ten) = (of_pci(0x1e60, 0x2864).unwrap(), of_pci(0x1e60, 0x45c4).unwrap());
        for (family, product, model) in [
            (eight, "AI HAT+ 13T", Some("Hailo-8L")),
            (eight, "Raspberry Pi AI HAT+ (26 TOPS)", Some("Hailo-8")),
            (eight, "AI HAT+", None),
            (eight, "AI HAT+ 2", None),
            (eight, "Sense HAT 26", None),
            (ten, "AI HAT+ 2", Some("Hailo-10H")),
            (ten, "Sense HAT 2", None),
        ] {
            assert_eq!(family.model_on_board(product), model, "{product}");
        }
    }

    #[test]
    fn a_module_is_named_only_where_its_name_is_known() {
        assert_eq!(of_pci(0x1e60, 0x2864).unwrap().module(), "`hailo_pci`");
        assert_eq!(of_pci(0x1e38, 0x0102).unwrap().module(), "of its maker");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for odd in ["", "1e60", "1e60:", "1e60:28", "1e60:28640", "*:2864", "1e6g:2864", "1e60-2864"] {
            assert!(Id::try_from(odd.to_owned()).is_err(), "{odd}");
        }
    }

    #[test]
    fn network_cards_and_video_processors_are_no_accelerators() {
        for (vendor, device) in
            [(0x10ee, 0x5074), (0x10ee, 0x5084), (0x1ff4, 0x2001), (0x10de, 0x22a3), (0x1d0f, 0xec20)]
        {
            assert!(of_pci(vendor, device).is_none(), "{vendor:04x}:{device:04x}");
        }
    }

    #[test]
    fn the_subsystem_or_the_revision_tells_the_model_where_the_id_does_not() {
        let family = of_pci(0x1e52, 0x401e).unwrap();
        assert_eq!(family.model("1e52:401e", 0x0018, None), "Wormhole n150");
        assert_eq!(family.model("1e52:401e", 0xffff, None), "Wormhole");
        assert!(!family.has_revisions("1e52:401e"));
        let family = of_pci(0x1022, 0x17f0).unwrap();
        assert!(family.has_revisions("1022:17f0") && !family.has_revisions("1022:1502"));
        assert_eq!(family.model("1022:17f0", 0, Some("11")), "Ryzen AI NPU (Strix Halo)");
        assert_eq!(family.model("1022:17f0", 0, Some("99")), "Ryzen AI NPU");
    }
}
