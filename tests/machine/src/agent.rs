//! The agent as the flake installs it: what is in `tests/nix/texts` for a host, where NixOS would put it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use crate::payload::Payload;
use crate::program;

const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nix/texts");

/// The files of an agent. Paths in the store are as the texts have them, so the units are what the flake renders to the letter.
#[derive(Debug, Clone)]
pub struct AgentFiles {
    /// The host of `tests/nix/texts` whose unit and configuration it is.
    pub host: &'static str,
    /// The name to register under.
    pub name: String,
    /// What differs from the host's configuration.
    pub settings: Table,
    /// Whether a test brings its access to the API server, so that it does not enroll.
    pub has_access: bool,
    /// Whether it starts with the machine.
    pub enabled: bool,
}

impl AgentFiles {
    /// The agent of a host, which starts with the machine.
    pub fn new(host: &'static str, name: &str) -> Self {
        Self { host, name: name.to_owned(), settings: Table::new(), has_access: true, enabled: true }
    }

    /// Adds the files to what a test brings.
    pub fn add_to(&self, payload: &mut Payload) -> Result<()> {
        payload.program("/nix/store/hatrack-agent/bin/hatrack-agent", &program("hatrack-agent")?)?;
        payload.link("/nix/store/coreutils", "/usr")?;
        payload.file("/etc/systemd/system/hatrack-agent.service", text(self.host, "hatrack-agent.service")?)?;
        payload.file("/etc/systemd/system/hat@.target", text("gpu-1", "hat@.target")?)?;
        payload.file("/etc/polkit-1/rules.d/10-nixos.rules", text("gpu-1", "polkit.js")?)?;
        payload.file("/etc/hatrack/agent.toml", self.configuration()?.to_string())?;
        if self.enabled {
            payload.link(
                "/etc/systemd/system/multi-user.target.wants/hatrack-agent.service",
                "../hatrack-agent.service",
            )?;
        }
        Ok(())
    }

    fn configuration(&self) -> Result<Table> {
        let mut table: Table =
            serde_json::from_str(&text(self.host, "agent.json")?).context("agent.json is no table")?;
        table.insert("name".to_owned(), Value::String(self.name.clone()));
        if self.has_access {
            table.remove("enrollment");
        }
        table.extend(self.settings.clone());
        Ok(table)
    }
}

/// A text of a host, as the flake renders it.
pub fn text(host: &str, name: &str) -> Result<String> {
    let path = PathBuf::from(TEXTS).join(host).join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
