//! What a phone tells of itself in one shell call.

use super::Properties;

/// Prints each property after its name, and the kernel's memory table. Every Android has these three programs.
pub(super) const COMMAND: &str = "for p in ro.serialno ro.product.manufacturer ro.product.model \
    ro.build.version.release ro.product.cpu.abi; do echo \"$p=$(getprop $p)\"; done; cat /proc/meminfo";

impl Properties {
    /// Reads what the command printed; other lines (warnings of the phone's linker, a login banner) are passed over.
    pub fn parse(output: &str) -> Self {
        let mut properties = Self::default();
        for line in output.lines().map(str::trim) {
            if let Some((name, value)) = line.split_once('=') {
                properties.set(name, value.trim());
            } else if let Some(amount) = line.strip_prefix("MemTotal:") {
                properties.memory = kibibytes(amount).or(properties.memory);
            }
        }
        properties
    }

    fn set(&mut self, name: &str, value: &str) {
        let field = match name {
            "ro.serialno" => &mut self.serial,
            "ro.product.manufacturer" => &mut self.manufacturer,
            "ro.product.model" => &mut self.model,
            "ro.build.version.release" => &mut self.android_version,
            "ro.product.cpu.abi" => &mut self.abi,
            _ => return,
        };
        if !value.is_empty() {
            *field = Some(value.chars().filter(|c| !c.is_control()).collect());
        }
    }
}

/// `   7654321 kB` in bytes.
fn kibibytes(amount: &str) -> Option<u64> {
    amount.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_phone_prints_is_read() {
        let output = "WARNING: linker: something=else\r\nro.serialno=R58M123ABC\r\nro.product.manufacturer=samsung\r\n\
            ro.product.model=SM-F721U\r\nro.build.version.release=14\r\nro.product.cpu.abi=\r\n\
            MemTotal:        7654321 kB\r\nMemFree:          1234 kB\r\n";
        let text = |text: &str| Some(text.to_owned());
        let expected = Properties {
            serial: text("R58M123ABC"),
            model: text("SM-F721U"),
            manufacturer: text("samsung"),
            android_version: text("14"),
            abi: None,
            memory: Some(7_654_321 * 1024),
        };
        assert_eq!(Properties::parse(output), expected);
    }

    #[test]
    fn an_amount_that_cannot_be_is_none() {
        for line in ["MemTotal: kB", "MemTotal: -1 kB", "MemTotal: 18446744073709551615 kB", "MemTotal: 12"] {
            assert_eq!(Properties::parse(line), Properties::default(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_panic(output in "(\\PC|[\r\n=]|ro.serialno=|MemTotal:| kB){0,60}") {
            _ = Properties::parse(&output);
        }
    }
}
