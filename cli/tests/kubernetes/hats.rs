//! Hats of real users against a real API server, whose policies admit and refuse. The operator's decisions are written by the tests.

use std::path::PathBuf;

use hatrack_admission_tests::caller::Caller;
use hatrack_api::{Hat, HatBinding};
use hatrack_testbed::unique;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Cluster, Ended, PATIENCE, run};

/// Somebody with a kubeconfig.
pub struct Person {
    pub caller: Caller,
    pub kubeconfig: PathBuf,
}

impl Person {
    pub async fn known(cluster: &Cluster) -> Self {
        Self::with_kubeconfig(cluster, Caller::person(&cluster.plane).await)
    }

    pub fn with_kubeconfig(cluster: &Cluster, caller: Caller) -> Self {
        let identity = cluster.plane.client_certificate(&caller.user, &[], PATIENCE * 10).unwrap();
        Self { caller, kubeconfig: cluster.plane.kubeconfig_for(&identity).unwrap() }
    }

    pub async fn run(&self, line: &str) -> Ended {
        run(&self.kubeconfig, line).await
    }
}

pub struct Stage {
    pub cluster: Cluster,
    pub hat: String,
    pub bindings: Api<HatBinding>,
    as_operator: Api<HatBinding>,
}

impl Stage {
    pub async fn with_a_hat(spec: Value) -> Self {
        let cluster = Cluster::start().await;
        let hat = unique("hat");
        let admin = cluster.plane.admin().await.unwrap();
        let object = Hat::new(&hat, serde_json::from_value(spec).unwrap());
        Api::all(admin.clone()).create(&PostParams::default(), &object).await.unwrap();
        let bindings = Api::namespaced(admin, "default");
        let as_operator = Api::namespaced(cluster.plane.operator().await.unwrap(), "default");
        Self { cluster, hat, bindings, as_operator }
    }

    async fn binding(&self, name: &str) -> HatBinding {
        self.bindings.get(name).await.unwrap()
    }

    /// The one binding of the hat, when it is there.
    pub async fn asked(&self) -> HatBinding {
        hatrack_admission_tests::eventually("somebody asks for the hat", async || {
            let bindings = self.bindings.list(&ListParams::default()).await.unwrap();
            bindings.items.into_iter().find(|binding| binding.spec.hat == self.hat)
        })
        .await
    }

    pub async fn decide(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.as_operator.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test]
async fn a_person_asks_and_takes_it_back_and_a_stranger_cannot() {
    let stage = Stage::with_a_hat(json!({"authority": {}})).await;
    let (ada, name) = (Person::known(&stage.cluster).await, unique("mine"));
    let wear = format!("wear {} --name {name}", stage.hat);
    let refused = ada.run(&wear).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{}", refused.stderr);
    let (user, hat) = (&ada.caller.user, &stage.hat);
    let because = format!("because: {user} may not bind itself to the hat {hat}: that takes the verb wear on it\n");
    assert!(refused.stderr.contains(&because), "{}", refused.stderr);
    assert!(refused.stderr.contains("--verb=wear --resource=hats.society.zeta.io"), "{}", refused.stderr);

    let stranger = Person::with_kubeconfig(&stage.cluster, Caller::stranger(&stage.cluster.plane).await);
    let nobody = stranger.run(&wear).await;
    assert_eq!(nobody.code, 1);
    let hint = format!("adds `{{user: {}, spiffeID: ", stranger.caller.user);
    assert!(nobody.stderr.contains("has no SPIFFE id") && nobody.stderr.contains(&hint), "{}", nobody.stderr);

    ada.caller.may("wear", &stage.hat).await;
    let asked = ada.run(&wear).await;
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert_eq!(stage.binding(&name).await.spec.wearer.spiffe_id, ada.caller.spiffe_id);
    let again = ada.run(&format!("wear {}", stage.hat)).await;
    assert!(again.stderr.contains("had asked already") && again.stdout.contains(&name), "{}", again.stderr);
    let why = ada.run(&format!("why {name}")).await;
    assert_eq!(why.code, 1, "{}{}", why.stdout, why.stderr);
    assert!(why.stdout.contains(&format!("asks for {}", stage.hat)), "{}", why.stdout);
    let listed = ada.run(&format!("bindings --hat {} -o name", stage.hat)).await;
    assert_eq!(listed.stdout, format!("hatbinding.society.zeta.io/{name}\n"));

    assert_eq!(ada.run(&format!("release {name}")).await.code, 0);
    assert!(stage.bindings.get_opt(&name).await.unwrap().is_none());
    assert_eq!(ada.run(&format!("release {name}")).await.code, 1);
}

#[tokio::test]
async fn binding_a_service_account_takes_another_verb() {
    let stage = Stage::with_a_hat(json!({"authority": {}})).await;
    let (ada, name) = (Person::known(&stage.cluster).await, unique("mine"));
    ada.caller.may("wear", &stage.hat).await;
    let wear = format!("wear {} --name {name} --as-service-account default/ci", stage.hat);
    let refused = ada.run(&wear).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("that takes the verb assign on it"), "{}", refused.stderr);
    ada.caller.may("assign", &stage.hat).await;
    assert_eq!(ada.run(&wear).await.code, 0);
    let wearer = stage.binding(&name).await.spec.wearer;
    assert_eq!(wearer.spiffe_id, "spiffe://cluster.local/ns/default/sa/ci");
    assert_eq!(wearer.service_account_ref.unwrap().name, "ci");
}

#[tokio::test]
async fn others_vouch_and_judge_each_in_their_own_name() {
    let stage = Stage::with_a_hat(json!({"authority": {}, "throttles": {"quorumGated": true}})).await;
    let (ada, bob, name) = (Person::known(&stage.cluster).await, Person::known(&stage.cluster).await, unique("mine"));
    ada.caller.may("wear", &stage.hat).await;
    assert_eq!(ada.run(&format!("wear {} --name {name}", stage.hat)).await.code, 0);

    let own = ada.run(&format!("cosign {name}")).await;
    assert_eq!(own.code, 1);
    assert!(own.stderr.contains("a co-signature is somebody else's"), "{}", own.stderr);
    let refused = bob.run(&format!("cosign {name}")).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("that takes the verb cosign on it"), "{}", refused.stderr);
    bob.caller.may("cosign", &stage.hat).await;
    let foreign = bob.run(&format!("cosign {name} --as-service-account default/ci")).await;
    assert_eq!(foreign.code, 1);
    assert!(foreign.stderr.contains("may add only its own co-signature, not that of"), "{}", foreign.stderr);
    let signed = bob.run(&format!("cosign {name} --attestation seen")).await;
    assert_eq!(signed.code, 0, "{}", signed.stderr);
    assert_eq!(bob.run(&format!("cosign {name}")).await.code, 0, "doing it again changes nothing");
    let cosigned = stage.binding(&name).await.spec.cosigned_by;
    assert_eq!(cosigned.len(), 1);
    assert_eq!(
        (cosigned[0].spiffe_id.as_str(), cosigned[0].attestation.as_deref()),
        (bob.caller.spiffe_id.as_str(), Some("seen"))
    );

    let refused = bob.run(&format!("verdict {name} revoke")).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("that takes the verb supervise on it"), "{}", refused.stderr);
    bob.caller.may("supervise", &stage.hat).await;
    for action in ["probation", "restore"] {
        let judged = bob.run(&format!("verdict {name} {action} --reason seen")).await;
        assert_eq!(judged.code, 0, "{}", judged.stderr);
    }
    let verdicts = stage.binding(&name).await.spec.verdicts;
    assert_eq!(
        verdicts.iter().map(|verdict| format!("{:?}", verdict.action)).collect::<Vec<_>>(),
        ["Probation", "Restore"]
    );
    assert!(verdicts.iter().all(|verdict| verdict.by == bob.caller.spiffe_id));
}

#[tokio::test]
async fn the_same_is_planned_and_drawn_as_in_a_folder() {
    let stage = Stage::with_a_hat(json!({"authority": {}, "throttles": {"warmupSeconds": 0}})).await;
    let (ada, name) = (Person::known(&stage.cluster).await, unique("mine"));
    ada.caller.may("wear", &stage.hat).await;
    assert_eq!(ada.run(&format!("wear {} --name {name}", stage.hat)).await.code, 0);
    let plan: Value = serde_json::from_str(&ada.run("plan -o json").await.stdout).unwrap();
    let due = plan["now"].as_array().unwrap().iter().find(|transition| transition["binding"] == name.as_str());
    assert_eq!(due.unwrap()["phase"], "Active", "{plan}");
    let graph = ada.run("graph").await.stdout;
    assert!(graph.starts_with("digraph society {") && graph.contains(&stage.hat), "{graph}");
    let hat = ada.run(&format!("hats {}", stage.hat)).await;
    assert!(hat.stdout.contains(&name), "{}", hat.stdout);
    let elsewhere = ada.run("schedule").await;
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("only a cluster in a folder is scheduled here"), "{}", elsewhere.stderr);
}

#[tokio::test]
async fn the_examples_are_taken_by_the_api_server() {
    let cluster = Cluster::start().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/hats/examples");
    let admin = cluster.plane.admin().await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for example in ["trainer", "phone-tester"] {
        let text = |file: &str| std::fs::read_to_string(folder.join(example).join(file)).unwrap();
        let hat: Hat = serde_saphyr::from_str(&text("hat.yaml")).unwrap();
        Api::all(admin.clone()).create(&dry_run, &hat).await.unwrap();
        let mut binding: HatBinding = serde_saphyr::from_str(&text("binding.yaml")).unwrap();
        // Its own namespace need not be there for this.
        binding.metadata.namespace = None;
        Api::default_namespaced(admin.clone()).create(&dry_run, &binding).await.unwrap();
    }
}
