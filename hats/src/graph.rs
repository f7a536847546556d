//! The society as a graph, in DOT: hats are boxes, wearers ellipses, nodes 3-D boxes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use hatrack_api::hat_binding::Phase;

use crate::quorum::cosigners;
use crate::world::{World, cause, status_of};
use crate::{conflicts, lifecycle::Cause};

/// Draws the world: who wears what and where, and who watches, excludes, vouches for and succeeded whom.
pub fn dot(world: &World) -> String {
    let mut lines = BTreeSet::new();
    hats(world, &mut lines);
    bindings(world, &mut lines);
    successions(world, &mut lines);
    let mut text = String::from("digraph society {\n  rankdir=LR;\n");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("}\n");
    text
}

/// A name in DOT's quotes. Only `"` and `\` are special there.
fn quoted(kind: &str, name: &str) -> String {
    format!("\"{kind}:{}\"", escaped(name))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn node(kind: &str, name: &str, shape: &str) -> String {
    format!("{} [label=\"{}\", shape={shape}];", quoted(kind, name), escaped(name))
}

fn hats(world: &World, lines: &mut BTreeSet<String>) {
    for (name, hat) in &world.hats {
        lines.insert(node("hat", name, "box"));
        for below in &hat.spec.supervises {
            lines.insert(format!("{} -> {} [label=\"supervises\"];", quoted("hat", name), quoted("hat", below)));
        }
        for (other, its) in world.hats.iter().filter(|(other, _)| *other > name) {
            if conflicts::conflict((name, hat), (other, its)) {
                let (one, other) = (quoted("hat", name), quoted("hat", other));
                lines.insert(format!("{one} -> {other} [label=\"conflicts\", style=dashed, dir=none];"));
            }
        }
    }
}

fn bindings(world: &World, lines: &mut BTreeSet<String>) {
    for (_, binding) in world.bindings() {
        let status = status_of(binding);
        let wearer = &binding.spec.wearer.spiffe_id;
        let style = match status.phase {
            Phase::Active => "solid",
            Phase::Warmup | Phase::Probation => "dashed",
            Phase::Pending => "dotted",
            Phase::Revoked | Phase::Expired | Phase::Released => continue,
        };
        lines.insert(node("wearer", wearer, "ellipse"));
        let (from, to) = (quoted("wearer", wearer), quoted("hat", &binding.spec.hat));
        lines.insert(format!("{from} -> {to} [label=\"{}\", style={style}];", status.phase));
        if let Some(name) = &status.node_name {
            lines.insert(node("node", name, "box3d"));
            lines.insert(format!("{from} -> {} [label=\"runs on\"];", quoted("node", name)));
        }
        for signer in cosigners(binding) {
            lines.insert(node("wearer", signer, "ellipse"));
            lines.insert(format!("{from} -> {} [label=\"cosigned by\", color=gray];", quoted("wearer", signer)));
        }
    }
}

fn successions(world: &World, lines: &mut BTreeSet<String>) {
    for name in world.hats.keys() {
        for swap in world.records.of_hat(name).filter(|swap| cause(&swap.spec) == Some(Cause::Succeeded)) {
            let Some(previous) = &swap.spec.previous_wearer else { continue };
            let (from, to) = (&swap.spec.wearer.spiffe_id, &previous.spiffe_id);
            lines.insert(node("wearer", from, "ellipse"));
            lines.insert(node("wearer", to, "ellipse"));
            let (from, to) = (quoted("wearer", from), quoted("wearer", to));
            lines.insert(format!("{from} -> {to} [label=\"succeeded as {}\", color=blue];", escaped(name)));
        }
    }
}
