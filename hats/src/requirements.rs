//! Requirements of a hat: Kubernetes CEL over `node` and `device`.
//!
//! | variable | fields |
//! |---|---|
//! | `node` | `name`, `class`, `profile`, `labels`, `architecture`, `kernelVersion`, `osImage`, `memory` (quantity), `cpu` {`model`, `cores`, `threads`}, `board` {`vendor`, `model`}, `nixos` {`version`} |
//! | `device` | `name`, `class`, `health` {`state`, `reason`}, `attributes`, `capacity` |
//!
//! `device.attributes.model` and `device.capacity.memory` stand for DRA's domain-qualified fields. An attribute with a domain
//! (`resource.kubernetes.io/pcieRoot`) has its whole name and, where that is free, the part after the slash. A capacity is
//! a `quantity`, an attribute of kind `version` a `semver`. A field that a node or a device does not have is absent: `has()` asks for it.
//!
//! An expression is compiled once and bounded before it runs ([`cost`]). Its verdicts are kept per kind of equal nodes and
//! devices; an expression that refers to what makes a thing unlike all others (`name`, `labels`, a serial number) is
//! evaluated for each. The memory of verdicts is shared by all copies of a [`World`](crate::World) and changes no result.

pub mod cost;
mod facts;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hatrack_api::cluster_node::{ClusterNode, Device};
use kube_cel::KubeCelExt as _;
use kube_cel::cel::parser::{Expression, Parser};
use kube_cel::cel::{Context, Value};

pub use facts::Kind;

/// Why an expression gives no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is no CEL.
    #[error("does not compile: {0}")]
    Syntax(String),
    /// It could take too long or too much memory.
    #[error("is refused: {0}")]
    TooCostly(cost::TooCostly),
    /// It failed on these facts.
    #[error("fails: {0}")]
    Evaluation(String),
    /// It gave something else than true or false.
    #[error("gives no truth value but {0}")]
    NoTruth(String),
}

/// What an expression says about one node or device.
pub type Verdict = Result<bool, ExpressionError>;

/// A compiled expression.
struct Compiled {
    program: Expression,
    /// Whether equal kinds have equal verdicts.
    by_kind: bool,
    /// The capacity and the amount that it asks for, if that is all that it does.
    needs: Option<(String, String)>,
    /// What it said about kinds of nodes and devices.
    verdicts: Mutex<HashMap<(Kind, Option<Kind>), Verdict>>,
}

#[derive(Default)]
struct Memory {
    compiled: HashMap<String, Arc<Result<Compiled, ExpressionError>>>,
    /// Verdicts of all of them.
    verdicts: usize,
}

/// Compiles expressions, evaluates them and remembers what they said.
#[derive(Clone)]
pub struct Judge {
    functions: Arc<Context<'static>>,
    kinds: Arc<facts::Kinds>,
    memory: Arc<Mutex<Memory>>,
}

/// Verdicts and programs that are kept; beyond that the memory starts anew.
const MAX_REMEMBERED: usize = 1 << 18;

impl Default for Judge {
    fn default() -> Self {
        Self { functions: Arc::new(Context::default().with_all()), kinds: Arc::default(), memory: Arc::default() }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

impl Judge {
    /// The kind of a node: equal for nodes between which no expression by kind can tell.
    pub fn node_kind(&self, node: &ClusterNode) -> Kind {
        self.kinds.of_node(node)
    }

    /// The kind of a device.
    pub fn device_kind(&self, device: &Device) -> Kind {
        self.kinds.of_device(device)
    }

    /// Whether an expression has the same verdict for equal kinds. One that does not compile has.
    pub fn is_by_kind(&self, expression: &str) -> bool {
        self.compiled(expression).as_ref().as_ref().map_or(true, |compiled| compiled.by_kind)
    }

    /// `("memory", "24Gi")` of `device.capacity.memory.compareTo(quantity('24Gi')) >= 0`: for messages.
    pub fn needed_capacity(&self, expression: &str) -> Option<(String, String)> {
        self.compiled(expression).as_ref().as_ref().ok()?.needs.clone()
    }

    /// What an expression says about a node, or about a device of it.
    pub fn judge(&self, expression: &str, node: (&ClusterNode, Kind), device: Option<(&Device, Kind)>) -> Verdict {
        let compiled = self.compiled(expression);
        let compiled = compiled.as_ref().as_ref().map_err(Clone::clone)?;
        let kinds = (node.1, device.map(|device| device.1));
        if compiled.by_kind
            && let Some(known) = locked(&compiled.verdicts).get(&kinds)
        {
            return known.clone();
        }
        let verdict = self.evaluate(&compiled.program, node.0, device.map(|device| device.0));
        if compiled.by_kind {
            locked(&compiled.verdicts).insert(kinds, verdict.clone());
            self.count_verdict();
        }
        verdict
    }

    fn count_verdict(&self) {
        let mut memory = locked(&self.memory);
        memory.verdicts += 1;
        if memory.verdicts >= MAX_REMEMBERED {
            *memory = Memory::default();
        }
    }

    fn evaluate(&self, program: &Expression, node: &ClusterNode, device: Option<&Device>) -> Verdict {
        let mut scope = self.functions.new_inner_scope();
        scope.add_variable_from_value("node", facts::node(node, &self.functions));
        if let Some(device) = device {
            scope.add_variable_from_value("device", facts::device(device, &self.functions));
        }
        match scope.resolve(program) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(other) => Err(ExpressionError::NoTruth(other.type_of().to_string())),
            Err(error) => Err(ExpressionError::Evaluation(short(&error.to_string()))),
        }
    }

    fn compiled(&self, expression: &str) -> Arc<Result<Compiled, ExpressionError>> {
        if let Some(known) = locked(&self.memory).compiled.get(expression) {
            return Arc::clone(known);
        }
        let compiled = Arc::new(compile(expression));
        let mut memory = locked(&self.memory);
        if memory.compiled.len() >= MAX_REMEMBERED {
            memory.compiled.clear();
        }
        memory.compiled.insert(expression.to_owned(), Arc::clone(&compiled));
        compiled
    }
}

/// What is remembered is never half-written: each insertion is whole.
fn locked<T>(memory: &Mutex<T>) -> MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kubernetes has the syntax for optional fields (`device.?attributes`) switched on.
pub(crate) fn parse(expression: &str) -> Result<Expression, String> {
    Parser::default().enable_optional_syntax(true).parse(expression).map_err(|error| error.to_string())
}

fn compile(expression: &str) -> Result<Compiled, ExpressionError> {
    cost::check_text(expression).map_err(ExpressionError::TooCostly)?;
    let program = parse(expression).map_err(|error| ExpressionError::Syntax(short(&error)))?;
    cost::check(&program.expr).map_err(ExpressionError::TooCostly)?;
    let by_kind = !facts::names_an_individual(&program.expr);
    let needs = facts::needed_capacity(&program.expr);
    Ok(Compiled { program, by_kind, needs, verdicts: Mutex::default() })
}

/// Messages end in conditions and records: one line, and not the whole of what was evaluated.
fn short(message: &str) -> String {
    let line: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 160 { line } else { line.chars().take(159).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::{Attribute, Capacity, DeviceClass, Health};
    use hatrack_api::{ClusterNode, ClusterNodeSpec};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn node(name: &str) -> ClusterNode {
        let spec = serde_json::from_value::<ClusterNodeSpec>(serde_json::json!({"class": "gpu-worker"})).unwrap();
        let mut node = ClusterNode::new(name, spec);
        node.status = serde_json::from_value(serde_json::json!({
            "system": {"architecture": "x86_64", "kernelVersion": "6.12.1", "memory": "128Gi", "cpu": {"threads": 32}}
        }))
        .unwrap();
        node
    }

    fn gpu(memory: &str, serial: &str) -> Device {
        Device {
            name: format!("gpu-{serial}"),
            class: DeviceClass::Gpu,
            attributes: [
                ("model".to_owned(), Attribute::string("NVIDIA L4")),
                ("serial".to_owned(), Attribute::string(serial)),
                ("driverVersion".to_owned(), Attribute::Version("580.1.0".to_owned())),
                ("resource.kubernetes.io/numaNode".to_owned(), Attribute::Int(1)),
            ]
            .into(),
            capacity: [("memory".to_owned(), Capacity { value: Quantity(memory.to_owned()) })].into(),
            nodes: vec![],
            health: Health::ready("NvmlReport"),
        }
    }

    fn says(judge: &Judge, expression: &str, device: &Device) -> Verdict {
        let node = node("gpu-1");
        judge.judge(expression, (&node, judge.node_kind(&node)), Some((device, judge.device_kind(device))))
    }

    #[test]
    fn expressions_see_node_and_device() {
        let judge = Judge::default();
        let device = gpu("24Gi", "1");
        for (expression, expected) in [
            ("node.class == 'gpu-worker'", true),
            ("node.name == 'gpu-1'", true),
            ("node.memory.compareTo(quantity('64Gi')) >= 0", true),
            ("node.memory.isGreaterThan(quantity('1Ti'))", false),
            ("node.cpu.threads >= 32", true),
            ("node.architecture in ['x86_64', 'aarch64']", true),
            ("has(node.profile)", false),
            ("device.class == 'gpu'", true),
            ("device.capacity.memory.compareTo(quantity('24Gi')) >= 0", true),
            ("device.capacity.memory.compareTo(quantity('25Gi')) >= 0", false),
            ("device.attributes.model.startsWith('NVIDIA')", true),
            ("device.attributes.driverVersion.isGreaterThan(semver('570.0.0'))", true),
            ("device.attributes['resource.kubernetes.io/numaNode'] == 1", true),
            ("device.attributes.numaNode == 1", true),
            ("device.health.state == 'Ready'", true),
            ("has(device.attributes.uuid) && device.attributes.uuid == 'x'", false),
            ("device.attributes.exists(key, key == 'model')", true),
            ("device.attributes.serial == '1'", true),
        ] {
            assert_eq!(says(&judge, expression, &device), Ok(expected), "{expression}");
            assert_eq!(says(&judge, expression, &device), Ok(expected), "{expression}, remembered");
        }
    }

    #[test]
    fn what_gives_no_verdict_says_why() {
        let judge = Judge::default();
        for (expression, part) in [
            ("node.memory >= quantity('24Gi')", "fails"),
            ("device.attributes.absent == 'x'", "absent"),
            ("device.capacity.memory", "gives no truth value"),
            ("node.class ==", "does not compile"),
            ("nothing == 1", "nothing"),
            ("node.frobnicate()", "frobnicate"),
        ] {
            let error = says(&judge, expression, &gpu("24Gi", "1")).unwrap_err().to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    #[test]
    fn equal_devices_share_a_kind_and_individuals_are_told_apart() {
        let judge = Judge::default();
        assert_eq!(judge.device_kind(&gpu("24Gi", "1")), judge.device_kind(&gpu("24Gi", "2")));
        assert_ne!(judge.device_kind(&gpu("24Gi", "1")), judge.device_kind(&gpu("16Gi", "1")));
        assert_eq!(judge.node_kind(&node("a")), judge.node_kind(&node("b")));
        assert!(judge.is_by_kind("device.capacity.memory.compareTo(quantity('24Gi')) >= 0"));
        for individual in [
            "device.attributes.serial == '1'",
            "node.name == 'a'",
            "device.attributes['serial'] == '1'",
            "device.attributes.exists(k, k == 'serial')",
            "device == device",
            "node['name'] == 'a'",
            "[node].size() == 1",
        ] {
            assert!(!judge.is_by_kind(individual), "{individual}");
        }
        let expression = "device.attributes.serial == '1'";
        assert_eq!(says(&judge, expression, &gpu("24Gi", "1")), Ok(true));
        assert_eq!(says(&judge, expression, &gpu("24Gi", "2")), Ok(false));
    }
}
