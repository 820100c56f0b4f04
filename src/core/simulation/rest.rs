//! After the last fault: the site comes to rest, at the size that the load asks for, and stays so.

use std::collections::BTreeSet;

use super::Ms;
use super::balancer::Balancer;
use super::cloud::Vm;
use super::events::Event;
use super::haproxy::{Admin, Entry};
use super::site::Lasting;
use super::world::{World, note};
use crate::core::master::departure::ROOM;

/// Between two looks at whether the site has come to rest, and how long it may take.
const LOOK: Ms = 5000;
const LONGEST_UNREST: Ms = 7_200_000;
/// So long is looked at what a bad image costs.
const LONG: Ms = 1_800_000;
/// Samples and answers from before the last fault count for no longer than this.
const AFTERMATH: Ms = 120_000;

/// How the site comes to rest after the last fault.
#[derive(Debug, Default)]
pub struct Settling {
    pub since: Option<Ms>,
    /// +1 and -1, and when.
    pub changes: Vec<(Ms, i32)>,
}

impl World {
    /// Has the site come to rest, and does it stay?
    pub fn inspect(&mut self) {
        if self.faulty() {
            return self.at(self.site.faults.until, Event::Inspect);
        }
        let calm = self.now - self.site.faults.until;
        let bad = matches!(self.site.faults.lasting, Some(Lasting::BadImage { .. }));
        let least = if bad { LONG } else { 0 };
        let stay = self.site.cooldown.max(self.site.scale_down_cooldown) + 120_000;
        if self.is_lost() {
            self.done = true;
            return;
        }
        match self.unrest() {
            Some(why) => {
                note!(self, "not at rest: {why}");
                self.settled.since = None;
                if calm > LONGEST_UNREST {
                    return self.violate(format!("the site does not come to rest: {why}"));
                }
            }
            None => {
                let since = *self.settled.since.get_or_insert(self.now);
                self.done = self.now - since >= stay && calm >= least;
            }
        }
        let settling = self.site.faults.until + AFTERMATH;
        let late = self.settled.changes.iter().filter(|(at, _)| *at > settling);
        let sum: i32 = late.clone().map(|(_, change)| change).sum();
        // Those that EC2 has recommended to replace leave once others serve for them.
        let until = self.site.faults.until;
        let noticed = |vm: &Vm| vm.notice.is_some() && vm.ended.is_none_or(|at| at > until);
        let noticed = self.cloud.vms.values().any(noticed);
        if late.count() as i32 != sum.abs() && !bad && !noticed {
            self.violate(format!(
                "it grows and shrinks with one load: {:?}",
                self.settled.changes
            ));
        }
        self.judge_attempts();
        self.after(LOOK, Event::Inspect);
    }

    /// Nobody serves who could decide anything.
    fn is_lost(&self) -> bool {
        let up = |n: usize| self.is_up_somewhere(n) && self.servers[n].process.up;
        !(0..self.servers.len()).any(up)
    }

    fn is_up_somewhere(&self, machine: usize) -> bool {
        let address = &self.cloud.vms[&machine].address;
        let mut hosts = self.balancers.iter();
        self.serves(machine)
            && hosts.any(|host| {
                host.haproxy
                    .entries
                    .iter()
                    .any(|e| e.address == *address && e.serves())
            })
    }

    /// A bad image costs one attempt per back-off of each master, however many nodes are busy.
    fn judge_attempts(&mut self) {
        let from = self.site.faults.until + AFTERMATH;
        if self.now < from || !matches!(self.site.faults.lasting, Some(Lasting::BadImage { .. })) {
            return;
        }
        // While one boots the load may ask for more.
        let together = self.site.boot_timeout + 60_000;
        let (mut attempts, mut first) = (0u64, None);
        for launch in self.launches.iter().filter(|l| l.at > from) {
            if first.is_none_or(|first| launch.at > first + together) {
                first = Some(launch.at);
                attempts += 1;
            }
        }
        let doublings = ((self.now - from) / self.site.cooldown).max(1).ilog2() + 2;
        let most = u64::from(doublings) * self.site.balancers as u64;
        if attempts > most {
            self.violate(format!(
                "{attempts} attempts with a bad image, and {most} back-offs"
            ));
        }
    }

    /// The addresses of these entries, on whatever host.
    fn places(&self, which: impl Fn(&Entry) -> bool) -> BTreeSet<&str> {
        let reached = |host: &usize| !self.site.has(Lasting::Unreachable(*host));
        let hosts = (0..self.site.balancers).filter(reached);
        let all = hosts.flat_map(|host| &self.balancers[host].haproxy.entries);
        all.filter(|e| which(e)).map(|e| e.address.as_str()).collect()
    }

    /// Could this HAProxy host be told of machines?
    fn takes(&self, host: usize) -> bool {
        !self.site.has(Lasting::Unreachable(host))
            && !self.site.has(Lasting::Refusing(Some(host)))
            && !self.site.has(Lasting::Refusing(None))
    }

    /// Why the site is not yet what it has to become.
    fn unrest(&self) -> Option<String> {
        let lasting = self.site.faults.lasting;
        let bad = matches!(lasting, Some(Lasting::BadImage { .. }));
        for (machine, vm) in self.cloud.vms.iter().filter(|(_, vm)| vm.is_ours()) {
            if let Some(why) = self
                .unrest_of(*machine, vm)
                .filter(|_| !bad || vm.launched.is_none())
            {
                return Some(format!("{} {why}", vm.id));
            }
        }
        // Where half of them are none that EC2 knows, it is taken to be EC2's fault.
        let unknown = |e: &&Entry| {
            e.instance
                .as_ref()
                .is_some_and(|id| self.cloud.by_id(id).is_none())
        };
        let many = 2 * self.places(|e| unknown(&e)).len() >= self.places(|_| true).len();
        for (number, host) in self.balancers.iter().enumerate() {
            let gone = |id: &String| self.cloud.by_id(id).is_none_or(|(_, vm)| !vm.is_live());
            let entries = &host.haproxy.entries;
            let mut stale = entries.iter().filter(|e| e.instance.as_ref().is_some_and(gone));
            let stale = stale.find(|e| !(many && unknown(e)));
            if let Some(entry) = stale.filter(|_| entries.len() > 1 && self.takes(number)) {
                return Some(format!("lb{number} lists {}, which is gone", entry.name));
            }
        }
        match lasting {
            None => self.wrong_size(),
            Some(_) => None,
        }
    }

    /// A live machine of ours: it serves everywhere, or it goes.
    fn unrest_of(&self, machine: usize, vm: &Vm) -> Option<String> {
        let its = |host: usize| {
            let mut entries = self.balancers[host].haproxy.entries.iter();
            entries.find(|e| {
                e.instance.as_ref() == Some(&vm.id) || (e.instance.is_none() && e.address == vm.address)
            })
        };
        let hosts = (0..self.site.balancers).filter(|host| self.takes(*host));
        if self.serves(machine) {
            // Where it is listed, a person has taken it out of service.
            let mut lines = (0..self.site.balancers).filter_map(its).peekable();
            if lines.peek().is_some() && lines.all(|e| e.admin != Admin::Ready) {
                return None;
            }
            let mut lacking = hosts.filter(|host| its(*host).is_none());
            let room = |host: &usize| self.balancers[*host].haproxy.entries.len() <= self.site.max_hosts;
            return lacking
                .find(room)
                .map(|host| format!("serves, and lb{host} lacks it"));
        }
        // As many as these are DOWN for another reason.
        let places = self.places(|_| true);
        let up = self.places(|e| e.up || e.admin != Admin::Ready);
        let down = places.len() - up.len();
        let elsewhere = down >= 2 && 2 * down >= places.len();
        let out = (0..self.site.balancers)
            .filter_map(its)
            .any(|e| e.admin != Admin::Ready);
        let listed = (0..self.site.balancers).any(|host| its(host).is_some());
        let never = listed && (self.site.replace_after == 0 || elsewhere || out);
        let mut all = 0..self.site.balancers;
        let refused = self.site.has(Lasting::NoTerminations) || all.any(|host| !self.takes(host));
        (!never && !refused).then(|| "does not serve".into())
    }

    /// Are there too few machines for the load, or for `min_hosts`, or too many?
    fn wrong_size(&self) -> Option<String> {
        let up: Vec<usize> = (0..self.servers.len())
            .filter(|n| self.is_up_somewhere(*n))
            .collect();
        let kept = |e: &Entry| {
            self.addresses
                .get(&e.address)
                .is_some_and(|n| self.cloud.vms[n].keep)
        };
        let counts = |e: &&Entry| e.serves() && !kept(e);
        let on = |host: &Balancer| host.haproxy.entries.iter().filter(counts).count();
        let least = self.balancers.iter().map(on).min().unwrap_or(0);
        let ours = self.cloud.vms.values().filter(|vm| vm.is_ours()).count();
        let entries = self.places(|_| true).len();
        // Leases that ran out count for the day too.
        let full = entries.max(ours) >= self.site.max_hosts || self.site.max_launches > 0;
        if up.len() < self.site.min_hosts && !full {
            return Some(format!(
                "{} machines serve, and min_hosts is {}",
                up.len(),
                self.site.min_hosts
            ));
        }
        let shares = up.iter().map(|n| self.share(*n));
        let (share, highest) = shares.fold((f64::MAX, 0.0), |(least, most): (f64, f64), share| {
            (least.min(share), most.max(share))
        });
        if share >= self.site.threshold && !full {
            return Some(format!("{} machines at {share:.1}% are too few", up.len()));
        }
        // As it is told, in whole percent.
        let told = highest.ceil();
        let others = told + told / (least as f64 - 1.0);
        let shrinks = self.site.scale_down_threshold > 0.0 && highest <= self.site.scale_down_threshold;
        let ready = |n: &usize| {
            let address = &self.cloud.vms[n].address;
            let mut lines = self.balancers.iter().flat_map(|host| &host.haproxy.entries);
            lines.all(|e| e.address != *address || e.admin == Admin::Ready)
        };
        let mut may = up.iter().filter(|n| self.cloud.vms[n].is_ours() && ready(n));
        let can =
            may.next().is_some() && least > self.site.min_hosts.max(1) && others < ROOM * self.site.threshold;
        (shrinks && can).then(|| format!("{} machines at {highest:.1}% are too many", up.len()))
    }
}
