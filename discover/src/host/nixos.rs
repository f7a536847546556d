//! Which NixOS a machine runs: version, configuration and generation.

use hatrack_api::cluster_node::NixosSystem;
use serde::Deserialize;

use super::cut;
use crate::root::{Root, Unreadable};

const CURRENT: &str = "/run/current-system";
const PROFILES: &str = "/nix/var/nix/profiles";

/// The running NixOS; `None` on other systems.
pub(super) fn read(root: &Root) -> Result<Option<NixosSystem>, Unreadable> {
    let version = root.text(format!("{CURRENT}/nixos-version"))?.filter(|version| !version.is_empty());
    let Some(version) = version else { return Ok(None) };
    let script = root.text(format!("{CURRENT}/sw/bin/nixos-version"))?;
    let revision = script.as_deref().and_then(configuration_revision).map(|revision| cut(&revision, 64));
    Ok(Some(NixosSystem { version: cut(&version, 64), revision, generation: generation(root)? }))
}

/// The number of the generation that runs, which is not the newest one between a build and the next boot.
fn generation(root: &Root) -> Result<Option<i64>, Unreadable> {
    // Store paths differ in their last part alone, and links to them can be relative or absolute.
    let Some(running) = root.link_name(CURRENT)? else { return Ok(None) };
    let selected = root.link_name(format!("{PROFILES}/system"))?;
    let names = root.entries(PROFILES)?.unwrap_or_default();
    let mut found = None;
    for name in names {
        let Some(number) = number(&name) else { continue };
        if root.link_name(format!("{PROFILES}/{name}"))?.as_ref() != Some(&running) {
            continue;
        }
        // One system can be several generations, after a rollback: the selected one is meant, else the newest.
        if selected.as_ref() == Some(&name) {
            return Ok(Some(number));
        }
        found = found.max(Some(number));
    }
    Ok(found)
}

/// 42 of `system-42-link`.
fn number(name: &str) -> Option<i64> {
    name.strip_prefix("system-")?.strip_suffix("-link")?.parse().ok().filter(|number| *number > 0)
}

/// The revision in the script `nixos-version`: its `--json` prints a line that stands in the script as it is
/// (nixpkgs, `nixos/modules/installer/tools/nixos-version.sh`).
pub fn configuration_revision(script: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versions {
        configuration_revision: Option<String>,
    }
    let lines = script.lines().filter(|line| line.starts_with('{'));
    lines
        .filter_map(|line| serde_json::from_str::<Versions>(line).ok())
        .find_map(|versions| versions.configuration_revision)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    /// A machine with generations by number and system, one of which is selected for the next boot and one runs.
    fn machine(generations: &[(u32, &str)], selected: u32, running: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["run", "nix/var/nix/profiles", "nix/store"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for (number, system) in generations {
            fs::create_dir_all(path(&format!("nix/store/{system}"))).unwrap();
            let link = path(&format!("nix/var/nix/profiles/system-{number}-link"));
            symlink(format!("../../../store/{system}"), link).unwrap();
        }
        fs::write(path(&format!("nix/store/{running}/nixos-version")), "26.05.1").unwrap();
        symlink(format!("system-{selected}-link"), path("nix/var/nix/profiles/system")).unwrap();
        symlink(format!("../nix/store/{running}"), path("run/current-system")).unwrap();
        folder
    }

    fn read_in(folder: &tempfile::TempDir) -> NixosSystem {
        read(&Root::at(folder.path())).unwrap().unwrap()
    }

    #[test]
    fn the_generation_that_runs_is_meant_and_not_the_next_one() {
        let cases = [
            ("the selected one runs", &[(41, "a"), (42, "b")][..], 42, "b", Some(42)),
            ("the next one is built", &[(41, "a"), (42, "b")], 42, "a", Some(41)),
            ("rolled back to the same system", &[(40, "a"), (41, "b"), (42, "a")], 40, "a", Some(40)),
            ("two are equal and none is selected", &[(9, "a"), (10, "a"), (11, "b")], 11, "a", Some(10)),
        ];
        for (name, generations, selected, running, expected) in cases {
            assert_eq!(read_in(&machine(generations, selected, running)).generation, expected, "{name}");
        }
    }

    #[test]
    fn a_system_that_is_no_generation_has_none() {
        let folder = machine(&[(1, "a"), (2, "b")], 2, "b");
        fs::remove_file(folder.path().join("nix/var/nix/profiles/system-2-link")).unwrap();
        symlink("../../../store/a", folder.path().join("nix/var/nix/profiles/system-x-link")).unwrap();
        assert_eq!(read_in(&folder).generation, None);
    }

    #[test]
    fn the_revision_of_the_configuration_is_the_flake_s() {
        let folder = machine(&[(1, "a")], 1, "a");
        assert_eq!(read_in(&folder).revision, None);
        let script = "#!/bin/sh\ncase \"$1\" in\n  --json)\n    cat <<EOF\n\
            {\"configurationRevision\":\"4f0c9a3d\",\"nixosVersion\":\"26.05.1\",\"nixpkgsRevision\":\"3f0a8ac\"}\nEOF\n    ;;\nesac\n";
        fs::create_dir_all(folder.path().join("nix/store/a/sw/bin")).unwrap();
        fs::write(folder.path().join("nix/store/a/sw/bin/nixos-version"), script).unwrap();
        assert_eq!(read_in(&folder).revision.as_deref(), Some("4f0c9a3d"));
        let without = script.replace("\"configurationRevision\":\"4f0c9a3d\",", "");
        assert_eq!(configuration_revision(&without), None);
        assert_eq!(configuration_revision("{broken\n"), None);
    }

    proptest! {
        #[test]
        fn any_script_is_read(script in "([{\\[\"a-zA-Z:,}\\]\n ]|configurationRevision){0,60}") {
            let _ = configuration_revision(&script);
        }

        #[test]
        fn a_revision_is_found_wherever_its_line_is(
            before in "([^{\n][ -~]{0,20}\n){0,4}", revision in "[0-9a-f]{1,64}", after in "(\n[ -~]{0,20}){0,4}"
        ) {
            let script = format!("{before}{{\"configurationRevision\":\"{revision}\"}}{after}");
            prop_assert_eq!(configuration_revision(&script), Some(revision));
        }
    }

    #[test]
    fn another_system_is_no_nixos() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&Root::at(folder.path())).unwrap(), None);
    }
}
