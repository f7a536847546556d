//! What NVML's report means for the health of a GPU, and how that state ends.

use hatrack_api::cluster_node::Health;

use super::xid::{self, Effect};
use super::{Gpu, Report, Trouble};

const RESET: &str =
    "stop what uses it and hatrack-agent, run `nvidia-smi --gpu-reset`, and start them again; or reboot";
const REBOOT: &str =
    "power the machine off and on; if it happens again, look at the card's power, seat and temperature";

impl Report {
    /// The entry for the GPU at a PCI address.
    pub fn gpu_at(&self, address: &str) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.address.as_deref() == Some(address))
    }

    /// What it means that a GPU with NVIDIA's driver is in no entry: one that NVML counts and cannot open has no address.
    pub fn verdict_on_missing(&self) -> Health {
        let nameless = self.gpus.iter().find(|gpu| gpu.address.is_none());
        nameless.and_then(Gpu::verdict).unwrap_or_else(|| {
            let message = "the driver could not initialise it: see the kernel log for lines with `NVRM`";
            Health::unusable("NotInitialized", message)
        })
    }

    /// Adds the XID errors that an earlier report of the same run knew: the GPU is not well because the probe started anew.
    pub fn remember(&mut self, earlier: &Self) {
        self.remember_those(earlier, |_, _| true);
    }

    /// Adds the XID errors that an earlier run of the agent knew, as far as they are not history: the agent has to be stopped for a reset
    /// of the GPU, after which the driver says that the GPU needs nothing.
    pub fn remember_over_a_start(&mut self, earlier: &Self) {
        self.remember_those(earlier, |gpu, effect| !gpu.needs_nothing || effect == Effect::Reboot);
    }

    /// Adds the GPUs that an earlier report knew and this one does not: one that is lost for a moment comes back with its errors.
    pub fn keep_absent(&mut self, earlier: Self) {
        let is_absent = |gpu: &Gpu| gpu.address.as_deref().is_some_and(|address| self.gpu_at(address).is_none());
        let absent: Vec<_> = earlier.gpus.into_iter().filter(|gpu| is_absent(gpu)).collect();
        self.gpus.extend(absent);
    }

    fn remember_those(&mut self, earlier: &Self, stands: impl Fn(&Gpu, Effect) -> bool) {
        for gpu in &mut self.gpus {
            let Some(before) = gpu.address.as_deref().and_then(|address| earlier.gpu_at(address)) else { continue };
            let forgotten = before.troubles.iter().filter(|trouble| matches!(trouble, Trouble::Xid(_)));
            let forgotten = forgotten.filter(|trouble| trouble.effect().is_none_or(|effect| stands(gpu, effect)));
            let forgotten: Vec<_> = forgotten.filter(|trouble| !gpu.troubles.contains(trouble)).cloned().collect();
            gpu.troubles.extend(forgotten);
        }
    }
}

impl Gpu {
    /// The number of MIG instances, in MIG mode.
    pub fn instances_in_mig_mode(&self) -> Option<u32> {
        let number = u32::try_from(self.instances.len()).unwrap_or(u32::MAX);
        self.mig.filter(|on| *on).map(|_| number)
    }

    /// What its troubles mean: the worst of them, the first of equals; `None` when there is none.
    pub fn verdict(&self) -> Option<Health> {
        let verdicts = self.troubles.iter().filter_map(Trouble::verdict);
        verdicts.reduce(|worst, next| if next.state > worst.state { next } else { worst })
    }
}

impl Trouble {
    /// What an XID error leaves of the GPU.
    fn effect(&self) -> Option<Effect> {
        if let Self::Xid(number) = self { Some(xid::look_up(*number).effect) } else { None }
    }

    /// What it means for the GPU; `None` when it means nothing.
    fn verdict(&self) -> Option<Health> {
        let unusable = |reason, what: &str, cure| Some(Health::unusable(reason, format!("{what}: {cure}")));
        let degraded = |reason, what: &str, cure| Some(Health::degraded(reason, format!("{what}: {cure}")));
        match self {
            Self::Lost => unusable("GpuLost", "the driver cannot reach it any more", REBOOT),
            Self::RebootRequired => unusable("RebootRequired", "the driver wants the machine rebooted", "reboot"),
            Self::ResetRequired => unusable("ResetRequired", "the driver wants it reset", RESET),
            Self::Xid(number) => xid_verdict(*number),
            Self::RemapFailed => unusable(
                "RowRemapFailed",
                "a bad row of its memory could not be replaced",
                "run NVIDIA's field diagnostic and have the card replaced",
            ),
            Self::UncorrectableEcc(count) => {
                degraded("UncorrectableEcc", &format!("{count} uncorrectable ECC errors since its last reset"), RESET)
            }
            Self::RemapPending => {
                degraded("RowRemapPending", "a bad row of its memory is replaced at the next reset", RESET)
            }
            Self::RetirementPending => {
                degraded("PageRetirementPending", "a bad page of its memory is retired at the next reset", RESET)
            }
            Self::Unanswered(what) => Some(Health::degraded("NvmlError", format!("NVML did not answer: {what}"))),
        }
    }
}

/// The state lasts until the GPU is reset or the machine reboots. The agent has to be stopped for a reset, as it holds the driver open; what
/// it knew before stands when it starts again, unless the driver says that the GPU needs nothing. A driver that does not tell that (before
/// the recovery action of NVML) leaves only the reboot.
fn xid_verdict(number: u64) -> Option<Health> {
    let xid = xid::look_up(number);
    let reason = format!("Xid{number}");
    let message = |cure| format!("XID {number}, {}: {cure}", xid.meaning);
    match xid.effect {
        Effect::None => None,
        Effect::Degraded => Some(Health::degraded(&reason, message(RESET))),
        Effect::Reset => Some(Health::unusable(&reason, message(RESET))),
        Effect::Reboot => Some(Health::unusable(&reason, message(REBOOT))),
    }
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::HealthState;

    use super::*;

    fn gpu(troubles: &[Trouble]) -> Gpu {
        Gpu { address: Some("0000:3b:00.0".to_owned()), troubles: troubles.to_vec(), ..Gpu::default() }
    }

    #[test]
    fn the_worst_trouble_decides() {
        let told = |troubles: &[Trouble]| gpu(troubles).verdict().map(|health| (health.state, health.reason));
        let expect = |state, reason: &str| Some((state, reason.to_owned()));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[Trouble::Xid(13), Trouble::Xid(43)]), None, "programs did that");
        assert_eq!(told(&[Trouble::Xid(63), Trouble::RemapPending]), expect(HealthState::Degraded, "Xid63"));
        assert_eq!(told(&[Trouble::UncorrectableEcc(2), Trouble::Xid(95)]), expect(HealthState::Unusable, "Xid95"));
        assert_eq!(told(&[Trouble::Xid(94), Trouble::RemapFailed]), expect(HealthState::Unusable, "RowRemapFailed"));
        assert_eq!(told(&[Trouble::Lost, Trouble::Xid(79)]), expect(HealthState::Unusable, "GpuLost"));
    }

    #[test]
    fn a_gpu_without_an_entry_is_lost_or_was_never_initialised() {
        let nameless = Gpu { troubles: vec![Trouble::Lost], ..Gpu::default() };
        let report = |gpus| Report { gpus, ..Report::default() };
        assert_eq!(report(vec![gpu(&[]), nameless]).verdict_on_missing().reason, "GpuLost");
        assert_eq!(report(vec![gpu(&[])]).verdict_on_missing().reason, "NotInitialized");
    }

    #[test]
    fn xids_outlast_the_probe_and_other_troubles_do_not() {
        let earlier = Report { gpus: vec![gpu(&[Trouble::Xid(79), Trouble::Lost])], ..Report::default() };
        let mut report = Report { gpus: vec![gpu(&[])], ..Report::default() };
        report.remember(&earlier);
        report.remember(&earlier);
        assert_eq!(report.gpus[0].troubles, [Trouble::Xid(79)]);
    }
}
