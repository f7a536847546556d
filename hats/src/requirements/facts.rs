//! What expressions see of a node and a device, and which of them are alike.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hatrack_api::cluster_node::{Attribute, ClusterNode, Device, attribute};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value};

/// Number of a kind: things of equal kind have equal facts, but for names, labels, addresses and serial
/// numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u64);

/// Fields in which otherwise equal things differ.
const INDIVIDUAL: [&str; 7] =
    ["name", "labels", "pciBusID", attribute::PCI_BUS_ID, attribute::UUID, attribute::SERIAL, attribute::USB_PATH];

/// The kinds seen so far.
#[derive(Default)]
pub struct Kinds(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// By a text of their facts.
    kinds: HashMap<String, Kind>,
    /// Numbers that were given. None is given twice: what has one keeps it when its kind is forgotten, and the next like it has another.
    given: u64,
}

/// Kinds that are kept; beyond that the memory starts anew. Facts that change at each look are new kinds for ever.
const MAX_REMEMBERED: usize = 1 << 16;

impl Kinds {
    pub fn of_node(&self, node: &ClusterNode) -> Kind {
        let system = node.status.as_ref().and_then(|status| status.system.as_ref());
        self.number(format!("{:?}|{:?}|{system:?}", node.spec.class, node.spec.profile))
    }

    pub fn of_device(&self, device: &Device) -> Kind {
        use std::fmt::Write as _;
        let mut facts = format!("{:?}|{:?}|{}|", device.class, device.health.state, device.health.reason);
        for (name, value) in device.attributes.iter().filter(|(name, _)| !INDIVIDUAL.contains(&name.as_str())) {
            let _ = write!(facts, "{name}={value:?};");
        }
        for (name, capacity) in &device.capacity {
            let _ = write!(facts, "{name}:{};", capacity.value.0);
        }
        self.number(facts)
    }

    fn number(&self, facts: String) -> Kind {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = seen.kinds.get(&facts) {
            return *kind;
        }
        if seen.kinds.len() >= MAX_REMEMBERED {
            seen.kinds.clear();
        }
        let kind = Kind(seen.given);
        seen.given += 1;
        seen.kinds.insert(facts, kind);
        kind
    }
}

/// Whether a verdict can differ between things of one kind. `node` and `device` have to be followed by a field that is not
/// individual; whatever else is done with them could tell individuals apart.
pub fn names_an_individual(expr: &Expr) -> bool {
    match expr {
        Expr::Ident(name) => name == "node" || name == "device",
        Expr::Select(select) => match field_path(expr) {
            Some(path) => is_individual(&path),
            None => names_an_individual(&select.operand.expr),
        },
        Expr::Call(call) => match field_path(expr) {
            Some(path) => is_individual(&path),
            None => call.target.iter().map(AsRef::as_ref).chain(&call.args).any(|part| names_an_individual(&part.expr)),
        },
        Expr::Comprehension(loop_) => {
            [&loop_.iter_range, &loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result]
                .into_iter()
                .any(|part| names_an_individual(&part.expr))
        }
        Expr::List(list) => list.elements.iter().any(|element| names_an_individual(&element.expr)),
        Expr::Map(map) => map.entries.iter().any(|entry| entry_names_an_individual(&entry.expr)),
        Expr::Struct(structure) => structure.entries.iter().any(|entry| entry_names_an_individual(&entry.expr)),
        Expr::Literal(_) | Expr::Unspecified => false,
    }
}

fn entry_names_an_individual(entry: &EntryExpr) -> bool {
    match entry {
        EntryExpr::StructField(field) => names_an_individual(&field.value.expr),
        EntryExpr::MapEntry(entry) => names_an_individual(&entry.key.expr) || names_an_individual(&entry.value.expr),
    }
}

/// `device.attributes.model`, `device.attributes['model']` and `device.?attributes` as a path; `None` for anything else.
fn field_path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Ident(name) => (name == "node" || name == "device").then(|| vec![name.clone()]),
        Expr::Select(select) => {
            let mut path = field_path(&select.operand.expr)?;
            path.push(select.field.clone());
            Some(path)
        }
        Expr::Call(CallExpr { func_name, target: None, args })
            if func_name == "_[_]" || func_name == "_?._" || func_name == "_[?_]" =>
        {
            let [operand, Expr::Literal(LiteralValue::String(field))] = [&args.first()?.expr, &args.get(1)?.expr]
            else {
                return None;
            };
            let mut path = field_path(operand)?;
            path.push(field.inner().to_owned());
            Some(path)
        }
        _ => None,
    }
}

fn is_individual(path: &[String]) -> bool {
    let names_a_field = match path.first().map(String::as_str) {
        Some("device") if matches!(path.get(1).map(String::as_str), Some("attributes" | "capacity")) => path.len() > 2,
        _ => path.len() > 1,
    };
    !names_a_field || path.iter().any(|field| INDIVIDUAL.contains(&field.as_str()))
}

/// The capacity and the amount of `device.capacity.NAME.compareTo(quantity('AMOUNT')) >= 0` and of `….isGreaterThan(…)`.
pub fn needed_capacity(expr: &Expr) -> Option<(String, String)> {
    let Expr::Call(call) = expr else { return None };
    if call.func_name == "_>=_" {
        let [compared, Expr::Literal(LiteralValue::Int(_))] = [&call.args.first()?.expr, &call.args.get(1)?.expr]
        else {
            return None;
        };
        return needed_capacity(compared);
    }
    if !matches!(call.func_name.as_str(), "compareTo" | "isGreaterThan") {
        return None;
    }
    let path = field_path(&call.target.as_ref()?.expr)?;
    let [device, capacity, name] = path.as_slice() else { return None };
    let Expr::Call(made) = &call.args.first()?.expr else { return None };
    let Expr::Literal(LiteralValue::String(amount)) = &made.args.first()?.expr else { return None };
    let fits = device == "device" && capacity == "capacity" && made.func_name == "quantity";
    fits.then(|| (name.clone(), amount.inner().to_owned()))
}

/// `node` as expressions see it.
pub fn node(node: &ClusterNode, functions: &Context<'_>) -> Value {
    let mut fields = Fields::default();
    fields.text("name", node.metadata.name.as_deref());
    fields.text("class", Some(node.spec.class.as_str()));
    fields.text("profile", node.spec.profile.map(hatrack_api::cluster_node::Profile::as_str));
    // The bound on the cost of loops counts on no more than this many.
    let labels = node.metadata.labels.iter().flatten().take(64);
    fields.set("labels", map(labels.map(|(key, value)| (key.clone(), string(value))).collect()));
    if let Some(system) = node.status.as_ref().and_then(|status| status.system.as_ref()) {
        fields.text("architecture", Some(&system.architecture));
        fields.text("kernelVersion", Some(&system.kernel_version));
        fields.text("osImage", system.os_image.as_deref());
        fields.some("memory", system.memory.as_ref().and_then(|memory| quantity(memory, functions)));
        let mut cpu = Fields::default();
        cpu.text("model", system.cpu.model.as_deref());
        cpu.some("cores", system.cpu.cores.map(|cores| Value::Int(i64::from(cores))));
        cpu.set("threads", Value::Int(i64::from(system.cpu.threads)));
        fields.set("cpu", map(cpu.0));
        if let Some(board) = &system.board {
            let mut shown = Fields::default();
            shown.text("vendor", board.vendor.as_deref());
            shown.text("model", Some(&board.model));
            fields.set("board", map(shown.0));
        }
        if let Some(nixos) = &system.nixos {
            fields.set("nixos", map([("version".to_owned(), string(&nixos.version))].into()));
        }
    }
    map(fields.0)
}

/// `device` as expressions see it.
pub fn device(device: &Device, functions: &Context<'_>) -> Value {
    let attributes =
        with_short_names(device.attributes.iter().map(|(name, value)| (name, attribute_value(value, functions))));
    let capacities = device.capacity.iter();
    let capacities = with_short_names(
        capacities.filter_map(|(name, amount)| quantity(&amount.value, functions).map(|amount| (name, amount))),
    );
    let mut health = Fields::default();
    health.text("state", Some(device.health.state.as_str()));
    health.text("reason", Some(&device.health.reason));
    let mut fields = Fields::default();
    fields.text("name", Some(&device.name));
    fields.text("class", Some(device.class.as_str()));
    fields.set("health", map(health.0));
    fields.set("attributes", map(attributes));
    fields.set("capacity", map(capacities));
    map(fields.0)
}

#[derive(Default)]
struct Fields(HashMap<String, Value>);

impl Fields {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn some(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.some(name, value.map(string));
    }
}

/// A name with a domain is also known by what follows the slash, unless something else has that name.
fn with_short_names<'a>(named: impl Iterator<Item = (&'a String, Value)>) -> HashMap<String, Value> {
    let mut fields: HashMap<String, Value> = named.map(|(name, value)| (name.clone(), value)).collect();
    let short: Vec<(String, Value)> = fields
        .iter()
        .filter_map(|(name, value)| name.rsplit_once('/').map(|(_, short)| (short.to_owned(), value.clone())))
        .collect();
    for (name, value) in short {
        fields.entry(name).or_insert(value);
    }
    fields
}

fn attribute_value(attribute: &Attribute, functions: &Context<'_>) -> Value {
    match attribute {
        Attribute::String(text) => string(text),
        Attribute::Int(number) => Value::Int(*number),
        Attribute::Bool(truth) => Value::Bool(*truth),
        Attribute::Version(text) => made_by("semver(text)", text, functions).unwrap_or_else(|| string(text)),
    }
}

fn quantity(quantity: &Quantity, functions: &Context<'_>) -> Option<Value> {
    made_by("quantity(text)", &quantity.0, functions)
}

/// The value that a CEL function makes of a text: kube-cel has no other way to make one.
fn made_by(call: &str, text: &str, functions: &Context<'_>) -> Option<Value> {
    let mut scope = functions.new_inner_scope();
    scope.add_variable_from_value("text", string(text));
    Program::compile(call).ok()?.execute(&scope).ok()
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(Arc::new(text.as_ref().to_owned()))
}

fn map(fields: HashMap<String, Value>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (Key::String(Arc::new(name)), value)).collect();
    Value::Map(Map { map: Arc::new(fields) })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn kinds_are_forgotten_before_they_fill_the_memory_and_no_number_is_given_twice() {
        let kinds = Kinds::default();
        let mut given = HashSet::new();
        for number in 0..MAX_REMEMBERED + 10 {
            assert!(given.insert(kinds.number(number.to_string())), "{number} is like another");
        }
        assert_eq!(kinds.0.lock().unwrap().kinds.len(), 10);
        assert!(given.insert(kinds.number("0".to_owned())), "forgotten, and not confused with what had its number");
        assert_eq!(kinds.number("0".to_owned()), kinds.number("0".to_owned()));
    }
}
