//! Raspberry Pi boards, their HATs and cameras, from the device tree.

use hatrack_api::cluster_node::{AddOn, Board, DeviceClass, Health, attribute};

use crate::host::{DEVICE_TREE, cut};
use crate::root::{Root, Unreadable};
use crate::sighting::{Key, Sighting};

const I2C: &str = "/sys/bus/i2c/devices";
const VIDEO: &str = "/sys/class/video4linux";

/// Boards by bits 4 to 11 of the revision code (raspberrypi/documentation, `raspberry-pi/revision-codes.adoc`).
const MODELS: [(u32, &str); 26] = [
    (0x00, "Model A"),
    (0x01, "Model B"),
    (0x02, "Model A Plus"),
    (0x03, "Model B Plus"),
    (0x04, "2 Model B"),
    (0x06, "Compute Module 1"),
    (0x08, "3 Model B"),
    (0x09, "Zero"),
    (0x0a, "Compute Module 3"),
    (0x0c, "Zero W"),
    (0x0d, "3 Model B Plus"),
    (0x0e, "3 Model A Plus"),
    (0x10, "Compute Module 3 Plus"),
    (0x11, "4 Model B"),
    (0x12, "Zero 2 W"),
    (0x13, "400"),
    (0x14, "Compute Module 4"),
    (0x15, "Compute Module 4S"),
    (0x17, "5 Model B"),
    (0x18, "Compute Module 5"),
    (0x19, "500"),
    (0x1a, "Compute Module 5 Lite"),
    (0x1b, "Compute Module 0"),
    (0x05, "Alpha"),
    (0x0f, "internal use only (type f)"),
    (0x16, "internal use only (type 16)"),
];

/// What a revision code of the new style says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Type of the board, bits 4 to 11: what tells one model from another.
    pub board: u32,
    /// Memory in MiB, bits 20 to 22.
    pub memory: u32,
}

impl Revision {
    /// Reads the property `linux,revision` of the device tree: a revision code, its highest byte first.
    pub fn parse(property: &[u8]) -> Option<Self> {
        Self::of(u32::from_be_bytes(property.try_into().ok()?))
    }

    /// Reads a revision code; `None` for one of the old style (bit 23 is 0), which has no fields.
    pub fn of(code: u32) -> Option<Self> {
        let is_new = code & (1 << 23) != 0;
        is_new.then_some(Self { board: (code >> 4) & 0xff, memory: 256 << ((code >> 20) & 0b111) })
    }

    /// Name of the board with its memory, `Raspberry Pi 5 Model B (8 GB)`; `None` for a type that is not known.
    pub fn model(self) -> Option<String> {
        let (_, name) = MODELS.iter().find(|(board, _)| *board == self.board)?;
        let memory =
            if self.memory < 1024 { format!("{} MB", self.memory) } else { format!("{} GB", self.memory / 1024) };
        Some(format!("Raspberry Pi {name} ({memory})"))
    }
}

/// The board, where the device tree says that this is a Raspberry Pi.
pub fn board(root: &Root) -> Result<Option<Board>, Unreadable> {
    if !is_raspberry_pi(root)? {
        return Ok(None);
    }
    let code = root.bytes(format!("{DEVICE_TREE}/system/linux,revision"))?;
    let model = match code.as_deref().and_then(Revision::parse).and_then(Revision::model) {
        Some(model) => Some(model),
        // A board newer than the table, or an old one, is still what its device tree calls it.
        None => root.text(format!("{DEVICE_TREE}/model"))?,
    };
    let Some(model) = model else { return Ok(None) };
    let vendor = Some("Raspberry Pi".to_owned());
    Ok(Some(Board { vendor, model: cut(&model, 128), add_ons: hats(root)? }))
}

fn is_raspberry_pi(root: &Root) -> Result<bool, Unreadable> {
    let compatible = root.text(format!("{DEVICE_TREE}/compatible"))?.unwrap_or_default();
    Ok(is_compatible(&compatible))
}

/// Whether the property `compatible` of a device tree, texts with NULs between them, is a Raspberry Pi's.
pub fn is_compatible(property: &str) -> bool {
    property.split('\0').any(|id| id.starts_with("raspberrypi,"))
}

/// The HATs on the board. Firmware calls the node of the first one `hat`; what it calls that of a second one differs.
/// What an EEPROM says is a hint: an accelerator on a HAT is known by its PCI id.
pub(crate) fn hats(root: &Root) -> Result<Vec<AddOn>, Unreadable> {
    /// As many as the schema takes.
    const MOST: usize = 8;
    let names = root.entries(DEVICE_TREE)?.unwrap_or_default();
    let is_hat = |name: &&String| {
        name.strip_prefix("hat").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    let hats = names.iter().filter(is_hat).map(|name| hat(root, name));
    hats.filter_map(Result::transpose).take(MOST).collect()
}

/// One HAT; `None` for a node whose EEPROM has no product, as that of a board without one.
fn hat(root: &Root, name: &str) -> Result<Option<AddOn>, Unreadable> {
    let read = |property| root.text(format!("{DEVICE_TREE}/{name}/{property}"));
    let Some(product) = read("product")? else { return Ok(None) };
    Ok(add_on(&product, &read("vendor")?.unwrap_or_default(), &read("uuid")?.unwrap_or_default()))
}

/// What the texts of a HAT's EEPROM say.
pub fn add_on(product: &str, vendor: &str, uuid: &str) -> Option<AddOn> {
    let is_told = uuid.bytes().any(|byte| byte.is_ascii_alphanumeric() && byte != b'0');
    let uuid = is_told.then(|| cut(uuid, 64));
    (!product.is_empty()).then(|| AddOn { vendor: cut(vendor, 64), product: cut(product, 64), uuid })
}

/// AI Cameras: IMX500 sensors with a neural processor, on the I2C bus and neither PCI nor USB.
pub fn cameras(root: &Root) -> Result<Vec<Sighting>, Unreadable> {
    if !is_raspberry_pi(root)? {
        return Ok(Vec::new());
    }
    let names = root.entries(I2C)?.unwrap_or_default();
    names.iter().map(|name| camera(root, name)).filter_map(Result::transpose).collect()
}

fn camera(root: &Root, name: &str) -> Result<Option<Sighting>, Unreadable> {
    let driver = root.link_name(format!("{I2C}/{name}/driver"))?;
    let node = root.link(format!("{I2C}/{name}/of_node"))?;
    let node = node.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let is_imx500 = |text: &str| text == "imx500" || text.starts_with("imx500@");
    let last = node.rsplit('/').next().unwrap_or_default();
    if !is_imx500(last) && !driver.as_deref().is_some_and(is_imx500) {
        return Ok(None);
    }
    let key = Key { class: DeviceClass::Accelerator, slot: slot(&node, name), ids: "imx500".to_owned(), serial: None };
    let health = match &driver {
        Some(_) => Health::ready("DriverBound"),
        None => Health::unusable(
            "NoDriver",
            "no driver is bound to the camera: is the overlay imx500 of this kernel loaded?",
        ),
    };
    let mut sighting = Sighting::new(key, health)
        .text(attribute::VENDOR, Some("sony"))
        .text(attribute::MODEL, Some("IMX500"))
        .text(attribute::FAMILY, Some("imx500"))
        .text(attribute::DRIVER, driver);
    sighting.nodes = subdevices(root, name)?;
    Ok(Some(sighting))
}

/// Where the camera is: its connector's bus in the device tree, as Linux numbers buses anew. `…/i2c@88000/imx500@1a`
/// becomes `i2c@88000/1a`.
fn slot(node: &str, name: &str) -> String {
    let mut parts = node.rsplit('/');
    let address = parts.next().and_then(|last| last.split_once('@')).map(|(_, address)| address);
    match (parts.next(), address) {
        (Some(bus), Some(address)) => format!("{bus}/{address}"),
        _ => format!("i2c/{name}"),
    }
}

/// Nodes of the video subdevices that the camera's driver made: they are named after it, `imx500 10-001a`.
fn subdevices(root: &Root, name: &str) -> Result<Vec<String>, Unreadable> {
    let mut nodes = Vec::new();
    for video in root.entries(VIDEO)?.unwrap_or_default() {
        if video.starts_with("v4l-subdev")
            && root.text(format!("{VIDEO}/{video}/name"))?.is_some_and(|text| text.split(' ').any(|word| word == name))
        {
            nodes.push(format!("/dev/{video}"));
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use hatrack_fixtures::{machine, machine_copy};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_model_is_told_by_its_type_bits_alone() {
        let cases = [
            (0x00d0_4170, Some("Raspberry Pi 5 Model B (8 GB)")),
            (0x02d0_4171, Some("Raspberry Pi 5 Model B (8 GB)")),
            (0x00c0_3111, Some("Raspberry Pi 4 Model B (4 GB)")),
            (0x0090_0092, Some("Raspberry Pi Zero (512 MB)")),
            (0x00d0_41a0, Some("Raspberry Pi Compute Module 5 Lite (8 GB)")),
            (0x00d0_4ff0, None),
            (0x0000_000e, None),
        ];
        for (code, expected) in cases {
            assert_eq!(Revision::of(code).and_then(Revision::model).as_deref(), expected, "{code:#x}");
        }
    }

    #[test]
    fn a_board_that_the_table_lacks_is_what_its_device_tree_says() {
        let copy = machine_copy("pi5-ai-hat-plus").unwrap();
        copy.write("sys/firmware/devicetree/base/system/linux,revision", [0x00, 0xd0, 0x4f, 0xf0]).unwrap();
        let model = |copy: &hatrack_fixtures::MachineCopy| board(&Root::at(copy.path())).unwrap().unwrap().model;
        assert_eq!(model(&copy), "Raspberry Pi 5 Model B Rev 1.0");
        copy.write("sys/firmware/devicetree/base/system/linux,revision", [0x00]).unwrap();
        assert_eq!(model(&copy), "Raspberry Pi 5 Model B Rev 1.0");
        copy.make_unreadable("sys/firmware/devicetree/base/hat/product").unwrap();
        assert!(board(&Root::at(copy.path())).is_err(), "what a HAT is could not be told");
    }

    #[test]
    fn a_hat_without_a_product_is_none() {
        let pi = machine("pi5-ai-hat-plus-2").unwrap();
        let board = board(&Root::at(pi.path())).unwrap().unwrap();
        let products: Vec<_> = board.add_ons.iter().map(|hat| hat.product.as_str()).collect();
        assert_eq!(products, ["AI HAT+ 2"]);
    }

    #[test]
    fn another_board_with_a_device_tree_is_no_raspberry_pi() {
        let jetson = machine("jetson-orin-nano").unwrap();
        assert_eq!(board(&Root::at(jetson.path())).unwrap(), None);
        assert!(cameras(&Root::at(jetson.path())).unwrap().is_empty());
    }

    #[test]
    fn an_ai_camera_is_an_accelerator_and_a_plain_camera_is_not() {
        let pi = machine("pi5-ai-camera").unwrap();
        let cameras = cameras(&Root::at(pi.path())).unwrap();
        assert_eq!(cameras.len(), 1);
        assert_eq!((cameras[0].key.slot.as_str(), cameras[0].key.ids.as_str()), ("i2c@88000/1a", "imx500"));
        assert_eq!(cameras[0].nodes, ["/dev/v4l-subdev2"]);
        assert_eq!(cameras[0].health, Health::ready("DriverBound"));
    }

    #[test]
    fn an_ai_camera_without_its_driver_is_unusable_in_the_same_slot() {
        let copy = machine_copy("pi5-ai-camera").unwrap();
        copy.remove("sys/bus/i2c/devices/10-001a/driver").unwrap();
        copy.remove("sys/class/video4linux").unwrap();
        let cameras = cameras(&Root::at(copy.path())).unwrap();
        assert_eq!((cameras[0].key.slot.as_str(), cameras[0].health.reason.as_str()), ("i2c@88000/1a", "NoDriver"));
        assert!(!cameras[0].health.is_usable() && cameras[0].nodes.is_empty());
    }

    proptest! {
        #[test]
        fn any_revision_code_is_read(code in any::<u32>()) {
            prop_assert_eq!(Revision::parse(&code.to_be_bytes()), Revision::of(code));
            if let Some(revision) = Revision::of(code) {
                prop_assert!(revision.board <= 0xff && (256..=32768).contains(&revision.memory));
                let _ = revision.model();
            }
        }

        #[test]
        fn any_device_tree_text_is_read(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let folder = tempfile::tempdir().unwrap();
            let base = folder.path().join("sys/firmware/devicetree/base/hat");
            std::fs::create_dir_all(&base).unwrap();
            std::fs::write(base.join("../compatible"), b"raspberrypi,5-model-b\0").unwrap();
            for name in ["product", "vendor", "uuid", "../model"] {
                std::fs::write(base.join(name), &text).unwrap();
            }
            let board = board(&Root::at(folder.path())).unwrap();
            for hat in board.iter().flat_map(|board| &board.add_ons) {
                prop_assert!(!hat.product.is_empty() && hat.product.chars().count() <= 64);
            }
        }
    }
}
