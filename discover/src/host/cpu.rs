//! Processors, from `/proc/cpuinfo` (proc_cpuinfo(5)): one file says what hundreds of `topology` folders say.

use std::collections::BTreeSet;

use hatrack_api::cluster_node::Cpu;

use super::{Doubts, cut};
use crate::root::{Root, Unreadable};

const CPUS: &str = "/sys/devices/system/cpu";

/// Names of cores by implementer and part (Arm's `MIDR_EL1`; util-linux, `sys-utils/lscpu-arm.c`).
const ARM_CORES: [((u32, u32), &str); 37] = [
    ((0x41, 0xc07), "Cortex-A7"),
    ((0x41, 0xc08), "Cortex-A8"),
    ((0x41, 0xc09), "Cortex-A9"),
    ((0x41, 0xc0f), "Cortex-A15"),
    ((0x41, 0xb76), "ARM1176"),
    ((0x41, 0xd03), "Cortex-A53"),
    ((0x41, 0xd04), "Cortex-A35"),
    ((0x41, 0xd05), "Cortex-A55"),
    ((0x41, 0xd07), "Cortex-A57"),
    ((0x41, 0xd08), "Cortex-A72"),
    ((0x41, 0xd09), "Cortex-A73"),
    ((0x41, 0xd0a), "Cortex-A75"),
    ((0x41, 0xd0b), "Cortex-A76"),
    ((0x41, 0xd0c), "Neoverse-N1"),
    ((0x41, 0xd0d), "Cortex-A77"),
    ((0x41, 0xd40), "Neoverse-V1"),
    ((0x41, 0xd41), "Cortex-A78"),
    ((0x41, 0xd42), "Cortex-A78AE"),
    ((0x41, 0xd44), "Cortex-X1"),
    ((0x41, 0xd46), "Cortex-A510"),
    ((0x41, 0xd47), "Cortex-A710"),
    ((0x41, 0xd48), "Cortex-X2"),
    ((0x41, 0xd49), "Neoverse-N2"),
    ((0x41, 0xd4d), "Cortex-A715"),
    ((0x41, 0xd4e), "Cortex-X3"),
    ((0x41, 0xd4f), "Neoverse-V2"),
    ((0x41, 0xd80), "Cortex-A520"),
    ((0x41, 0xd81), "Cortex-A720"),
    ((0x41, 0xd82), "Cortex-X4"),
    ((0x41, 0xd84), "Neoverse-V3"),
    ((0x41, 0xd8e), "Neoverse-N3"),
    ((0x43, 0x0af), "ThunderX2"),
    ((0x48, 0xd01), "Kunpeng-920"),
    ((0x4e, 0x004), "Carmel"),
    ((0x51, 0xc01), "Saphira"),
    ((0xc0, 0xac3), "Ampere-1"),
    ((0xc0, 0xac4), "Ampere-1a"),
];

/// Everything about the processors. What cannot be read takes nothing away from what `/proc/cpuinfo` told.
pub(super) fn read(root: &Root, cpuinfo: &str, doubts: &mut Doubts) -> Cpu {
    let processors = Processors::parse(cpuinfo);
    let present = doubts.resolve(root.text(format!("{CPUS}/present"))).and_then(|list| length(&list));
    let threads = present.unwrap_or(processors.online).max(processors.online).max(1);
    let cores = processors.cores.or_else(|| doubts.resolve(cores_of_topology(root, threads)));
    let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
    Cpu { model: processors.model.map(|name| cut(&name, 128)), cores: cores.map(number), threads: number(threads) }
}

/// What one look at `/proc/cpuinfo` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Processors {
    /// Name of the processor, or of each kind of core on a chip with several.
    pub model: Option<String>,
    /// Distinct physical cores of the threads that are online; absent where the file does not tell.
    pub cores: Option<usize>,
    /// Threads that are online.
    pub online: usize,
}

impl Processors {
    /// Reads the text of `/proc/cpuinfo`. Nothing that it can contain is an error: what is not understood is not told.
    pub fn parse(cpuinfo: &str) -> Self {
        let mut models = Vec::new();
        let mut cores = BTreeSet::new();
        let mut online = 0;
        let (mut package, mut implementer) = (None, None);
        let mut every_thread_has_a_core = true;
        let mut core_of_last = true;
        for line in cpuinfo.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim(), value.trim());
            match key {
                "processor" if value.parse::<u32>().is_ok() => {
                    every_thread_has_a_core &= core_of_last;
                    core_of_last = false;
                    online += 1;
                    (package, implementer) = (None, None);
                }
                "physical id" => package = value.parse::<u32>().ok(),
                "core id" => {
                    let core = value.parse::<u32>().ok();
                    core_of_last = package.is_some() && core.is_some();
                    cores.insert((package, core));
                }
                "model name" | "cpu" | "uarch" => note(&mut models, value),
                "CPU implementer" => implementer = hex(value),
                "CPU part" => {
                    if let Some(name) = implementer.zip(hex(value)).and_then(arm_core) {
                        note(&mut models, name);
                    }
                }
                _ => {}
            }
        }
        let told = every_thread_has_a_core && core_of_last && online > 0;
        let model = (!models.is_empty()).then(|| models.join(" + "));
        Self { model, cores: told.then_some(cores.len()), online }
    }
}

/// The architecture that a file of this form comes from, as `uname -m` names it; 32-bit kernels on 64-bit processors
/// are not told apart.
pub(super) fn architecture(cpuinfo: &str) -> Option<&'static str> {
    let value = |name: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    match (value("vendor_id"), value("CPU architecture"), value("isa"), value("cpu")) {
        (Some(vendor), ..) if vendor.starts_with("IBM/S390") => Some("s390x"),
        (Some(_), ..) => Some("x86_64"),
        (_, Some("8" | "AArch64"), ..) => Some("aarch64"),
        (_, Some("7"), ..) => Some("armv7l"),
        (_, _, Some(isa), _) if isa.starts_with("rv64") => Some("riscv64"),
        (.., Some(cpu)) if cpu.starts_with("POWER") => Some("ppc64le"),
        _ => None,
    }
}

/// Physical cores of a machine whose `/proc/cpuinfo` does not tell them (all but x86).
fn cores_of_topology(root: &Root, threads: usize) -> Result<Option<usize>, Unreadable> {
    // Without simultaneous threads a thread is a core, and one file says so (kernel documentation, `ABI/testing/sysfs-devices-system-cpu`).
    if root.text(format!("{CPUS}/smt/active"))?.as_deref() == Some("0") {
        return Ok(Some(threads));
    }
    let mut cores = BTreeSet::new();
    for thread in 0..threads {
        let read = |name| root.value::<i64>(format!("{CPUS}/cpu{thread}/topology/{name}"));
        match (read("physical_package_id")?, read("core_id")?) {
            (Some(package), Some(core)) => cores.insert((package, core)),
            _ => return Ok(None),
        };
    }
    Ok((!cores.is_empty()).then_some(cores.len()))
}

fn note(models: &mut Vec<String>, name: &str) {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if !name.is_empty() && !models.contains(&name) {
        models.push(name);
    }
}

fn arm_core(ids: (u32, u32)) -> Option<&'static str> {
    ARM_CORES.iter().find(|(known, _)| *known == ids).map(|(_, name)| *name)
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// How many numbers a list as `0-3,8` has (kernel documentation, `admin-guide/cputopology.rst`); `None` for what is no list.
pub fn length(list: &str) -> Option<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').try_fold(0_usize, |sum, text| sum.checked_add(part(text)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threads_of_one_core_are_one_core() {
        let cpuinfo = "processor\t: 0\nmodel name\t: X  1\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                       processor\t: 1\nmodel name\t: X  1\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                       processor\t: 2\nmodel name\t: X  1\nphysical id\t: 1\ncore id\t\t: 0\n";
        let expected = Processors { model: Some("X 1".to_owned()), cores: Some(2), online: 3 };
        assert_eq!(Processors::parse(cpuinfo), expected);
    }

    #[test]
    fn a_core_that_is_not_told_is_not_guessed() {
        let half = "processor : 0\nphysical id : 0\ncore id : 0\nprocessor : 1\nphysical id : 0\n";
        assert_eq!(Processors::parse(half).cores, None);
        assert_eq!(Processors::parse("").cores, None);
        assert_eq!(Processors::parse("processor : 0\ncore id : 0\n").cores, None);
    }

    #[test]
    fn kinds_of_cores_are_named_once_each() {
        let part = |number, part| format!("processor : {number}\nCPU implementer : 0x41\nCPU part : {part}\n");
        let chip = [part(0, "0xd05"), part(1, "0xd05"), part(2, "0xd0b"), part(3, "0xfff")].concat();
        let expected = Processors { model: Some("Cortex-A55 + Cortex-A76".to_owned()), cores: None, online: 4 };
        assert_eq!(Processors::parse(&chip), expected);
    }

    #[test]
    fn an_architecture_is_read_from_the_form_of_the_file() {
        let cases = [
            ("vendor_id : AuthenticAMD\n", Some("x86_64")),
            ("vendor_id : IBM/S390\n", Some("s390x")),
            ("CPU architecture: 8\n", Some("aarch64")),
            ("CPU architecture: 7\n", Some("armv7l")),
            ("isa : rv64imafdc\n", Some("riscv64")),
            ("cpu : POWER9, altivec supported\n", Some("ppc64le")),
            ("something : else\n", None),
        ];
        for (cpuinfo, expected) in cases {
            assert_eq!(architecture(cpuinfo), expected, "{cpuinfo}");
        }
    }

    #[test]
    fn a_list_of_processors_has_a_length() {
        let cases = [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-0", None),
            ("0-", None),
            ("a", None),
            ("0-18446744073709551615", None),
        ];
        for (list, expected) in cases {
            assert_eq!(length(list), expected, "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(processor|core id|physical id|CPU part|CPU implementer|x)?[ \\t:0-9a-fx\\n]{0,80}") {
            let processors = Processors::parse(&text);
            prop_assert!(processors.cores.is_none_or(|cores| cores >= 1 && cores <= processors.online.max(text.len())));
            let _ = architecture(&text);
        }

        #[test]
        fn any_list_is_read(text in "[0-9,\\- ]{0,40}") {
            let _ = length(&text);
        }
    }
}
