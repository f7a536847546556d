//! What goes wrong, in words that help.

use crate::assert_golden;
use crate::golden::samples;
use crate::golden::transcript::Session;

#[test]
fn no_cluster() {
    let mut session = Session::new();
    session
        .run("nodes")
        .run("register --name a")
        .run("phones")
        .run("nodes --cluster nowhere")
        .run("nodes --context lab");
    session.file("empty.kubeconfig", "").set("KUBECONFIG", "empty.kubeconfig").run("nodes");
    session.file("bad.kubeconfig", "clusters: 7\n").set("KUBECONFIG", "bad.kubeconfig").run("nodes");
    session.set("KUBECONFIG", "absent.kubeconfig").run("nodes");
    assert_golden!("no-cluster", session);
}

#[test]
fn a_manifest_that_no_cluster_would_take() {
    let mut session = Session::new();
    samples::write(&samples::three(), &session.folder().join("lab"));
    let manifest =
        |rest: &str| format!("apiVersion: society.zeta.io/v1alpha1\nkind: ClusterNode\nmetadata:\n  name: a\n{rest}");
    let texts = [
        "spec: [".to_owned(),
        "a: 1\na: 2\n".to_owned(),
        "kind: Node\nmetadata: {name: a}\n".to_owned(),
        manifest("").replace("name: a", "name: b"),
        manifest(""),
        manifest("spec:\n  class: gpu\n  clas: worker\n"),
        manifest("spec:\n  class: worker\n  hardwareID: 12\n  expects:\n    phones: -1\n"),
        manifest("spec:\n  class: worker\n---\nkind: ClusterNode\n"),
    ];
    for text in texts {
        session.file("lab/clusternodes/a.yaml", &text).note(&text).run("nodes --cluster lab");
    }
    session.run("register --cluster lab --name a --root .");
    let policy = "apiVersion: society.zeta.io/v1alpha1\nkind: HatPolicy\nmetadata:\n  name: default\nspec:\n  trustdomain: home\n";
    session.file("lab/hatpolicies/default.yaml", policy).note(policy).run("hats --cluster lab");
    assert_golden!("bad-manifests", session);
}

#[test]
fn files_that_are_no_manifests_are_left_alone() {
    let mut session = Session::new();
    samples::write(&samples::three()[..1], &session.folder().join("lab"));
    for name in [".gpu-1.yaml.swp", "README.md", ".draft.yaml", "gpu-2.yaml~"] {
        session.file(&format!("lab/clusternodes/{name}"), "no: [manifest");
    }
    session.run("nodes --cluster lab -o name");
    assert_golden!("other-files", session);
}

#[test]
fn no_tree() {
    let mut session = Session::new();
    session.run("discover --root .").run("discover --root nowhere").run("try --root nowhere");
    assert_golden!("no-tree", session);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let session = Session::new();
    samples::write(&samples::three_hundred(), &session.folder().join("lab"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = session.command("nodes --cluster lab").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
