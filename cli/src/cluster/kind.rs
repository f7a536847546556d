//! The kinds of resources that a cluster keeps.

use std::fmt::Debug;
use std::sync::OnceLock;

use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap};
use kube::core::object::HasSpec;
use kube::{CustomResourceExt, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::Schema;

/// One kind.
pub trait Kind:
    Resource<DynamicType = ()>
    + CustomResourceExt
    + HasSpec<Spec: PartialEq>
    + Clone
    + Debug
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The word for one of them in messages.
    const NOUN: &'static str;
    /// What it is to get one.
    const GET: &'static str;
    /// What it is to list them.
    const LIST: &'static str;
    /// Whether they live in namespaces.
    const IS_NAMESPACED: bool;

    /// The schema that holds for them, made once.
    fn schema() -> Result<&'static Schema, serde_json::Error>;

    /// Name, after the namespace where there is one: `default/mine`.
    fn key(&self) -> String {
        match self.namespace() {
            Some(namespace) if Self::IS_NAMESPACED => format!("{namespace}/{}", self.name_any()),
            _ => self.name_any(),
        }
    }
}

macro_rules! kinds {
    ($($kind:ty: $noun:literal, $nouns:literal, $namespaced:literal;)*) => {$(
        impl Kind for $kind {
            const NOUN: &'static str = $noun;
            const GET: &'static str = concat!("get the ", $noun);
            const LIST: &'static str = concat!("list ", $nouns);
            const IS_NAMESPACED: bool = $namespaced;

            fn schema() -> Result<&'static Schema, serde_json::Error> {
                static SCHEMA: OnceLock<Schema> = OnceLock::new();
                if let Some(known) = SCHEMA.get() {
                    return Ok(known);
                }
                let schema = Schema::of::<Self>()?;
                Ok(SCHEMA.get_or_init(|| schema))
            }
        }
    )*};
}

kinds! {
    ClusterNode: "node", "nodes", false;
    Hat: "hat", "hats", false;
    HatBinding: "binding", "bindings", true;
    HatPolicy: "policy", "policies", false;
    HatSwap: "record", "records", true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says_its_scope<K: Kind>() {
        let scope = K::crd().spec.scope;
        assert_eq!(scope == "Namespaced", K::IS_NAMESPACED, "{}", K::NOUN);
    }

    #[test]
    fn every_kind_says_its_scope() {
        says_its_scope::<ClusterNode>();
        says_its_scope::<Hat>();
        says_its_scope::<HatBinding>();
        says_its_scope::<HatPolicy>();
        says_its_scope::<HatSwap>();
    }
}
