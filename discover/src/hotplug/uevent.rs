//! One uevent of the kernel: `add@/devices/…`, NUL, then `KEY=value` and NUL for each value
//! (Linux, `lib/kobject_uevent.c`; kernel documentation, `ABI/stable/sysfs-class-udc` names the actions' users).

use std::str::FromStr;

/// What happened to a device (Linux, `include/linux/kobject.h`, `enum kobject_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It came.
    Add,
    /// It went.
    Remove,
    /// Something about it is different.
    Change,
    /// It has another name or parent.
    Move,
    /// It is in service.
    Online,
    /// It is out of service.
    Offline,
    /// A driver took it.
    Bind,
    /// Its driver left it.
    Unbind,
}

impl FromStr for Action {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        Ok(match word {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "change" => Self::Change,
            "move" => Self::Move,
            "online" => Self::Online,
            "offline" => Self::Offline,
            "bind" => Self::Bind,
            "unbind" => Self::Unbind,
            _ => return Err(Malformed::Action),
        })
    }
}

/// Why a message is no uevent of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A message ends with NUL.
    #[error("the message does not end with NUL")]
    Unterminated,
    /// The head and the names of subsystems are text. Other values need not be: the kernel cuts the name that an input device has in
    /// the middle of a letter.
    #[error("the message is no UTF-8")]
    NotText,
    /// The first part is the action, `@` and the path.
    #[error("the message has no `action@/path` in front")]
    Header,
    /// The action is none of the kernel's.
    #[error("the action is unknown")]
    Action,
    /// A part is no `KEY=value`.
    #[error("a part of the message is no `KEY=value`")]
    Value,
    /// `ACTION` and `DEVPATH` repeat the first part.
    #[error("the values contradict the head of the message")]
    Contradiction,
    /// Every device is of a subsystem.
    #[error("the message names no subsystem")]
    NoSubsystem,
}

/// One uevent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// What happened.
    pub action: Action,
    /// Path of the device below `/sys`.
    pub path: &'a str,
    /// Kind of device as the kernel names it.
    pub subsystem: &'a str,
}

/// Kinds of devices that an inventory shows. A family without a class of its own is told by its driver's `bind` on `pci`.
const SUBSYSTEMS: [&str; 17] = [
    "accel",
    "apex",
    "block",
    "drm",
    "habanalabs",
    "hailo1x",
    "hailo_chardev",
    "i2c",
    "media",
    "memx_cdev",
    "mic",
    "net",
    "nvme",
    "pci",
    "tenstorrent",
    "usb",
    "video4linux",
];

impl<'a> Uevent<'a> {
    /// Reads one message of the kernel.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let message = message.strip_suffix(b"\0").ok_or(Malformed::Unterminated)?;
        let mut parts = message.split(|byte| *byte == 0);
        let (action, path) = text(parts.next().unwrap_or_default())?.split_once('@').ok_or(Malformed::Header)?;
        if !path.starts_with('/') {
            return Err(Malformed::Header);
        }
        let mut subsystem = None;
        for part in parts {
            let end = part.iter().position(|byte| *byte == b'=').ok_or(Malformed::Value)?;
            match (&part[..end], &part[end + 1..]) {
                (b"ACTION", value) if value != action.as_bytes() => return Err(Malformed::Contradiction),
                (b"DEVPATH", value) if value != path.as_bytes() => return Err(Malformed::Contradiction),
                (b"SUBSYSTEM", value) => subsystem = Some(text(value)?),
                _ => {}
            }
        }
        let subsystem = subsystem.filter(|name| !name.is_empty()).ok_or(Malformed::NoSubsystem)?;
        Ok(Self { action: action.parse()?, path, subsystem })
    }

    /// Whether an inventory can be different after it. Devices without hardware (the interfaces of containers, loop
    /// devices) come and go by the hundred and are in no inventory; arrays of disks and namespaces of NVMe with several paths are.
    pub fn can_matter(&self) -> bool {
        let is_of_disks = ["block/md", "nvme-subsystem/"]
            .into_iter()
            .any(|kind| self.path.strip_prefix("/devices/virtual/").is_some_and(|place| place.starts_with(kind)));
        let virtual_only =
            matches!(self.subsystem, "net" | "block") && self.path.starts_with("/devices/virtual/") && !is_of_disks;
        // What is inside the chip is always there; its driver comes and goes.
        let of_a_driver = self.subsystem == "platform" && matches!(self.action, Action::Bind | Action::Unbind);
        (SUBSYSTEMS.binary_search(&self.subsystem).is_ok() && !virtual_only) || of_a_driver
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| Malformed::NotText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a Samsung phone arrives (Linux 6.12).
    const PHONE: &[u8] = b"add@/devices/pci0000:00/0000:00:14.0/usb3/3-2\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:14.0/usb3/3-2\0SUBSYSTEM=usb\0MAJOR=189\0MINOR=272\0\
        DEVNAME=bus/usb/003/017\0DEVTYPE=usb_device\0PRODUCT=4e8/6860/504\0TYPE=0/0/0\0BUSNUM=003\0DEVNUM=017\0\
        SEQNUM=4711\0";

    #[test]
    fn a_phone_arrives() {
        let uevent = Uevent::parse(PHONE).unwrap();
        let path = "/devices/pci0000:00/0000:00:14.0/usb3/3-2";
        assert_eq!(uevent, Uevent { action: Action::Add, path, subsystem: "usb" });
        assert!(uevent.can_matter());
    }

    #[test]
    fn what_is_no_uevent_of_the_kernel_is_refused() {
        let cases: [(&str, &[u8], Malformed); 14] = [
            ("nothing", b"", Malformed::Unterminated),
            ("no end", b"add@/a\0SUBSYSTEM=usb", Malformed::Unterminated),
            ("an empty head", b"\0", Malformed::Header),
            ("udev's own", b"libudev\0\xfe\xed\xca\xfe\0", Malformed::Header),
            ("a head that is no text", b"add@/\xff\0SUBSYSTEM=usb\0", Malformed::NotText),
            ("a subsystem that is no text", b"add@/a\0SUBSYSTEM=\xff\0", Malformed::NotText),
            ("udev's own, as text", b"libudev\0", Malformed::Header),
            ("no action", b"/devices/a\0SUBSYSTEM=usb\0", Malformed::Header),
            ("a path that is none", b"add@devices/a\0SUBSYSTEM=usb\0", Malformed::Header),
            ("an action of nobody", b"explode@/devices/a\0SUBSYSTEM=usb\0", Malformed::Action),
            ("a part without a value", b"add@/a\0SUBSYSTEM\0", Malformed::Value),
            ("another action", b"add@/a\0ACTION=remove\0SUBSYSTEM=usb\0", Malformed::Contradiction),
            ("another path", b"add@/a\0DEVPATH=/b\0SUBSYSTEM=usb\0", Malformed::Contradiction),
            ("no subsystem", b"add@/a\0ACTION=add\0SUBSYSTEM=\0", Malformed::NoSubsystem),
        ];
        for (name, message, refused) in cases {
            assert_eq!(Uevent::parse(message), Err(refused), "{name}");
        }
    }

    #[test]
    fn a_name_that_was_cut_in_the_middle_of_a_letter_is_let_be() {
        let message = b"add@/devices/a/input/input7\0SUBSYSTEM=input\0NAME=\"Tastatur f\xc3\"\0";
        let uevent = Uevent::parse(message).unwrap();
        assert_eq!((uevent.subsystem, uevent.can_matter()), ("input", false));
    }

    #[test]
    fn what_has_no_hardware_does_not_ring() {
        let cases = [
            ("pci", "/devices/pci0000:00/0000:00:1e.0", true),
            ("net", "/devices/pci0000:00/0000:00:1f.6/net/eno1", true),
            ("net", "/devices/virtual/net/veth0a1b2c3", false),
            ("block", "/devices/virtual/block/loop7", false),
            ("block", "/devices/virtual/block/md127", true),
            ("block", "/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", true),
            ("usb", "/devices/virtual/usb/1-1", true),
            ("hailo_chardev", "/devices/virtual/hailo_chardev/hailo0", true),
            ("queues", "/devices/virtual/net/eno1/queues/rx-0", false),
            ("module", "/module/loop", false),
        ];
        for (subsystem, path, rings) in cases {
            let uevent = Uevent { action: Action::Add, path, subsystem };
            assert_eq!(uevent.can_matter(), rings, "{subsystem} {path}");
        }
    }

    #[test]
    fn a_driver_of_what_is_inside_the_chip_rings() {
        for (action, rings) in
            [(Action::Bind, true), (Action::Unbind, true), (Action::Add, false), (Action::Change, false)]
        {
            let uevent = Uevent { action, path: "/devices/platform/17000000.gpu", subsystem: "platform" };
            assert_eq!(uevent.can_matter(), rings, "{action:?}");
        }
    }

    #[test]
    fn the_subsystems_are_sorted_as_the_search_needs_them() {
        assert!(SUBSYSTEMS.is_sorted());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Uevent::parse(&message);
        }

        #[test]
        fn values_do_not_hide_the_head(
            path in "/[a-z0-9:./-]{0,40}",
            subsystem in "[a-z0-9_]{1,16}",
            values in prop::collection::vec("(DEVNAME|MODALIAS|SEQNUM|PRODUCT)=[ -~]{0,20}", 0..8),
        ) {
            let parts = [format!("bind@{path}"), format!("DEVPATH={path}"), format!("SUBSYSTEM={subsystem}")];
            let message: String = parts.iter().chain(&values).flat_map(|part| [part.as_str(), "\0"]).collect();
            let expected = Uevent { action: Action::Bind, path: &path, subsystem: &subsystem };
            prop_assert_eq!(Uevent::parse(message.as_bytes()), Ok(expected));
        }

        #[test]
        fn a_cut_message_is_refused_or_names_the_same_device(length in 0..PHONE.len()) {
            if let Ok(cut) = Uevent::parse(&PHONE[..length]) {
                prop_assert_eq!(cut, Uevent::parse(PHONE).unwrap());
            }
        }
    }
}
