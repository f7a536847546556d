//! What the operator may write into RBAC: the grants of its bindings and of its nodes, and nothing that makes more authority.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "a literal object reads better without a reference")]

use hatrack_admission_tests::caller::{Caller, NAMESPACE};
use hatrack_admission_tests::installed;
use hatrack_api::access::{self, MANAGED_BY};
use hatrack_testbed::{ControlPlane, unique};
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn grant_name() -> String {
    access::hat_role_name("executor", &unique("uid"))
}

/// A grant of one of the four kinds, as the operator writes it.
fn grant(kind: &str, name: &str, fields: &Value) -> Value {
    let mut object =
        json!({"apiVersion": RBAC, "kind": kind, "metadata": {"name": name, "labels": {MANAGED_BY.0: MANAGED_BY.1}}});
    if !kind.starts_with("Cluster") {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn role(name: &str, rule: Value) -> Value {
    grant("Role", name, &json!({"rules": [reading_pods(), rule]}))
}

fn cluster_role(name: &str, rule: Value) -> Value {
    grant("ClusterRole", name, &json!({"rules": [reading_pods(), rule]}))
}

fn reading_pods() -> Value {
    json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})
}

fn role_binding(name: &str, role: &str) -> Value {
    grant("RoleBinding", name, &bound("Role", role, &account()))
}

fn cluster_role_binding(name: &str, role: &str) -> Value {
    grant("ClusterRoleBinding", name, &bound("ClusterRole", role, &account()))
}

fn bound(kind: &str, role: &str, subject: &Value) -> Value {
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": [subject]})
}

fn account() -> Value {
    json!({"kind": "ServiceAccount", "namespace": NAMESPACE, "name": "ann"})
}

async fn operators(plane: &ControlPlane) -> [Caller; 2] {
    [Caller::operator(plane).await, Caller::operator_in_a_pod(plane).await]
}

#[tokio::test]
async fn it_grants_a_hat_and_takes_it_back() {
    let plane = installed().await;
    for operator in operators(&plane).await {
        let name = grant_name();
        let rule = json!({"apiGroups": ["apps", "batch"], "resources": ["deployments", "jobs/status"], "verbs": ["create", "patch", "delete"]});
        let grants = [
            role(&name, rule.clone()),
            role_binding(&name, &name),
            cluster_role(&name, rule),
            cluster_role_binding(&name, &name),
        ];
        for grant in &grants {
            operator.create(grant).await.is_allowed();
            operator
                .merge(grant, json!({"metadata": {"labels": {"society.zeta.io/hat": "executor"}}}))
                .await
                .is_allowed();
        }
        for grant in &grants {
            operator.delete(grant).await.is_allowed();
        }
    }
}

#[tokio::test]
async fn others_write_roles_as_before() {
    let plane = installed().await;
    let person = Caller::person(&plane).await;
    person
        .create(&role(&unique("mine"), json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})))
        .await
        .is_allowed();
}

#[tokio::test]
async fn a_grant_has_its_name() {
    let plane = installed().await;
    let [operator, _] = operators(&plane).await;
    for name in ["cluster-admin-2", "hatrack:admin-2", "hatrack:hats:a", "hatrack", "system:hatrack:hat:a"] {
        let name = format!("{name}{}", unique("x"));
        let refused = format!("the operator may not write {name}: its grants are named");
        operator.create(&role(&name, reading_pods())).await.is_forbidden(&refused);
        operator.create(&cluster_role(&name, reading_pods())).await.is_forbidden(&refused);
        operator.create(&role_binding(&name, &name)).await.is_forbidden(&refused);
        operator.create(&cluster_role_binding(&name, &name)).await.is_forbidden(&refused);
    }
    for name in ["hatrack:view", "hatrack:admin"] {
        let existing = json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}});
        let refused = format!("the operator may not write {name}: its grants are named");
        operator.merge(&existing, json!({"metadata": {"labels": {"a": "b"}}})).await.is_forbidden(&refused);
        operator.delete(&existing).await.is_forbidden(&refused);
    }
    let admin = json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "cluster-admin"}});
    operator.delete(&admin).await.is_forbidden("the operator may not write cluster-admin: its grants are named");
}

#[tokio::test]
async fn a_grant_has_its_label_after_each_write_of_the_operators() {
    let plane = installed().await;
    let ([operator, _], person, name) = (operators(&plane).await, Caller::person(&plane).await, grant_name());
    let labelled = role(&name, reading_pods());
    let marker = MANAGED_BY.0;
    for labels in [json!({}), json!({marker: "somebody"})] {
        let mut unlabelled = labelled.clone();
        unlabelled["metadata"]["labels"] = labels;
        operator
            .create(&unlabelled)
            .await
            .is_forbidden("carries the label app.kubernetes.io/managed-by: hatrack-operator");
    }
    operator.create(&labelled).await.is_allowed();
    operator.merge(&labelled, json!({"metadata": {"labels": {marker: null}}})).await.is_forbidden("carries the label");
    person.merge(&labelled, json!({"metadata": {"labels": {marker: null}}})).await.is_allowed();
    operator.merge(&labelled, json!({"metadata": {"annotations": {"a": "b"}}})).await.is_forbidden("carries the label");
    operator.merge(&labelled, json!({"metadata": {"labels": {marker: MANAGED_BY.1}}})).await.is_allowed();
    person.merge(&labelled, json!({"metadata": {"labels": {marker: null}}})).await.is_allowed();
    operator.delete(&labelled).await.is_allowed();
}

#[tokio::test]
async fn a_grant_adds_nothing_to_the_roles_of_people() {
    let plane = installed().await;
    let [operator, _] = operators(&plane).await;
    let mut aggregated = cluster_role(&grant_name(), reading_pods());
    aggregated["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] = json!("true");
    operator.create(&aggregated).await.is_forbidden("carry no labels of others");
    let mut aggregating = cluster_role(&grant_name(), reading_pods());
    aggregating["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    operator.create(&aggregating).await.is_forbidden("may not make a ClusterRole of other ClusterRoles");
}

#[tokio::test]
async fn no_grant_is_in_a_system_namespace() {
    let plane = installed().await;
    let [operator, _] = operators(&plane).await;
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "society-system"] {
        let name = grant_name();
        for mut grant in [role(&name, reading_pods()), role_binding(&name, &name)] {
            grant["metadata"]["namespace"] = json!(namespace);
            let refused = format!("the operator may not grant in the namespace {namespace}");
            operator.create(&grant).await.is_forbidden(&refused);
        }
    }
}

#[tokio::test]
async fn a_grant_makes_no_authority() {
    let plane = installed().await;
    let [operator, _] = operators(&plane).await;
    let rule = |group: &str, resource: &str, verb: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": ["get", verb]});
    let verbs = "may not grant the verbs *, escalate, bind or impersonate";
    let groups = "may not grant all API groups, and only reading in those that give authority";
    let all = "may grant * as a resource for reading only";
    for (rule, refused) in [
        (rule("", "pods", "*"), verbs),
        (rule("rbac.authorization.k8s.io", "roles", "escalate"), verbs),
        (rule("rbac.authorization.k8s.io", "clusterroles", "bind"), verbs),
        (rule("", "users", "impersonate"), verbs),
        (rule("", "serviceaccounts", "impersonate-on:user-info:get"), verbs),
        (rule("*", "pods", "list"), groups),
        (rule("rbac.authorization.k8s.io", "rolebindings", "create"), groups),
        (rule("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "delete"), groups),
        (rule("certificates.k8s.io", "certificatesigningrequests", "create"), groups),
        (rule("certificates.k8s.io", "signers", "approve"), groups),
        (rule("authentication.k8s.io", "tokenreviews", "create"), groups),
        (rule("authorization.k8s.io", "subjectaccessreviews", "create"), groups),
        (rule("", "*", "list"), all),
        (rule("", "*/token", "list"), all),
        (rule("apps", "*", "create"), all),
        (rule("apps", "*/scale", "update"), all),
        (rule("certificates.k8s.io", "*", "list"), all),
        (rule("", "serviceaccounts/token", "create"), "may not grant tokens of service accounts"),
    ] {
        println!("{rule}");
        operator.create(&role(&grant_name(), rule.clone())).await.is_forbidden(refused);
        operator.create(&cluster_role(&grant_name(), rule)).await.is_forbidden(refused);
    }
    let paths = json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]});
    operator.create(&cluster_role(&grant_name(), paths)).await.is_forbidden("may not grant paths of the API server");
    for rule in [
        rule("", "pods", "create"),
        rule("apps", "*", "list"),
        rule("certificates.k8s.io", "certificatesigningrequests", "list"),
        rule("", "serviceaccounts", "list"),
        rule("society.zeta.io", "hats", "supervise"),
    ] {
        println!("{rule}");
        let admitted = role(&grant_name(), rule);
        operator.create(&admitted).await.is_allowed();
        let change = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]});
        operator.merge(&admitted, change).await.is_forbidden(verbs);
    }
}

/// A Role cannot be in a system namespace; a ClusterRole holds there.
#[tokio::test]
async fn a_grant_across_the_cluster_holds_no_keys() {
    let plane = installed().await;
    let [operator, _] = operators(&plane).await;
    let refused = "may not grant secrets or ways into pods across the cluster, and so in the system namespaces";
    for (resource, verb) in [
        ("secrets", "get"),
        ("pods/exec", "create"),
        ("pods/attach", "get"),
        ("pods/ephemeralcontainers", "patch"),
        ("nodes/proxy", "get"),
    ] {
        println!("{resource}");
        let rule = json!({"apiGroups": [""], "resources": ["configmaps", resource], "verbs": [verb]});
        operator.create(&cluster_role(&grant_name(), rule.clone())).await.is_forbidden(refused);
        operator.create(&role(&grant_name(), rule)).await.is_allowed();
    }
    let rule = json!({"apiGroups": [""], "resources": ["configmaps", "pods/log"], "verbs": ["get"]});
    operator.create(&cluster_role(&grant_name(), rule)).await.is_allowed();
}

#[tokio::test]
async fn a_grant_binds_the_role_of_its_own_name_to_service_accounts() {
    let plane = installed().await;
    let ([operator, _], name) = (operators(&plane).await, grant_name());
    let other = |kind: &str, role: &str| {
        format!("the operator may bind {name} to the role of that name, not to the {kind} {role}")
    };
    for role in ["cluster-admin", "hatrack:admin", &grant_name()] {
        operator.create(&cluster_role_binding(&name, role)).await.is_forbidden(&other("ClusterRole", role));
        operator.create(&role_binding(&name, role)).await.is_forbidden(&other("Role", role));
    }
    let cluster_role = grant("RoleBinding", &name, &bound("ClusterRole", &name, &account()));
    operator.create(&cluster_role).await.is_forbidden(&other("ClusterRole", &name));
    for (kind, subject) in [("User", "ann"), ("Group", "system:authenticated")] {
        let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject});
        let bindings = [
            grant("RoleBinding", &name, &bound("Role", &name, &subject)),
            grant("ClusterRoleBinding", &name, &bound("ClusterRole", &name, &subject)),
        ];
        for binding in bindings {
            operator.create(&binding).await.is_forbidden("the operator grants hats to service accounts alone");
        }
    }
    let binding = role_binding(&name, &name);
    operator.create(&binding).await.is_allowed();
    let added =
        json!({"subjects": [account(), {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    operator.merge(&binding, added).await.is_forbidden("the operator grants hats to service accounts alone");
}

/// The grants of a node as `api` makes them.
fn node_grants(node: &str) -> (Value, Value) {
    let (role, binding) = access::node(node);
    (serde_json::to_value(role).unwrap(), serde_json::to_value(binding).unwrap())
}

#[tokio::test]
async fn it_grants_a_node_its_own_objects() {
    let plane = installed().await;
    for operator in operators(&plane).await {
        let (role, binding) = node_grants(&unique("node"));
        operator.create(&role).await.is_allowed();
        operator.create(&binding).await.is_allowed();
        operator.merge(&role, json!({"rules": role["rules"]})).await.is_allowed();
        operator.delete(&binding).await.is_allowed();
        operator.delete(&role).await.is_allowed();
    }
}

#[tokio::test]
async fn a_node_gets_nothing_else() {
    let plane = installed().await;
    let ([operator, _], node, other) = (operators(&plane).await, unique("node"), unique("node"));
    let (role, binding) = node_grants(&node);
    let (of_other, _) = node_grants(&other);
    let refused = format!("the operator may grant the node {node} its own objects, exactly as in rbac/node.yaml");
    let change = |pointer: &str, value: Value| {
        let mut changed = role.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let mut fourth = role["rules"].as_array().unwrap().clone();
    fourth.push(reading_pods());
    for (name, changed) in [
        ("a rule more", change("/rules", json!(fourth))),
        ("no rules", change("/rules", json!([]))),
        ("another verb", change("/rules/0/verbs/0", json!("delete"))),
        ("another resource", change("/rules/1/resources/0", json!("hatbindings/status"))),
        ("a second resource", change("/rules/0/resources", json!(["clusternodes", "hats"]))),
        ("another group", change("/rules/2/apiGroups/0", json!(""))),
        ("every name", change("/rules/0/resourceNames", json!([]))),
        ("a second name", change("/rules/0/resourceNames", json!([node, other]))),
        ("the rules of another", change("/rules", of_other["rules"].clone())),
    ] {
        println!("{name}");
        operator.create(&changed).await.is_forbidden(&refused);
    }
    let namespaced = role_of_a_node_in_a_namespace(&role);
    operator.create(&namespaced).await.is_forbidden("its grants are named");
    operator.create(&role).await.is_allowed();
    operator.merge(&role, json!({"rules": fourth})).await.is_forbidden(&refused);
    let alone = format!("the operator grants hatrack:node:{node} to the user society:node:{node} alone");
    for subjects in [
        json!([]),
        json!([account()]),
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("society:node:{other}")}]),
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("society:node:{node}")}]),
        json!([binding["subjects"][0], account()]),
    ] {
        println!("{subjects}");
        let mut changed = binding.clone();
        changed["subjects"] = subjects;
        operator.create(&changed).await.is_forbidden(&alone);
    }
    let mut elsewhere = binding.clone();
    elsewhere["roleRef"]["name"] = json!("cluster-admin");
    operator.create(&elsewhere).await.is_forbidden("not to the ClusterRole cluster-admin");
    operator.create(&binding).await.is_allowed();
}

fn role_of_a_node_in_a_namespace(role: &Value) -> Value {
    let mut namespaced = role.clone();
    namespaced["kind"] = json!("Role");
    namespaced["metadata"]["namespace"] = json!(NAMESPACE);
    namespaced
}
