//! Authority: there exactly while the hat is on, as much as its phase gives, and in nobody's way.

use std::collections::BTreeSet;

use hatrack_api::access::{MANAGED_BY, hat_role_name};
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{soon, timed, unique};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, breakable, gone, until};
use crate::refusal::Refusal;

/// Wearers of whom nothing is to be decided any more.
const WEARERS: u32 = 30;

fn verbs(role: &Role) -> BTreeSet<String> {
    role.rules.iter().flatten().flat_map(|rule| rule.verbs.clone()).collect()
}

#[tokio::test]
async fn it_reads_while_it_warms_up_writes_while_it_is_active_and_ends_with_it() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({"throttles": {"warmupSeconds": 2}})).await;
    let binding = bench.ask(&hat, "ann").await;
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let roles: Api<Role> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let reading = soon("the reading role", until(&roles, &name, |_| true)).await;
    assert_eq!(verbs(&reading), ["get".to_owned()].into());
    assert_eq!(reading.labels()[MANAGED_BY.0], MANAGED_BY.1);
    soon("the whole role", until(&roles, &name, |role| verbs(role).contains("create"))).await;
    let bound = bindings.get(&name).await.unwrap();
    assert_eq!(bound.subjects.unwrap()[0].name, "ann");
    may(&bench, "ann", true).await;
    bench.release(&binding).await;
    gone(&bindings, &name).await;
    gone(&roles, &name).await;
    may(&bench, "ann", false).await;
}

/// Waits until the authorizer says whether the service account may create pods.
async fn may(bench: &Bench, account: &str, wanted: bool) {
    let user = format!("system:serviceaccount:{}:{account}", bench.namespace);
    let attributes = json!({"namespace": bench.namespace, "verb": "create", "resource": "pods"});
    bench.allowed(&user, &attributes, wanted).await;
}

#[tokio::test]
async fn a_quorum_gated_hat_holds_in_the_whole_cluster() {
    let (bench, cluster) = Bench::with_cluster().await;
    let hat = bench.hat(json!({"throttles": {"quorumGated": true, "quorumSize": 1}})).await;
    let binding = bench.ask(&hat, "ann").await;
    let sign = json!({"spec": {"cosignedBy": [{"spiffeID": bench.spiffe("bob")}]}});
    let cosigner = bench.cosigner(cluster, "bob", &hat).await;
    cosigner.patch(&binding.name_any(), &PatchParams::default(), &Patch::Merge(sign)).await.unwrap();
    bench.phase(&binding, Phase::Active).await;
    assert_eq!(bench.reasons(&binding).await, ["Quorum", "Admitted"]);
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let (roles, bindings) =
        (Api::<ClusterRole>::all(bench.admin.clone()), Api::<ClusterRoleBinding>::all(bench.admin.clone()));
    soon("the cluster role binding", until(&bindings, &name, |_| true)).await;
    bench.release(&binding).await;
    gone(&bindings, &name).await;
    gone(&roles, &name).await;
}

#[tokio::test]
async fn what_cannot_be_given_stands_in_nobodys_way_and_is_given_later() {
    let (bench, _) = Bench::shared().await;
    let missing = unique("later");
    let rules = json!([{"verbs": ["get"], "resources": ["pods"]}]);
    let hat = bench.hat(json!({"authority": {"namespaces": [missing], "rules": rules}})).await;
    let waiting = bench.ask(&hat, "ann").await;
    bench.phase(&waiting, Phase::Active).await;
    let other = bench.hat(json!({})).await;
    let served = bench.ask(&other, "bob").await;
    let roles: Api<Role> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let name = hat_role_name(&other, &served.uid().unwrap());
    soon("the role of another", until(&roles, &name, |_| true)).await;
    let metadata = ObjectMeta { name: Some(missing.clone()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(bench.admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let roles: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &missing);
    let name = hat_role_name(&hat, &waiting.uid().unwrap());
    soon("the role in the new namespace", until(&roles, &name, |_| true)).await;
}

#[tokio::test]
async fn what_cannot_be_given_makes_no_later_decision_look_at_everything() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    cluster.forget_leader().await;
    let operator = cluster.operator().start(cluster.plane.folder());
    let hat = bench.hat(json!({})).await;
    let mut worn = Vec::new();
    for number in 0..WEARERS {
        worn.push(bench.ask(&hat, &format!("sa-{number}")).await);
    }
    let rules = json!([{"verbs": ["get"], "resources": ["pods"]}]);
    let hopeless = bench.hat(json!({"authority": {"namespaces": [unique("never")], "rules": rules}})).await;
    worn.push(bench.ask(&hopeless, "ann").await);
    for binding in &worn {
        bench.phase(binding, Phase::Active).await;
    }
    let refused = operator.says("refused: left alone for a while").await;
    assert!(refused["subject"].as_str().unwrap().starts_with("Grant"), "{refused}");
    // What was asked for is not news any more once the last of it is done.
    bench.release(&worn[0]).await;
    gone(&bench.bindings(), &worn[0].name_any()).await;
    let questions = "hatrack_operator_questions_total";
    let before = operator.metric(questions).await;
    bench.release(&worn[1]).await;
    gone(&bench.bindings(), &worn[1].name_any()).await;
    let asked = operator.metric(questions).await - before;
    println!("{asked} questions for one binding beside {WEARERS}");
    assert!(asked > 0.0 && asked < 2.0 * f64::from(WEARERS), "{asked} questions for one binding beside {WEARERS}");
}

/// A webhook of a service that is not there has to agree to every role binding of a namespace.
async fn ask_the_dead(bench: &Bench) -> (Api<ValidatingWebhookConfiguration>, String) {
    let name = unique("dead");
    let webhook = json!({"metadata": {"name": name}, "webhooks": [{
        "name": "somebody.else.example", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "clientConfig": {"service": {"namespace": bench.namespace, "name": "dead"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.namespace}},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"], "resources": ["rolebindings"],
            "operations": ["*"]}]}]});
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(bench.admin.clone());
    webhooks.create(&PostParams::default(), &serde_json::from_value(webhook).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let probe: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "probe"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "probe"}}))
    .unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let asked = async {
        while !bindings.create(&dry_run, &probe).await.is_err_and(|error| error.to_string().contains("webhook")) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a refusal", asked).await;
    (webhooks, name)
}

#[tokio::test]
async fn what_a_dead_webhook_keeps_from_being_given_stands_in_nobodys_way_and_is_given_later() {
    let (bench, operator) = Bench::shared().await;
    let (other, _) = Bench::shared().await;
    let released = other.ask(&other.hat(json!({})).await, "bob").await;
    other.phase(&released, Phase::Active).await;
    let (webhooks, webhook) = ask_the_dead(&bench).await;
    let hat = bench.hat(json!({})).await;
    let waiting = bench.ask(&hat, "ann").await;
    bench.phase(&waiting, Phase::Active).await;
    let line = operator.says("failed calling webhook").await;
    assert_eq!(line["message"], "refused: left alone for a while", "{line}");
    // What goes last is the last thing of all that is decided.
    other.release(&released).await;
    gone(&other.bindings(), &released.name_any()).await;
    webhooks.delete(&webhook, &DeleteParams::default()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let name = hat_role_name(&hat, &waiting.uid().unwrap());
    timed("a webhook is asked no more, authority is given", until(&bindings, &name, |_| true)).await;
}

#[tokio::test]
async fn what_somebody_changes_is_as_it_was_again() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({})).await;
    let binding = bench.ask(&hat, "ann").await;
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    soon("the role binding", until(&bindings, &name, |_| true)).await;
    let more = json!({"subjects": [{"kind": "ServiceAccount", "name": "eve", "namespace": bench.namespace}]});
    bindings.patch(&name, &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
    let restored = |bound: &RoleBinding| bound.subjects.iter().flatten().all(|subject| subject.name == "ann");
    soon("the one subject", until(&bindings, &name, restored)).await;
}

#[tokio::test]
async fn a_grant_whose_label_was_taken_is_marked_again_and_ends_with_its_hat() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({})).await;
    let binding = bench.ask(&hat, "ann").await;
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let roles: Api<Role> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    soon("the role binding", until(&bindings, &name, |_| true)).await;
    let bare = Patch::Merge(json!({"metadata": {"labels": null}}));
    roles.patch(&name, &PatchParams::default(), &bare).await.unwrap();
    bindings.patch(&name, &PatchParams::default(), &bare).await.unwrap();
    soon("the label of the role", until(&roles, &name, |role| role.labels().contains_key(MANAGED_BY.0))).await;
    soon("the label of the binding", until(&bindings, &name, |bound| bound.labels().contains_key(MANAGED_BY.0))).await;
    bindings.patch(&name, &PatchParams::default(), &bare).await.unwrap();
    bench.release(&binding).await;
    gone(&bindings, &name).await;
    gone(&roles, &name).await;
    let next = bench.ask(&hat, "bob").await;
    bench.phase(&next, Phase::Active).await;
}

/// Lets nobody delete a role binding, as somebody's webhook might.
async fn keep_role_binding(bench: &Bench, name: &str) -> Refusal {
    let matching = json!({"matchConstraints": {"resourceRules": [{"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"],
        "resources": ["rolebindings"], "resourceNames": [name], "operations": ["DELETE"]}]}});
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let attempt = async || bindings.delete(name, &DeleteParams::default().dry_run()).await;
    Refusal::begins(&bench.admin, ("Forbidden", "it stays"), matching, attempt).await
}

#[tokio::test]
async fn authority_that_cannot_be_taken_back_is_not_forgotten_and_stands_in_nobodys_way() {
    let (bench, operator) = Bench::shared().await;
    let hat = bench.hat(json!({})).await;
    let binding = bench.ask(&hat, "ann").await;
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    soon("the role binding", until(&bindings, &name, |_| true)).await;
    let kept = keep_role_binding(&bench, &name).await;
    bench.release(&binding).await;
    operator.says("refused: left alone for a while").await;
    let next = bench.ask(&hat, "bob").await;
    bench.phase(&next, Phase::Active).await;
    assert!(bindings.get_opt(&name).await.unwrap().is_some());
    assert!(bench.bindings().get_opt(&binding.name_any()).await.unwrap().is_some(), "it goes with its authority");
    kept.ends().await;
    timed("authority may be taken back again, it is gone", gone(&bindings, &name)).await;
    gone(&bench.bindings(), &binding.name_any()).await;
}
