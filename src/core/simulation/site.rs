//! What a seed decides before the first event: the site, its settings, and which faults it has.

use std::time::Duration;

use super::Ms;
use super::random::Random;
use crate::core::{fleet, lease, node};

/// How likely each fault is. Each seed has some kinds of faults and not others, so that rare ones
/// are not drowned by frequent ones.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// How long faults go on; none after it.
    pub until: Ms,
    /// Between two of the kinds that are drawn from `kinds`.
    pub pause: Ms,
    pub kinds: Vec<Kind>,
    /// Per call to EC2.
    pub ec2: f64,
    /// Per order to a HAProxy host.
    pub ssh: f64,
    /// Per batch of lines or writes: the process dies in the middle.
    pub crash: f64,
    /// Per packet: it comes late.
    pub slow: f64,
    /// Per launch: never healthy, or terminated by EC2 at once.
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
    WallClock,
    DiskFull,
    /// EC2 ends an instance by itself.
    Retired,
}

const KINDS: [Kind; 14] = [
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
    Kind::WallClock,
    Kind::DiskFull,
    Kind::Retired,
];

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
    pub max_hosts: usize,
    pub min_hosts: usize,
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
/// How far under the threshold the others stay with the load of one that leaves.
pub const ROOM: f64 = 0.8;

impl Site {
    pub fn draw(random: &mut Random) -> Site {
        let by_hand = random.within(0, 2) as usize;
        let launched = random.within(u64::from(by_hand == 0), 3) as usize;
        let machines = by_hand + launched;
        let min_hosts = random.within(1, machines as u64) as usize;
        let threshold = random.within(40, 80) as f64;
        let down = [0.0, random.fraction() * 0.6 * threshold][random.index(2)];
        let cooldown = random.within(10, 60) * 1000;
        // Behind by less than a cooldown, or nobody could know of a launch in time.
        let lag = [0, 2000, 10_000, 40_000][random.index(4)].min(cooldown / 2);
        Site {
            balancers: [1, 1, 2, 2, 3][random.index(5)],
            by_hand,
            launched,
            lease: random.within(15, 30) * 1000,
            cooldown,
            scale_down_cooldown: random.within(10, 60) * 1000,
            boot_timeout: random.within(20, 60) * 1000,
            max_hosts: machines.max(min_hosts) + random.within(0, 3) as usize,
            min_hosts,
            threshold,
            scale_down_threshold: down,
            zones: random.within(1, 2) as usize,
            lag,
            latency: [5, 100, 1000][random.index(3)],
            reuses_addresses: false,
            faults: Faults::draw(random),
        }
    }

    pub fn lease_rules(&self) -> lease::Rules {
        lease::Rules {
            lease: Duration::from_millis(self.lease),
            cooldown: Duration::from_millis(self.cooldown),
            scale_down_cooldown: Duration::from_millis(self.scale_down_cooldown),
            max_hosts: self.max_hosts,
            min_hosts: self.min_hosts,
            threshold: self.threshold,
            max_step: 0,
            scale_down_window: Duration::from_millis(self.scale_down_cooldown),
            boot_timeout: Duration::from_secs(300),
            max_launches_per_day: 0,
        }
    }

    pub fn node_settings(&self, random: &mut Random) -> node::Settings {
        node::Settings {
            threshold: self.threshold,
            window: Duration::from_millis(3 * SAMPLE_INTERVAL),
            scale_down_threshold: self.scale_down_threshold,
            scale_down_window: Duration::from_millis(5 * SAMPLE_INTERVAL),
            sample_interval: Duration::from_millis(SAMPLE_INTERVAL),
            servers: (0..self.balancers).map(balancer_name).collect(),
            fleet: fleet::Rules {
                boot_timeout: Duration::from_millis(self.boot_timeout),
                cooldown: Duration::from_millis(self.cooldown),
                max_hosts: self.max_hosts,
                min_hosts: self.min_hosts,
                max_launches_per_day: 0,
                by_group: false,
            },
            ec2: true,
            repair_delay: Duration::from_millis(random.within(0, self.lease)),
            blocked_after: Duration::ZERO,
            look_interval: Duration::from_millis(random.within(100_000, 300_000)),
        }
    }
}

pub fn balancer_name(number: usize) -> String {
    format!("lb{number}")
}

impl Faults {
    fn draw(random: &mut Random) -> Faults {
        let mut some = |most: f64| match random.chance(0.5) {
            true => random.fraction() * most,
            false => 0.0,
        };
        let (ec2, ssh, crash, slow, sick) = (some(0.5), some(0.4), some(0.05), some(0.3), some(0.7));
        let share = random.fraction() * 0.6;
        Faults {
            until: random.within(60, 240) * 1000,
            pause: random.within(5, 40) * 1000,
            kinds: KINDS.into_iter().filter(|_| random.chance(share)).collect(),
            ec2,
            ssh,
            crash,
            slow,
            sick,
        }
    }
}
