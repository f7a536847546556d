//! Hats in rows, and one hat in full.

use std::collections::BTreeMap;
use std::fmt::Write;

use hatrack_api::hat::{Authority, DeviceRequest, Level, Requirements, Skill, condition};
use hatrack_api::hat_binding::Phase;
use hatrack_api::{Hat, HatBinding};
use hatrack_hats::throttles::Limits;
use hatrack_hats::{conflicts, succession};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::inventory::{Layout, indented};
use super::table::{Cell, Column, Table};
use super::transitions::{self, Times};
use super::{age, bindings, order, wearer};
use crate::args::SkillAsked;
use crate::cluster::society::Society;
use crate::output::style::{self, paint};

/// Records of a hat that are shown with it.
const RECORDS: usize = 5;

/// Sorts by name.
pub fn sort(hats: &mut [Hat]) {
    hats.sort_by(|a, b| order::natural(&a.name_any(), &b.name_any()));
}

/// Whether a hat has a skill, at the level that is asked for or above. A level that nobody wrote down is not high enough.
pub fn has_skill(hat: &Hat, asked: &SkillAsked) -> bool {
    hat.spec
        .skills
        .iter()
        .any(|skill| skill.name == asked.name && (asked.level.is_none() || skill.level >= asked.level))
}

/// The bindings of a hat that are worn.
fn worn(society: &Society, hat: &Hat) -> Vec<HatBinding> {
    of_hat(society, hat, Phase::is_worn)
}

/// Those that wait.
fn waiting(society: &Society, hat: &Hat) -> Vec<HatBinding> {
    of_hat(society, hat, |phase| phase == Phase::Pending)
}

fn of_hat(society: &Society, hat: &Hat, wanted: impl Fn(Phase) -> bool) -> Vec<HatBinding> {
    let name = hat.name_any();
    let of_hat = society.bindings.iter().filter(|binding| binding.spec.hat == name && wanted(bindings::phase(binding)));
    let mut found: Vec<_> = of_hat.cloned().collect();
    found.sort_by_key(|binding| binding.metadata.creation_timestamp.clone().map(|time| time.0));
    found
}

/// Hats in rows, in the order given.
pub fn table(hats: &[Hat], society: &Society, wide: bool, now: Timestamp) -> Table {
    let mut columns = vec![
        Column::text("NAME"),
        Column::number("WORN"),
        Column::number("WAITING"),
        Column::text("BY").cut_to(20),
        Column::text("UNTIL").spare(1),
        Column::number("REPUTATION").spare(2),
    ];
    if wide {
        columns.extend(["QUORUM", "WARMUP", "TERM", "NEEDS", "SKILLS", "DESCRIPTION"].map(Column::text));
    }
    columns.push(Column::text("TROUBLE").cut_to(16));
    let mut table = Table::new(columns);
    for hat in hats {
        table.row(row(hat, society, wide, now));
    }
    table
}

fn row(hat: &Hat, society: &Society, wide: bool, now: Timestamp) -> Vec<Cell> {
    let (worn, waiting) = (worn(society, hat), waiting(society, hat));
    let most = hat.spec.max_wearers.map(|most| format!("/{most}")).unwrap_or_default();
    let soonest =
        worn.iter().filter_map(|binding| binding.status.as_ref()?.expires_at.clone()).map(|time| time.0).min();
    let until = match (worn.is_empty(), soonest) {
        (true, _) => String::new(),
        (false, None) => "no end".to_owned(),
        (false, Some(ends)) => format!("in {}", age::between(now, ends.max(now))),
    };
    let count = |count: usize, style| {
        if count == 0 { Cell::new("-", style::FAINT) } else { Cell::new(count.to_string(), style) }
    };
    let reputation = hat.status.as_ref().and_then(|status| status.reputation);
    let mut cells = vec![
        Cell::plain(hat.name_any()),
        if worn.is_empty() && most.is_empty() {
            Cell::new("-", style::FAINT)
        } else {
            Cell::new(format!("{}{most}", worn.len()), if worn.is_empty() { style::PLAIN } else { style::GOOD })
        },
        count(waiting.len(), style::CARE),
        Cell::plain(wearers(&worn)),
        Cell::plain(until),
        Cell::optional(reputation.map(|percent| format!("{percent} %"))),
    ];
    if wide {
        let limits = Limits::of(Some(hat), society.policy());
        cells.extend([
            Cell::optional(limits.quorum.map(|size| size.to_string())),
            Cell::plain(seconds(limits.warmup)),
            Cell::plain(hat.spec.term_seconds.filter(|term| *term > 0).map_or_else(|| "no end".to_owned(), seconds)),
            Cell::plain(needs(hat.spec.requirements.as_ref()).join(", ")),
            Cell::plain(skills(hat)),
            Cell::optional(hat.spec.description.clone()),
        ]);
    }
    cells.push(Cell::new(trouble(hat), style::ILL));
    cells
}

/// `farm/ci on gpu-1, people/ada`.
fn wearers(worn: &[HatBinding]) -> String {
    let word = |binding: &HatBinding| {
        let node = binding.status.as_ref().and_then(|status| status.node_name.as_deref());
        let who = wearer::short(&binding.spec.wearer.spiffe_id);
        node.map_or_else(|| who.clone(), |node| format!("{who} on {node}"))
    };
    worn.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// What keeps a hat from being put on at all.
fn trouble(hat: &Hat) -> String {
    let conditions = hat.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let flaw = conditions.iter().find(|found| found.type_ == condition::GRAPH_VALID && found.status == "False");
    flaw.map(|flaw| flaw.message.clone()).unwrap_or_default()
}

/// All hats in one line: `6 hats: 3 worn by 9, 2 waited for`.
pub fn summary(hats: &[Hat], society: &Society) -> String {
    if hats.is_empty() {
        return "no hats".to_owned();
    }
    let of: Vec<_> = hats.iter().map(|hat| (worn(society, hat).len(), waiting(society, hat).len())).collect();
    let (on, wearers) =
        (of.iter().filter(|(worn, _)| *worn > 0).count(), of.iter().map(|(worn, _)| worn).sum::<usize>());
    let waiting: usize = of.iter().map(|(_, waiting)| waiting).sum();
    let noun = if hats.len() == 1 { "hat" } else { "hats" };
    let requests = if waiting == 1 { "request waits" } else { "requests wait" };
    format!("{} {noun}: {on} worn, by {wearers}; {waiting} {requests}", hats.len())
}

/// One hat in full.
pub fn report(hat: &Hat, society: &Society, layout: Layout, now: Timestamp) -> String {
    let width = layout.width.filter(|_| !layout.wide);
    let section = |title: &str, table: Table, rows: usize| {
        let title = paint(style::HEADING, title);
        if rows == 0 { String::new() } else { format!("{title}\n{}", table.render(width, layout.headers, 2)) }
    };
    let (worn, waiting) = (worn(society, hat), waiting(society, hat));
    let name = hat.name_any();
    let mut records: Vec<_> = society.swaps.iter().filter(|swap| swap.spec.hat == name).cloned().collect();
    records.sort_by_key(|swap| std::cmp::Reverse((swap.spec.occurred_at.0, swap.name_any())));
    records.truncate(RECORDS);
    let mut sections = vec![
        heading(hat, layout),
        section("Worn by", bindings::table(&worn, layout.wide, now), worn.len()),
        section("Waiting", bindings::table(&waiting, layout.wide, now), waiting.len()),
        vouched(worn.iter().chain(&waiting), layout, now),
        section("Last records", transitions::table(&records, Times::Ago, layout.wide, now), records.len()),
    ];
    sections[0].push_str(&facts(hat, society, layout));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// Who vouched for those who wear it and who wait.
fn vouched<'a>(of: impl Iterator<Item = &'a HatBinding>, layout: Layout, now: Timestamp) -> String {
    let line =
        |binding: &HatBinding, words: &str| indented(&format!("{}: {words}", binding.name_any()), 2, layout.width);
    let lines: String = of
        .flat_map(|binding| bindings::vouched(binding, now).into_iter().map(move |words| line(binding, &words)))
        .collect();
    if lines.is_empty() { lines } else { format!("{}\n{lines}", paint(style::HEADING, "Vouched for")) }
}

fn heading(hat: &Hat, layout: Layout) -> String {
    let description = hat.spec.description.as_deref().unwrap_or_default();
    let text = paint(style::HEADING, &hat.name_any()) + "\n";
    if description.is_empty() { text } else { text + &indented(description, 2, layout.width) }
}

fn facts(hat: &Hat, society: &Society, layout: Layout) -> String {
    let spec = &hat.spec;
    let limits = Limits::of(Some(hat), society.policy());
    let name = hat.name_any();
    let others = || society.hats.iter().map(|other| (other.name_any(), other));
    let above: Vec<_> =
        others().filter(|(_, other)| other.spec.supervises.contains(&name)).map(|(name, _)| name).collect();
    let excludes: Vec<_> = others()
        .filter(|(other, its)| *other != name && conflicts::conflict((&name, hat), (other, its)))
        .map(|(name, _)| name)
        .collect();
    let term = match spec.term_seconds.filter(|term| *term > 0) {
        Some(term) => format!("{}, then {}", seconds(term), after(hat)),
        None => "no end".to_owned(),
    };
    let facts = [
        ("trouble", trouble(hat)),
        ("allows", allows(&spec.authority, limits.quorum.is_some())),
        ("needs", needs(spec.requirements.as_ref()).join("; ")),
        ("wearers", spec.max_wearers.map(|most| format!("at most {most}")).unwrap_or_default()),
        ("co-signers", limits.quorum.map(|size| size.to_string()).unwrap_or_default()),
        (
            "warmup",
            if limits.warmup > 0 {
                format!("{}, in which its wearer may only read", seconds(limits.warmup))
            } else {
                String::new()
            },
        ),
        ("term", term),
        ("cooldown", if limits.cooldown > 0 { seconds(limits.cooldown) } else { String::new() }),
        ("supervises", spec.supervises.join(", ")),
        ("supervised", above.join(", ")),
        ("excludes", excludes.join(", ")),
        ("skills", skills(hat)),
        (
            "reputation",
            hat.status
                .as_ref()
                .and_then(|status| status.reputation)
                .map(|percent| format!("{percent} %"))
                .unwrap_or_default(),
        ),
    ];
    let mut text = String::new();
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let lines = indented(&value, 14, layout.width);
        // The first line begins with the name, where the others have a margin.
        _ = write!(text, "  {name:<12}{}", lines.get(14..).unwrap_or_default());
    }
    text
}

/// `python (expert, by a model of its own), soldering`.
fn skills(hat: &Hat) -> String {
    let words = |skill: &Skill| {
        let level = skill.level.map(|level| Level::as_str(level).to_owned());
        let by = skill.provided_by.as_ref().map(|by| format!("by {by}"));
        let details: Vec<_> = [level, by].into_iter().flatten().collect();
        if details.is_empty() { skill.name.clone() } else { format!("{} ({})", skill.name, details.join(", ")) }
    };
    hat.spec.skills.iter().map(words).collect::<Vec<_>>().join(", ")
}

fn after(hat: &Hat) -> &'static str {
    use hatrack_api::hat::SuccessionPolicy::{None, Queue, Renew};
    match succession::policy(hat) {
        Queue => "the one who waits longest has it",
        Renew => "the one who waits longest has it, or its wearer again",
        None => "nobody has it",
    }
}

/// `get, list pods, services; create jobs (batch)`, and where.
fn allows(authority: &Authority, gated: bool) -> String {
    if authority.rules.is_empty() {
        return "nothing in the Kubernetes API".to_owned();
    }
    let rule = |rule: &hatrack_api::hat::AuthorityRule| {
        let groups: Vec<_> = rule.api_groups.iter().filter(|group| !group.is_empty()).cloned().collect();
        let groups = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
        let resources = if rule.resources == ["*"] { "everything".to_owned() } else { rule.resources.join(", ") };
        format!("{} {resources}{groups}", rule.verbs.join(", "))
    };
    let place = match (authority.namespaces.is_empty(), gated) {
        (true, true) => "in the whole cluster".to_owned(),
        (true, false) => "in the namespace of the binding".to_owned(),
        (false, _) => format!("in {}", authority.namespaces.join(", ")),
    };
    format!("{}; {place}", authority.rules.iter().map(rule).collect::<Vec<_>>().join("; "))
}

/// What a node needs, one text for each requirement.
fn needs(requirements: Option<&Requirements>) -> Vec<String> {
    let Some(requirements) = requirements else { return Vec::new() };
    let device = |request: &DeviceRequest| {
        let count = request.count.unwrap_or(1);
        let plural = if count == 1 { "" } else { "s" };
        let selectors =
            request.selectors.iter().map(|selector| format!("`{selector}`")).collect::<Vec<_>>().join(" and ");
        let with = if selectors.is_empty() { "" } else { " with " };
        format!("{count} {}{plural}{with}{selectors}", request.class)
    };
    let node = requirements.node.iter().map(|expression| format!("a node with `{expression}`"));
    node.chain(requirements.devices.iter().map(device)).collect()
}

/// A length of time in the largest unit that it is whole in.
pub fn seconds(seconds: i64) -> String {
    let units: BTreeMap<i64, char> = [(86_400, 'd'), (3600, 'h'), (60, 'm')].into();
    let whole = units.iter().rev().find(|(unit, _)| seconds > 0 && seconds % **unit == 0);
    whole.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_the_largest_whole_unit() {
        for (length, words) in [(0, "0s"), (90, "90s"), (60, "1m"), (5400, "90m"), (28_800, "8h"), (172_800, "2d")] {
            assert_eq!(seconds(length), words);
        }
    }
}
