//! What a seed decides before the first event: the site, its settings, and which faults it has.

use std::time::Duration;

use super::Ms;
use super::random::Random;
use crate::core::master::lease;
use crate::core::node;
use crate::core::plan;

/// How likely each fault is. Each seed has some kinds of faults and not others, so that rare ones
/// are not drowned by frequent ones.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// How long faults go on; none after it.
    pub until: Ms,
    /// Between two of the kinds that are drawn from `kinds`.
    pub pause: Ms,
    pub kinds: Vec<Kind>,
    /// What is wrong for the whole run.
    pub lasting: Option<Lasting>,
    /// Per call to EC2.
    pub ec2: f64,
    /// Per order to a HAProxy host.
    pub ssh: f64,
    /// Per batch of lines or writes: the process dies in the middle.
    pub crash: f64,
    /// Per packet: it comes late.
    pub slow: f64,
    /// Per launch: never healthy, DOWN in HAProxy although healthy, or terminated by EC2 at once.
    pub sick: f64,
}

/// Faults that begin at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    KillDaemon,
    KillMaster,
    PowerOffServer,
    PowerOffBalancer,
    /// A process does not run for a while: stopped, swapped out, its machine suspended.
    Stall,
    /// The same, and its monotonic clock stood still meanwhile.
    Suspend,
    /// Some app servers and HAProxy hosts do not reach each other.
    Cut,
    Reset,
    SshdDown,
    Ec2Down,
    NoCapacity,
    /// There is room for a few machines more, and not for all.
    LittleCapacity,
    WallClock,
    DiskFull,
    /// EC2 ends an instance by itself.
    Retired,
    /// The app of a machine does not answer, for a while or for good; its daemon lives.
    AppSick,
    /// Those of half of the site.
    HalfSick,
    /// All are restarted, one after another.
    Rolling,
    /// A daemon reaches no other machine, and takes all for sick.
    Deaf,
    /// A HAProxy does not say how its servers are.
    Silent,
    /// A HAProxy host's listing cannot be read.
    Garbled,
    /// A HAProxy host would take nobody: its template is wrong, its disk is full.
    Refusing,
    /// A HAProxy host is made anew, with nobody or one entered.
    Anew,
    /// A person takes one out with the tag that keeps it out.
    TakenOut,
    /// The same in HAProxy alone.
    Maintenance,
    /// A person removes, enters or edits an entry on one host.
    Removed,
    Entered,
    Edited,
    Stopped,
    /// EC2 takes one back, or several, and says so before.
    Interrupted,
    Rebalanced,
    /// Terminations are refused for a while.
    Protected,
}

pub const KINDS: [Kind; 32] = [
    Kind::KillDaemon,
    Kind::KillMaster,
    Kind::PowerOffServer,
    Kind::PowerOffBalancer,
    Kind::Stall,
    Kind::Suspend,
    Kind::Cut,
    Kind::Reset,
    Kind::SshdDown,
    Kind::Ec2Down,
    Kind::NoCapacity,
    Kind::LittleCapacity,
    Kind::WallClock,
    Kind::DiskFull,
    Kind::Retired,
    Kind::AppSick,
    Kind::HalfSick,
    Kind::Rolling,
    Kind::Deaf,
    Kind::Silent,
    Kind::Garbled,
    Kind::Refusing,
    Kind::Anew,
    Kind::TakenOut,
    Kind::Maintenance,
    Kind::Removed,
    Kind::Entered,
    Kind::Edited,
    Kind::Stopped,
    Kind::Interrupted,
    Kind::Rebalanced,
    Kind::Protected,
];

/// What does not end with the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// EC2 refuses every termination.
    NoTerminations,
    /// This HAProxy host, or every one, would take nobody.
    Refusing(Option<usize>),
    /// Nobody reaches this HAProxy host by ssh.
    Unreachable(usize),
    /// No machine that is launched comes to serve: DOWN in HAProxy, or not even healthy.
    BadImage { healthy: bool },
}

#[derive(Debug, Clone)]
pub struct Site {
    pub balancers: usize,
    /// App servers at the start: launched by a person, untagged, or by autoscaler.
    pub by_hand: usize,
    pub launched: usize,
    pub lease: Ms,
    pub cooldown: Ms,
    pub scale_down_cooldown: Ms,
    pub boot_timeout: Ms,
    pub replace_after: Ms,
    pub max_hosts: usize,
    pub min_hosts: usize,
    /// At once, and in a day; 0: any number.
    pub max_step: usize,
    pub max_launches: usize,
    pub threshold: f64,
    pub scale_down_threshold: f64,
    /// Subnets, each in a zone of its own.
    pub zones: usize,
    /// How far behind EC2's answers may be.
    pub lag: Ms,
    /// The longest way of a packet, when nothing is wrong.
    pub latency: Ms,
    /// EC2 gives addresses again.
    pub reuses_addresses: bool,
    pub faults: Faults,
}

pub const SAMPLE_INTERVAL: Ms = 5000;
const CALM_WINDOW: Ms = 5 * SAMPLE_INTERVAL;

impl Site {
    pub fn draw(random: &mut Random) -> Site {
        let by_hand = random.within(0, 2) as usize;
        let launched = random.within(u64::from(by_hand == 0), 3) as usize;
        let machines = by_hand + launched;
        let min_hosts = random.within(0, machines as u64) as usize;
        let threshold = random.within(40, 80) as f64;
        let down = [0.0, random.fraction() * 0.6 * threshold][random.index(2)];
        let cooldown = random.within(10, 60) * 1000;
        let most = random
            .chance(0.1)
            .then(|| launched + random.within(2, 5) as usize);
        let balancers = [1, 1, 2, 2, 3][random.index(5)];
        Site {
            balancers,
            by_hand,
            launched,
            lease: random.within(15, 30) * 1000,
            cooldown,
            scale_down_cooldown: random.within(10, 60) * 1000,
            boot_timeout: random.within(60, 120) * 1000,
            replace_after: [0, 120_000, 240_000][random.index(3)],
            max_hosts: machines.max(min_hosts) + random.within(0, 5) as usize,
            min_hosts,
            max_step: [0, 0, 1, 2][random.index(4)],
            max_launches: most.unwrap_or(0),
            threshold,
            scale_down_threshold: down,
            zones: random.within(1, 2) as usize,
            // Behind by less than a cooldown, or nobody could know of a launch in time.
            lag: [0, 2000, 10_000, 40_000][random.index(4)].min(cooldown / 2),
            latency: [5, 100, 1000][random.index(3)],
            reuses_addresses: random.chance(0.5),
            faults: Faults::draw(random, balancers),
        }
    }

    pub fn lease_rules(&self) -> lease::Rules {
        lease::Rules {
            lease: Duration::from_millis(self.lease),
            cooldown: Duration::from_millis(self.cooldown),
            scale_down_cooldown: Duration::from_millis(self.scale_down_cooldown),
            scale_down_window: Duration::from_millis(CALM_WINDOW),
            boot_timeout: Duration::from_millis(self.boot_timeout),
            max_hosts: self.max_hosts,
            max_launches_per_day: self.max_launches,
            max_step: self.max_step,
            min_hosts: self.min_hosts,
            threshold: self.threshold,
        }
    }

    pub fn node_settings(&self) -> node::Settings {
        node::Settings {
            threshold: self.threshold,
            window: Duration::from_millis(3 * SAMPLE_INTERVAL),
            scale_down_threshold: self.scale_down_threshold,
            scale_down_window: Duration::from_millis(CALM_WINDOW),
            sample_interval: Duration::from_millis(SAMPLE_INTERVAL),
            servers: (0..self.balancers).map(balancer_name).collect(),
            plan: plan::Rules {
                ec2: true,
                boot_timeout: Duration::from_millis(self.boot_timeout),
                cooldown: Duration::from_millis(self.cooldown),
                replace_after: Duration::from_millis(self.replace_after),
                max_hosts: self.max_hosts,
                min_hosts: self.min_hosts,
                max_launches_per_day: self.max_launches,
                named: true,
                port: 80,
            },
            by_group: false,
            blocked_after: Duration::ZERO,
        }
    }

    pub fn has(&self, lasting: Lasting) -> bool {
        self.faults.lasting == Some(lasting)
    }
}

pub fn balancer_name(number: usize) -> String {
    format!("lb{number}")
}

impl Faults {
    fn draw(random: &mut Random, balancers: usize) -> Faults {
        let mut some = |most: f64| match random.chance(0.5) {
            true => random.fraction() * most,
            false => 0.0,
        };
        let (ec2, ssh, crash, slow, sick) = (some(0.5), some(0.4), some(0.05), some(0.3), some(0.7));
        let share = random.fraction() * 0.4;
        let host = random.index(balancers);
        let lasting = match random.index(24) {
            0 => Some(Lasting::NoTerminations),
            1 => Some(Lasting::Refusing(Some(host))),
            2 => Some(Lasting::Refusing(None)),
            3 if balancers > 1 => Some(Lasting::Unreachable(host)),
            4 => Some(Lasting::BadImage {
                healthy: random.chance(0.5),
            }),
            _ => None,
        };
        Faults {
            until: random.within(60, 240) * 1000,
            pause: random.within(5, 40) * 1000,
            kinds: KINDS.into_iter().filter(|_| random.chance(share)).collect(),
            lasting,
            ec2,
            ssh,
            crash,
            slow,
            sick,
        }
    }
}
