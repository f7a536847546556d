//! An operator that crashes: a world fed by late and repeated watches, and plans that break off anywhere.

use fastrand::Rng;
use hatrack_hats::throttles::Rules;
use hatrack_hats::{Action, Moment, Plan, World, decide_by};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cluster::{Cluster, Event, GRANTS, Refused, STREAMS};

pub struct Operator {
    rules: Rules,
    /// Nothing between a crash and the next start.
    world: Option<World>,
    seen: [usize; STREAMS],
    /// Where the watches began: what is older comes no more.
    began: [usize; STREAMS],
}

impl Operator {
    pub fn new(rules: Rules) -> Self {
        Self { rules, world: None, seen: [0; STREAMS], began: [0; STREAMS] }
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().expect("the operator runs")
    }

    fn start(&mut self, cluster: &Cluster) {
        if self.world.is_some() {
            return;
        }
        let mut world = World::default();
        for event in cluster.listed() {
            observe(&mut world, event, cluster);
        }
        self.world = Some(world);
        self.began = std::array::from_fn(|stream| cluster.streams[stream].len());
        self.seen = self.began;
    }

    /// Takes some of what is new on each watch, and now and then something old again. Says whether that was everything.
    fn listen(&mut self, cluster: &Cluster, rng: &mut Rng) -> bool {
        let Some(world) = &mut self.world else { return false };
        let mut is_all = true;
        for (stream, seen) in self.seen.iter_mut().enumerate() {
            let events = &cluster.streams[stream];
            // What the catalogue and the policy say is known before it is acted on: the invariants ask for the truth.
            let until = if stream == 0 || rng.u32(0..4) > 0 { events.len() } else { rng.usize(*seen..=events.len()) };
            for event in &events[*seen..until] {
                observe(world, event.clone(), cluster);
            }
            *seen = until;
            is_all &= until == events.len();
            let oldest = self.began[stream].max(until.saturating_sub(20));
            if oldest < until && rng.u32(0..8) == 0 {
                let again = rng.usize(oldest..until);
                // What is known without a version is not repeated without what followed, as by a watch that begins anew.
                let repeated = if stream == GRANTS { &events[again..until] } else { &events[again..=again] };
                for old in repeated.iter().filter(|_| stream != 0) {
                    observe(world, old.clone(), cluster);
                }
            }
        }
        is_all
    }

    /// What was set aside is tried again.
    pub fn take_up(&mut self) {
        let Some(world) = &mut self.world else { return };
        let aside = world.nodes().filter(|(_, node)| node.is_set_aside()).map(|(name, _)| name.to_owned());
        for name in aside.collect::<Vec<_>>() {
            world.take_up_node(&name);
        }
    }

    /// Listens, decides and acts, as far as it comes. Says whether it had heard everything and has done everything.
    pub fn work(&mut self, cluster: &mut Cluster, rng: &mut Rng) -> bool {
        if rng.u32(0..12) == 0 {
            // Down for a while.
            return false;
        }
        self.start(cluster);
        if rng.u32(0..4) == 0 {
            self.take_up();
        }
        let is_all = self.listen(cluster, rng);
        let plan = self.decide(cluster.now);
        for action in &plan.actions {
            match rng.u32(0..100) {
                // A crash before the write, a refusal, and a crash after the write whose answer nobody heard.
                0 => {
                    self.world = None;
                    return false;
                }
                1 | 2 => return false,
                3 => {
                    let _ = self.write(cluster, action);
                    self.world = None;
                    return false;
                }
                _ => {}
            }
            if self.write(cluster, action).is_err() {
                return false;
            }
        }
        self.conclude(plan);
        is_all && decide_by(self.world(), cluster.now, self.rules).actions.is_empty()
    }

    /// What was concluded from earlier decisions spares work and changes nothing. Where a rule is left out, its absence is what is looked for.
    fn decide(&self, now: Moment) -> Plan {
        let plan = decide_by(self.world(), now, self.rules);
        if self.rules != Rules::default() {
            return plan;
        }
        let afresh = decide_by(&self.world().rebuilt(), now, self.rules);
        assert_eq!(plan.actions, afresh.actions, "a decision turns on what was concluded before");
        assert_eq!(plan.wake_at, afresh.wake_at, "a decision wakes at another time for what was concluded before");
        plan
    }

    fn conclude(&mut self, plan: Plan) {
        self.world.as_mut().expect("the operator runs").conclude(plan.outlook);
    }

    /// Hears everything and does everything; whether there was anything to do.
    pub fn settle(&mut self, cluster: &mut Cluster) -> bool {
        self.start(cluster);
        let Some(world) = &mut self.world else { return false };
        for (stream, seen) in self.seen.iter_mut().enumerate() {
            for event in &cluster.streams[stream][*seen..] {
                observe(world, event.clone(), cluster);
            }
            *seen = cluster.streams[stream].len();
        }
        let plan = self.decide(cluster.now);
        for action in &plan.actions {
            let refused = self.write(cluster, action);
            assert!(
                matches!(refused, Ok(()) | Err(Refused::AlreadyExists | Refused::Forbidden)),
                "in calm weather {action:?} was refused: {refused:?}"
            );
            if refused.is_err() {
                return true;
            }
        }
        let has_acted = !plan.actions.is_empty();
        self.conclude(plan);
        let again = self.decide(cluster.now);
        assert!(again.actions.is_empty(), "deciding again asks for more: {:?}", again.actions);
        has_acted
    }

    /// Writes, and knows what it wrote.
    fn write(&mut self, cluster: &mut Cluster, action: &Action) -> Result<(), Refused> {
        let steady = cluster.now.steady;
        let world = self.world.as_mut().expect("the operator runs");
        match action {
            Action::Fence { node, .. } | Action::Assign { node, .. } if cluster.guarded.contains(node) => {
                world.set_aside_node(node);
                return Err(Refused::Forbidden);
            }
            Action::Record(swap) => {
                let outcome = cluster.create_swap((**swap).clone());
                let stored = cluster.swaps[swap.metadata.name.as_ref().unwrap()].clone();
                world.observe_swap(stored);
                return outcome;
            }
            Action::SetStatus { binding, status } => {
                let seen = world.binding(binding).ok_or(Refused::NotFound)?.clone();
                let stored = cluster.set_status(&seen, (**status).clone())?;
                world.apply(action, steady);
                world.observe_binding(stored, steady);
                return Ok(());
            }
            Action::Finalize { binding } | Action::Unfinalize { binding } | Action::Delete { binding } => {
                let now = Time(cluster.now.wall);
                let mut object = cluster.bindings.get(binding).ok_or(Refused::NotFound)?.clone();
                let finalizers = object.metadata.finalizers.get_or_insert_default();
                match action {
                    Action::Finalize { .. } => finalizers.push(hatrack_api::hat_binding::FINALIZER.to_owned()),
                    Action::Unfinalize { .. } => finalizers.clear(),
                    _ => object.metadata.deletion_timestamp = Some(now),
                }
                let stored = cluster.put_binding(binding, object);
                world.apply(action, steady);
                world.observe_binding(stored, steady);
                return Ok(());
            }
            Action::Fence { node, transitions } => {
                let lease = cluster.change_lease(node, |lease| {
                    lease.spec.get_or_insert_default().lease_transitions = Some(*transitions);
                });
                world.observe_lease(&lease, steady);
            }
            Action::Assign { node, hats } => {
                let stored = cluster.change_node(node, |object| {
                    object.status.get_or_insert_default().hats = Some(hats.to_vec());
                });
                world.observe_node(stored, steady);
            }
            Action::Grant(grant) => cluster.put_grant((**grant).clone()),
            Action::Withdraw { binding, scope } => cluster.drop_grant(binding, scope),
            Action::SetHatStatus { hat, status } => {
                let mut object = cluster.hats.get(hat).ok_or(Refused::NotFound)?.clone();
                object.status = Some((**status).clone());
                cluster.put_hat(object);
            }
            Action::SetPolicyStatus { status } => {
                let mut object = cluster.policy.clone().ok_or(Refused::NotFound)?;
                object.status = Some((**status).clone());
                cluster.put_policy(object);
            }
            Action::Collect { swap } => cluster.collect_swap(swap),
        }
        world.apply(action, steady);
        Ok(())
    }
}

fn observe(world: &mut World, event: Event, cluster: &Cluster) {
    let steady = cluster.now.steady;
    match event {
        Event::Hat(hat) => world.observe_hat(*hat),
        Event::HatGone(name) => world.forget_hat(&name),
        Event::Policy(policy) => world.observe_policy(*policy),
        Event::PolicyGone => world.forget_policy(),
        Event::Binding(binding) => world.observe_binding(*binding, steady),
        Event::BindingGone(uid) => world.forget_binding(&uid),
        Event::Swap(swap) => world.observe_swap(*swap),
        Event::SwapGone(name) => world.forget_swap(&name),
        Event::Node(node) => world.observe_node(*node, steady),
        Event::Lease(lease) => world.observe_lease(&lease, steady),
        Event::Grant(grant) => world.observe_grant(*grant),
        Event::GrantGone(binding, scope) => world.forget_grant(&binding, &scope),
    };
}
