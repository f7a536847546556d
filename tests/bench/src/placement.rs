//! What a decision costs, in memory: no API server takes part.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hatrack_hats::{Action, Moment, Plan, World, decide, why};

use crate::fleet;
use crate::sample::Sample;
use crate::table::Table;

/// Placements per machine: three of its eight GPUs on average, or four.
const REQUESTS_PER_MACHINE: usize = 2;

/// Decisions after one more request.
const INCREMENTS: usize = 50;

/// Placements per second, and the time of a decision after one more request, in fleets of 1,000 and 10,000 machines.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let names = [
        "placements, 1,000 x 8 GPUs, warm verdicts",
        "placements, 1,000 x 8 GPUs, cold",
        "one more request, 1,000 machines, median",
        "nothing new, 1,000 machines, median",
    ];
    measure_fleet(table, 1_000, names)?;
    let names = [
        "placements, 10,000 x 8 GPUs, warm verdicts",
        "placements, 10,000 x 8 GPUs, cold",
        "one more request, 10,000 machines, median",
        "nothing new, 10,000 machines, median",
    ];
    measure_fleet(table, 10_000, names)
}

fn measure_fleet(
    table: &mut Table,
    machines: usize,
    [placements, cold_placements, increment, rest]: [&'static str; 4],
) -> Result<()> {
    let requests = machines * REQUESTS_PER_MACHINE;
    let (mut world, now) = fleet::world(machines)?;
    fleet::ask(&mut world, now, 0..requests)?;
    let (cold, _) = timed(&world, now, requests)?;
    let (warm, plan) = timed(&world, now, requests)?;
    let asked = asked(&world, now, requests)?;
    let beside = format!("{asked:.0}/s asked for alone (rules and place, nothing carried out)");
    table.at_least(placements, 100_000.0, warm, "/s", beside);
    table.beside(cold_placements, format!("{cold:.0}/s"), "every expression compiled and evaluated first".to_owned());
    carry_out(&mut world, now, plan);
    // What was written is looked at once more.
    let plan = decide(&world, now);
    carry_out(&mut world, now, plan);
    let times = increments(&mut world, now, requests)?;
    let beside = format!("p99 {:.3} ms; {requests} bindings are worn", times.quantile(0.99));
    table.beside(increment, format!("{:.3} ms", times.median()), beside);
    let times = Sample::from_times((0..INCREMENTS).map(|_| nothing_new(&world, now)).collect::<Result<_>>()?);
    table.beside(rest, format!("{:.3} ms", times.median()), format!("p99 {:.3} ms", times.quantile(0.99)));
    Ok(())
}

/// Does what was decided.
fn carry_out(world: &mut World, now: Moment, plan: Plan) {
    for action in &plan.actions {
        world.apply(action, now.steady);
    }
    world.conclude(plan.outlook);
}

fn nothing_new(world: &World, now: Moment) -> Result<Duration> {
    let start = Instant::now();
    let plan = decide(world, now);
    let time = start.elapsed();
    ensure!(plan.actions.is_empty(), "a decision that was carried out leaves {} actions", plan.actions.len());
    Ok(time)
}

/// Placements per second of one decision over all requests.
fn timed(world: &World, now: Moment, requests: usize) -> Result<(f64, Plan)> {
    let start = Instant::now();
    let plan = decide(world, now);
    let seconds = start.elapsed().as_secs_f64();
    let placed = plan.actions.iter().filter(|action| is_placement(action)).count();
    ensure!(placed == requests, "{placed} of {requests} requests were placed");
    Ok((per_second(placed, seconds), plan))
}

/// Requests per second that are judged and find a place, on a world that stays as it is.
fn asked(world: &World, now: Moment, requests: usize) -> Result<f64> {
    let uids: Vec<String> = world.bindings().map(|(uid, _)| uid.to_owned()).collect();
    let start = Instant::now();
    let admitted = uids.iter().filter(|uid| why(world, uid, now).is_some_and(|answer| answer.is_ok())).count();
    let seconds = start.elapsed().as_secs_f64();
    ensure!(admitted == requests, "{admitted} of {requests} requests would be placed");
    Ok(per_second(admitted, seconds))
}

fn increments(world: &mut World, now: Moment, first: usize) -> Result<Sample> {
    let mut times = vec![];
    for number in first..first + INCREMENTS {
        fleet::ask(world, now, number..number + 1)?;
        let start = Instant::now();
        let plan = decide(world, now);
        times.push(start.elapsed());
        ensure!(plan.actions.iter().any(is_placement), "request {number} was not placed");
        carry_out(world, now, plan);
        // What was written is looked at once more, with nobody waiting.
        let plan = decide(world, now);
        carry_out(world, now, plan);
    }
    Ok(Sample::from_times(times))
}

fn is_placement(action: &Action) -> bool {
    matches!(action, Action::Record(swap) if swap.spec.outcome.as_ref().is_some_and(|outcome| outcome.node_name.is_some()))
}

fn per_second(count: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let count = count as f64;
    count / seconds
}
