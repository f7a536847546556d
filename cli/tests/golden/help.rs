//! What each command says of itself.

use crate::assert_golden;
use crate::golden::transcript::Session;

#[test]
fn help() {
    let mut session = Session::new();
    session.set("COLUMNS", "100").run("--help").run("-h");
    for command in [
        "try",
        "discover",
        "register",
        "nodes",
        "phones",
        "node",
        "node revoke",
        "node remove",
        "token",
        "token create",
        "token list",
        "token revoke",
        "hats",
        "bindings",
        "why",
        "plan",
        "schedule",
        "graph",
        "wear",
        "release",
        "cosign",
        "verdict",
        "init",
        "completions",
        "manual",
    ] {
        session.run(&format!("{command} --help"));
    }
    assert_golden!("help", session);
}

#[test]
fn usage_errors() {
    let mut session = Session::new();
    for line in
        ["", "node", "phone", "nodes --class gpu", "register --name A_B", "register --expect phones", "discover -o xml"]
    {
        session.run(line);
    }
    session
        .run("register --expect cats=2")
        .run("register --profile big")
        .run("discover --deadline 0")
        .run("nodes --cluster x --context y")
        .run("why ../secret --cluster x")
        .run("wear a --as-service-account ci --cluster x")
        .run("hats --at 14:03 --cluster x")
        .run("hats a --at noon --cluster x")
        .run("plan --until 2020-01-01T00:00:00Z --cluster x")
        .run("verdict a praise --cluster x")
        .run("token create phones-1")
        .run("token create A --class worker")
        .run("token create a --class worker --ttl 0s")
        .run("token create a --class worker --server http://10.0.0.1:6443")
        .run("token create a --class worker --server https://10.0.0.1:6443/k8s")
        .run("token revoke ../a");
    assert_golden!("usage", session);
}

#[test]
fn completions_and_manual_are_for_every_command() {
    let mut session = Session::new();
    for (shell, word) in [
        ("bash", "complete -F _hatrack"),
        ("zsh", "#compdef hatrack"),
        ("fish", "complete -c hatrack"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let output = session.command(&format!("completions {shell}")).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains(word) && script.contains("phones"), "{shell}");
    }
    session.run("manual pages");
    let mut pages: Vec<_> =
        std::fs::read_dir(session.folder().join("pages")).unwrap().map(|page| page.unwrap().file_name()).collect();
    pages.sort();
    let commands = [
        "-bindings",
        "-completions",
        "-cosign",
        "-discover",
        "-graph",
        "-hats",
        "-init",
        "-manual",
        "-node-cordon",
        "-node-remove",
        "-node-repin",
        "-node-revoke",
        "-node-uncordon",
        "-node",
        "-nodes",
        "-phones",
        "-plan",
        "-register",
        "-release",
        "-schedule",
        "-token-create",
        "-token-list",
        "-token-revoke",
        "-token",
        "-try",
        "-verdict",
        "-wear",
        "-why",
        "",
    ];
    assert_eq!(pages, commands.map(|command| format!("hatrack{command}.1")).map(std::ffi::OsString::from));
    assert_golden!("manual", session);
}
