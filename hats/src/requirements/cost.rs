//! What an expression can cost at most, found before it runs: the CEL interpreter has no limit of its own.
//!
//! Each part of an expression has a bound on the size of its value (characters and elements, over all levels), on the number
//! and the size of its elements, and on the steps that it takes. A loop takes the steps of its body for each element of its range, a concatenation is as large as both
//! sides, an unknown function is refused. What is known of the input is that the API server limits the objects it comes from.

use std::collections::HashMap;

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue};

/// Largest text of an expression, in bytes; the schema has the same limit.
pub const MAX_LENGTH: usize = 1024;
/// Deepest nesting of brackets in the text and of parts in the tree: both are walked by recursion.
pub const MAX_DEPTH: usize = 24;
/// Most steps of one evaluation.
pub const MAX_STEPS: u64 = 10_000_000;
/// Largest value on the way.
pub const MAX_SIZE: u64 = 1 << 20;

/// A node or a device, or a part of one: at most 64 entries (32 attributes, each with a short name; labels beyond that are
/// not shown), of which the longest is a label with its domain.
const INPUT: Bound = Bound { size: 24576, length: 64, element: 384, steps: 1 };

/// Why an expression is refused before it runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooCostly {
    /// The text is too long.
    #[error("it has {0} bytes, {MAX_LENGTH} are allowed")]
    Long(usize),
    /// Too many levels.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// Too many steps.
    #[error("it could take more than {MAX_STEPS} steps")]
    Slow,
    /// Too large a value.
    #[error("a value in it could be larger than {MAX_SIZE}")]
    Large,
    /// Nothing is known about what it costs.
    #[error("there is no function `{0}` here")]
    UnknownFunction(String),
    /// A quantity with an exponent can stand for a number of any length.
    #[error("quantity() takes a literal without an exponent here, or a capacity: `quantity('24Gi')`")]
    OpenQuantity,
}

/// Checks the text before it is parsed: the parser goes one level down per bracket, negation and condition.
pub fn check_text(text: &str) -> Result<(), TooCostly> {
    if text.len() > MAX_LENGTH {
        return Err(TooCostly::Long(text.len()));
    }
    let (mut depth, mut deepest, mut prefixes) = (0_usize, 0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        prefixes = match byte {
            b'!' | b'-' => prefixes + 1,
            b' ' => prefixes,
            _ => 0,
        };
        deepest = deepest.max(depth).max(prefixes);
    }
    let conditions = text.bytes().filter(|byte| *byte == b'?').count();
    if deepest.max(conditions) > MAX_DEPTH { Err(TooCostly::Deep) } else { Ok(()) }
}

/// Checks a parsed expression.
pub fn check(expr: &Expr) -> Result<(), TooCostly> {
    let mut bounds = Bounds { variables: HashMap::new() };
    let bound = bounds.of(expr, 0)?;
    within(bound).map(|_| ())
}

/// How large a value can be and how many steps it takes to have it.
#[derive(Clone, Copy)]
struct Bound {
    /// Characters and elements, over all levels.
    size: u64,
    /// Elements of the list or map that it may be.
    length: u64,
    /// Size of the largest of them.
    element: u64,
    steps: u64,
}

impl Bound {
    /// A value of which nothing but its size is known: each of its parts may be an element, or all of it one.
    const fn of_size(size: u64, steps: u64) -> Self {
        Self { size, length: size, element: size, steps }
    }
}

fn within(bound: Bound) -> Result<Bound, TooCostly> {
    if bound.size > MAX_SIZE {
        Err(TooCostly::Large)
    } else if bound.steps > MAX_STEPS {
        Err(TooCostly::Slow)
    } else {
        Ok(bound)
    }
}

struct Bounds {
    /// The variables of loops.
    variables: HashMap<String, Bound>,
}

/// How the size of a result follows from the sizes of target and arguments.
#[derive(Clone, Copy)]
enum Growth {
    /// A number or a truth value.
    Scalar,
    /// One of them, or their elements one after the other.
    Parts,
    /// At most all of them together, in pieces of any size.
    Sum,
    /// At most each for each.
    Product,
}

/// The functions that may be called, by how their results grow.
const GROWTHS: [(Growth, &str); 4] = [
    (
        Growth::Scalar,
        "_==_ _!=_ _<_ _<=_ _>_ _>=_ _&&_ _||_ !_ -_ _-_ _*_ _/_ _%_ @in @not_strictly_false size contains \
         startsWith endsWith matches int uint double hasValue isQuantity isInteger asInteger \
         asApproximateFloat sign isSorted sum sets.contains sets.equivalent sets.intersects indexOf \
         lastIndexOf isGreaterThan isLessThan compareTo isSemver major minor patch isIP isCIDR containsIP \
         containsCIDR prefixLength family isLoopback isGlobalUnicast math.ceil math.floor math.round \
         math.trunc math.abs math.sign",
    ),
    (Growth::Parts, "_+_ _?_:_ _[_] _?._ _[?_] optional.of optional.none value or orValue"),
    (
        Growth::Sum,
        "string quantity semver ip cidr add sub slice sort flatten distinct first last min max find findAll \
         charAt lowerAscii upperAscii split substring trim reverse math.greatest math.least",
    ),
    (Growth::Product, "replace join"),
];

/// How the result of a function grows, if it is one that may be called.
fn growth(function: &str) -> Option<Growth> {
    let is_among = |functions: &str| functions.split(' ').any(|other| other == function);
    GROWTHS.into_iter().find(|(_, functions)| is_among(functions)).map(|(growth, _)| growth)
}

impl Bounds {
    fn of(&mut self, expr: &Expr, depth: usize) -> Result<Bound, TooCostly> {
        if depth > 2 * MAX_DEPTH {
            return Err(TooCostly::Deep);
        }
        let bound = match expr {
            Expr::Literal(literal) => Bound::of_size(literal_size(literal), 1),
            Expr::Ident(name) => self.variables.get(name).copied().unwrap_or(INPUT),
            Expr::Select(select) => {
                let operand = self.of(&select.operand.expr, depth + 1)?;
                Bound { steps: operand.steps + 1, ..operand }
            }
            Expr::Call(call) => self.call(call, depth)?,
            Expr::Comprehension(loop_) => self.comprehension(loop_, depth)?,
            Expr::List(list) => self.all(list.elements.iter().map(|element| &element.expr), depth)?,
            Expr::Map(map) => {
                let parts: Vec<&Expr> = map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect();
                self.all(parts, depth)?
            }
            Expr::Struct(structure) => return Err(TooCostly::UnknownFunction(structure.type_name.clone())),
            Expr::Unspecified => Bound::of_size(1, 1),
        };
        within(bound)
    }

    fn all<'a>(&mut self, parts: impl IntoIterator<Item = &'a Expr>, depth: usize) -> Result<Bound, TooCostly> {
        together(&self.each(parts, depth)?)
    }

    fn each<'a>(&mut self, parts: impl IntoIterator<Item = &'a Expr>, depth: usize) -> Result<Vec<Bound>, TooCostly> {
        parts.into_iter().map(|part| self.of(part, depth + 1)).collect()
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Bound, TooCostly> {
        let name = full_name(call);
        let growth = growth(&name).ok_or_else(|| TooCostly::UnknownFunction(name.clone()))?;
        if name == "quantity" && !call.args.first().is_some_and(|argument| is_plain_quantity(&argument.expr)) {
            return Err(TooCostly::OpenQuantity);
        }
        let namespaced = name.contains('.') && !name.starts_with('_');
        let target = call.target.iter().filter(|_| !namespaced).map(|target| &target.expr);
        // Bounded once each: to do it twice in every call is to do it 2^n times in n calls on each other.
        let parts = self.each(target.chain(call.args.iter().map(|argument| &argument.expr)), depth)?;
        let sum = together(&parts)?;
        // Each function reads its arguments once; a pattern is matched in time proportional to text times pattern.
        let product = parts.iter().fold(1_u64, |product, part| product.saturating_mul(part.size.max(1)));
        let length = parts.iter().fold(0_u64, |length, part| length.saturating_add(part.length));
        let element = parts.iter().map(|part| part.element).fold(1, u64::max);
        let reading = if matches!(name.as_str(), "matches" | "find" | "findAll" | "sort" | "distinct")
            || name.starts_with("sets.")
            || matches!(growth, Growth::Product)
        {
            product
        } else {
            sum.size
        };
        let steps = sum.steps.saturating_add(reading);
        within(match growth {
            Growth::Scalar => Bound::of_size(1, steps),
            Growth::Parts => Bound { size: sum.size, length, element, steps },
            Growth::Sum => Bound::of_size(sum.size, steps),
            Growth::Product => Bound::of_size(product, steps),
        })
    }

    fn comprehension(&mut self, loop_: &ComprehensionExpr, depth: usize) -> Result<Bound, TooCostly> {
        let range = self.of(&loop_.iter_range.expr, depth + 1)?;
        let start = self.of(&loop_.accu_init.expr, depth + 1)?;
        let shadowed: Vec<(String, Option<Bound>)> =
            [Some(&loop_.iter_var), loop_.iter_var2.as_ref(), Some(&loop_.accu_var)]
                .into_iter()
                .flatten()
                .map(|name| (name.clone(), self.variables.get(name).copied()))
                .collect();
        for (name, _) in &shadowed {
            self.variables.insert(name.clone(), Bound::of_size(range.element, 1));
        }
        // The macros only ever append one result of the body to what they have: its growth in one round is that of all.
        self.variables.insert(loop_.accu_var.clone(), start);
        let condition = self.of(&loop_.loop_cond.expr, depth + 1)?;
        let step = self.of(&loop_.loop_step.expr, depth + 1)?;
        let rounds = range.length;
        let size = start.size.saturating_add(rounds.saturating_mul(step.size));
        let collected = within(Bound { size, length: rounds.max(1), element: step.size, steps: 1 })?;
        self.variables.insert(loop_.accu_var.clone(), collected);
        let result = self.of(&loop_.result.expr, depth + 1)?;
        for (name, before) in shadowed {
            match before {
                Some(bound) => self.variables.insert(name, bound),
                None => self.variables.remove(&name),
            };
        }
        let round = condition.steps.saturating_add(step.steps);
        let steps = range
            .steps
            .saturating_add(start.steps)
            .saturating_add(rounds.saturating_mul(round))
            .saturating_add(result.steps);
        within(Bound { steps, ..result })
    }
}

/// The bound of a list of these.
fn together(parts: &[Bound]) -> Result<Bound, TooCostly> {
    parts.iter().try_fold(Bound { size: 1, length: 0, element: 1, steps: 1 }, |whole, part| {
        within(Bound {
            size: whole.size + part.size,
            length: whole.length + 1,
            element: whole.element.max(part.size),
            steps: whole.steps + part.steps,
        })
    })
}

/// `sets.contains(a, b)` is parsed as a call on `sets`: functions with a namespace have their whole name.
fn full_name(call: &CallExpr) -> String {
    match call.target.as_ref().map(|target| &target.expr) {
        Some(Expr::Ident(namespace)) if matches!(namespace.as_str(), "sets" | "math" | "optional") => {
            format!("{namespace}.{}", call.func_name)
        }
        _ => call.func_name.clone(),
    }
}

fn is_plain_quantity(expr: &Expr) -> bool {
    let Expr::Literal(LiteralValue::String(text)) = expr else { return false };
    text.inner().len() <= 24 && !text.inner().to_ascii_lowercase().contains('e') || text.inner().ends_with("Ei")
}

fn entry_parts(entry: &EntryExpr) -> Vec<&Expr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value.expr],
        EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
    }
}

fn literal_size(literal: &LiteralValue) -> u64 {
    let length = match literal {
        LiteralValue::String(text) => text.inner().len(),
        LiteralValue::Bytes(bytes) => bytes.inner().len(),
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => 1,
    };
    u64::try_from(length).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::parse;

    fn cost(text: &str) -> Result<(), TooCostly> {
        check_text(text)?;
        check(&parse(text).unwrap().expr)
    }

    #[test]
    fn what_people_write_is_cheap_enough() {
        for text in [
            "node.class == 'gpu-worker' && node.memory.compareTo(quantity('64Gi')) >= 0",
            "device.attributes.exists(name, name.startsWith('resource.kubernetes.io/'))",
            "device.attributes.model in ['A100', 'H100'] || device.attributes.model.matches('^L4')",
            "device.?attributes.?vendor.orValue('') == 'nvidia'",
            "sets.contains(['x86_64', 'aarch64'], [node.architecture])",
            "device.capacity.memory.isGreaterThan(quantity('1Ei'))",
            "semver('1.2.3').isLessThan(device.attributes.driverVersion)",
            "node.architecture == 'x86_64' ? node.cpu.threads > 4 : node.cpu.threads > 2",
        ] {
            assert_eq!(cost(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        let doubling = format!("['aaaaaaaa']{}.size() > 0", ".map(s, s + s)".repeat(40));
        let nested = "node.labels.all(a, node.labels.all(b, node.labels.all(c, a + b + c != '')))";
        for (text, expected) in [
            (doubling.as_str(), None),
            (nested, Some(TooCostly::Slow)),
            ("quantity('1e2147483647').isGreaterThan(node.memory)", Some(TooCostly::OpenQuantity)),
            ("quantity(node.name).isGreaterThan(node.memory)", Some(TooCostly::OpenQuantity)),
            ("lists.range(1000000000).size() > 0", Some(TooCostly::UnknownFunction("range".to_owned()))),
            ("node.name.frobnicate()", Some(TooCostly::UnknownFunction("frobnicate".to_owned()))),
        ] {
            let found = cost(text);
            assert!(found.is_err(), "{text}");
            assert!(expected.is_none() || found.as_ref().err() == expected.as_ref(), "{text}: {found:?}");
        }
    }

    #[test]
    fn each_part_is_bounded_once_however_many_calls_lie_around_it() {
        assert_eq!(cost(&format!("node.name{} != ''", ".trim()".repeat(40))), Ok(()));
        assert_eq!(cost(&format!("1{} > 0", " + 1".repeat(40))), Ok(()));
    }

    #[test]
    fn texts_that_would_exhaust_the_stack_are_refused_before_they_are_parsed() {
        for text in ["(".repeat(500), "!".repeat(500), "- ".repeat(500), "a ? b : ".repeat(100), "[".repeat(30)] {
            assert_eq!(check_text(&text), Err(TooCostly::Deep), "{text}");
        }
        assert_eq!(check_text(&" ".repeat(MAX_LENGTH + 1)), Err(TooCostly::Long(MAX_LENGTH + 1)));
        let wide = vec!["true"; 120].join(" && ");
        assert_eq!(cost(&wide), Ok(()));
    }
}
