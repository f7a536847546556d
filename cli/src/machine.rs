//! Looks at a machine: this one, or a copy of another one's tree.

use hatrack_discover::inventory::{self, Answers, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::root::Root;

use crate::args::MachineOptions;

/// The folder of a copied tree cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is no copy of a machine's tree: it has neither `sys` nor `proc`")]
pub struct NoTree {
    path: String,
}

/// Everything that is known of the machine. `names` are those that its devices have had.
pub async fn look(options: &MachineOptions, names: &mut Names) -> Result<Inventory, NoTree> {
    let root = root(options)?;
    let facts = inventory::look(&root);
    let answers = ask(options, &root).await;
    Ok(Inventory::compose(&root, facts, &answers, names, None))
}

fn root(options: &MachineOptions) -> Result<Root, NoTree> {
    let Some(path) = &options.root else { return Ok(Root::machine()) };
    if path.join("sys").is_dir() || path.join("proc").is_dir() {
        Ok(Root::at(path))
    } else {
        Err(NoTree { path: path.display().to_string() })
    }
}

#[expect(clippy::unused_async, reason = "stub")]
async fn ask(_options: &MachineOptions, _root: &Root) -> Answers {
    Answers::default()
}
