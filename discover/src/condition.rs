//! The agent's conditions: what follows from an inventory and from what a person expects.

use std::collections::BTreeMap;

use hatrack_api::cluster_node::{Class, ClusterNodeSpec, Device, DeviceClass, HealthState, Profile, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::doubt::Subject;
use crate::gpu;
use crate::inventory::Inventory;

/// What the machine's own configuration says of it, to be compared with `spec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Class in the configuration.
    pub class: Class,
    /// Profile in the configuration, if it names one.
    pub profile: Option<Profile>,
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Type of the condition.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// The agent's conditions for a machine. `name` is the ClusterNode's, for the commands in the messages.
pub fn verdicts(name: &str, inventory: &Inventory, spec: &ClusterNodeSpec, declared: Option<Declared>) -> Vec<Verdict> {
    vec![devices_healthy(inventory), as_expected(name, inventory, spec, declared)]
}

/// Gives verdicts their times: a condition whose status stays keeps the time of its last transition.
pub fn timed(verdicts: Vec<Verdict>, previous: &[Condition], generation: Option<i64>, now: &Time) -> Vec<Condition> {
    let timed = |verdict: Verdict| {
        let before = previous.iter().find(|c| c.type_ == verdict.kind && c.status == verdict.status);
        Condition {
            type_: verdict.kind.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message,
            last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    verdicts.into_iter().map(timed).collect()
}

fn devices_healthy(inventory: &Inventory) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: condition::DEVICES_HEALTHY, status, reason, message };
    let ill: Vec<_> = inventory.devices.iter().filter(|device| is_ill(device)).collect();
    let doubts: Vec<_> = inventory.doubts_about(Subject::Devices).collect();
    match (ill.as_slice(), doubts.as_slice()) {
        ([], []) => verdict("True", "AllReady", format!("{} devices", inventory.devices.len())),
        ([], doubts) => verdict("Unknown", "NotObserved", doubts.join("; ")),
        (ill, _) => verdict("False", "DeviceNotReady", listed(ill)),
    }
}

/// A card that carries MIG instances is not used itself, on purpose.
fn is_ill(device: &Device) -> bool {
    device.health.state != HealthState::Ready && !gpu::carries_instances(device)
}

/// By reason, as one reason is one thing to do: a phone with a trouble of its own stands out among twenty with another.
fn listed(devices: &[&Device]) -> String {
    const NAMED: usize = 2;
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for device in devices {
        by_reason.entry(&device.health.reason).or_default().push(&device.name);
    }
    let group = |(reason, names): (&str, Vec<&str>)| match names.split_at_checked(NAMED) {
        Some((named, rest)) if !rest.is_empty() => format!("{reason}: {} and {} more", named.join(", "), rest.len()),
        _ => format!("{reason}: {}", names.join(", ")),
    };
    by_reason.into_iter().map(group).collect::<Vec<_>>().join("; ")
}

fn as_expected(name: &str, inventory: &Inventory, spec: &ClusterNodeSpec, declared: Option<Declared>) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: condition::AS_EXPECTED, status, reason, message };
    if let Some(difference) = declared.and_then(|declared| difference(name, spec, declared)) {
        return verdict("False", "SpecDiffers", difference);
    }
    let missing = shortfalls(inventory, spec);
    if !missing.is_empty() {
        let unsure = inventory.doubts_about(Subject::Devices).next().is_some();
        let full = if lacks_phones(inventory, spec) { inventory.exhausted.as_slice() } else { &[] };
        let (status, reason) = match (unsure, full) {
            (true, _) => ("Unknown", "NotObserved"),
            (false, []) => ("False", "DevicesMissing"),
            (false, _) => ("False", "UsbControllerFull"),
        };
        let sentences = [std::slice::from_ref(&missing.join(", ")), full].concat();
        return verdict(status, reason, sentences.join("; "));
    }
    verdict("True", "AsExpected", String::new())
}

fn difference(name: &str, spec: &ClusterNodeSpec, declared: Declared) -> Option<String> {
    let settle = |field: &str, ours: &str, theirs: &str| {
        format!(
            "spec.{field} is {theirs}, the machine's configuration says {ours}: change the configuration, or settle it with \
             `kubectl patch clusternode {name} --type merge -p '{{\"spec\":{{\"{field}\":\"{ours}\"}}}}'`"
        )
    };
    if spec.class != declared.class {
        return Some(settle("class", declared.class.as_str(), spec.class.as_str()));
    }
    let ours = declared.profile?;
    let word = |profile: Option<Profile>| profile.map_or("not set", Profile::as_str);
    (spec.profile != Some(ours)).then(|| settle("profile", ours.as_str(), word(spec.profile)))
}

/// Whether fewer phones are seen than expected, usable or not.
fn lacks_phones(inventory: &Inventory, spec: &ClusterNodeSpec) -> bool {
    let seen = inventory.devices.iter().filter(|device| device.class == DeviceClass::Phone).count();
    let expected = spec.expects.as_ref().and_then(|expects| usize::try_from(expects.phones?).ok());
    expected.is_some_and(|expected| seen < expected)
}

fn shortfalls(inventory: &Inventory, spec: &ClusterNodeSpec) -> Vec<String> {
    let Some(expects) = &spec.expects else { return Vec::new() };
    let usable = |class| {
        let devices = inventory.devices.iter().filter(|d| d.class == class && !gpu::carries_instances(d));
        i32::try_from(devices.filter(|device| device.health.is_usable()).count()).unwrap_or(i32::MAX)
    };
    let wanted = [
        ("GPUs", DeviceClass::Gpu, expects.gpus),
        ("phones", DeviceClass::Phone, expects.phones),
        ("accelerators", DeviceClass::Accelerator, expects.accelerators),
    ];
    let short = |(word, class, wanted): (&str, DeviceClass, Option<i32>)| {
        let (wanted, usable) = (wanted?, usable(class));
        (usable < wanted).then(|| format!("{usable} of {wanted} {word} usable"))
    };
    wanted.into_iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::{Expects, Health};

    use super::*;
    use crate::doubt::Doubt;

    fn spec() -> ClusterNodeSpec {
        ClusterNodeSpec::of(Class::PhoneOrchestrator)
    }

    fn phone(number: u32, health: Health) -> Device {
        let (attributes, capacity) = (BTreeMap::new(), BTreeMap::new());
        Device {
            name: format!("phone-{number}"),
            class: DeviceClass::Phone,
            attributes,
            capacity,
            nodes: vec![],
            health,
        }
    }

    fn short_verdict(
        inventory: &Inventory,
        spec: &ClusterNodeSpec,
        declared: Option<Declared>,
    ) -> [(&'static str, &'static str); 2] {
        let verdicts = verdicts("phones-1", inventory, spec, declared);
        [(verdicts[0].status, verdicts[0].reason), (verdicts[1].status, verdicts[1].reason)]
    }

    #[test]
    fn a_trouble_of_one_device_is_not_hidden_by_those_of_many() {
        let phones: Vec<_> = (1..=20)
            .map(|number| match number {
                20 => phone(number, Health::unusable("FastbootMode", "")),
                _ => phone(number, Health::unusable("AdbOffline", "")),
            })
            .collect();
        let all: Vec<_> = phones.iter().collect();
        assert_eq!(listed(&all), "AdbOffline: phone-1, phone-2 and 17 more; FastbootMode: phone-20");
        assert_eq!(listed(&all[..2]), "AdbOffline: phone-1, phone-2");
    }

    #[test]
    fn an_ill_device_and_a_shortfall_are_two_conditions() {
        let mut inventory = Inventory {
            devices: vec![phone(1, Health::ready("AdbDevice")), phone(2, Health::degraded("AdbOffline", "replug it"))],
            ..Inventory::default()
        };
        let two = ClusterNodeSpec { expects: Some(Expects { phones: Some(2), ..Expects::default() }), ..spec() };
        assert_eq!(short_verdict(&inventory, &two, None), [("False", "DeviceNotReady"), ("True", "AsExpected")]);
        inventory.devices[1].health = Health::unusable("AdbUnauthorized", "accept the key");
        assert_eq!(short_verdict(&inventory, &two, None), [("False", "DeviceNotReady"), ("False", "DevicesMissing")]);
        inventory.devices.pop();
        assert_eq!(short_verdict(&inventory, &two, None), [("True", "AllReady"), ("False", "DevicesMissing")]);
    }

    #[test]
    fn a_full_controller_is_why_a_phone_is_missing_and_no_trouble_by_itself() {
        let full = vec!["the USB controller 0000:00:14.0 is full".to_owned()];
        let inventory = Inventory { exhausted: full, ..Inventory::default() };
        let expects = |expects| ClusterNodeSpec { expects: Some(expects), ..spec() };
        let one = expects(Expects { phones: Some(1), ..Expects::default() });
        assert_eq!(short_verdict(&inventory, &one, None)[1], ("False", "UsbControllerFull"));
        let said = as_expected("a", &inventory, &one, None).message;
        assert_eq!(said, "0 of 1 phones usable; the USB controller 0000:00:14.0 is full");
        let gpu = expects(Expects { gpus: Some(1), ..Expects::default() });
        assert_eq!(short_verdict(&inventory, &gpu, None)[1], ("False", "DevicesMissing"));
        assert_eq!(short_verdict(&inventory, &spec(), None)[1], ("True", "AsExpected"));
        let devices = vec![phone(1, Health::unusable("AdbUnauthorized", "accept the key"))];
        let seen = Inventory { devices, ..inventory };
        assert_eq!(short_verdict(&seen, &one, None)[1], ("False", "DevicesMissing"), "it is there");
    }

    #[test]
    fn what_could_not_be_told_is_unknown_and_not_missing() {
        let doubt = |about| vec![Doubt { about, why: "failed to read `x`".to_owned() }];
        let inventory = Inventory { doubts: doubt(Subject::Devices), ..Inventory::default() };
        let one = ClusterNodeSpec { expects: Some(Expects { phones: Some(1), ..Expects::default() }), ..spec() };
        assert_eq!(short_verdict(&inventory, &one, None), [("Unknown", "NotObserved"), ("Unknown", "NotObserved")]);
        let of_the_host = Inventory { doubts: doubt(Subject::Host), ..Inventory::default() };
        assert_eq!(short_verdict(&of_the_host, &one, None), [("True", "AllReady"), ("False", "DevicesMissing")]);
    }

    #[test]
    fn a_configuration_that_differs_from_spec_names_the_command() {
        let declared = Declared { class: Class::GpuWorker, profile: None };
        let verdict = &verdicts("phones-1", &Inventory::default(), &spec(), Some(declared))[1];
        assert_eq!((verdict.status, verdict.reason), ("False", "SpecDiffers"));
        assert!(
            verdict
                .message
                .contains(r#"kubectl patch clusternode phones-1 --type merge -p '{"spec":{"class":"gpu-worker"}}'"#)
        );
        let same = Declared { class: Class::PhoneOrchestrator, profile: None };
        assert_eq!(short_verdict(&Inventory::default(), &spec(), Some(same))[1], ("True", "AsExpected"));
    }

    #[test]
    fn a_status_that_stays_keeps_its_time() {
        let time = |text: &str| Time(text.parse().unwrap());
        let verdict = |status| Verdict { kind: "AsExpected", status, reason: "R", message: String::new() };
        let first = timed(vec![verdict("True")], &[], Some(1), &time("2026-01-01T00:00:00Z"));
        let same = timed(vec![verdict("True")], &first, Some(2), &time("2026-01-02T00:00:00Z"));
        assert_eq!(same[0].last_transition_time, time("2026-01-01T00:00:00Z"));
        let other = timed(vec![verdict("False")], &same, Some(2), &time("2026-01-03T00:00:00Z"));
        assert_eq!(other[0].last_transition_time, time("2026-01-03T00:00:00Z"));
    }
}
