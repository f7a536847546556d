//! What registering a machine makes of its ClusterNode: a function of what was there and what was found.

use std::collections::BTreeMap;

use hatrack_api::CLASS_LABEL;
use hatrack_api::cluster_node::{
    Attribute, Class, ClusterNode, ClusterNodeSpec, ClusterNodeStatus, Device, DeviceClass, Expects, InvalidName,
    Profile, Summary, attribute, check_name,
};
use hatrack_discover::condition;
use hatrack_discover::inventory::Inventory;
use hatrack_discover::names::Names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Why a machine cannot be registered under a name.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The name is another machine's.
    #[error(
        "the node `{name}` is another machine: it is pinned to the hardware id `{theirs}`, this machine has `{ours}`"
    )]
    OtherMachine {
        /// Name of the node.
        name: String,
        /// The pinned hardware id.
        theirs: String,
        /// This machine's.
        ours: String,
    },
    /// A person banned the name.
    #[error("the node `{0}` is revoked")]
    Revoked(String),
    /// The host name gives none.
    #[error("the host name `{hostname}` makes no name of a node")]
    NoName {
        /// The host name.
        hostname: String,
        /// Why not.
        #[source]
        source: InvalidName,
    },
}

/// What a person typed about the node; what is absent stays as it is.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Class of the node.
    pub class: Option<Class>,
    /// Its profile.
    pub profile: Option<Profile>,
    /// What should be usable.
    pub expects: Option<Expects>,
}

/// A node as it is to be written.
#[derive(Debug)]
pub struct Registration {
    /// Name of the node.
    pub name: String,
    /// Labels that it is to have.
    pub labels: BTreeMap<String, String>,
    /// What a person wants of it.
    pub spec: ClusterNodeSpec,
    /// What it has.
    pub inventory: Inventory,
}

/// The name of a node made from a host name: its first label, in lower case.
pub fn name_of(hostname: &str) -> Result<String, Refused> {
    let name = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase().replace('_', "-");
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(source) => Err(Refused::NoName { hostname: hostname.to_owned(), source }),
    }
}

/// The names that the devices of a node have.
pub fn names_of(node: Option<&ClusterNode>) -> Names {
    let devices = node.and_then(|node| node.status.as_ref()).and_then(|status| status.devices.as_deref());
    Names::of_devices(devices.unwrap_or_default())
}

/// The class that fits what was found. A GPU inside a processor makes no GPU worker.
pub fn fitting_class(inventory: &Inventory) -> Class {
    let count = |class| inventory.devices.iter().filter(|device| device.class == class).count();
    let gpus = inventory.devices.iter().filter(|device| device.class == DeviceClass::Gpu && !is_integrated(device));
    let (gpus, phones) = (gpus.count(), count(DeviceClass::Phone));
    let board = inventory.system.board.as_ref().map(|board| board.model.as_str()).unwrap_or_default();
    if gpus > 0 {
        Class::GpuWorker
    } else if phones > 0 {
        Class::PhoneOrchestrator
    } else if board.contains("Raspberry Pi") && count(DeviceClass::Accelerator) > 0 {
        Class::PiAiHat
    } else {
        Class::Worker
    }
}

/// A GPU in the processor, where its maker lets discovery tell; one without a place on PCI is in a system on a chip. The bus alone says
/// nothing: an APU of AMD is on a bus like a card, and a card that a virtual machine was given on the first one.
fn is_integrated(gpu: &Device) -> bool {
    gpu.attributes.get("integrated") == Some(&Attribute::Bool(true))
        || !gpu.attributes.contains_key(attribute::PCI_BUS_ID)
}

/// The node of a machine, as it is to be written over `existing`.
pub fn plan(
    name: &str,
    existing: Option<&ClusterNode>,
    inventory: Inventory,
    wishes: &Wishes,
) -> Result<Registration, Refused> {
    let before = existing.map(|node| &node.spec);
    if before.is_some_and(|spec| spec.revoked == Some(true)) {
        return Err(Refused::Revoked(name.to_owned()));
    }
    let pinned = before.and_then(|spec| spec.hardware_id.as_deref()).filter(|id| !id.is_empty());
    if let Some(theirs) = pinned
        && inventory.hardware_id.as_deref() != Some(theirs)
    {
        let ours = inventory.hardware_id.as_deref().unwrap_or("none").to_owned();
        return Err(Refused::OtherMachine { name: name.to_owned(), theirs: theirs.to_owned(), ours });
    }
    let class = wishes.class.or(before.map(|spec| spec.class)).unwrap_or_else(|| fitting_class(&inventory));
    let spec = ClusterNodeSpec {
        class,
        profile: wishes.profile.or(before.and_then(|spec| spec.profile)),
        hardware_id: inventory.hardware_id.clone(),
        unschedulable: before.and_then(|spec| spec.unschedulable),
        revoked: before.and_then(|spec| spec.revoked),
        expects: wishes.expects.clone().or_else(|| before.and_then(|spec| spec.expects.clone())),
    };
    let labels = BTreeMap::from([(CLASS_LABEL.to_owned(), class.to_string())]);
    Ok(Registration { name: name.to_owned(), labels, spec, inventory })
}

impl Registration {
    /// The status over the one that was there: what the operator wrote, and what the agent wears, stays.
    pub fn status(&self, before: Option<&ClusterNodeStatus>, generation: Option<i64>, now: &Time) -> ClusterNodeStatus {
        let conditions = before.and_then(|status| status.conditions.clone()).unwrap_or_default();
        let verdicts = condition::verdicts(&self.name, &self.inventory, &self.spec, None);
        let ours = condition::timed(verdicts, &conditions, generation, now);
        let theirs = conditions.into_iter().filter(|old| ours.iter().all(|new| new.type_ != old.type_));
        let conditions = theirs.chain(ours.clone()).collect();
        let inventory = self.inventory.clone();
        let hats = before.and_then(|status| status.summary.as_ref()?.hats.clone());
        ClusterNodeStatus {
            identity: Some(inventory.identity),
            system: Some(inventory.system),
            devices: Some(inventory.devices),
            storage: Some(inventory.storage),
            interfaces: Some(inventory.interfaces),
            hats: before.and_then(|status| status.hats.clone()),
            worn: before.and_then(|status| status.worn.clone()),
            summary: Some(Summary { hats, ..self.inventory.summary() }),
            conditions: Some(conditions),
            observed_generation: generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_gpu_in_the_processor_makes_no_gpu_worker_and_a_card_does_wherever_it_sits() {
        let gpu = |attributes: Value| -> Device {
            let health = json!({"state": "Ready", "reason": "DriverBound"});
            serde_json::from_value(json!({"name": "gpu", "class": "gpu", "attributes": attributes, "health": health}))
                .unwrap()
        };
        let at = |address: &str| json!({"resource.kubernetes.io/pciBusID": {"string": address}});
        let of_amd = |integrated: bool| {
            let mut attributes = at("0000:0c:00.0");
            attributes["integrated"] = json!({"bool": integrated});
            attributes
        };
        for (attributes, integrated) in
            [(of_amd(true), true), (of_amd(false), false), (at("0000:00:06.0"), false), (json!({}), true)]
        {
            assert_eq!(is_integrated(&gpu(attributes.clone())), integrated, "{attributes}");
        }
    }
}
