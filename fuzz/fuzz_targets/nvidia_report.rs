//! Lines of the NVML probe, and what follows from them.
#![no_main]

use hatrack_discover::nvidia::{View, probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    if let View::Report(report) = probe::parse(line) {
        let _ = report.verdict_on_missing();
        for gpu in &report.gpus {
            let _ = gpu.verdict();
        }
    }
});
