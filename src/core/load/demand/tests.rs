use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A site of equal machines behind one or two HAProxies, of which one is watched, second by second.
struct Site {
    demands: Demands,
    now: Instant,
    serving: usize,
    /// Percent of one machine that one request per second takes.
    cost: f64,
    /// Of all requests, this HAProxy's.
    share: f64,
    total: f64,
    /// The means of the last seconds, of which nodes report the window's.
    means: VecDeque<f64>,
    random: u64,
    /// Deviation of each second's rate.
    noise: f64,
}

impl Site {
    fn new() -> Site {
        Site {
            demands: Demands::default(),
            now: Instant::now(),
            serving: 4,
            cost: 1.0,
            share: 1.0,
            total: 0.0,
            means: VecDeque::new(),
            random: 88172645463325252,
            noise: 0.05,
        }
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// So many seconds in which `work` requests per second are asked for, all told, and `more` come
    /// that cost nothing. Returns all that was said.
    fn pass(&mut self, seconds: u32, work: f64, more: f64) -> Vec<Option<Demand>> {
        let mut said = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            let noise = 1.0 + self.noise * (2.0 * self.chance() - 1.0);
            self.total += (work + more) * self.share * noise;
            self.means
                .push_back((work * noise * self.cost / self.serving as f64).min(100.0));
            if self.means.len() > 10 {
                self.means.pop_front();
            }
            let mean = self.mean();
            let total = Some(self.total as u64);
            self.demands
                .observe(total, self.serving, Some(mean), 50.0, self.now);
            said.push(self.demands.now(Some(mean), self.now));
        }
        said
    }

    fn mean(&self) -> f64 {
        self.means.iter().sum::<f64>() / self.means.len() as f64
    }

    /// Two minutes at 60%.
    fn learned() -> Site {
        let mut site = Site::new();
        site.pass(150, 240.0, 0.0);
        site
    }

    fn last(&self) -> Option<Demand> {
        self.demands.now(Some(self.mean()), self.now)
    }
}

fn load(demand: Option<Demand>) -> f64 {
    demand.map_or(0.0, |d| d.rate * d.cost)
}

#[test]
fn what_is_needed_beyond_100_percent_follows_from_the_requests() {
    let mut site = Site::learned();
    assert_eq!(site.last(), None, "60% says it itself");
    // Nine times the work of four machines at 60%.
    let said = site.pass(30, 2160.0, 0.0);
    let first = said.iter().position(Option::is_some).unwrap();
    assert!(first <= 12, "{first}");
    for demand in &said[15..] {
        assert!((1900.0..2500.0).contains(&load(*demand)), "{demand:?}");
    }
    // It grows step by step: that is no jump.
    let mut site = Site::learned();
    for work in (240..1000).step_by(10) {
        site.pass(5, f64::from(work), 0.0);
    }
    assert!((900.0..1100.0).contains(&load(site.last())), "{:?}", site.last());
}

#[test]
fn a_cost_is_learned_in_the_middle_alone_and_grows_old() {
    for work in [30.0, 390.0] {
        // 8% and 97%.
        let mut site = Site::new();
        site.pass(300, work, 0.0);
        site.pass(40, 2000.0, 0.0);
        assert_eq!(site.last(), None);
    }
    let mut site = Site::new();
    site.pass(50, 240.0, 0.0);
    site.pass(40, 2000.0, 0.0);
    assert_eq!(site.last(), None, "too little was learned");
    let mut site = Site::learned();
    site.pass(3500, 2000.0, 0.0);
    assert!(site.last().is_some());
    site.pass(120, 2000.0, 0.0);
    assert_eq!(site.last(), None, "an hour is over");
}

#[test]
fn nothing_is_said_around_a_change() {
    let mut site = Site::learned();
    site.demands.disturb(site.now);
    let said = site.pass(61, 2000.0, 0.0);
    assert!(said[..59].iter().all(Option::is_none));
    assert!(said[60].is_some());
    // A new process counts from zero.
    let mut site = Site::learned();
    site.pass(20, 2000.0, 0.0);
    assert!(site.last().is_some());
    site.total = 0.0;
    let said = site.pass(62, 2000.0, 0.0);
    assert!(said[..59].iter().all(Option::is_none));
    assert!(said[61].is_some());
    // HAProxy can't be asked.
    let mut site = Site::learned();
    site.pass(20, 2000.0, 0.0);
    site.demands.observe(None, 4, Some(100.0), 50.0, site.now);
    assert_eq!(site.last(), None);
}

#[test]
fn the_other_haproxy_fails() {
    // This one had half of the requests, and has all of them now, which is no more work.
    for work in [240.0, 350.0] {
        let mut site = Site::new();
        site.share = 0.5;
        site.pass(200, work, 0.0);
        site.share = 1.0;
        let said = site.pass(300, work, 0.0);
        assert!(said.iter().all(Option::is_none), "no machine is saturated");
        // Then the work doubles: it is seen by the new share.
        site.pass(200, 240.0, 0.0);
        site.pass(30, 800.0, 0.0);
        let demand = load(site.last());
        assert!(demand < 900.0, "{demand} for 800");
    }
    // While all are saturated nobody can tell: then the loads decide.
    let mut site = Site::new();
    site.share = 0.5;
    site.pass(200, 240.0, 0.0);
    site.pass(60, 600.0, 0.0);
    assert!((500.0..700.0).contains(&load(site.last())));
    site.share = 1.0;
    let said = site.pass(300, 600.0, 0.0);
    assert!(said[6..].iter().all(Option::is_none));
    // Nearly saturated: the load that does not follow gives it away.
    let mut site = Site::new();
    site.share = 0.5;
    site.pass(200, 240.0, 0.0);
    for work in (240..370).step_by(5) {
        site.pass(5, f64::from(work), 0.0);
    }
    site.share = 1.0;
    let said = site.pass(300, 369.0, 0.0);
    assert!(
        said.iter().all(|demand| load(*demand) < 480.0),
        "a quarter more, for a moment"
    );
}

#[test]
fn clients_that_try_again_and_again_are_no_work() {
    // Half as much again as can be done; within seconds each failed request comes three more times.
    let mut site = Site::learned();
    site.pass(20, 600.0, 0.0);
    assert!((500.0..700.0).contains(&load(site.last())));
    let said = site.pass(300, 600.0, 1800.0);
    assert!(said[6..].iter().all(Option::is_none), "a jump amid saturation");
}

#[test]
fn a_flushed_cache_makes_requests_dearer_and_is_not_learned_as_what_they_cost() {
    let mut site = Site::learned();
    // Four times as dear: saturated, and the requests say less than the loads.
    site.cost = 4.0;
    site.pass(60, 240.0, 0.0);
    assert!(load(site.last()) <= 400.0);
    // The cache fills, and there is a surge.
    for cost in [3.0, 2.5, 2.0, 1.5, 1.2, 1.0] {
        site.cost = cost;
        site.pass(10, 160.0, 0.0);
    }
    site.pass(240, 200.0, 0.0);
    site.pass(30, 800.0, 0.0);
    let demand = load(site.last());
    assert!(demand < 1000.0, "{demand} for 800");
}

#[test]
fn bots_that_cost_nothing_make_requests_look_cheap_at_most() {
    let mut site = Site::new();
    site.pass(200, 240.0, 240.0);
    // The same bots beside four times the work: less than it is, and never more.
    site.pass(40, 960.0, 240.0);
    let demand = load(site.last());
    assert!(demand > 0.0 && demand < 1000.0, "{demand}");
    // They come when all is calm: what they would make of a request is not gone by.
    let mut site = Site::learned();
    site.pass(30, 240.0, 2400.0);
    let said = site.pass(200, 240.0, 2400.0);
    assert!(said.iter().all(Option::is_none));
    site.pass(30, 800.0, 2400.0);
    assert!(load(site.last()) < 1000.0);
}

#[test]
fn where_requests_are_no_measure_nothing_is_said() {
    // Long connections: the load comes when it will.
    let mut site = Site::new();
    for round in 0..60 {
        site.cost = if round % 2 == 0 { 0.6 } else { 1.5 };
        site.pass(15, 240.0, 0.0);
    }
    site.pass(30, 2000.0, 0.0);
    assert_eq!(site.last(), None);
    // Hardly any.
    let mut site = Site::new();
    site.cost = 240.0;
    site.pass(300, 1.0, 0.0);
    site.pass(30, 3.0, 0.0);
    assert_eq!(site.last(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_right_where_it_says_something(
        work in 110.0f64..350.0,
        factor in 2.0f64..12.0,
        noise in 0.0f64..0.2,
        cost in 0.1f64..3.0,
        share in 0.3f64..1.0,
    ) {
        let mut site = Site::new();
        (site.noise, site.cost, site.share) = (noise, cost, share);
        site.pass(200, work / cost, 0.0);
        let said = site.pass(60, work * factor / cost, 0.0);
        for demand in said[15..].iter().flatten() {
            let off = demand.rate * demand.cost / (work * factor);
            prop_assert!((0.75..1.3).contains(&off), "{off}");
        }
    }
}
