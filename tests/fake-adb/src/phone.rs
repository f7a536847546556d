//! A phone as an adb server sees it.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A phone as an adb server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phone {
    /// adb's serial: the USB serial number, or `address:port`; empty where it has none.
    pub serial: String,
    /// adb's word, `device`.
    pub state: String,
    /// `usb:3-1.2`; absent over TCP.
    pub devpath: Option<String>,
    /// Number of the connection; 0 lets the server choose one.
    pub id: u64,
    /// What `getprop` says; `ro.product.{name,model,device}` are also in the list.
    pub properties: BTreeMap<String, String>,
    /// `MemTotal` in kB.
    pub memory: u64,
    /// Whether its shell never answers.
    pub hangs: bool,
}

impl Phone {
    /// A Samsung with accepted key, at a kernel name (`3-1.2`).
    pub fn on_usb(serial: &str, sysfs_name: &str) -> Self {
        Self { devpath: Some(format!("usb:{sysfs_name}")), ..Self::on_tcp(serial, serial) }
    }

    /// A Samsung with accepted key, at `address:port`.
    pub fn on_tcp(address: &str, own_serial: &str) -> Self {
        let properties = [
            ("ro.serialno", own_serial),
            ("ro.product.manufacturer", "samsung"),
            ("ro.product.model", "SM-F721U"),
            ("ro.product.name", "b4quew"),
            ("ro.product.device", "b4q"),
            ("ro.build.version.release", "14"),
            ("ro.product.cpu.abi", "arm64-v8a"),
        ];
        Self {
            serial: address.to_owned(),
            state: "device".to_owned(),
            devpath: None,
            id: 0,
            properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            memory: 7_654_321,
            hangs: false,
        }
    }

    /// The same in another state, by adb's word for it.
    #[must_use]
    pub fn in_state(mut self, state: &str) -> Self {
        state.clone_into(&mut self.state);
        self
    }

    /// The same with another property.
    #[must_use]
    pub fn with(mut self, property: &str, value: &str) -> Self {
        self.properties.insert(property.to_owned(), value.to_owned());
        self
    }

    /// The same with a shell that never answers.
    #[must_use]
    pub fn that_hangs(mut self) -> Self {
        self.hangs = true;
        self
    }

    /// Its line of a list (AOSP `transport.cpp`, `append_transport`).
    pub fn line(&self, long: bool) -> String {
        let serial = if self.serial.is_empty() { "(no serial number)" } else { &self.serial };
        if !long {
            return format!("{serial}\t{}\n", self.state);
        }
        let mut line = format!("{serial:<22} {}", self.state);
        if let Some(path) = &self.devpath {
            _ = write!(line, " {path}");
        }
        if self.state == "device" {
            let property = |name: &str| self.properties.get(name).map_or("", String::as_str);
            let model: String = property("ro.product.model").chars().map(sanitised).collect();
            let (product, device) = (property("ro.product.name"), property("ro.product.device"));
            _ = write!(line, " product:{product} model:{model} device:{device}");
        }
        _ = writeln!(line, " transport_id:{}", self.id);
        line
    }

    /// What its shell prints for a command: what `getprop` and `cat /proc/meminfo` in it would.
    pub fn output(&self, command: &str) -> String {
        let mut output = String::new();
        if let Some((_, rest)) = command.split_once("for p in ") {
            let names = rest.split(';').next().unwrap_or_default();
            for name in names.split_whitespace() {
                _ = writeln!(output, "{name}={}", self.properties.get(name).map_or("", String::as_str));
            }
        }
        if command.contains("/proc/meminfo") {
            _ = writeln!(output, "MemTotal:       {:>8} kB\nMemFree:          123456 kB", self.memory);
        }
        output
    }
}

/// adb writes `_` for what is neither letter nor digit in a model.
fn sanitised(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}
