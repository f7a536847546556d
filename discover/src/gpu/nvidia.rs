//! NVIDIA's GPUs: what PCI, the driver's `/proc` files and NVML say, put together.

use std::collections::BTreeMap;

use hatrack_api::cluster_node::{Health, attribute};

use crate::gpu::{self, MIG_INSTANCE, MIG_INSTANCES};
use crate::nvidia::procfs::{self, Information};
use crate::nvidia::{Gpu, Instance, Report, View};
use crate::pci::Function;
use crate::root::{Root, Unreadable};
use crate::sighting::{Key, Sighting};

pub(super) const DRIVER: &str = "nvidia";

/// The module of that driver, as messages name it.
const MODULE: &str = "`nvidia`";

/// Attributes that only NVML tells.
pub(super) const OF_NVML: [&str; 8] = [
    "computeCapability",
    "cudaVersion",
    "ecc",
    "migEnabled",
    MIG_INSTANCES,
    "persistence",
    "powerLimitMilliwatts",
    attribute::SERIAL,
];

/// Reasons of a state of health that are known without NVML.
pub(super) const WITHOUT_NVML: [&str; 11] = [
    "BoundToVfio",
    "DriverBound",
    "FellOffBus",
    "GpuExcluded",
    "NoDeviceNode",
    "NoDriver",
    "NotInitialized",
    "NouveauDriver",
    "OtherDriver",
    "PcieLinkNarrow",
    "Unobserved",
];

/// What the driver shows once for all its GPUs.
#[derive(Debug, Default)]
pub(super) struct Driver {
    version: Option<String>,
    capability_minors: BTreeMap<String, u32>,
}

impl Driver {
    /// Nothing is opened on a machine where no function has the driver.
    pub(super) fn read(root: &Root, functions: &[Function]) -> Result<Self, Unreadable> {
        if !functions.iter().any(|function| function.driver.as_deref() == Some(DRIVER)) {
            return Ok(Self::default());
        }
        Ok(Self { version: procfs::driver_version(root)?, capability_minors: procfs::capability_minors(root)? })
    }
}

/// What is known of one GPU.
struct Card<'a> {
    function: &'a Function,
    driver: &'a Driver,
    information: Information,
    report: Option<&'a Report>,
    told: Option<&'a Gpu>,
    nodes: Vec<String>,
}

/// A GPU and its MIG instances.
pub(super) fn sightings(
    root: &Root,
    function: &Function,
    driver: &Driver,
    nvml: &View,
) -> Result<Vec<Sighting>, Unreadable> {
    let bound = function.driver.as_deref() == Some(DRIVER);
    let information = if bound { procfs::information(root, &function.address)? } else { None };
    let report = if let View::Report(report) = nvml { Some(report) } else { None };
    let told = report.and_then(|report| report.gpu_at(&function.address));
    let mut card = Card { function, driver, information: information.unwrap_or_default(), report, told, nodes: vec![] };
    if bound {
        card.nodes = card.find_nodes(root)?;
    }
    let mut seen = vec![card.sighting(card.health(nvml))];
    let instances = told.map(|gpu| gpu.instances.as_slice()).unwrap_or_default();
    seen.extend(instances.iter().map(|instance| card.instance(instance)));
    Ok(seen)
}

impl Card<'_> {
    fn minor(&self) -> Option<u32> {
        self.information.minor.or_else(|| self.told?.minor)
    }

    fn find_nodes(&self, root: &Root) -> Result<Vec<String>, Unreadable> {
        let own = self.minor().map(|minor| format!("/dev/nvidia{minor}"));
        let shared = ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(str::to_owned);
        let mut nodes = Vec::new();
        for node in own.into_iter().chain(shared) {
            if root.exists(&node)? {
                nodes.push(node);
            }
        }
        nodes.extend(gpu::render_nodes(root, self.function)?);
        Ok(nodes)
    }

    fn sighting(&self, health: Health) -> Sighting {
        let told = self.told;
        let mut sighting = self
            .described(gpu::key(self.function), health)
            .text(attribute::UUID, self.information.uuid.as_ref().or_else(|| told?.uuid.as_ref()))
            .text(attribute::SERIAL, told.and_then(|gpu| gpu.serial.as_ref()))
            .truth("ecc", told.and_then(|gpu| gpu.ecc))
            .truth("persistence", told.and_then(|gpu| gpu.persistence))
            .number("powerLimitMilliwatts", told.and_then(|gpu| gpu.power_limit))
            .truth("migEnabled", told.and_then(|gpu| gpu.mig))
            .number(MIG_INSTANCES, told.and_then(Gpu::instances_in_mig_mode))
            .memory(told.and_then(|gpu| gpu.memory));
        sighting.nodes.clone_from(&self.nodes);
        sighting
    }

    /// What a GPU and its instances have in common.
    fn described(&self, key: Key, health: Health) -> Sighting {
        let told = self.told;
        let model = self.information.model.as_deref().or_else(|| told?.model.as_deref());
        let version = self.driver.version.as_ref().or_else(|| self.report?.driver_version.as_ref());
        let sighting = Sighting::new(key, health)
            .text(attribute::VENDOR, Some("nvidia"))
            .version(attribute::DRIVER_VERSION, version)
            .version("cudaVersion", self.report.and_then(|report| report.cuda_version.as_ref()))
            .version("computeCapability", told.and_then(|gpu| gpu.compute_capability.as_ref()));
        self.function.describe(gpu::named(sighting, self.function, model))
    }

    fn health(&self, nvml: &View) -> Health {
        if self.function.driver.as_deref() == Some("nouveau") {
            let message = "nouveau holds it, which has no CUDA: blacklist nouveau, install NVIDIA's driver and reboot";
            return Health::unusable("NouveauDriver", message);
        }
        let findings = [
            self.function.access_trouble(&[DRIVER], MODULE),
            self.excluded(),
            self.verdict_of_nvml(nvml),
            self.mig_mode(),
            self.no_node(),
            self.function.link_trouble(),
        ];
        let ready = Health::ready(if self.told.is_some() { "NvmlReports" } else { "DriverBound" });
        gpu::worst(findings.into_iter().flatten()).unwrap_or(ready)
    }

    fn excluded(&self) -> Option<Health> {
        let message = "the driver was told to leave it alone: remove it from the module option NVreg_ExcludedGpus";
        self.information.excluded.then(|| Health::unusable("GpuExcluded", message))
    }

    fn verdict_of_nvml(&self, nvml: &View) -> Option<Health> {
        match nvml {
            View::NotAsked | View::Pending => None,
            View::Failed(failure) => Some(Health::degraded(&failure.reason, &failure.message)),
            View::Report(report) => match self.told {
                Some(gpu) => gpu.verdict(),
                None => Some(report.verdict_on_missing()),
            },
        }
    }

    fn mig_mode(&self) -> Option<Health> {
        let instances = self.told?.instances_in_mig_mode()?;
        Some(if instances > 0 {
            let message = format!("it is divided into {instances} MIG instances, which are used in its place");
            Health::unusable("MigParent", message)
        } else {
            let message = "MIG mode is on and there is no instance: make some with `nvidia-smi mig -cgi … -C`, or turn \
                           it off with `nvidia-smi -mig 0`";
            Health::unusable("MigWithoutInstances", message)
        })
    }

    fn no_node(&self) -> Option<Health> {
        let bound = self.function.driver.as_deref() == Some(DRIVER);
        let minor = self.minor().filter(|_| bound)?;
        let node = format!("/dev/nvidia{minor}");
        let message = format!("{node} is not there: run `nvidia-modprobe -c {minor}`, or let nvidia-persistenced run");
        (!self.nodes.contains(&node)).then(|| Health::degraded("NoDeviceNode", message))
    }

    fn instance(&self, instance: &Instance) -> Sighting {
        let place = format!("{}/{}", instance.gpu_instance, instance.compute_instance);
        let profile = instance.profile.as_deref().unwrap_or_default();
        let key = Key {
            slot: format!("{}/{place}", self.function.address),
            ids: format!("{} {profile}", self.function.ids()),
            ..gpu::key(self.function)
        };
        let troubles = [self.function.access_trouble(&[DRIVER], MODULE), self.told.and_then(Gpu::verdict)];
        let health = gpu::worst(troubles.into_iter().flatten()).unwrap_or_else(|| Health::ready("NvmlReports"));
        let mut sighting = self
            .described(key, health)
            .text(attribute::UUID, instance.uuid.as_ref())
            .text(MIG_INSTANCE, Some(place))
            .text("migProfile", instance.profile.as_ref())
            .text("parentUUID", self.information.uuid.as_ref().or_else(|| self.told?.uuid.as_ref()))
            .memory(instance.memory);
        sighting.nodes = self.nodes.iter().cloned().chain(self.capability_nodes(instance)).collect();
        sighting
    }

    /// The nodes that open an instance to a program (NVIDIA MIG User Guide, "Device Nodes and Capabilities").
    fn capability_nodes(&self, instance: &Instance) -> Vec<String> {
        let Some(minor) = self.minor() else { return Vec::new() };
        let gpu_instance = format!("gpu{minor}/gi{}", instance.gpu_instance);
        let names =
            [format!("{gpu_instance}/access"), format!("{gpu_instance}/ci{}/access", instance.compute_instance)];
        let minors = names.iter().filter_map(|name| self.driver.capability_minors.get(name));
        minors.map(|minor| format!("/dev/nvidia-caps/nvidia-cap{minor}")).collect()
    }
}
