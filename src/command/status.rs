//! `status`: what every master within reach knows.

mod hosts;
mod terminal;

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::master::reachable;
use super::print;
use crate::cli::Status;
use crate::config::Config;
use crate::core::node::LinkId;
use crate::core::protocol::facts::Fact;
use crate::core::protocol::{FromMaster, FromNode};
use crate::core::report::{self, Look, Report, Seen};
use crate::error::Error;
use crate::system::links::{self, Identity, LOOPBACK, News};
use crate::system::machine;

/// For the masters to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a master of this host to greet.
const GREETING: Duration = Duration::from_secs(2);
/// The most that is kept of one master's answer, in bytes; ten thousand nodes need less.
const LONGEST_ANSWER: usize = 8 << 20;
/// The most news that wait to be heard; who says more waits for its turn.
const NEWS: usize = 64;
/// Between two looks of `--watch`.
const REFRESH: Duration = Duration::from_secs(1);

/// What one master says of itself and its nodes.
pub struct Answer {
    pub master: String,
    pub lines: Vec<FromMaster>,
}

impl Answer {
    /// Its lines, read.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        self.lines
            .iter()
            .filter_map(|line| Fact::parse(&line.to_string()))
    }

    fn report(&self) -> Report {
        Report {
            master: self.master.clone(),
            facts: self.facts().collect(),
        }
    }
}

pub fn run(config: &Config, form: Status) -> Result<(), Error> {
    let (mut masters, local) = within_reach(config)?;
    if form == Status::Watch {
        return watch(config, &mut masters);
    }
    let (answers, hosts) = thread::scope(|scope| {
        let hosts = scope.spawn(|| if local { Vec::new() } else { hosts::ask(config) });
        (masters.ask(), hosts.join().expect("it does not panic"))
    });
    let (reports, nobody): (Vec<Report>, _) = match &answers {
        Ok(answers) => (answers.iter().map(Answer::report).collect(), None),
        Err(error) => (Vec::new(), Some(error.clone())),
    };
    let silent = !hosts.is_empty() && hosts.iter().all(|host| host.error.is_some());
    match form {
        // A file of metrics says so itself.
        Status::Prometheus => print(&report::metrics(&reports, &hosts))?,
        Status::Json if nobody.is_none() => print(&report::json(&reports, &hosts))?,
        Status::Json => {}
        Status::Text | Status::Watch => {
            let look = look(config, std::io::stdout().is_terminal());
            print(&lines(&report::view(&reports, &hosts, &look, None)))?;
        }
    }
    match nobody {
        Some(error) => Err(error),
        None if silent => Err(Error::unavailable("[haproxy] servers", "none of them answers")),
        None => Ok(()),
    }
}

/// The masters to ask: on a HAProxy host its own, which listens where the INI says, and this is
/// such a host then; else those whose tunnels end here.
fn within_reach(config: &Config) -> Result<(Masters, bool), Error> {
    let listen = reachable(config.master.listen);
    let mut local = Masters::look(config, listen.ip(), listen.port()..=listen.port())?;
    let name = machine::host_name()?;
    if local.greet(Instant::now() + GREETING) && local.links.iter().any(|l| l.answer.master == name) {
        return Ok((local, true));
    }
    let tunnels = Masters::look(config, LOOPBACK, config.master.tunnel_ports.clone())?;
    Ok((tunnels, false))
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// How it looks on stdout, which is a `terminal` or not.
fn look(config: &Config, terminal: bool) -> Look {
    let set = |name| std::env::var(name).ok().filter(|v: &String| !v.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    Look {
        width: usize::MAX,
        bars: terminal,
        colours: terminal && !dumb && set("NO_COLOR").is_none(),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
        threshold: config.scaling.threshold as u64,
        scale_down: config.scaling.scale_down_threshold > 0.0,
    }
}

/// Looks again and again. On a terminal each look takes the place of the last one; nothing about
/// the terminal is changed, so that whatever ends this leaves it in order.
fn watch(config: &Config, masters: &mut Masters) -> Result<(), Error> {
    let mut seen = Seen::default();
    let mut stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let mut look = look(config, terminal);
    let mut first = true;
    loop {
        let reports: Result<Vec<Report>, Error> = match masters.ask() {
            // Who began with a master waits for it to come back.
            Err(error) if first => return Err(error),
            answers => answers.map(|all| all.iter().map(Answer::report).collect()),
        };
        let page = |look: &Look, seen: &mut Seen| match &reports {
            Ok(reports) => {
                seen.add(reports);
                report::view(reports, &[], look, Some(seen).filter(|_| terminal).map(|s| &*s))
            }
            Err(error) => vec![error.to_string()],
        };
        let text = match terminal.then(terminal::size) {
            Some((columns, rows)) => {
                look.width = columns;
                terminal::frame(&page(&look, &mut seen), rows, first)
            }
            None if first => lines(&page(&look, &mut seen)),
            None => "\n".to_string() + &lines(&page(&look, &mut seen)),
        };
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(Error::io("stdout", e)),
        }
        first = false;
        thread::sleep(REFRESH);
    }
}

/// Asks every master that listens on one of the `ports` of `at`, an address of this machine.
///
/// # Errors
/// Unavailable: none answers, and why.
pub fn ask(config: &Config, at: IpAddr, ports: RangeInclusive<u16>) -> Result<Vec<Answer>, Error> {
    Masters::look(config, at, ports)?.ask()
}

/// The masters within reach.
struct Masters {
    at: IpAddr,
    ports: RangeInclusive<u16>,
    news: Receiver<News>,
    links: Vec<Link>,
    /// Whoever comes is asked.
    asking: bool,
    /// How many connections the first look found, once that is known.
    found: Option<usize>,
    /// How many greetings have ended.
    greeted: usize,
    /// Why the last one that did not greet did not.
    why: String,
}

struct Link {
    id: LinkId,
    stream: TcpStream,
    answer: Answer,
    /// What its lines take, in bytes.
    size: usize,
    /// How many `END`s are due.
    owing: u8,
    /// The connection is gone; what came before stands.
    lost: bool,
}

impl Link {
    /// The second question is one that not every master knows.
    fn ask(&mut self) {
        self.answer.lines.clear();
        self.size = 0;
        let asked = write!(self.stream, "{}\n{}\n", FromNode::Status, FromNode::Report);
        self.owing = if asked.is_ok() { 2 } else { 0 };
    }
}

impl Masters {
    fn look(config: &Config, at: IpAddr, ports: RangeInclusive<u16>) -> Result<Masters, Error> {
        let identity = Identity {
            node: machine::host_name()?,
            secrets: Arc::new(Mutex::new(config.cluster.secrets().to_vec())),
        };
        let (send, news) = mpsc::sync_channel(NEWS);
        links::look(at, ports.clone(), identity, move |news| send.send(news).is_ok());
        Ok(Masters {
            at,
            ports,
            news,
            links: Vec::new(),
            asking: false,
            found: None,
            greeted: 0,
            why: String::new(),
        })
    }

    /// Waits until those that were found have greeted, or not. Is there anyone?
    fn greet(&mut self, deadline: Instant) -> bool {
        while self.found.is_none_or(|found| self.greeted < found) {
            match self.next(deadline, true) {
                Some(news) => self.hear(news),
                None => break,
            }
        }
        !self.links.is_empty()
    }

    /// Asks all of them, and waits for their answers; the masters' names are in order.
    fn ask(&mut self) -> Result<Vec<Answer>, Error> {
        let deadline = Instant::now() + PATIENCE;
        self.links.retain(|link| {
            // One that still owes an answer would mix it with the next.
            if link.owing > 0 {
                let _ = link.stream.shutdown(Shutdown::Both);
            }
            link.owing == 0 && !link.lost
        });
        self.links.iter_mut().for_each(Link::ask);
        self.asking = true;
        loop {
            let all_greeted = self.found.is_some_and(|found| self.greeted >= found);
            let due = !all_greeted || self.links.iter().any(|l| l.owing > 0);
            match self.next(deadline, due) {
                Some(news) => self.hear(news),
                None => break,
            }
        }
        if self.links.is_empty() {
            return Err(self.nobody());
        }
        let answer = |link: &mut Link| Answer {
            master: link.answer.master.clone(),
            lines: std::mem::take(&mut link.answer.lines),
        };
        let mut answers: Vec<Answer> = self.links.iter_mut().map(answer).collect();
        answers.sort_by(|a, b| a.master.cmp(&b.master));
        Ok(answers)
    }

    /// What comes until the deadline, and never after it, for somebody may always have more to say; only
    /// what is there already where nothing is `due`.
    fn next(&self, deadline: Instant, due: bool) -> Option<News> {
        let left = deadline.checked_duration_since(Instant::now())?;
        let left = if due { left } else { Duration::ZERO };
        self.news.recv_timeout(left).ok()
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Connected { link, master, stream } => {
                self.greeted += 1;
                // Two tunnels to one master are one master.
                if self.links.iter().all(|l| l.lost || l.answer.master != master) {
                    let lines = Vec::new();
                    let answer = Answer { master, lines };
                    let mut new = Link {
                        id: link,
                        stream,
                        answer,
                        size: 0,
                        owing: 0,
                        lost: false,
                    };
                    if self.asking {
                        new.ask();
                    }
                    self.links.push(new);
                }
            }
            News::Refused { port, why } => {
                self.greeted += 1;
                self.why = format!(": port {port}: {why}");
            }
            News::Looked { found } => self.found = Some(found),
            News::Open { .. } => {}
            News::Lost(id, why) => {
                self.why = format!(": {why}");
                self.links
                    .retain(|l| l.id != id || l.owing < 2 || !l.answer.lines.is_empty());
                for link in self.links.iter_mut().filter(|l| l.id == id) {
                    (link.lost, link.owing) = (true, 0);
                }
            }
            News::Line(link, line) => {
                let Some(at) = self.links.iter().position(|l| l.id == link && l.owing > 0) else {
                    return;
                };
                let link = &mut self.links[at];
                link.size += size_of::<FromMaster>() + line.to_string().len();
                if link.size > LONGEST_ANSWER {
                    let link = self.links.swap_remove(at);
                    let _ = link.stream.shutdown(Shutdown::Both);
                    self.why = format!(": its answer is over {} MiB", LONGEST_ANSWER >> 20);
                    return;
                }
                match line {
                    FromMaster::End | FromMaster::Error(_) => link.owing -= 1,
                    FromMaster::Fact(_) => link.answer.lines.push(line),
                    _ => {}
                }
            }
        }
    }

    fn nobody(&self) -> Error {
        let mut place = SocketAddr::new(self.at, *self.ports.start()).to_string();
        if self.ports.start() != self.ports.end() {
            place += &format!("-{}", self.ports.end());
        }
        Error::unavailable(place, format!("no master answers here{}", self.why))
    }
}
