//! The checks of the API server, made from the schema that it has: types, patterns, limits and CEL rules.

use std::collections::HashMap;
use std::fmt;

use kube::CustomResourceExt;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::manifest::Step;

/// The schema of one kind of resource.
pub struct Schema {
    tree: Value,
    patterns: HashMap<String, Regex>,
    rules: CompiledSchema,
    validator: Validator,
}

/// What is wrong with an object, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field that is wrong.
    pub path: Vec<Step>,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.path.iter().enumerate() {
            match step {
                Step::Field(name) if place > 0 => write!(f, ".{name}")?,
                Step::Field(name) => f.write_str(name)?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        let between = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{between}{}", self.message)
    }
}

impl Schema {
    /// The schema of a kind.
    pub fn of<K: CustomResourceExt>() -> Result<Self, serde_json::Error> {
        let crd = serde_json::to_value(K::crd())?;
        let mut schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
        // What every object has, the API server adds to every schema.
        for (field, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            schema["properties"][field] = json!({"type": kind});
        }
        let mut patterns = HashMap::new();
        collect_patterns(&schema, &mut patterns);
        Ok(Self { rules: compile_schema(&schema), tree: schema, patterns, validator: Validator::new() })
    }

    /// Everything that is wrong with the shape of an object. Fields that the schema does not have are wrong too: the API
    /// server drops them, and a typing error with them.
    pub fn check(&self, object: &Value) -> Vec<Violation> {
        let mut found = Found { patterns: &self.patterns, path: Vec::new(), violations: Vec::new() };
        found.check(&self.tree, object);
        found.violations
    }

    /// The CEL rules that an object breaks, as it is and as a change of `old`.
    pub fn check_rules(&self, object: &Value, old: Option<&Value>) -> Vec<Violation> {
        let broken = self.validator.validate_compiled(&self.rules, object, old).err();
        let broken = broken.map(kube_cel::ValidationErrors::into_vec).unwrap_or_default();
        broken.into_iter().map(|error| Violation { path: Vec::new(), message: error.message }).collect()
    }
}

fn collect_patterns(schema: &Value, patterns: &mut HashMap<String, Regex>) {
    if let Some(pattern) = schema["pattern"].as_str()
        && let Ok(compiled) = Regex::new(pattern)
    {
        patterns.insert(pattern.to_owned(), compiled);
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| collect_patterns(value, patterns)),
        Value::Array(elements) => elements.iter().for_each(|value| collect_patterns(value, patterns)),
        _ => {}
    }
}

struct Found<'a> {
    patterns: &'a HashMap<String, Regex>,
    path: Vec<Step>,
    violations: Vec<Violation>,
}

impl Found<'_> {
    fn add(&mut self, message: impl Into<String>) {
        self.violations.push(Violation { path: self.path.clone(), message: message.into() });
    }

    fn within(&mut self, step: Step, check: impl FnOnce(&mut Self)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }

    fn check(&mut self, schema: &Value, value: &Value) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if schema["x-kubernetes-int-or-string"] == true {
            if !(value.is_string() || value.is_i64() || value.is_u64()) {
                self.add("must be a string or a whole number");
            }
            return;
        }
        match (schema["type"].as_str(), value) {
            (Some("object"), Value::Object(fields)) => self.check_object(schema, fields),
            (Some("array"), Value::Array(elements)) => self.check_array(schema, elements),
            (Some("string"), Value::String(text)) => self.check_string(schema, text),
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.check_number(schema, value);
            }
            (Some("number"), Value::Number(_)) => self.check_number(schema, value),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(wanted), _) => self.add(format!("must be {}, it is {}", noun(wanted), noun(kind(value)))),
        }
    }

    fn check_object(&mut self, schema: &Value, fields: &Map<String, Value>) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.add(format!("`{name}` is missing"));
            }
        }
        self.check_limits(schema, "Properties", fields.len(), "entries");
        let known = schema["properties"].as_object();
        let further = &schema["additionalProperties"];
        for (name, value) in fields {
            self.within(Step::Field(name.clone()), |found| match known.and_then(|known| known.get(name)) {
                Some(schema) => found.check(schema, value),
                None if further.is_object() => found.check(further, value),
                None if known.is_none() || schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                None => found.add("there is no such field"),
            });
        }
    }

    fn check_array(&mut self, schema: &Value, elements: &[Value]) {
        self.check_limits(schema, "Items", elements.len(), "elements");
        for (index, element) in elements.iter().enumerate() {
            self.within(Step::Element(index), |found| found.check(&schema["items"], element));
        }
    }

    fn check_string(&mut self, schema: &Value, text: &str) {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            if !allowed.contains(&text) {
                self.add(format!("`{text}` is none of {}", allowed.join(", ")));
            }
        }
        self.check_limits(schema, "Length", text.chars().count(), "characters");
        let pattern = schema["pattern"].as_str().and_then(|pattern| self.patterns.get(pattern));
        if let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) {
            self.add(format!("`{text}` does not match `{pattern}`"));
        }
        if schema["format"] == "date-time" && text.parse::<k8s_openapi::jiff::Timestamp>().is_err() {
            self.add(format!("`{text}` is no time as in `2026-01-31T12:00:00Z`"));
        }
    }

    fn check_number(&mut self, schema: &Value, value: &Value) {
        let value = value.as_f64().unwrap_or_default();
        if let Some(least) = schema["minimum"].as_f64().filter(|least| value < *least) {
            self.add(format!("must be at least {least}"));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| value > *most) {
            self.add(format!("must be at most {most}"));
        }
    }

    /// `minItems`, `maxLength` and their like.
    fn check_limits(&mut self, schema: &Value, of: &str, count: usize, noun: &str) {
        let limit = |end: &str| schema[format!("{end}{of}")].as_u64().and_then(|limit| usize::try_from(limit).ok());
        if let Some(least) = limit("min").filter(|least| count < *least) {
            self.add(format!("has {count} {noun}, at least {least} are needed"));
        }
        if let Some(most) = limit("max").filter(|most| count > *most) {
            self.add(format!("has {count} {noun}, at most {most} are allowed"));
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn noun(kind: &str) -> &str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "null" => "empty",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap};
    use serde_json::json;

    use super::*;

    fn node() -> Value {
        json!({
            "apiVersion": "society.zeta.io/v1alpha1",
            "kind": "ClusterNode",
            "metadata": {"name": "gpu-1", "labels": {"a": "b"}},
            "spec": {"class": "gpu-worker", "hardwareID": "A1", "expects": {"gpus": 8}},
            "status": {
                "hats": [{"binding": "b", "name": "executor", "wearer": "w", "phase": "Active"}],
                "devices": [{
                    "name": "gpu-1", "class": "gpu", "attributes": {"model": {"string": "H100"}},
                    "capacity": {"memory": {"value": "80Gi"}}, "health": {"state": "Ready", "reason": "DriverBound"},
                }],
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut node = node();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        node.pointer_mut(parent).unwrap()[field] = value;
        node
    }

    fn messages(violations: &[Violation]) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_rule_of_every_schema_can_be_evaluated_here() {
        let schemas = [
            (Schema::of::<ClusterNode>().unwrap(), 3),
            (Schema::of::<Hat>().unwrap(), 4),
            (Schema::of::<HatBinding>().unwrap(), 7),
            (Schema::of::<HatSwap>().unwrap(), 1),
            (Schema::of::<HatPolicy>().unwrap(), 1),
        ];
        for (schema, least) in schemas {
            let errors: Vec<_> = schema.rules.compilation_errors().iter().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{errors:?}");
            let rules = schema.tree.to_string().matches("\"rule\":").count();
            assert!(rules >= least, "the schema has {rules} rules");
        }
    }

    #[test]
    fn what_the_schema_refuses_is_refused_with_its_place() {
        let schema = Schema::of::<ClusterNode>().unwrap();
        assert_eq!(messages(&schema.check(&node())), Vec::<String>::new());
        let cases = [
            (
                "/spec/class",
                json!("gpu"),
                "spec.class: `gpu` is none of control-plane, gpu-worker, phone-orchestrator, pi-ai-hat, worker",
            ),
            ("/spec/clas", json!("gpu"), "spec.clas: there is no such field"),
            ("/spec/hardwareID", json!(12), "spec.hardwareID: must be a text, it is a whole number"),
            (
                "/spec/hardwareID",
                json!("-x"),
                "spec.hardwareID: `-x` does not match `^$|^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$`",
            ),
            ("/spec/expects/gpus", json!(-1), "spec.expects.gpus: must be at least 0"),
            ("/spec/expects/gpus", json!(257), "spec.expects.gpus: must be at most 256"),
            ("/spec/unschedulable", json!("yes"), "spec.unschedulable: must be true or false, it is a text"),
            (
                "/status/devices/0/name",
                json!("x".repeat(64)),
                "status.devices[0].name: has 64 characters, at most 63 are allowed",
            ),
            (
                "/status/devices/0/attributes/model",
                json!({"text": 1}),
                "status.devices[0].attributes.model.text: there is no such field",
            ),
            ("/status/devices/0/capacity/memory", json!({}), "status.devices[0].capacity.memory: `value` is missing"),
            (
                "/status/devices/0/capacity/memory/value",
                json!(1.5),
                "status.devices[0].capacity.memory.value: must be a string or a whole number",
            ),
            ("/status/devices", json!({}), "status.devices: must be a list, it is a map"),
            (
                "/status/hats/0/expiresAt",
                json!("tomorrow"),
                "status.hats[0].expiresAt: `tomorrow` is no time as in `2026-01-31T12:00:00Z`",
            ),
        ];
        for (pointer, value, message) in cases {
            let found = messages(&schema.check(&with(pointer, value)));
            assert!(found.contains(&message.to_owned()), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn rules_are_those_of_the_api_server() {
        let schema = Schema::of::<ClusterNode>().unwrap();
        let broken = |new: &Value, old: Option<&Value>| messages(&schema.check_rules(new, old));
        assert_eq!(broken(&node(), None), Vec::<String>::new());
        assert_eq!(broken(&node(), Some(&node())), Vec::<String>::new());
        let name = with("/metadata/name", json!("gpu.1"));
        assert_eq!(
            broken(&name, None),
            ["the name must be a DNS label of at most 51 characters, so that it fits a certificate"]
        );
        let other = with("/spec/hardwareID", json!("B2"));
        assert_eq!(
            broken(&other, Some(&node())),
            ["spec.hardwareID is pinned: clear it first if another machine shall take this name"]
        );
        let cleared = with("/spec/hardwareID", json!(""));
        assert_eq!(broken(&cleared, Some(&node())), Vec::<String>::new());
        assert_eq!(broken(&other, Some(&cleared)), Vec::<String>::new());
        let class = with("/spec/class", json!("worker"));
        assert_eq!(
            broken(&class, Some(&node())),
            ["spec.class cannot change while hats are worn: cordon the node and let them end first"]
        );
        assert_eq!(broken(&class, Some(&with("/status/hats", json!([])))), Vec::<String>::new());
    }
}
