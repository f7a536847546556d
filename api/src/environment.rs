//! What a process that wears a hat is told, as environment variables: by the agent in the file of a hat, by `hatrack wear` to its command.
//!
//! | variable | value |
//! |---|---|
//! | `HATRACK_HAT` | name of the hat |
//! | `HATRACK_BINDING` | UID of the binding |
//! | `HATRACK_WEARER` | SPIFFE id of the wearer |
//! | `HATRACK_NODE` | name of the node; absent if the hat needs none |
//! | `HATRACK_EXPIRES_AT` | end of the term, RFC 3339; absent without one |
//! | `HATRACK_DEVICES` | names of the devices, with spaces between; absent without devices |
//! | `HATRACK_DEVICE_NODES` | their paths below `/dev`, with spaces between |
//! | `HATRACK_ANDROID_SERIALS` | serial numbers of the phones, with spaces between |
//! | `ANDROID_SERIAL` | the serial number of the phone, if there is one alone: adb takes no list |
//! | `NVIDIA_VISIBLE_DEVICES`, `CUDA_VISIBLE_DEVICES` | UUIDs of the NVIDIA GPUs, with commas between: the one for containers, the other for processes |
//!
//! A list of serial numbers or UUIDs is absent if one of them is not known: half of it would look like the whole.

use std::collections::BTreeMap;

use crate::cluster_node::{Device, DeviceClass, attribute};

/// What is known of a hat that is worn.
#[derive(Clone, Copy, Debug)]
pub struct Worn<'a> {
    /// Name of the hat.
    pub hat: &'a str,
    /// UID of the binding.
    pub binding: &'a str,
    /// SPIFFE id of the wearer.
    pub wearer: &'a str,
    /// Name of the node.
    pub node: Option<&'a str>,
    /// End of the term, RFC 3339.
    pub expires_at: Option<&'a str>,
    /// Names of the devices.
    pub devices: &'a [String],
}

/// The variables, sorted by name. Among `known` are the devices of the hat, as far as they are known.
pub fn of<'a>(worn: Worn<'_>, known: impl IntoIterator<Item = &'a Device>) -> Vec<(&'static str, String)> {
    let known: BTreeMap<&str, &Device> = known.into_iter().map(|device| (device.name.as_str(), device)).collect();
    let devices: Vec<&Device> = worn.devices.iter().filter_map(|name| known.get(name.as_str()).copied()).collect();
    let is_complete = devices.len() == worn.devices.len();
    let of_class = |class| devices.iter().copied().filter(move |device: &&Device| device.class == class);
    let gpus = of_class(DeviceClass::Gpu).filter(|gpu| is_nvidia(gpu));
    let gpus = all(gpus, attribute::UUID).filter(|_| is_complete);
    let phones = all(of_class(DeviceClass::Phone), attribute::SERIAL).filter(|_| is_complete);
    let nodes: Vec<&str> = devices.iter().flat_map(|device| &device.nodes).map(String::as_str).collect();
    let text = |text: &str| Some(text.to_owned());
    let list = |words: &[String], between: &str| (!words.is_empty()).then(|| words.join(between));
    let variables = [
        (
            "ANDROID_SERIAL",
            phones.as_ref().filter(|phones| phones.len() == 1).and_then(|phones| phones.first().cloned()),
        ),
        ("CUDA_VISIBLE_DEVICES", gpus.as_ref().and_then(|gpus| list(gpus, ","))),
        ("HATRACK_ANDROID_SERIALS", phones.as_ref().and_then(|phones| list(phones, " "))),
        ("HATRACK_BINDING", text(worn.binding)),
        ("HATRACK_DEVICES", list(worn.devices, " ")),
        ("HATRACK_DEVICE_NODES", (!nodes.is_empty()).then(|| nodes.join(" "))),
        ("HATRACK_EXPIRES_AT", worn.expires_at.and_then(text)),
        ("HATRACK_HAT", text(worn.hat)),
        ("HATRACK_NODE", worn.node.and_then(text)),
        ("HATRACK_WEARER", text(worn.wearer)),
        ("NVIDIA_VISIBLE_DEVICES", gpus.as_ref().and_then(|gpus| list(gpus, ","))),
    ];
    variables.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// An attribute of every device, if every device has it and it can stand in a list.
fn all<'a>(devices: impl Iterator<Item = &'a Device>, name: &str) -> Option<Vec<String>> {
    let can_stand_in_a_list =
        |text: &String| !text.is_empty() && !text.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control());
    devices.map(|device| device.attributes.get(name).map(ToString::to_string).filter(can_stand_in_a_list)).collect()
}

fn is_nvidia(gpu: &Device) -> bool {
    gpu.attributes.get(attribute::VENDOR).is_some_and(|vendor| vendor.to_string().eq_ignore_ascii_case("nvidia"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn device(name: &str, class: &str, attributes: &Value) -> Device {
        let device = json!({"name": name, "class": class, "attributes": attributes, "nodes": [format!("/dev/{name}")],
            "health": {"state": "Ready", "reason": "DriverBound"}});
        serde_json::from_value(device).unwrap()
    }

    fn machine() -> Vec<Device> {
        let gpu = |uuid: &str| json!({"vendor": {"string": "NVIDIA"}, "uuid": {"string": uuid}});
        vec![
            device("gpu-0", "gpu", &gpu("GPU-a")),
            device("gpu-1", "gpu", &gpu("GPU-b")),
            device("gpu-2", "gpu", &json!({"vendor": {"string": "NVIDIA"}})),
            device("gpu-3", "gpu", &json!({"vendor": {"string": "AMD"}})),
            device("phone-1", "phone", &json!({"serial": {"string": "R58M1"}})),
            device("phone-2", "phone", &json!({"serial": {"string": "R58M2"}})),
            device("phone-3", "phone", &json!({"serial": {"string": "R58 M3"}})),
        ]
    }

    fn told(devices: &[&str]) -> Vec<String> {
        let devices: Vec<String> = devices.iter().map(|name| (*name).to_owned()).collect();
        let worn = Worn {
            hat: "repair",
            binding: "uid",
            wearer: "spiffe://x/a",
            node: Some("gpu-1"),
            expires_at: Some("2026-01-31T12:00:00Z"),
            devices: &devices,
        };
        of(worn, &machine()).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_hat_without_a_node_has_no_devices() {
        let worn = Worn {
            hat: "observer",
            binding: "uid",
            wearer: "spiffe://x/a",
            node: None,
            expires_at: None,
            devices: &[],
        };
        let names: Vec<_> = of(worn, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HATRACK_BINDING", "HATRACK_HAT", "HATRACK_WEARER"]);
    }

    #[test]
    fn devices_are_told_in_the_words_of_those_who_use_them() {
        assert_eq!(
            told(&["gpu-0", "gpu-1", "phone-1"]),
            [
                "ANDROID_SERIAL=R58M1",
                "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b",
                "HATRACK_ANDROID_SERIALS=R58M1",
                "HATRACK_BINDING=uid",
                "HATRACK_DEVICES=gpu-0 gpu-1 phone-1",
                "HATRACK_DEVICE_NODES=/dev/gpu-0 /dev/gpu-1 /dev/phone-1",
                "HATRACK_EXPIRES_AT=2026-01-31T12:00:00Z",
                "HATRACK_HAT=repair",
                "HATRACK_NODE=gpu-1",
                "HATRACK_WEARER=spiffe://x/a",
                "NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b",
            ]
        );
    }

    #[test]
    fn a_list_is_whole_or_absent() {
        let names = |devices: &[&str]| told(devices).join("\n");
        assert!(!names(&["gpu-0", "gpu-2"]).contains("VISIBLE"), "a GPU without a UUID");
        assert!(!names(&["phone-1", "phone-3"]).contains("SERIAL"), "a serial number with a space");
        assert!(!names(&["gpu-0", "gone"]).contains("VISIBLE"), "a device that the node does not have");
        assert!(names(&["gpu-0", "gpu-3"]).contains("NVIDIA_VISIBLE_DEVICES=GPU-a"), "other makers have no such list");
        let several = names(&["phone-1", "phone-2"]);
        assert!(several.contains("HATRACK_ANDROID_SERIALS=R58M1 R58M2") && !several.contains("ANDROID_SERIAL="));
    }
}
