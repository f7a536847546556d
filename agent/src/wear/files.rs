//! What the services of a wearer read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hatrack_api::cluster_node::{Device, HatAssignment};
use hatrack_api::environment::{self, Worn};
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

/// What the files of a binding on this node say. `devices` are those of the assignment, as far as the machine has them. While the hat
/// ends, its phase reads `Ending`.
pub fn texts(node: &str, assignment: &HatAssignment, devices: &[&Device], transitions: i32, is_ending: bool) -> Texts {
    let phase = if is_ending { "Ending" } else { &assignment.phase };
    let expires = assignment.expires_at.as_ref().map(|time| time.0.to_string());
    let worn = Worn {
        hat: &assignment.name,
        binding: &assignment.binding,
        wearer: &assignment.wearer,
        node: Some(node),
        expires_at: expires.as_deref(),
        devices: &assignment.devices,
    };
    let of_agents = [("HATRACK_FENCING_TOKEN", transitions.to_string()), ("HATRACK_PHASE", phase.to_owned())];
    let variables = environment::of(worn, devices.iter().copied()).into_iter().chain(of_agents);
    let environment = variables
        .filter(|(_, value)| !value.chars().any(char::is_control))
        .fold(String::new(), |text, (name, value)| text + &format!("{name}={}\n", quoted(&value)));
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
        let text = texts("gpu-1", &assignment(), &[&gpu, &one], 7, false).environment;
        let expected = "ANDROID_SERIAL=\"R58\"\nCUDA_VISIBLE_DEVICES=\"GPU-1\"\nHATRACK_ANDROID_SERIALS=\"R58\"\n\
             HATRACK_BINDING=\"u\"\nHATRACK_DEVICES=\"gpu-a phone-b\"\n\
             HATRACK_DEVICE_NODES=\"/dev/nvidia0 /dev/bus/usb/003/017\"\nHATRACK_EXPIRES_AT=\"2026-01-01T00:00:00Z\"\n\
             HATRACK_HAT=\"h\"\nHATRACK_NODE=\"gpu-1\"\nHATRACK_WEARER=\"spiffe://a/b\"\nNVIDIA_VISIBLE_DEVICES=\"GPU-1\"\n\
             HATRACK_FENCING_TOKEN=\"7\"\nHATRACK_PHASE=\"Active\"\n";
        assert_eq!(text, expected);
        let ending = texts("gpu-1", &assignment(), &[&gpu, &one], 7, true).environment;
        assert!(ending.contains("HATRACK_PHASE=\"Ending\"\n"));
    }

    #[test]
    fn a_serial_number_cannot_become_another_variable() {
        let health = json!({"state": "Ready", "reason": "Ok"});
        for (serial, line) in [
            ("a\nLD_PRELOAD=/x", None),
            ("a$(reboot)`b`", Some("ANDROID_SERIAL=\"a\\$(reboot)\\`b\\`\"")),
            ("a\"b\\", Some("ANDROID_SERIAL=\"a\\\"b\\\\\"")),
            ("a\" LD_PRELOAD=\"x", None),
        ] {
            let attributes = json!({"serial": {"string": serial}});
            let phone =
                device(json!({"name": "phone-b", "class": "phone", "health": health, "attributes": attributes}));
            let assignment = HatAssignment { devices: vec!["phone-b".to_owned()], ..assignment() };
            let text = texts("n", &assignment, &[&phone], 0, false).environment;
            let found = text.lines().find(|line| line.starts_with("ANDROID_SERIAL"));
            assert_eq!(found, line, "{text}");
            assert!(!text.lines().any(|line| line.starts_with("LD_PRELOAD")), "{text}");
        }
    }

    #[test]
    fn files_are_for_the_group_and_go_with_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let seat = Seat::of(&assignment()).unwrap();
        write(folder.path(), &seat, &texts("n", &assignment(), &[], 0, false)).unwrap();
        let file = seat.file(folder.path(), "env");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path().join("h")).unwrap().count(), 2, "no scratch file stays");
        remove(folder.path(), &seat).unwrap();
        assert!(!folder.path().join("h").exists());
        remove(folder.path(), &seat).unwrap();
    }
}
