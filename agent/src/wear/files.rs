//! What the services of a wearer read.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hatrack_api::cluster_node::{Device, DeviceClass, HatAssignment, attribute};
use serde_json::json;

use super::seat::Seat;

/// The wearer's group reads, nobody else does.
const MODE: u32 = 0o640;

/// Both files of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// For `EnvironmentFile=` and for shells.
    pub environment: String,
    /// For programs.
    pub json: String,
}

/// What the files of a binding say. `devices` are those of the assignment, as far as the machine has them. While the hat
/// ends, its phase reads `Ending`.
pub fn texts(assignment: &HatAssignment, devices: &[&Device], transitions: i32, is_ending: bool) -> Texts {
    let phase = if is_ending { "Ending" } else { &assignment.phase };
    let expires = assignment.expires_at.as_ref().map(|time| time.0.to_string());
    let text = |device: &Device, key: &str| device.attributes.get(key).map(ToString::to_string);
    let of = |class: DeviceClass, key: &str| -> Vec<String> {
        devices.iter().filter(|device| device.class == class).filter_map(|device| text(device, key)).collect()
    };
    let is_nvidia = |device: &&&Device| text(device, attribute::VENDOR).as_deref() == Some("nvidia");
    let gpus: Vec<String> =
        devices.iter().filter(is_nvidia).filter_map(|device| text(device, attribute::UUID)).collect();
    let phones = of(DeviceClass::Phone, attribute::SERIAL);
    let nodes: Vec<&str> = devices.iter().flat_map(|device| &device.nodes).map(String::as_str).collect();
    let mut environment = String::new();
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() && !value.chars().any(char::is_control) {
            _ = writeln!(environment, "{name}={}", quoted(value));
        }
    };
    set("HATRACK_HAT", &assignment.name);
    set("HATRACK_BINDING", &assignment.binding);
    set("HATRACK_WEARER", &assignment.wearer);
    set("HATRACK_PHASE", phase);
    set("HATRACK_EXPIRES_AT", expires.as_deref().unwrap_or_default());
    set("HATRACK_FENCING_TOKEN", &transitions.to_string());
    set("HATRACK_DEVICES", &assignment.devices.join(" "));
    set("HATRACK_DEVICE_NODES", &nodes.join(" "));
    set("NVIDIA_VISIBLE_DEVICES", &gpus.join(","));
    set("CUDA_VISIBLE_DEVICES", &gpus.join(","));
    set("HATRACK_ANDROID_SERIALS", &phones.join(" "));
    if let [phone] = phones.as_slice() {
        set("ANDROID_SERIAL", phone);
    }
    let document = json!({
        "hat": assignment.name, "binding": assignment.binding, "wearer": assignment.wearer, "phase": phase,
        "expiresAt": expires, "fencingToken": transitions, "devices": devices,
    });
    Texts { environment, json: format!("{document:#}\n") }
}

/// In double quotes, in which systemd (systemd.exec(5), `EnvironmentFile=`) and shells read the same. A serial number is what a
/// device says of itself, and must not become another variable.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for character in value.chars() {
        if "\"\\$`".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// Writes both files, if they do not say so already.
pub fn write(folder: &Path, seat: &Seat, texts: &Texts) -> io::Result<()> {
    for (extension, text) in [("json", &texts.json), ("env", &texts.environment)] {
        let path = seat.file(folder, extension);
        if fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o750))?;
        }
        replace(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Removes both, and the hat's folder with its last wearer.
pub fn remove(folder: &Path, seat: &Seat) -> io::Result<()> {
    for extension in ["env", "json"] {
        match fs::remove_file(seat.file(folder, extension)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // Refused while another wearer has files there.
    _ = fs::remove_dir(folder.join(&seat.hat));
    Ok(())
}

/// Replaces a file as a whole: who reads it sees the old content or the new one. No fsync: the folder is in memory.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&fresh).and_then(|mut file| {
            file.write_all(content).and_then(|()| file.set_permissions(fs::Permissions::from_mode(MODE)))
        });
    let done = written.and_then(|()| fs::rename(&fresh, path));
    if done.is_err() {
        _ = fs::remove_file(&fresh);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(value: serde_json::Value) -> Device {
        serde_json::from_value(value).unwrap()
    }

    fn assignment() -> HatAssignment {
        let assignment = json!({
            "binding": "u", "name": "h", "wearer": "spiffe://a/b", "phase": "Active", "devices": ["gpu-a", "phone-b"],
            "expiresAt": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(assignment).unwrap()
    }

    #[test]
    fn a_service_reads_what_it_has() {
        let health = json!({"state": "Ready", "reason": "Ok"});
        let gpu = device(json!({
            "name": "gpu-a", "class": "gpu", "nodes": ["/dev/nvidia0"], "health": health,
            "attributes": {"vendor": {"string": "nvidia"}, "uuid": {"string": "GPU-1"}},
        }));
        let phone = |serial: &str| {
            device(json!({
                "name": "phone-b", "class": "phone", "nodes": ["/dev/bus/usb/003/017"], "health": health,
                "attributes": {"serial": {"string": serial}},
            }))
        };
        let one = phone("R58");
        let text = texts(&assignment(), &[&gpu, &one], 7, false).environment;
        let expected = "HATRACK_HAT=\"h\"\nHATRACK_BINDING=\"u\"\nHATRACK_WEARER=\"spiffe://a/b\"\nHATRACK_PHASE=\"Active\"\n\
             HATRACK_EXPIRES_AT=\"2026-01-01T00:00:00Z\"\nHATRACK_FENCING_TOKEN=\"7\"\nHATRACK_DEVICES=\"gpu-a phone-b\"\n\
             HATRACK_DEVICE_NODES=\"/dev/nvidia0 /dev/bus/usb/003/017\"\nNVIDIA_VISIBLE_DEVICES=\"GPU-1\"\n\
             CUDA_VISIBLE_DEVICES=\"GPU-1\"\nHATRACK_ANDROID_SERIALS=\"R58\"\nANDROID_SERIAL=\"R58\"\n";
        assert_eq!(text, expected);
        let two = phone("R59");
        let several = texts(&assignment(), &[&one, &two], 7, true).environment;
        assert!(several.contains("HATRACK_ANDROID_SERIALS=\"R58 R59\"\n") && !several.contains("\nANDROID_SERIAL="));
        assert!(several.contains("HATRACK_PHASE=\"Ending\"\n"));
    }

    #[test]
    fn a_serial_number_cannot_become_another_variable() {
        let health = json!({"state": "Ready", "reason": "Ok"});
        for (serial, line) in [
            ("a\nLD_PRELOAD=/x", None),
            ("a$(reboot)`b`", Some("ANDROID_SERIAL=\"a\\$(reboot)\\`b\\`\"")),
            ("a\" LD_PRELOAD=\"x", Some("ANDROID_SERIAL=\"a\\\" LD_PRELOAD=\\\"x\"")),
        ] {
            let attributes = json!({"serial": {"string": serial}});
            let phone = device(json!({"name": "p", "class": "phone", "health": health, "attributes": attributes}));
            let text = texts(&assignment(), &[&phone], 0, false).environment;
            let found = text.lines().find(|line| line.starts_with("ANDROID_SERIAL"));
            assert_eq!(found, line, "{text}");
            assert!(!text.lines().any(|line| line.starts_with("LD_PRELOAD")), "{text}");
        }
    }

    #[test]
    fn files_are_for_the_group_and_go_with_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let seat = Seat::of(&assignment()).unwrap();
        write(folder.path(), &seat, &texts(&assignment(), &[], 0, false)).unwrap();
        let file = seat.file(folder.path(), "env");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path().join("h")).unwrap().count(), 2, "no scratch file stays");
        remove(folder.path(), &seat).unwrap();
        assert!(!folder.path().join("h").exists());
        remove(folder.path(), &seat).unwrap();
    }
}
