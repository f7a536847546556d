//! The CustomResourceDefinitions, as they stand in `k8s/crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap};

/// Every CustomResourceDefinition, in the order in which people read them.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![ClusterNode::crd(), Hat::crd(), HatBinding::crd(), HatSwap::crd(), HatPolicy::crd()]
}
