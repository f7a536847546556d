//! Tokens of machines against a real API server, which lets in whoever has one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{TokenFile, groups, hash_text};
use hatrack_testbed::{soon, unique};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::time::sleep;

use super::{Cluster, Duration, Ended, person, run};

/// Between two questions about what the API server has not seen yet.
const PAUSE: Duration = Duration::from_millis(50);

fn parse(text: &str) -> TokenFile {
    let file: TokenFile = toml::from_str(text).unwrap();
    file.check().unwrap();
    file
}

async fn create(cluster: &Cluster, name: &str, options: &str) -> TokenFile {
    let ended = cluster.run(&format!("token create {name} --class phone-orchestrator {options}")).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    parse(&ended.stdout)
}

fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not in {}", ended.stderr);
    }
}

/// Who the API server says somebody with this token is; nobody, if it does not let them in.
async fn whoever_has(cluster: &Cluster, token: &str) -> Option<UserInfo> {
    let mut config = cluster.plane.config_for(&cluster.plane.admin_identity().unwrap()).await.unwrap();
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    let reviews: Api<SelfSubjectReview> = Api::all(Client::try_from(config).unwrap());
    match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Err(kube::Error::Api(status)) if status.code == 401 => None,
        review => review.unwrap().status.unwrap().user_info,
    }
}

async fn is_let_in(cluster: &Cluster, token: &str) -> UserInfo {
    let asked = async {
        loop {
            if let Some(user) = whoever_has(cluster, token).await {
                return user;
            }
            sleep(PAUSE).await;
        }
    };
    soon("the token to work", asked).await
}

async fn is_kept_out(cluster: &Cluster, token: &str) {
    let asked = async {
        while whoever_has(cluster, token).await.is_some() {
            sleep(PAUSE).await;
        }
    };
    soon("the token to work no more", asked).await;
}

#[tokio::test]
async fn a_token_is_a_credential_of_its_machine_until_it_is_taken_back() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let made = cluster.run(&format!("token create {name} --class phone-orchestrator --ttl 2h")).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let file = parse(&made.stdout);
    assert_eq!((file.name.as_str(), file.class), (name.as_str(), Class::PhoneOrchestrator));
    assert_eq!(file.server, cluster.plane.url());
    let authority = CertificateDer::from_pem_slice(cluster.plane.ca_pem().as_bytes()).unwrap();
    assert_eq!(file.ca_hashes, [hash_text(digest(&SHA256, &authority).as_ref())]);
    let (id, secret) = file.token.split_once('.').unwrap();
    assert!(!made.stderr.contains(secret), "{}", made.stderr);
    assert!(
        made.stderr.starts_with(&format!("ok: token {id} is for {name} (phone-orchestrator), until ")),
        "{}",
        made.stderr
    );
    // The control plane of the tests is on loopback, where a machine would look for it on itself.
    assert!(made.stderr.contains("name the address that"), "{}", made.stderr);

    let user = is_let_in(&cluster, &file.token).await;
    assert_eq!(user.username.as_deref(), Some(format!("system:bootstrap:{id}").as_str()));
    for group in groups(&name, Class::PhoneOrchestrator) {
        assert!(user.groups.as_ref().unwrap().contains(&group), "{user:?}");
    }

    let list = cluster.run("token list -o json").await;
    assert!(!list.stdout.contains(secret));
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["schema"], "hatrack.tokens/v1");
    let listed = list["tokens"].as_array().unwrap().iter().find(|token| token["id"] == id).unwrap();
    assert_eq!((&listed["node"], &listed["class"]), (&name.clone().into(), &"phone-orchestrator".into()));
    assert_eq!(listed["ended"], false);
    let table = cluster.run("token list").await.stdout;
    assert!(table.starts_with("NODE ") && table.contains(&name) && !table.contains(secret), "{table}");
    assert!(cluster.run("token list -o name").await.stdout.lines().any(|line| line == id));

    let revoked = cluster.run(&format!("token revoke {name}")).await;
    assert_eq!(revoked.stderr, format!("ok: token {id} is taken back: {name} cannot enroll with it any more\n"));
    is_kept_out(&cluster, &file.token).await;
    refused(
        &cluster.run(&format!("token revoke {name}")).await,
        1,
        &["there is no token", "hint: `hatrack token list`"],
    );
}

#[tokio::test]
async fn a_machine_has_one_token_unless_somebody_says_otherwise() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let first = create(&cluster, &name, "--server https://10.0.0.1:6443/").await;
    assert_eq!(first.server, "https://10.0.0.1:6443");
    let again = cluster.run(&format!("token create {name} --class phone-orchestrator")).await;
    let id = first.token.split('.').next().unwrap();
    refused(&again, 1, &[&format!("error: there is a token for {name} already ({id})"), "hint: ", "--replace"]);
    is_let_in(&cluster, &first.token).await;

    let second = create(&cluster, &name, "--replace").await;
    is_let_in(&cluster, &second.token).await;
    is_kept_out(&cluster, &first.token).await;
    let id = second.token.split('.').next().unwrap();
    assert_eq!(cluster.run(&format!("token revoke {id}")).await.code, 0);
    is_kept_out(&cluster, &second.token).await;
}

#[tokio::test]
async fn a_token_that_has_ended_lets_nobody_in_and_stands_in_nobodys_way() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let short = create(&cluster, &name, "--ttl 1s").await;
    is_kept_out(&cluster, &short.token).await;
    create(&cluster, &name, "").await;
}

#[tokio::test]
async fn the_file_of_a_token_is_new_and_its_owners_alone() {
    let cluster = Cluster::start().await;
    let (name, folder) = (unique("cli"), tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    let line = format!("token create {name} --class worker --output-file {}", path.display());
    let made = cluster.run(&line).await;
    assert_eq!((made.code, made.stdout.as_str()), (0, ""), "{}", made.stderr);
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let file = parse(&text(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    refused(&cluster.run(&format!("{line} --replace")).await, 2, &["failed to create", "File exists"]);
    assert_eq!(parse(&text(&path)), file);
    is_let_in(&cluster, &file.token).await;
}

#[tokio::test]
async fn a_token_whose_file_nobody_took_is_taken_back_and_that_is_an_error() {
    let cluster = Cluster::start().await;
    let name = unique("cli");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = cluster.command(&format!("token create {name} --class worker"));
    let ended = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.starts_with(&format!("error: the token of {name} was taken back: nobody got its file")), "{said}");
    assert!(said.contains("Broken pipe"), "{said}");
    assert!(!cluster.run("token list -o json").await.stdout.contains(&name), "there is none for the machine");
}

#[tokio::test]
async fn who_may_not_make_a_token_is_told_what_it_takes_and_gets_no_file() {
    let cluster = Cluster::start().await;
    let admin = person(&cluster, "hatrack:admin").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let line = format!("token create {} --class worker --output-file {}", unique("cli"), path.display());
    for line in [line.as_str(), "token list", "token revoke phones-1"] {
        let said = [
            "error: the API server refused to list the tokens",
            "cannot list resource \"secrets\"",
            "hint: tokens are Secrets of kube-system",
        ];
        refused(&run(&admin, line).await, 2, &said);
    }
    assert!(!path.exists());
}
