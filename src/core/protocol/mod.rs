//! The text protocol, version 2: one line, one message, both ways.
//!
//! Lines are printable ASCII of at most [`LONGEST_LINE`] bytes with their line feed, which `system/lines.rs`
//! sees to when it reads them off a socket. Parsing is strict about the words that it knows and passes over
//! those after them, so that a later version can add some; and it is lenient about spaces, since people type
//! it into `nc`.

pub mod auth;
pub mod facts;

use std::fmt;
use std::time::Duration;

/// The longest line, its line feed included, in bytes.
pub const LONGEST_LINE: usize = 512;

/// What `HELLO` says, and what the proofs are made for.
pub const VERSION: &str = "2";

/// No number from the other side stops anything for longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How the text of a `FINISH failed` begins when nothing has been tried: another master said no,
/// or the need was over.
pub const NOT_NOW: &str = "not now: ";

/// Why a master says no to `SCALE` or `RETIRE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another node has the lease.
    Holder,
    /// The last change is too recent.
    Cooldown,
    /// What is missing is on its way.
    Booting,
    /// `max_hosts` or `max_launches_per_day`.
    Full,
    /// No more than `min_hosts`, or nobody else is UP.
    Few,
    /// The others could not take the load.
    Loaded,
    /// Back-off after failures.
    Failing,
    /// This master has just started: a holder from before may still come back.
    Starting,
}

/// In the order of the variants.
pub const REASONS: [(Reason, &str); 8] = [
    (Reason::Holder, "holder"),
    (Reason::Cooldown, "cooldown"),
    (Reason::Booting, "booting"),
    (Reason::Full, "full"),
    (Reason::Few, "few"),
    (Reason::Loaded, "loaded"),
    (Reason::Failing, "failing"),
    (Reason::Starting, "starting"),
];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REASONS[*self as usize].1)
    }
}

/// A line from a node to a master.
#[derive(Debug, Clone, PartialEq)]
pub enum FromNode {
    Hello {
        version: String,
        node: String,
        nonce: String,
    },
    Auth {
        proof: String,
    },
    /// CPU in use, 0 to 100.
    Load(f64),
    /// May I add machines? By hand: how many, and `force` passes over cooldowns. `Some(0)`: may I
    /// put things right?
    Scale {
        machines: Option<u32>,
        force: bool,
    },
    /// May I leave? `force`, by hand, passes over cooldowns.
    Retire {
        force: bool,
    },
    Hold {
        lease: String,
    },
    Finish {
        lease: String,
        ok: bool,
        /// How many machines were launched under it.
        launched: u32,
        text: String,
    },
    /// So many of those that this node launched never came to serve.
    Failed {
        machines: u32,
        text: String,
    },
    Status,
    /// What `STATUS` does not tell.
    Report,
    Ping,
    Pong,
    Error(String),
}

/// A line from a master to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum FromMaster {
    Challenge {
        nonce: String,
    },
    Welcome {
        master: String,
        proof: Option<String>,
    },
    Grant {
        lease: String,
        seconds: u64,
        epoch: u64,
        /// How many may be launched under it.
        machines: u32,
    },
    Wait {
        reason: Reason,
        seconds: u64,
    },
    /// Another node has begun to scale.
    Scale {
        node: String,
    },
    /// Its lease has ended.
    Finish {
        node: String,
    },
    /// A key of `[scaling]` and its value, as the master's file has it; `None` after the last.
    Set(Option<(String, String)>),
    /// How many are entered, and how many of them serve.
    Fleet {
        entries: u32,
        up: u32,
    },
    /// Look now whether all is as it should be.
    Look,
    /// One line of the answer to `STATUS` or `REPORT`, as it stands: [`facts`] reads it. Or one with a
    /// verb of a later version, which a node passes over.
    Fact(String),
    End,
    Ping,
    Pong,
    Error(String),
}

impl FromNode {
    /// # Errors
    /// What to answer after `ERROR `.
    pub fn parse(line: &str) -> Result<FromNode, String> {
        let (verb, rest) = split_verb(line);
        match verb {
            "HELLO" => words(verb, "2 <node> <nonce>", rest).map(|[version, node, nonce]| FromNode::Hello {
                version: version.into(),
                node: node.into(),
                nonce: nonce.into(),
            }),
            "AUTH" => words(verb, "<hex>", rest).map(|[proof]| FromNode::Auth { proof: proof.into() }),
            "LOAD" => words(verb, "<percent>", rest)
                .and_then(|[percent]| parse_percent(percent))
                .map(FromNode::Load),
            "SCALE" => {
                let (first, others) = split_verb(rest);
                let (machines, next) = match first {
                    "" | "force" => (None, first),
                    number => (Some(count(number)?), split_verb(others).0),
                };
                let force = next == "force";
                Ok(FromNode::Scale { machines, force })
            }
            "RETIRE" => Ok(FromNode::Retire {
                force: split_verb(rest).0 == "force",
            }),
            "HOLD" => words(verb, "<lease>", rest).map(|[lease]| FromNode::Hold { lease: lease.into() }),
            "FINISH" => parse_finish(rest),
            "FAILED" => {
                let (machines, text) = split_verb(rest);
                let machines = count(machines).map_err(|_| "usage: FAILED <machines> <text>")?;
                Ok(FromNode::Failed {
                    machines,
                    text: text.into(),
                })
            }
            "STATUS" => words(verb, "", rest).map(|[]| FromNode::Status),
            "REPORT" => words(verb, "", rest).map(|[]| FromNode::Report),
            "PING" => Ok(FromNode::Ping),
            "PONG" => Ok(FromNode::Pong),
            "ERROR" => Ok(FromNode::Error(rest.into())),
            _ => Err(unknown(verb)),
        }
    }
}

impl FromMaster {
    /// # Errors
    /// What is wrong with the line.
    pub fn parse(line: &str) -> Result<FromMaster, String> {
        let (verb, rest) = split_verb(line);
        match verb {
            "CHALLENGE" => {
                words(verb, "<nonce>", rest).map(|[nonce]| FromMaster::Challenge { nonce: nonce.into() })
            }
            "WELCOME" => match rest.split_once(' ') {
                None => words(verb, "<master> [<hex>]", rest).map(|[master]| (master, None)),
                Some(_) => words(verb, "<master> [<hex>]", rest).map(|[master, proof]| (master, Some(proof))),
            }
            .map(|(master, proof)| FromMaster::Welcome {
                master: master.into(),
                proof: proof.map(String::from),
            }),
            "GRANT" => {
                let usage = "<lease> <seconds> <epoch> <machines>";
                let [lease, seconds, epoch, machines] = words(verb, usage, rest)?;
                Ok(FromMaster::Grant {
                    lease: lease.into(),
                    seconds: time(seconds)?,
                    epoch: number(epoch)?,
                    machines: count(machines)?,
                })
            }
            "WAIT" => {
                let [word, seconds] = words(verb, "<reason> <seconds>", rest)?;
                let known = REASONS.iter().find(|(_, name)| *name == word);
                let unknown = || format!("`{}` is no reason to WAIT", one_line(word));
                let (reason, seconds) = (known.ok_or_else(unknown)?.0, time(seconds)?);
                Ok(FromMaster::Wait { reason, seconds })
            }
            "SCALE" => words(verb, "<node>", rest).map(|[node]| FromMaster::Scale { node: node.into() }),
            "FINISH" => words(verb, "<node>", rest).map(|[node]| FromMaster::Finish { node: node.into() }),
            "SET" if rest.is_empty() => Ok(FromMaster::Set(None)),
            "SET" => words(verb, "[<key> <value>]", rest)
                .map(|[key, value]| FromMaster::Set(Some((key.into(), value.into())))),
            "FLEET" => {
                let [entries, up] = words(verb, "<entries> <up>", rest)?;
                let (entries, up) = (count(entries)?, count(up)?);
                Ok(FromMaster::Fleet { entries, up })
            }
            "LOOK" => Ok(FromMaster::Look),
            "END" => Ok(FromMaster::End),
            "PING" => Ok(FromMaster::Ping),
            "PONG" => Ok(FromMaster::Pong),
            "ERROR" => Ok(FromMaster::Error(rest.into())),
            _ if !verb.is_empty() && verb.bytes().all(|b| b.is_ascii_uppercase()) => {
                Ok(FromMaster::Fact(line.into()))
            }
            _ => Err(unknown(verb)),
        }
    }
}

impl fmt::Display for FromNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromNode::Hello { version, node, nonce } => write!(f, "HELLO {version} {node} {nonce}"),
            FromNode::Auth { proof } => write!(f, "AUTH {proof}"),
            FromNode::Load(percent) => write!(f, "LOAD {percent:.0}"),
            FromNode::Scale { machines, force } => {
                write!(f, "SCALE")?;
                if let Some(machines) = machines {
                    write!(f, " {machines}")?;
                }
                write!(f, "{}", if *force { " force" } else { "" })
            }
            FromNode::Retire { force } => write!(f, "RETIRE{}", if *force { " force" } else { "" }),
            FromNode::Hold { lease } => write!(f, "HOLD {lease}"),
            FromNode::Finish {
                lease,
                ok,
                launched,
                text,
            } => {
                let verdict = if *ok { "ok" } else { "failed" };
                write!(f, "FINISH {lease} {verdict} {launched}")?;
                if !text.is_empty() {
                    write!(f, " {}", one_line(text))?;
                }
                Ok(())
            }
            FromNode::Failed { machines, text } => write!(f, "FAILED {machines} {}", one_line(text)),
            FromNode::Status => write!(f, "STATUS"),
            FromNode::Report => write!(f, "REPORT"),
            FromNode::Ping => write!(f, "PING"),
            FromNode::Pong => write!(f, "PONG"),
            FromNode::Error(text) => write!(f, "ERROR {}", one_line(text)),
        }
    }
}

impl fmt::Display for FromMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromMaster::Challenge { nonce } => write!(f, "CHALLENGE {nonce}"),
            FromMaster::Welcome { master, proof: None } => write!(f, "WELCOME {master}"),
            FromMaster::Welcome {
                master,
                proof: Some(proof),
            } => write!(f, "WELCOME {master} {proof}"),
            FromMaster::Grant {
                lease,
                seconds,
                epoch,
                machines,
            } => write!(f, "GRANT {lease} {seconds} {epoch} {machines}"),
            FromMaster::Wait { reason, seconds } => write!(f, "WAIT {reason} {seconds}"),
            FromMaster::Scale { node } => write!(f, "SCALE {node}"),
            FromMaster::Finish { node } => write!(f, "FINISH {node}"),
            FromMaster::Set(None) => write!(f, "SET"),
            FromMaster::Set(Some((key, value))) => write!(f, "SET {key} {value}"),
            FromMaster::Fleet { entries, up } => write!(f, "FLEET {entries} {up}"),
            FromMaster::Look => write!(f, "LOOK"),
            FromMaster::Fact(line) => f.write_str(line),
            FromMaster::End => write!(f, "END"),
            FromMaster::Ping => write!(f, "PING"),
            FromMaster::Pong => write!(f, "PONG"),
            FromMaster::Error(text) => write!(f, "ERROR {}", one_line(text)),
        }
    }
}

/// Makes free text fit into one protocol line: printable ASCII, at most 300 bytes, no space at either end.
pub fn one_line(text: &str) -> String {
    let printable = |c| match c {
        ' '..='~' => c,
        c if char::is_whitespace(c) => ' ',
        _ => '?',
    };
    let line: String = text.trim().chars().map(printable).take(300).collect();
    line.trim_end().into() // the cut may have left one
}

/// Can `name` stand as one word in a line? At most 128 printable ASCII characters, no space.
pub fn is_word(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// The host in a node's name, `<host>/<instance or machine>`.
pub fn host_of(node: &str) -> &str {
    node.split_once('/').map_or(node, |(host, _)| host)
}

fn split_verb(line: &str) -> (&str, &str) {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    (verb, rest.trim())
}

/// Splits `rest` into the words that `verb` takes; more of them say what a later version means.
fn words<'a, const N: usize>(verb: &str, usage: &str, rest: &'a str) -> Result<[&'a str; N], String> {
    let found: Vec<&str> = rest.split_ascii_whitespace().take(N).collect();
    let words: Result<[&str; N], _> = found.try_into();
    match words {
        Ok(words) if words.iter().all(|w| w.len() <= 128) => Ok(words),
        _ => Err(format!("usage: {verb} {usage}")),
    }
}

fn parse_finish(rest: &str) -> Result<FromNode, String> {
    let usage = "usage: FINISH <lease> ok|failed <launched> [<text>]";
    let (lease, rest) = split_verb(rest);
    let (verdict, rest) = split_verb(rest);
    let (launched, text) = split_verb(rest);
    let ok = match verdict {
        "ok" => true,
        "failed" => false,
        _ => return Err(usage.into()),
    };
    Ok(FromNode::Finish {
        lease: lease.into(),
        ok,
        launched: count(launched).map_err(|_| usage)?,
        text: text.into(),
    })
}

fn parse_percent(word: &str) -> Result<f64, String> {
    word.trim_end_matches('%')
        .parse()
        .ok()
        .filter(|p| (0.0..=100.0).contains(p))
        .ok_or_else(|| format!("`{}` is not a percentage from 0 to 100", one_line(word)))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse()
        .map_err(|_| format!("`{}` is not a whole number", one_line(word)))
}

/// A number of machines: nobody has as many as would overflow one.
fn count(word: &str) -> Result<u32, String> {
    number(word).map(|n| n.min(100_000) as u32)
}

/// Seconds, a day at most.
fn time(word: &str) -> Result<u64, String> {
    number(word).map(|n| n.min(LONGEST_WAIT.as_secs()))
}

fn unknown(verb: &str) -> String {
    format!(
        "unknown verb `{}`",
        one_line(verb).chars().take(32).collect::<String>()
    )
}

#[cfg(test)]
mod tests;
