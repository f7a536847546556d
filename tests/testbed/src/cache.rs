//! What is expensive to make and outlives the tree and its `target`: servers, images of machines.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::error::Error;
use crate::folder;

/// The folder `<cache>/<kind>/<key>`, which `make` fills if it is not there. Others that want it wait meanwhile, and nobody
/// ever sees half of it: `make` gets another folder, which is renamed when it is done.
///
/// The cache is `$HATRACK_CACHE`, else `hatrack` in the user's cache folder.
///
/// # Errors
/// Those of `make`, and when the cache cannot be written.
pub fn cached<E: From<Error>>(kind: &str, key: &str, make: impl FnOnce(&Path) -> Result<(), E>) -> Result<PathBuf, E> {
    let cache = cache_folder().join(kind);
    let finished = cache.join(key);
    if finished.is_dir() {
        return Ok(finished);
    }
    fs::create_dir_all(&cache).map_err(Error::file("create", &cache))?;
    let _making = folder::lock(&cache.join("build.lock"))?;
    if !finished.is_dir() {
        let scratch =
            tempfile::Builder::new().prefix("build-").tempdir_in(&cache).map_err(Error::file("create", &cache))?;
        make(scratch.path())?;
        fs::rename(scratch.path(), &finished).map_err(Error::file("rename to", &finished))?;
    }
    Ok(finished)
}

fn cache_folder() -> PathBuf {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HATRACK_CACHE").unwrap_or_else(|| {
        variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(env::temp_dir)
            .join("hatrack")
    })
}
