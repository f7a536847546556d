//! `hatrack token`, where there is no cluster that has tokens.

use crate::assert_golden;
use crate::golden::transcript::Session;

#[test]
fn a_folder_has_no_tokens_and_a_cluster_without_an_authority_gives_none() {
    let mut session = Session::new();
    session
        .run("token create phones-1 --class phone-orchestrator --cluster lab")
        .run("token list --cluster lab")
        .run("token revoke phones-1 --cluster lab");
    session.set("HATRACK_CLUSTER", "lab").run("token list");
    assert_golden!("tokens-of-a-folder", session);

    let mut session = Session::new();
    session.run("token list");
    let kubeconfig = "\
clusters: [{name: a, cluster: {server: 'https://10.0.0.1:6443'}}]
users: [{name: a, user: {token: a}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
";
    session.file("kubeconfig", kubeconfig).set("KUBECONFIG", "kubeconfig");
    session.run("token create phones-1 --class phone-orchestrator --output-file token");
    assert!(!session.folder().join("token").exists());
    assert_golden!("tokens-without-authority", session);
}
