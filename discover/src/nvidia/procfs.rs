//! What NVIDIA's driver shows without NVML: `/proc/driver/nvidia` (driver README, "Using the /proc File System Interface").

use std::collections::BTreeMap;

use crate::root::{Root, Unreadable};

/// `information` of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Information {
    /// `NVIDIA H100 80GB HBM3`.
    pub model: Option<String>,
    /// `GPU-` and a UUID; absent while the driver has not initialised the GPU and shows question marks.
    pub uuid: Option<String>,
    /// The `N` of `/dev/nvidiaN`.
    pub minor: Option<u32>,
    /// Whether the driver was told to leave it alone (`NVreg_ExcludedGpus`).
    pub excluded: bool,
}

impl Information {
    /// Reads the lines `Key: value`; what is not there or makes no sense is absent.
    pub fn parse(text: &str) -> Self {
        let value = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == wanted).map(|(_, value)| value)
        };
        let text = |wanted| value(wanted).filter(|text| !text.is_empty() && *text != "Unknown").map(str::to_owned);
        Self {
            model: text("Model"),
            uuid: text("GPU UUID").filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?')),
            minor: value("Device Minor").and_then(|minor| minor.parse().ok()),
            excluded: value("GPU Excluded") == Some("Yes"),
        }
    }
}

/// Reads what the driver shows of the GPU at a PCI address; `None` when it does not have it.
pub fn information(root: &Root, address: &str) -> Result<Option<Information>, Unreadable> {
    let text = root.text(format!("proc/driver/nvidia/gpus/{address}/information"))?;
    Ok(text.as_deref().map(Information::parse))
}

/// The version of the loaded driver, `580.65.06`; `None` when it is not loaded.
pub fn driver_version(root: &Root) -> Result<Option<String>, Unreadable> {
    Ok(root.text("proc/driver/nvidia/version")?.as_deref().and_then(parse_version))
}

/// Finds the version in the line `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …`.
pub fn parse_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        let numbers = parts.by_ref().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        numbers && word.contains('.')
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// The minor numbers of `/dev/nvidia-caps`, by what they open: `gpu0/gi1/access`, `gpu0/gi1/ci0/access`.
pub fn capability_minors(root: &Root) -> Result<BTreeMap<String, u32>, Unreadable> {
    Ok(root.text("proc/driver/nvidia-caps/mig-minors")?.as_deref().map(parse_minors).unwrap_or_default())
}

/// Reads lines of a name and a number.
pub fn parse_minors(text: &str) -> BTreeMap<String, u32> {
    let line = |line: &str| {
        let (name, minor) = line.trim().rsplit_once(' ')?;
        Some((name.to_owned(), minor.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const H100: &str = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 400\nGPU UUID: \t GPU-6018366c-f658-f7a7-5ed3-4fe53a096533\n\
                        Bus Location: \t 0000:1b:00.0\nDevice Minor: \t 2\nGPU Excluded:\t No\n";

    #[test]
    fn a_gpu_is_read() {
        let information = Information::parse(H100);
        assert_eq!(information.model.as_deref(), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!(information.uuid.as_deref(), Some("GPU-6018366c-f658-f7a7-5ed3-4fe53a096533"));
        assert_eq!((information.minor, information.excluded), (Some(2), false));
    }

    #[test]
    fn question_marks_are_no_uuid() {
        let text = "Model: \t Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????\nGPU Excluded: Yes\n";
        assert_eq!(Information::parse(text), Information { excluded: true, ..Information::default() });
    }

    #[test]
    fn the_version_is_found_in_the_lines_of_both_modules() {
        for (line, version) in [
            ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023", "535.129.03"),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (nixbld@)",
                "580.65.06",
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@x)",
                "540.4.0",
            ),
        ] {
            assert_eq!(parse_version(line).as_deref(), Some(version));
        }
        assert_eq!(parse_version("GCC version:  gcc version 14.3.0 (GCC)"), None);
    }

    #[test]
    fn minors_of_mig_instances_are_read() {
        let minors = parse_minors("config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\nbroken\n");
        assert_eq!((minors.len(), minors.get("gpu0/gi1/ci0/access")), (4, Some(&13)));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in "(?s).{0,300}") {
            let _ = Information::parse(&text);
            let _ = Information::parse(&format!("{H100}{text}"));
            let _ = parse_version(&format!("NVRM version: {text}"));
            let _ = parse_minors(&text);
        }
    }
}
