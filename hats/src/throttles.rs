//! The rules, as a table: what holds a request, in the order in which it is asked.
//!
//! Each rule is a function of a request and the world. The first that holds names the reason. A rule that cannot tell, because the
//! hat or the policy is missing, holds. What is worn is not taken off because a limit was lowered later: rules are about
//! putting on.

use hatrack_api::hat_policy::{PolicyThrottles, throttle as default};
use hatrack_api::{Hat, HatBinding, HatPolicySpec};
use jiff::{SignedDuration, Timestamp};

use crate::moment::seconds_after;
use crate::world::{Id, World, cause, created, status_of};
use crate::{conflicts, quorum, succession, supervision};

/// A rule. The name is the `throttleName` of the record and, with a capital, the reason of the condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// There is a HatPolicy named default.
    Policy,
    /// The hat exists and is not being deleted.
    HatExists,
    /// The SPIFFE id is that of the service account that gets the authority.
    Identity,
    /// The hat is on no cycle of `supervises`, and all that it supervises exist.
    SupervisorCycle,
    /// No supervisor has put the request on probation.
    Verdict,
    /// Enough distinct others have co-signed.
    Quorum,
    /// The wearer has no hat that conflicts.
    Conflict,
    /// The wearer has fewer live bindings than it may.
    MaxBindings,
    /// The wearer took this hat off long enough ago.
    Cooldown,
    /// The wearer has put on fewer hats today than it may.
    NewHats,
    /// The term of a hat without succession did not end while the request waited.
    Succession,
    /// The hat has fewer wearers than it may.
    MaxWearers,
    /// A node and its devices can carry the wearer.
    Unschedulable,
    /// Active only when the warmup is over.
    Warmup,
    /// Worn only until the term ends.
    Term,
    /// A device that somebody has is nobody else's, until its stop is reported.
    Exclusive,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 16] = [
        Self::Policy,
        Self::HatExists,
        Self::Identity,
        Self::SupervisorCycle,
        Self::Verdict,
        Self::Quorum,
        Self::Conflict,
        Self::MaxBindings,
        Self::Cooldown,
        Self::NewHats,
        Self::Succession,
        Self::MaxWearers,
        Self::Unschedulable,
        Self::Warmup,
        Self::Term,
        Self::Exclusive,
    ];

    /// The `throttleName` of the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::HatExists => "hatExists",
            Self::Identity => "identity",
            Self::SupervisorCycle => "supervisorCycle",
            Self::Verdict => "verdict",
            Self::Quorum => "quorum",
            Self::Conflict => "conflict",
            Self::MaxBindings => "maxBindings",
            Self::Cooldown => "cooldown",
            Self::NewHats => "newHats",
            Self::Succession => "succession",
            Self::MaxWearers => "maxWearers",
            Self::Unschedulable => "unschedulable",
            Self::Warmup => "warmup",
            Self::Term => "term",
            Self::Exclusive => "exclusive",
        }
    }

    /// The reason of the condition: the name with a capital.
    pub fn reason(self) -> String {
        let name = self.as_str();
        format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..])
    }
}

/// The rules that are asked. All of them; the simulator leaves one out to prove that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u32);

impl Default for Rules {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Rules {
    /// All rules but one.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// Whether a rule is asked.
    pub const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}

/// A request that a rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The rule.
    pub rule: Rule,
    /// Why, in words that a person can act on.
    pub message: String,
    /// When time alone lets it pass, if it does.
    pub until: Option<Timestamp>,
}

impl Held {
    pub(crate) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), until: None }
    }

    fn until(rule: Rule, message: impl Into<String>, until: Timestamp) -> Self {
        Self { rule, message: message.into(), until: Some(until) }
    }
}

/// A request and what it is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub world: &'a World,
    pub id: &'a Id,
    pub binding: &'a HatBinding,
    pub hat: &'a Hat,
    pub policy: &'a HatPolicySpec,
    pub now: Timestamp,
}

/// What holds a request.
type Check = fn(&Request<'_>) -> Result<(), Held>;

/// The rules between a request and a placement, in the order in which they are asked.
const ADMISSION: [(Rule, Check); 10] = [
    (Rule::Identity, identity),
    (Rule::SupervisorCycle, supervision::no_cycle),
    (Rule::Verdict, supervision::no_probation),
    (Rule::Quorum, quorum::met),
    (Rule::Conflict, conflicts::none_worn),
    (Rule::MaxBindings, max_bindings),
    (Rule::Cooldown, cooldown),
    (Rule::NewHats, new_hats),
    (Rule::Succession, succession::may_follow),
    (Rule::MaxWearers, max_wearers),
];

/// Asks every rule that stands before a placement.
pub(crate) fn admit(rules: Rules, request: &Request<'_>) -> Result<(), Held> {
    let mut asked = ADMISSION.iter().filter(|(rule, _)| rules.has(*rule));
    asked.try_for_each(|(_, check)| check(request))
}

/// The limits of a hat: its own, else the policy's, else the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds.
    pub cooldown: i64,
    /// Seconds.
    pub sticky_attribution: i64,
    /// Seconds.
    pub warmup: i64,
    /// Co-signers, if the hat is gated.
    pub quorum: Option<i64>,
}

impl Limits {
    /// The limits of a hat under a policy; either may be missing where they only shape the end of something.
    pub fn of(hat: Option<&Hat>, policy: Option<&HatPolicySpec>) -> Self {
        let none = PolicyThrottles::default();
        let general = policy.and_then(|policy| policy.throttles.as_ref()).unwrap_or(&none);
        let own = hat.and_then(|hat| hat.spec.throttles.clone()).unwrap_or_default();
        let size = own.quorum_size.or(general.quorum_default_size).unwrap_or(default::QUORUM_DEFAULT_SIZE);
        Self {
            cooldown: own.cooldown_seconds.or(general.cooldown_seconds).unwrap_or(default::COOLDOWN_SECONDS),
            sticky_attribution: own
                .sticky_attribution_seconds
                .or(general.sticky_attribution_seconds)
                .unwrap_or(default::STICKY_ATTRIBUTION_SECONDS),
            warmup: own.warmup_seconds.or(general.warmup_seconds).unwrap_or(default::WARMUP_SECONDS),
            quorum: (own.quorum_gated == Some(true)).then_some(size),
        }
    }
}

impl Request<'_> {
    pub fn limits(&self) -> Limits {
        Limits::of(Some(self.hat), Some(self.policy))
    }

    pub fn wearer(&self) -> &str {
        &self.binding.spec.wearer.spiffe_id
    }

    fn throttles(&self) -> PolicyThrottles {
        self.policy.throttles.clone().unwrap_or_default()
    }

    /// Whether the hat was on before and only lost its place.
    pub fn was_worn(&self) -> bool {
        status_of(self.binding).bound_at.is_some()
    }
}

/// The SPIFFE id of a service account.
pub fn spiffe_id(policy: &HatPolicySpec, namespace: &str, name: &str) -> String {
    let domain = policy.trust_domain.as_deref().unwrap_or(default::TRUST_DOMAIN);
    format!("spiffe://{domain}/ns/{namespace}/sa/{name}")
}

/// The SPIFFE id of a user as the API server authenticates it: a service account's own, or a person's in `identities`.
pub fn identity_of(policy: &HatPolicySpec, user: &str) -> Option<String> {
    if let Some((namespace, name)) = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        return Some(spiffe_id(policy, namespace, name));
    }
    let person = policy.identities.iter().find(|identity| identity.user == user);
    person.map(|identity| identity.spiffe_id.clone())
}

/// Limits count SPIFFE ids and authority goes to service accounts: if the two could differ, there would be no limit.
fn identity(request: &Request<'_>) -> Result<(), Held> {
    let Some(account) = &request.binding.spec.wearer.service_account_ref else { return Ok(()) };
    let expected = spiffe_id(request.policy, &account.namespace, &account.name);
    if expected == request.wearer() {
        return Ok(());
    }
    let message =
        format!("the service account {}/{} is {expected}, not {}", account.namespace, account.name, request.wearer());
    Err(Held::new(Rule::Identity, message))
}

/// Counts what is worn and what asked before, with or without a status; of requests that wait, the first come first.
fn max_bindings(request: &Request<'_>) -> Result<(), Held> {
    let most = request.throttles().max_bindings_per_wearer.unwrap_or(default::MAX_BINDINGS_PER_WEARER);
    let order = (created(request.binding), request.id);
    let others = request.world.live_of(request.wearer()).filter(|id| *id != request.id).filter(|id| {
        let Some(other) = request.world.bound(id) else { return false };
        status_of(other).phase.is_worn() || (created(other), *id) < order
    });
    let count = i64::try_from(others.count()).unwrap_or(i64::MAX);
    if count < most {
        return Ok(());
    }
    let message = format!("{} has {count} other live bindings, {most} are allowed: delete one", request.wearer());
    Err(Held::new(Rule::MaxBindings, message))
}

/// From the wearer's own last SwapOff of this hat, by the records; what was not its doing does not count.
fn cooldown(request: &Request<'_>) -> Result<(), Held> {
    let seconds = request.limits().cooldown;
    let Some(off) = last_off(request) else { return Ok(()) };
    let until = seconds_after(off, seconds);
    if until <= request.now {
        return Ok(());
    }
    let message = format!(
        "{} took {} off at {off}; the cooldown of {seconds} s ends at {until}",
        request.wearer(),
        request.binding.spec.hat
    );
    Err(Held::until(Rule::Cooldown, message, until))
}

fn last_off(request: &Request<'_>) -> Option<Timestamp> {
    let hat = &request.binding.spec.hat;
    let offs = request.world.records.of_wearer(request.wearer()).filter(|swap| {
        swap.spec.hat == *hat
            && swap.spec.event == hatrack_api::hat_swap::SwapEvent::SwapOff
            && !cause(&swap.spec).is_some_and(crate::lifecycle::Cause::is_no_fault_of_the_wearer)
    });
    offs.map(|swap| swap.spec.occurred_at.0).next()
}

/// Hats put on in the last 24 hours, by the records, so that deleting and asking again changes nothing.
fn new_hats(request: &Request<'_>) -> Result<(), Held> {
    if request.was_worn() {
        return Ok(());
    }
    let most = request.throttles().max_new_hats_per_day.unwrap_or(default::MAX_NEW_HATS_PER_DAY);
    let times: Vec<Timestamp> = new_hats_of_the_day(request);
    if i64::try_from(times.len()).unwrap_or(i64::MAX) < most {
        return Ok(());
    }
    let message = format!("{} has put on {} hats within 24 hours, {most} are allowed", request.wearer(), times.len());
    let index = usize::try_from(most).ok().and_then(|most| most.checked_sub(1));
    // The day is free again when the oldest of the newest `most` leaves it.
    match index.and_then(|index| times.get(index)) {
        Some(leaves) => Err(Held::until(Rule::NewHats, message, seconds_after(*leaves, DAY_SECONDS))),
        None => Err(Held::new(Rule::NewHats, message)),
    }
}

const DAY_SECONDS: i64 = 24 * 3600;

/// When the wearer put on new hats in the last 24 hours, the newest first.
fn new_hats_of_the_day(request: &Request<'_>) -> Vec<Timestamp> {
    use hatrack_api::hat_swap::SwapEvent::{SwapOn, WarmupBegin};
    let since = request.now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    let records = request.world.records.of_wearer(request.wearer());
    let recent = records.take_while(|swap| swap.spec.occurred_at.0 > since);
    let new = recent.filter(|swap| {
        matches!(swap.spec.event, SwapOn | WarmupBegin)
            && cause(&swap.spec).is_none_or(crate::lifecycle::Cause::is_a_new_hat)
    });
    new.map(|swap| swap.spec.occurred_at.0).collect()
}

fn max_wearers(request: &Request<'_>) -> Result<(), Held> {
    let Some(most) = request.hat.spec.max_wearers else { return Ok(()) };
    let worn = request.world.others_in(&request.binding.spec.hat, request.id);
    let count = i64::try_from(worn).unwrap_or(i64::MAX);
    if count < most {
        return Ok(());
    }
    Err(Held::new(Rule::MaxWearers, format!("{} has {count} of {most} wearers", request.binding.spec.hat)))
}
