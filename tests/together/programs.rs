//! The programs with periods that no test has to wait for.

use std::path::Path;
use std::process::Command;

use hatrack_testbed::{Program, program};

/// How long a Lease lasts without a renewal.
const LEASE: &str = "5s";

/// Starts the operator with the access of a kubeconfig file.
pub fn operator(folder: &Path, kubeconfig: &Path) -> Program {
    let text = format!(
        "listen = \"127.0.0.1:0\"\n\
         [api]\nrequest-timeout = \"2s\"\nkubeconfig = \"{}\"\n\
         [leader]\nperiod = \"100ms\"\ndeadline = \"1500ms\"\nduration = \"2s\"\n\
         [nodes]\nlease = \"{LEASE}\"\nstop = \"1s\"\n\
         [requests]\ntext = \"200ms\"\nset-aside = \"500ms\"\n\
         [canary]\nperiod = \"500ms\"\nretry = \"100ms\"\n\
         [backoff]\nmin = \"20ms\"\nmax = \"500ms\"\n",
        kubeconfig.display()
    );
    start("hatrack-operator", folder, &text)
}

/// Starts the agent of the machine below `root`, which has no service manager. After an outage it comes back later than the operator.
pub fn agent(folder: &Path, name: &str, root: &Path, kubeconfig: &Path) -> Program {
    let text = format!(
        "name = \"{name}\"\nclass = \"gpu-worker\"\nroot = \"{}\"\nstate-dir = \"{state}/state\"\nlisten = \"127.0.0.1:0\"\n\
         [api]\nrequest-timeout = \"2s\"\nkubeconfig = \"{}\"\n\
         [lease]\nperiod = \"1500ms\"\nduration = \"{LEASE}\"\n\
         [discovery]\ncoalesce = \"5ms\"\nfull-pass = \"1h\"\n\
         [nvml]\nmode = \"off\"\n\
         [wear]\nfolder = \"{state}/hats\"\nbus = \"unix:path=/nowhere\"\nfence-wait = \"200ms\"\n\
         [backoff]\nmin = \"20ms\"\nmax = \"2s\"\n",
        root.display(),
        kubeconfig.display(),
        state = folder.display(),
    );
    std::fs::create_dir_all(folder.join("hats")).unwrap();
    start("hatrack-agent", folder, &text)
}

fn start(package: &str, folder: &Path, configuration: &str) -> Program {
    let file = folder.join(format!("{package}.toml"));
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program(package).unwrap());
    command.args(["run", "--log-format", "json", "--config"]).arg(&file).env("HATRACK_LOG", "info");
    Program::start(&mut command)
}
