//! What an XID error means for the GPU it happened on: NVIDIA's XID catalogue
//! (docs.nvidia.com, "GPU Deployment and Management: XID Errors", analyzing-xid-catalog).

/// What is left of a GPU after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: a program did something wrong, or the line only tells of another one (catalogue: RESTART_APP, IGNORE).
    None,
    /// It works and needs attention.
    Degraded,
    /// It must be reset before it is used again (catalogue: RESET_GPU).
    Reset,
    /// The machine must be rebooted, or powered off and on (catalogue: RESTART_BM).
    Reboot,
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xid {
    /// Number.
    pub number: u64,
    /// What happened.
    pub meaning: &'static str,
    /// What it leaves.
    pub effect: Effect,
}

const fn row(number: u64, effect: Effect, meaning: &'static str) -> Xid {
    Xid { number, meaning, effect }
}

/// The rows that can occur, by number. 74 and 144 to 150 have a work flow of their own in the catalogue, which ends in a
/// reset when the link does not come back: until then they are a defect. 154 tells of the recovery action, which the
/// probe reads from the driver.
const CATALOGUE: &[Xid] = &[
    row(8, Effect::None, "a channel stood still"),
    row(11, Effect::None, "invalid push buffer"),
    row(13, Effect::None, "graphics engine exception"),
    row(14, Effect::None, "error injected from user space"),
    row(25, Effect::None, "illegal push buffer"),
    row(31, Effect::None, "memory page fault"),
    row(32, Effect::None, "corrupted push buffer"),
    row(37, Effect::None, "unimplemented firmware method"),
    row(38, Effect::None, "watchdog of the context switch firmware"),
    row(39, Effect::None, "copy engine 0 exception"),
    row(40, Effect::None, "copy engine 1 exception"),
    row(41, Effect::None, "copy engine 2 exception"),
    row(43, Effect::None, "a program's fault stopped its channel"),
    row(44, Effect::None, "fault during a context switch"),
    row(45, Effect::None, "clean-up after a program that ended"),
    row(46, Effect::Reset, "the GPU stopped processing"),
    row(48, Effect::Reset, "uncorrectable ECC error"),
    row(54, Effect::Degraded, "auxiliary power is not connected"),
    row(60, Effect::None, "video processor exception"),
    row(62, Effect::Reset, "the internal micro-controller halted"),
    row(63, Effect::Degraded, "a row of memory was remapped or a page retired"),
    row(64, Effect::Reset, "a row of memory could not be remapped"),
    row(66, Effect::None, "illegal register access"),
    row(67, Effect::None, "illegal access by the driver"),
    row(68, Effect::None, "video decoder exception"),
    row(69, Effect::None, "graphics engine class error"),
    row(70, Effect::None, "copy engine 3 error"),
    row(71, Effect::None, "copy engine 4 error"),
    row(72, Effect::None, "copy engine 5 error"),
    row(74, Effect::Degraded, "NVLink error"),
    row(75, Effect::None, "copy engine 6 error"),
    row(76, Effect::None, "copy engine 7 error"),
    row(77, Effect::None, "copy engine 8 error"),
    row(78, Effect::Degraded, "a vGPU could not start"),
    row(79, Effect::Reboot, "the GPU fell off the bus"),
    row(80, Effect::None, "corrupted data was sent to the GPU"),
    row(82, Effect::None, "JPEG engine error"),
    row(83, Effect::None, "video decoder 1 error"),
    row(84, Effect::None, "video decoder 2 error"),
    row(85, Effect::None, "copy engine 9 error"),
    row(86, Effect::None, "optical flow engine exception"),
    row(88, Effect::None, "video decoder 3 error"),
    row(89, Effect::None, "video decoder 4 error"),
    row(92, Effect::Degraded, "many corrected ECC errors"),
    row(93, Effect::Degraded, "the information ROM's wear limit is reached"),
    row(94, Effect::Degraded, "contained memory error: reset the GPU when convenient"),
    row(95, Effect::Reset, "uncontained memory error"),
    row(96, Effect::None, "video decoder 5 error"),
    row(97, Effect::None, "video decoder 6 error"),
    row(98, Effect::None, "video decoder 7 error"),
    row(99, Effect::None, "JPEG engine 1 error"),
    row(100, Effect::None, "JPEG engine 2 error"),
    row(101, Effect::None, "JPEG engine 3 error"),
    row(102, Effect::None, "JPEG engine 4 error"),
    row(103, Effect::None, "JPEG engine 5 error"),
    row(104, Effect::None, "JPEG engine 6 error"),
    row(105, Effect::None, "JPEG engine 7 error"),
    row(106, Effect::None, "test message"),
    row(107, Effect::None, "silent test message"),
    row(108, Effect::None, "NVLink remote translation error"),
    row(109, Effect::Reset, "context switch timeout"),
    row(110, Effect::Reset, "security fault"),
    row(119, Effect::Reset, "the GPU's system processor did not answer"),
    row(120, Effect::Reset, "error on the GPU's system processor"),
    row(121, Effect::None, "corrected errors on the link to the CPU"),
    row(126, Effect::None, "copy engine 10 error"),
    row(127, Effect::None, "copy engine 11 error"),
    row(128, Effect::None, "copy engine 12 error"),
    row(129, Effect::None, "copy engine 13 error"),
    row(130, Effect::None, "copy engine 14 error"),
    row(131, Effect::None, "copy engine 15 error"),
    row(132, Effect::None, "copy engine 16 error"),
    row(133, Effect::None, "copy engine 17 error"),
    row(134, Effect::None, "copy engine 18 error"),
    row(135, Effect::None, "copy engine 19 error"),
    row(136, Effect::Reset, "link training failed"),
    row(137, Effect::None, "NVLink privilege error"),
    row(139, Effect::None, "optical flow engine 1 error"),
    row(140, Effect::Reset, "unrecovered ECC error"),
    row(141, Effect::None, "CUDA fast path error"),
    row(143, Effect::Reset, "the GPU could not be initialised"),
    row(144, Effect::Degraded, "NVLink error (SAW)"),
    row(145, Effect::Degraded, "NVLink error (RLW)"),
    row(146, Effect::Degraded, "NVLink error (TLW)"),
    row(147, Effect::Degraded, "NVLink error (TREX)"),
    row(148, Effect::Degraded, "NVLink error (NVLPW_CTRL)"),
    row(149, Effect::Degraded, "NVLink error (NETIR)"),
    row(150, Effect::Degraded, "NVLink error (MSE)"),
    row(151, Effect::Reboot, "key rotation error"),
    row(154, Effect::None, "the recovery action changed"),
    row(155, Effect::Reset, "an NVLink went down"),
    row(156, Effect::Reset, "a resource was retired"),
    row(157, Effect::Degraded, "a resource could not be retired"),
    row(158, Effect::Reset, "fatal timeout"),
    row(160, Effect::None, "a memory channel was retired"),
    row(161, Effect::Degraded, "a memory channel could not be retired"),
    row(171, Effect::Reset, "uncorrectable DRAM error"),
    row(172, Effect::Reset, "uncorrectable SRAM error"),
];

/// The row of an XID. One that is not in the catalogue is a defect of unknown weight.
pub fn look_up(number: u64) -> Xid {
    let unknown = row(number, Effect::Degraded, "see NVIDIA's XID catalogue");
    CATALOGUE.iter().find(|xid| xid.number == number).copied().unwrap_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_and_has_each_number_once() {
        assert!(CATALOGUE.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn programs_errors_are_not_the_gpus() {
        for number in [13, 31, 43, 45, 68] {
            assert_eq!(look_up(number).effect, Effect::None, "{number}");
        }
        for number in [48, 64, 95, 119, 120] {
            assert_eq!(look_up(number).effect, Effect::Reset, "{number}");
        }
        for number in [63, 74, 94, 9999] {
            assert_eq!(look_up(number).effect, Effect::Degraded, "{number}");
        }
        assert_eq!(look_up(79).effect, Effect::Reboot);
    }
}
