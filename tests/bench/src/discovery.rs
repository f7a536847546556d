//! How long it takes to find out what a machine has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hatrack_discover::inventory::{Answers, Inventory, look};
use hatrack_discover::names::Names;
use hatrack_discover::root::Root;

use crate::machine;
use crate::sample::Sample;
use crate::table::Table;

const TIMES: usize = 300;

/// Discovery of 8 GPUs and 20 phones, beside opening and reading as many files of the same tree and doing nothing with them.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let machine = hatrack_fixtures::machine(machine::NAME)?;
    let discovery = Sample::of(TIMES, || {
        let devices = discover(&machine).devices.len();
        (devices >= 28).then_some(()).with_context(|| format!("only {devices} devices were found"))
    })?;
    let opened = opened(&machine);
    let files = files(&machine.path().join("sys/devices"), usize::try_from(opened)?)?;
    let bare = Sample::of(TIMES, || files.iter().try_for_each(|file| fs::read(file).map(drop)))?;
    let ratio = discovery.median() / bare.median();
    let yardstick = format!("{:.3} ms to read {opened} files: {ratio:.2} times that", bare.median());
    table.at_most("discovery, 8 GPUs + 20 phones, median", 5.0, discovery.median(), "ms", yardstick);
    table.at_most("files opened by it", 600.0, f64::from(u32::try_from(opened)?), "files", String::new());
    Ok(())
}

fn discover(machine: &hatrack_fixtures::Fixture) -> Inventory {
    let root = Root::at(machine.path());
    Inventory::compose(&root, look(&root), &Answers::default(), &mut Names::default(), None)
}

fn opened(machine: &hatrack_fixtures::Fixture) -> u64 {
    let root = Root::at(machine.path());
    Inventory::compose(&root, look(&root), &Answers::default(), &mut Names::default(), None);
    root.opened()
}

/// The first `count` plain files below a folder.
fn files(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::with_capacity(count);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && files.len() < count {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
