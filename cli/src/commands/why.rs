//! `hatrack why`: why a request is held, and what would change it.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::{Cosignature, Phase, condition};
use hatrack_hats::throttles::{Held, Rule};
use hatrack_hats::{Moment, World, placement, why};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::Outcome;
use crate::args::{Format, Why};
use crate::cluster::kind::Kind;
use crate::cluster::society::{self, Society};
use crate::cluster::{Cluster, Missing};
use crate::forecast::{Horizon, forecast};
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::view::inventory::indented;
use crate::view::table::{Cell, Column, Table};
use crate::view::{age, bindings, order, wearer};

const SCHEMA: &str = "hatrack.why/v1";

/// How far ahead it is looked whether time alone helps, in seconds.
const AHEAD: i64 = 24 * 3600;

/// How many transitions of others are looked at for that: terms of seconds that are renewed would make a day of them endless.
const TRANSITIONS: usize = 500;

/// Prints why.
pub async fn run(options: &Why, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let namespace = options.binding.namespace.as_deref().unwrap_or_else(|| cluster.namespace()).to_owned();
    let society = cluster.society().await?;
    let named = |binding: &&HatBinding| {
        binding.name_any() == options.binding.name && binding.namespace().as_deref() == Some(&namespace)
    };
    let binding = society.bindings.iter().find(named);
    let binding = binding.ok_or_else(|| Missing::of::<HatBinding>(format!("{namespace}/{}", options.binding.name)))?;
    let answer = Answer::of(&society, binding, society::now());
    let output = options.output.output;
    if !printer.structured(output, &answer)? {
        let text = match output {
            Format::Name => lines([binding.name_any()]),
            _ => answer.text(binding, printer.width.filter(|_| output != Format::Wide)),
        };
        printer.data(&text)?;
    }
    Ok(if answer.worn { Outcome::Done } else { Outcome::No })
}

/// Why a request is held, or that it is not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: &'static str,
    binding: String,
    namespace: String,
    hat: String,
    wearer: String,
    phase: Phase,
    worn: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Hold>,
    /// By the clock of who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<String>,
    cosigned_by: Vec<Cosignature>,
    conditions: Vec<Condition>,
    nodes: Vec<NodeAnswer>,
    changes: Vec<String>,
}

#[derive(Serialize)]
struct Hold {
    rule: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// What one node says to a request.
#[derive(Serialize)]
struct NodeAnswer {
    node: String,
    fits: bool,
    says: String,
}

impl Answer {
    fn of(society: &Society, binding: &HatBinding, now: Moment) -> Self {
        let world = society.world(now);
        let uid = binding.uid().unwrap_or_else(|| binding.key());
        let phase = bindings::phase(binding);
        let held = why(&world, &uid, now).and_then(Result::err);
        let waits = phase == Phase::Pending;
        let per_node = if waits { placement::per_node(&world, &uid, now) } else { None };
        let says = |(node, verdict): placement::Says| match verdict {
            Ok(devices) if devices.is_empty() => NodeAnswer { node, fits: true, says: "fits".to_owned() },
            Ok(devices) => NodeAnswer { node, fits: true, says: format!("fits, with {}", devices.join(", ")) },
            Err(misfit) => NodeAnswer { node, fits: false, says: misfit.to_string() },
        };
        let mut nodes: Vec<NodeAnswer> = per_node.into_iter().flatten().map(says).collect();
        nodes.sort_by(|a, b| b.fits.cmp(&a.fits).then_with(|| order::natural(&a.node, &b.node)));
        let mut changes = held.as_ref().map(|held| advice(&world, binding, &uid, held)).unwrap_or_default();
        if waits && held.is_none() && is_decided(binding) {
            changes.push(
                "that what was said last is so no more: the operator's log has what the API server refused".to_owned(),
            );
        } else if waits {
            changes.push(by_time_alone(society, &uid, now));
        }
        Self {
            schema: SCHEMA,
            binding: binding.name_any(),
            namespace: binding.namespace().unwrap_or_default(),
            hat: binding.spec.hat.clone(),
            wearer: binding.spec.wearer.spiffe_id.clone(),
            phase,
            worn: phase.is_worn(),
            held: held.map(|held| Hold {
                rule: held.rule.as_str(),
                message: held.message,
                until: held.until.map(|until| until.to_string()),
            }),
            requested_at: binding.spec.requested_at.as_ref().map(|at| at.0.to_string()),
            cosigned_by: binding.spec.cosigned_by.clone(),
            conditions: binding.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default(),
            nodes,
            changes,
        }
    }

    fn text(&self, binding: &HatBinding, width: Option<usize>) -> String {
        let mut sections = vec![self.heading(binding, width)];
        let vouched = bindings::vouched(binding, Timestamp::now());
        if !vouched.is_empty() {
            let lines: String = vouched.iter().map(|words| indented(words, 2, width)).collect();
            sections.push(format!("{}\n{lines}", paint(style::HEADING, "Vouched for by")));
        }
        let mut conditions = Table::new(["CONDITION", "IS", "SINCE", "REASON"].map(Column::text));
        for condition in &self.conditions {
            let is =
                if condition.status == "True" { Cell::new("yes", style::GOOD) } else { Cell::new("no", style::CARE) };
            let since = age::between(condition.last_transition_time.0, Timestamp::now());
            conditions.row([Cell::plain(&condition.type_), is, Cell::plain(since), Cell::plain(&condition.reason)]);
        }
        if !self.conditions.is_empty() {
            sections.push(conditions.render(width, true, 2));
        }
        if !self.nodes.is_empty() {
            let mut nodes = Table::new([Column::text("NODE"), Column::text("SAYS").cut_to(24)]);
            for says in &self.nodes {
                let style = if says.fits { style::GOOD } else { style::PLAIN };
                nodes.row([Cell::plain(&says.node), Cell::new(&says.says, style)]);
            }
            sections.push(nodes.render(width, true, 2));
        }
        if !self.changes.is_empty() {
            let changes = self.changes.iter().map(|change| indented(change, 2, width));
            sections.push(format!(
                "{}\n{}",
                paint(style::HEADING, "What would change it"),
                changes.collect::<String>()
            ));
        }
        sections.join("\n")
    }

    /// `repair-x7k2p  Pending: farm/ci asks for repair`, and why.
    fn heading(&self, binding: &HatBinding, width: Option<usize>) -> String {
        let name = paint(style::HEADING, &self.binding);
        let phase = paint(bindings::style_of(self.phase), self.phase.as_str());
        let who = wearer::short(&self.wearer);
        let now = Timestamp::now();
        let status = binding.status.clone().unwrap_or_default();
        let hat = &self.hat;
        let what = match self.phase {
            Phase::Pending => format!("{who} asks for {hat}{}", asked(binding, now)),
            phase if phase.is_worn() => {
                let node = status.node_name.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
                let ends = status.expires_at.as_ref().map(|ends| age::between(now, ends.0.max(now)));
                let ends = ends.map_or_else(|| "without an end".to_owned(), |left| format!("for another {left}"));
                format!("{who} wears {hat}{node}, {ends}")
            }
            _ => format!("{who} wore {hat}"),
        };
        let why = match &self.held {
            Some(held) => held.message.clone(),
            None if self.phase == Phase::Pending && is_decided(binding) => format!(
                "nothing that can be seen from here holds it; whoever decided last said: {}",
                bindings::why(binding, now)
            ),
            None if self.phase == Phase::Pending => {
                "nothing holds it: it goes on as soon as somebody decides".to_owned()
            }
            None => bindings::why(binding, now),
        };
        let why = if why.is_empty() { why } else { indented(&why, 2, width) };
        format!("{name}  {phase}: {what}\n{why}")
    }
}

/// Whether somebody has said already why it waits. The operator knows what it could not write.
fn is_decided(binding: &HatBinding) -> bool {
    bindings::find(binding, condition::ADMITTED).is_some_and(|admitted| admitted.status == "False")
}

/// How long ago it was asked for, by the clock of who asked.
fn asked(binding: &HatBinding, now: Timestamp) -> String {
    let at = binding.spec.requested_at.as_ref().map(|at| at.0.min(now));
    at.map(|at| format!(", asked {} ago", age::between(at, now))).unwrap_or_default()
}

/// What a person can do about a rule.
fn advice(world: &World, binding: &HatBinding, uid: &str, held: &Held) -> Vec<String> {
    let name = binding.name_any();
    let hat = &binding.spec.hat;
    let place = binding.namespace().map(|namespace| format!("-n {namespace} ")).unwrap_or_default();
    let anew = || format!("`hatrack release {place}{name}`, then ask anew");
    let others = |wanted: &dyn Fn(&HatBinding) -> bool| -> Vec<String> {
        let others = world.bindings().filter(|(other, binding)| *other != uid && wanted(binding));
        others.map(|(_, other)| format!("{} ({})", other.name_any(), other.spec.hat)).collect()
    };
    let live = |other: &HatBinding| !bindings::phase(other).is_ended();
    let same = |other: &HatBinding| other.spec.wearer.spiffe_id == binding.spec.wearer.spiffe_id;
    let release = |others: Vec<String>| format!("`hatrack release` one of: {}", others.join(", "));
    vec![match held.rule {
        Rule::Policy => "create the HatPolicy: `kubectl apply -f k8s/hats/policy.yaml`".to_owned(),
        Rule::HatExists => format!("create the hat {hat}; `hatrack hats` lists those that there are"),
        Rule::Identity | Rule::Succession => anew(),
        Rule::SupervisorCycle => format!("correct spec.supervises; `hatrack hats {hat}` shows what is wrong"),
        Rule::Verdict => format!("a supervisor types `hatrack verdict {place}{name} restore`"),
        Rule::Quorum => format!("others who may co-sign type `hatrack cosign {place}{name}`"),
        Rule::Conflict => release(others(&|other| same(other) && bindings::phase(other).is_worn())),
        Rule::MaxBindings => release(others(&|other| same(other) && live(other))),
        Rule::MaxWearers => {
            format!(
                "one who wears it takes it off: {}",
                others(&|other| other.spec.hat == *hat && bindings::phase(other).is_worn()).join(", ")
            )
        }
        Rule::Cooldown | Rule::NewHats | Rule::Warmup | Rule::Term => "only time".to_owned(),
        Rule::Unschedulable | Rule::Exclusive => {
            format!("a node that fits: `hatrack hats {hat}` shows what it needs, `hatrack nodes -o wide` what there is")
        }
    }]
}

/// Whether it goes on by itself.
fn by_time_alone(society: &Society, uid: &str, now: Moment) -> String {
    let until = now.wall.checked_add(k8s_openapi::jiff::SignedDuration::from_secs(AHEAD)).unwrap_or(Timestamp::MAX);
    let of_this = |record: &hatrack_api::HatSwap| {
        record.spec.binding_ref.as_ref().is_some_and(|binding| binding.uid == uid)
            && record.spec.outcome.as_ref().is_some_and(|outcome| outcome.phase.is_worn())
    };
    let ahead = forecast(society, now, Horizon { until, transitions: TRANSITIONS }, of_this);
    if ahead.now.iter().any(of_this) {
        return "nothing: it goes on with the next decision".to_owned();
    }
    match ahead.later.iter().find(|record| of_this(record)) {
        Some(record) => {
            let at = record.spec.occurred_at.0;
            format!("time alone: it goes on in {} (at {at}) if nobody changes anything", age::between(now.wall, at))
        }
        None if ahead.is_cut => format!("time alone does not, within the next {TRANSITIONS} transitions"),
        None => "time alone does not, within 24 hours".to_owned(),
    }
}
