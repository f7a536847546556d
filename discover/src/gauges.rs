//! What changes from minute to minute on the machine that this program runs on: for metrics, never for the object.

use sysinfo::{Components, CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

/// One measurement. What cannot be measured is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Load averages over 1, 5 and 15 minutes: runnable and blocked tasks.
    pub load: Option<[f64; 3]>,
    /// Share of all processors that was in use since the last sample, 0 to 1; absent in the first one.
    pub cpu_use: Option<f64>,
    /// Memory in use and memory that Linux manages, in bytes. In use is what programs could not get without swapping.
    pub memory: Option<(u64, u64)>,
    /// Temperatures.
    pub temperatures: Vec<Temperature>,
    /// File systems on local disks.
    pub filesystems: Vec<Filesystem>,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Temperature {
    /// Chip and sensor, as hwmon names them.
    pub sensor: String,
    /// In degrees Celsius.
    pub celsius: f64,
}

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: String,
    /// Its size in bytes.
    pub total: u64,
    /// What an unprivileged program can still write, in bytes.
    pub available: u64,
}

/// Measures. It keeps what the next sample is compared with.
#[derive(Debug)]
pub struct Gauges {
    system: System,
    has_sampled: bool,
}

impl Gauges {
    /// Measures nothing yet; the error says why this machine cannot be measured.
    pub fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self { system: System::new()?, has_sampled: false })
    }

    /// Measures now: some milliseconds of reading files. Of the file systems that are on other machines, NFS and CIFS are left out. Asking for
    /// another one whose server is gone (FUSE, Ceph, 9P), or for a disk that is dead, can block for ever: nobody may have to wait for it.
    pub fn sample(&mut self) -> Sample {
        let memory = MemoryRefreshKind::nothing().with_ram();
        let cpu = CpuRefreshKind::nothing().with_usage();
        self.system.refresh_specifics(RefreshKind::nothing().with_memory(memory).with_cpu(cpu));
        let cpu_use = self.has_sampled.then(|| f64::from(self.system.global_cpu_usage()) / 100.0);
        self.has_sampled = true;
        let total = self.system.total_memory();
        Sample {
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            cpu_use,
            memory: (total > 0).then(|| (total.saturating_sub(self.system.available_memory()), total)),
            temperatures: temperatures(),
            filesystems: filesystems(),
        }
    }
}

fn temperatures() -> Vec<Temperature> {
    let Ok(components) = Components::new_with_refreshed_list() else { return Vec::new() };
    let read = components.iter().filter_map(|component| {
        let celsius = component.temperature().filter(|celsius| celsius.is_finite())?;
        Some(Temperature { sensor: component.label().to_owned(), celsius: f64::from(celsius) })
    });
    read.collect()
}

/// Sorted by mount point; one that is mounted at several places is there several times.
fn filesystems() -> Vec<Filesystem> {
    let storage = DiskRefreshKind::nothing().with_storage();
    let Ok(disks) = Disks::new_with_refreshed_list_specifics(storage) else { return Vec::new() };
    let mounted = disks.iter().filter(|disk| disk.total_space() > 0).map(|disk| Filesystem {
        mount: disk.mount_point().to_string_lossy().into_owned(),
        total: disk.total_space(),
        available: disk.available_space(),
    });
    let mut filesystems: Vec<_> = mounted.collect();
    filesystems.sort_by(|a, b| a.mount.cmp(&b.mount));
    filesystems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_measured() {
        let mut gauges = Gauges::new().unwrap();
        let first = gauges.sample();
        assert_eq!(first.cpu_use, None);
        assert!(first.memory.is_some_and(|(used, total)| used > 0 && used < total), "{first:?}");
        assert!(first.filesystems.iter().all(|fs| fs.available <= fs.total), "{:?}", first.filesystems);
        let second = gauges.sample();
        assert!(second.cpu_use.is_some_and(|share| (0.0..=1.0).contains(&share)), "{second:?}");
        assert!(second.load.is_some_and(|load| load.iter().all(|load| *load >= 0.0)));
    }
}
