//! Objects in the form that was asked for.

use hatrack_api::GROUP;
use kube::ResourceExt;
use kube::core::{ListMeta, ObjectList, TypeMeta};

use crate::args::{Format, OutputOptions};
use crate::cluster::kind::Kind;
use crate::output::{Printer, lines};
use crate::view::table::Table;

/// Prints objects: as a Kubernetes `List`, as names, or as the table that `table` makes, wide or not.
pub fn objects<K: Kind>(
    found: &[K],
    output: &OutputOptions,
    printer: &Printer,
    table: impl FnOnce(bool) -> Table,
) -> anyhow::Result<()> {
    if printer.structured(output.output, &list(found))? {
        return Ok(());
    }
    let text = match output.output {
        Format::Name => lines(found.iter().map(name_of)),
        format => {
            let wide = format == Format::Wide;
            let width = printer.width.filter(|_| !wide);
            table(wide).render(width, !output.no_headers, 0)
        }
    };
    Ok(printer.data(&text)?)
}

/// The name as kubectl takes it.
pub fn name_of<K: Kind>(object: &K) -> String {
    format!("{}.{GROUP}/{}", K::kind(&()).to_ascii_lowercase(), object.name_any())
}

fn list<K: Kind>(found: &[K]) -> ObjectList<K> {
    let types = TypeMeta { api_version: "v1".to_owned(), kind: "List".to_owned() };
    ObjectList { types, metadata: ListMeta::default(), items: found.to_vec() }
}
