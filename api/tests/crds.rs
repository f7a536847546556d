//! `k8s/crds/` is what the types say. `UPDATE_CRDS=1 cargo test -p hatrack-api --test crds` writes it anew.

use std::path::Path;

const HEADER: &str = "# Generated from the types in api/: UPDATE_CRDS=1 cargo test -p hatrack-api --test crds\n";

#[test]
fn committed_crds_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/crds");
    for crd in hatrack_api::crds::all() {
        let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let generated = HEADER.to_owned() + &serde_saphyr::to_string(&crd).unwrap();
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "{} differs from the types in api/: refresh it with `UPDATE_CRDS=1 cargo test -p hatrack-api --test crds`",
            path.display()
        );
    }
}
