//! The host itself: processor, memory, kernel, distribution, identity.

pub mod cpu;
pub mod hardware_id;
pub mod nixos;
pub mod os_release;

use hatrack_api::cluster_node::{Board, Identity, System};
use hatrack_api::quantity;

use crate::network;
use crate::raspberry_pi;
use crate::root::{Root, Unreadable};

/// Where Linux shows the device tree; `/proc/device-tree` is a link to it.
pub(crate) const DEVICE_TREE: &str = "/sys/firmware/devicetree/base";

/// For a field that the object needs and that this machine does not tell.
const UNKNOWN: &str = "unknown";

/// What the host is.
#[derive(Debug, Default)]
pub struct Host {
    /// Who it is.
    pub identity: Identity,
    /// What it runs on.
    pub system: System,
    /// SMBIOS UUID, else device-tree serial number, else lowest permanent MAC address; absent where there is none to
    /// trust, and where a source before the next one could not be read: the reason is then in [`Host::unreadable`].
    pub hardware_id: Option<String>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl Host {
    /// Where something could not be read, what is not told now stands as it was seen before: an object that loses a fact
    /// says that the fact is gone. The hardware id is never taken from before: it decides who this machine is.
    #[must_use]
    pub fn or_as_seen(mut self, identity: &Identity, system: &System) -> Self {
        if self.unreadable.is_empty() {
            return self;
        }
        let (now, before) = (&mut self.identity, identity.clone());
        if now.hostname.is_empty() {
            now.hostname = before.hostname;
        }
        if now.addresses.is_empty() {
            now.addresses = before.addresses;
        }
        now.machine_id = now.machine_id.take().or(before.machine_id);
        now.boot_id = now.boot_id.take().or(before.boot_id);
        let (now, before) = (&mut self.system, system.clone());
        for (now, before) in
            [(&mut now.architecture, before.architecture), (&mut now.kernel_version, before.kernel_version)]
        {
            if now == UNKNOWN {
                *now = before;
            }
        }
        if now.cpu.model.is_none() {
            now.cpu = before.cpu;
        }
        now.cpu.cores = now.cpu.cores.or(system.cpu.cores);
        now.os_image = now.os_image.take().or(before.os_image);
        now.memory = now.memory.take().or(before.memory);
        now.board = now.board.take().or(before.board);
        now.nixos = now.nixos.take().or(before.nixos);
        self
    }
}

/// Reads what the host is.
pub fn collect(root: &Root) -> Host {
    let mut doubts = Doubts::default();
    let identity = Identity {
        hostname: hostname(root, &mut doubts),
        machine_id: doubts.resolve(root.text("/etc/machine-id")).filter(|id| is_machine_id(id)),
        boot_id: doubts.resolve(root.text("/proc/sys/kernel/random/boot_id")),
        addresses: doubts.resolve(network::address::reachable(root).map(Some)).unwrap_or_default(),
    };
    let system = system(root, &mut doubts);
    let hardware_id = doubts.resolve(hardware_id::read(root));
    Host { identity, system, hardware_id, unreadable: doubts.0 }
}

/// What could not be read while the rest went on.
#[derive(Default)]
struct Doubts(Vec<Unreadable>);

impl Doubts {
    fn resolve<T>(&mut self, read: Result<Option<T>, Unreadable>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }
}

fn hostname(root: &Root, doubts: &mut Doubts) -> String {
    let running = doubts.resolve(root.text("/proc/sys/kernel/hostname"));
    running.or_else(|| doubts.resolve(root.text("/etc/hostname"))).unwrap_or_default()
}

/// machine-id(5): 32 lower-case hex digits; `uninitialized` before the first boot has ended.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn system(root: &Root, doubts: &mut Doubts) -> System {
    let cpuinfo = doubts.resolve(root.text("/proc/cpuinfo")).unwrap_or_default();
    let os = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| doubts.resolve(root.text(path)));
    System {
        architecture: architecture(root, &cpuinfo, doubts).unwrap_or_else(|| UNKNOWN.to_owned()),
        kernel_version: kernel(root, doubts).unwrap_or_else(|| UNKNOWN.to_owned()),
        os_image: os.as_deref().and_then(|text| os_release::value(text, "PRETTY_NAME")).map(|name| cut(&name, 128)),
        cpu: cpu::read(root, &cpuinfo, doubts),
        memory: doubts
            .resolve(root.text("/proc/meminfo"))
            .and_then(|text| total_memory(&text))
            .map(quantity::from_bytes),
        board: doubts.resolve(board(root)),
        nixos: doubts.resolve(nixos::read(root)),
    }
}

/// What the kernel says of this machine; of a copied tree, what the kernel there said, else what its processors are like.
/// It is never what this program was built for.
fn architecture(root: &Root, cpuinfo: &str, doubts: &mut Doubts) -> Option<String> {
    if root.is_machine() {
        let name = nix::sys::utsname::uname().ok()?;
        return Some(name.machine().to_string_lossy().into_owned());
    }
    // Since Linux 6.1 (kernel documentation, `admin-guide/sysctl/kernel.rst`).
    let said = doubts.resolve(root.text("/proc/sys/kernel/arch"));
    said.or_else(|| cpu::architecture(cpuinfo).map(str::to_owned))
}

fn kernel(root: &Root, doubts: &mut Doubts) -> Option<String> {
    let release = doubts.resolve(root.text("/proc/sys/kernel/osrelease"));
    release.or_else(|| {
        let version = doubts.resolve(root.text("/proc/version"))?;
        version.strip_prefix("Linux version ")?.split_whitespace().next().map(str::to_owned)
    })
}

/// `MemTotal` of `/proc/meminfo` in bytes (proc_meminfo(5)).
pub fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The board: of a Raspberry Pi with what is on top of it, else as SMBIOS says, else as the device tree says.
fn board(root: &Root) -> Result<Option<Board>, Unreadable> {
    if let Some(board) = raspberry_pi::board(root)? {
        return Ok(Some(board));
    }
    // Whole machines have a product name; of boards sold alone that field is often a filler, and the board's own is not.
    for (vendor, model) in [("sys_vendor", "product_name"), ("board_vendor", "board_name")] {
        let read = |name| Ok(root.text(format!("/sys/class/dmi/id/{name}"))?.filter(|text| !is_filler(text)));
        if let Some(model) = read(model)? {
            return Ok(Some(Board {
                vendor: read(vendor)?.map(|name| cut(&name, 64)),
                model: cut(&model, 128),
                add_ons: vec![],
            }));
        }
    }
    let model = root.text(format!("{DEVICE_TREE}/model"))?.filter(|text| !text.is_empty());
    Ok(model.map(|model| Board { vendor: None, model: cut(&model, 128), add_ons: vec![] }))
}

/// Texts that firmware has where a maker did not write anything (dmidecode dumps of boards sold alone).
const FILLERS: [&str; 22] = [
    "0",
    "123456789",
    "0123456789",
    "1234567890",
    "base board serial number",
    "chassis serial number",
    "default",
    "default string",
    "empty",
    "n/a",
    "na",
    "no enclosure",
    "none",
    "not applicable",
    "not available",
    "not specified",
    "o.e.m.",
    "oem",
    "system manufacturer",
    "system product name",
    "system serial number",
    "unknown",
];

/// Whether a text of SMBIOS or of the device tree stands for no text.
pub(crate) fn is_filler(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase().replace('_', " ");
    let told = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    !told || text.starts_with("to be filled") || FILLERS.contains(&text.as_str())
}

/// At most this many characters, as the schema allows.
pub(crate) fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

#[cfg(test)]
mod tests {
    use hatrack_fixtures::machine_copy;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_read_stands_as_it_was_seen_except_who_the_machine_is() {
        let copy = machine_copy("pi5-ai-hat-plus-2").unwrap();
        let before = collect(&Root::at(copy.path()));
        assert!(before.unreadable.is_empty());
        let files = [
            "proc/cpuinfo",
            "proc/meminfo",
            "proc/sys/kernel/hostname",
            "etc/hostname",
            "proc/sys/kernel/osrelease",
            "proc/version",
            "proc/sys/kernel/random/boot_id",
            "etc/machine-id",
            "etc/os-release",
            "sys/firmware/devicetree/base/compatible",
            "sys/firmware/devicetree/base/serial-number",
        ];
        for file in files {
            copy.make_unreadable(file).unwrap();
        }
        let doubtful = collect(&Root::at(copy.path()));
        assert!(doubtful.unreadable.len() >= files.len(), "{:?}", doubtful.unreadable);
        assert!(doubtful.system.cpu.threads >= 1, "the schema has no machine without a thread");
        let now = doubtful.or_as_seen(&before.identity, &before.system);
        assert_eq!((now.identity, now.system), (before.identity, before.system));
        assert_eq!(now.hardware_id, None);
    }

    #[test]
    fn what_is_certainly_gone_is_gone() {
        let copy = machine_copy("pi5-ai-hat-plus-2").unwrap();
        let before = collect(&Root::at(copy.path()));
        copy.remove("run/current-system").unwrap();
        copy.remove("etc/os-release").unwrap();
        let now = collect(&Root::at(copy.path())).or_as_seen(&before.identity, &before.system);
        assert_eq!((now.system.nixos, now.system.os_image), (None, None));
    }

    #[test]
    fn fillers_are_known_in_any_spelling() {
        for filler in
            ["To Be Filled By O.E.M.", "to be filled by o.e.m", "Default_string", "System Product Name", "...", "", " "]
        {
            assert!(is_filler(filler), "{filler}");
        }
        for told in ["PRIME Z370-P", "0A9C", "Standard PC (Q35 + ICH9, 2009)"] {
            assert!(!is_filler(told), "{told}");
        }
    }

    #[test]
    fn this_machine_is_described() {
        let host = collect(&Root::machine());
        assert!(!host.identity.hostname.is_empty() && host.system.memory.is_some(), "{host:?}");
        let sysinfo = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram()),
        );
        let total = sysinfo.unwrap().total_memory();
        assert_eq!(host.system.memory, Some(quantity::from_bytes(total)));
        assert_eq!(host.system.architecture, sysinfo::System::cpu_arch());
    }

    proptest! {
        #[test]
        fn any_meminfo_is_read(text in "(MemTotal:)?[ 0-9kB\\n]{0,40}") {
            let _ = total_memory(&text);
        }
    }
}
