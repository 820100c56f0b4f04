//! The text protocol, version 1: one line, one message, both ways.
//!
//! Lines are printable ASCII of at most [`LONGEST_LINE`] bytes with their line feed. Parsing is
//! strict about what a line says and lenient about spaces, since people type it into `nc`.

use std::fmt;

use super::report;

/// The longest line, its line feed included, in bytes.
pub const LONGEST_LINE: usize = 512;

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
    /// `hosts.d` has `max_hosts` entries; for `RETIRE`, no more than `min_hosts`.
    Full,
    /// This master has just started: a holder from before may still come back.
    Starting,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Holder => "holder",
            Reason::Cooldown => "cooldown",
            Reason::Full => "full",
            Reason::Starting => "starting",
        })
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
    Scale,
    Retire,
    Hold {
        lease: String,
    },
    Finish {
        lease: String,
        ok: bool,
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
    Node {
        name: String,
        percent: f64,
        seconds_ago: u64,
    },
    Lease {
        node: String,
        seconds: u64,
    },
    Cooldown {
        seconds: u64,
    },
    /// One line of the answer to `REPORT`, as it stands: `report` reads it.
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
            "HELLO" => words(verb, "1 <node> <nonce>", rest).map(|[version, node, nonce]| FromNode::Hello {
                version: version.into(),
                node: node.into(),
                nonce: nonce.into(),
            }),
            "AUTH" => words(verb, "<hex>", rest).map(|[proof]| FromNode::Auth { proof: proof.into() }),
            "LOAD" => words(verb, "<percent>", rest)
                .and_then(|[percent]| parse_percent(percent))
                .map(FromNode::Load),
            "SCALE" => words(verb, "", rest).map(|[]| FromNode::Scale),
            "RETIRE" => words(verb, "", rest).map(|[]| FromNode::Retire),
            "HOLD" => words(verb, "<lease>", rest).map(|[lease]| FromNode::Hold { lease: lease.into() }),
            "FINISH" => parse_finish(rest),
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
                None => words(verb, "<master>", rest).map(|[master]| (master, None)),
                Some(_) => words(verb, "<master> <hex>", rest).map(|[master, proof]| (master, Some(proof))),
            }
            .map(|(master, proof)| FromMaster::Welcome {
                master: master.into(),
                proof: proof.map(String::from),
            }),
            "GRANT" => {
                let [lease, seconds, epoch] = words(verb, "<lease> <seconds> <epoch>", rest)?;
                Ok(FromMaster::Grant {
                    lease: lease.into(),
                    seconds: number(seconds)?,
                    epoch: number(epoch)?,
                })
            }
            "WAIT" => {
                let [reason, seconds] = words(verb, "holder|cooldown|full|starting <seconds>", rest)?;
                let reason = match reason {
                    "holder" => Reason::Holder,
                    "cooldown" => Reason::Cooldown,
                    "full" => Reason::Full,
                    "starting" => Reason::Starting,
                    other => return Err(format!("`{other}` is no reason to WAIT")),
                };
                Ok(FromMaster::Wait {
                    reason,
                    seconds: number(seconds)?,
                })
            }
            "SCALE" => words(verb, "<node>", rest).map(|[node]| FromMaster::Scale { node: node.into() }),
            "FINISH" => words(verb, "<node>", rest).map(|[node]| FromMaster::Finish { node: node.into() }),
            "NODE" => {
                let [name, percent, ago] = words(verb, "<name> <percent> <seconds ago>", rest)?;
                Ok(FromMaster::Node {
                    name: name.into(),
                    percent: parse_percent(percent)?,
                    seconds_ago: number(ago)?,
                })
            }
            "LEASE" => {
                let [node, seconds] = words(verb, "<node> <seconds>", rest)?;
                Ok(FromMaster::Lease {
                    node: node.into(),
                    seconds: number(seconds)?,
                })
            }
            "COOLDOWN" => {
                let [seconds] = words(verb, "<seconds>", rest)?;
                Ok(FromMaster::Cooldown {
                    seconds: number(seconds)?,
                })
            }
            "END" => Ok(FromMaster::End),
            "PING" => Ok(FromMaster::Ping),
            "PONG" => Ok(FromMaster::Pong),
            "ERROR" => Ok(FromMaster::Error(rest.into())),
            _ if report::shape(verb).is_some() => Ok(FromMaster::Fact(line.into())),
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
            FromNode::Scale => write!(f, "SCALE"),
            FromNode::Retire => write!(f, "RETIRE"),
            FromNode::Hold { lease } => write!(f, "HOLD {lease}"),
            FromNode::Finish { lease, ok, text } => {
                write!(f, "FINISH {lease} {}", if *ok { "ok" } else { "failed" })?;
                if !text.is_empty() {
                    write!(f, " {}", one_line(text))?;
                }
                Ok(())
            }
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
            } => write!(f, "GRANT {lease} {seconds} {epoch}"),
            FromMaster::Wait { reason, seconds } => write!(f, "WAIT {reason} {seconds}"),
            FromMaster::Scale { node } => write!(f, "SCALE {node}"),
            FromMaster::Finish { node } => write!(f, "FINISH {node}"),
            FromMaster::Node {
                name,
                percent,
                seconds_ago,
            } => write!(f, "NODE {name} {percent:.0} {seconds_ago}"),
            FromMaster::Lease { node, seconds } => write!(f, "LEASE {node} {seconds}"),
            FromMaster::Cooldown { seconds } => write!(f, "COOLDOWN {seconds}"),
            FromMaster::Fact(line) => f.write_str(line),
            FromMaster::End => write!(f, "END"),
            FromMaster::Ping => write!(f, "PING"),
            FromMaster::Pong => write!(f, "PONG"),
            FromMaster::Error(text) => write!(f, "ERROR {}", one_line(text)),
        }
    }
}

/// Makes free text fit into one protocol line: printable ASCII, at most 300 bytes.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' '..='~' => c,
            c if c.is_whitespace() => ' ',
            _ => '?',
        })
        .take(300)
        .collect()
}

/// Can `name` stand as one word in a line? At most 64 printable ASCII characters, no space.
pub fn is_word(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn split_verb(line: &str) -> (&str, &str) {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    (verb, rest.trim())
}

/// Splits `rest` into exactly the words that `verb` takes.
fn words<'a, const N: usize>(verb: &str, usage: &str, rest: &'a str) -> Result<[&'a str; N], String> {
    let found: Vec<&str> = rest.split_ascii_whitespace().collect();
    let words: Result<[&str; N], _> = found.try_into();
    match words {
        Ok(words) if words.iter().all(|w| w.len() <= 128) => Ok(words),
        _ if usage.is_empty() => Err(format!("{verb} takes no argument")),
        _ => Err(format!("usage: {verb} {usage}")),
    }
}

fn parse_finish(rest: &str) -> Result<FromNode, String> {
    let usage = "usage: FINISH <lease> ok|failed [<text>]";
    let (lease, rest) = rest.split_once(' ').ok_or(usage)?;
    let (verdict, text) = rest
        .trim_start()
        .split_once(' ')
        .unwrap_or((rest.trim_start(), ""));
    let ok = match verdict {
        "ok" => true,
        "failed" => false,
        _ => return Err(usage.into()),
    };
    Ok(FromNode::Finish {
        lease: lease.into(),
        ok,
        text: text.trim().into(),
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

fn unknown(verb: &str) -> String {
    format!(
        "unknown verb `{}`",
        one_line(verb).chars().take(32).collect::<String>()
    )
}

#[cfg(test)]
mod tests;
