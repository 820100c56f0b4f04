//! `replace`: which machines get a successor, and which one that is.

use super::{Machine, Member, Survey, is_machine};
use crate::error::Error;

/// Whom `replace` gives new machines for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Names of entries, or instance ids.
    These(Vec<String>),
    All,
    /// Those that run another image.
    NotImage(String),
}

impl Whom {
    /// The machines that are meant, in the order of their entries.
    ///
    /// # Errors
    /// Config: a name is not that of a live instance of the cluster.
    pub fn machines(&self, survey: &Survey, port: u16) -> Result<Vec<Machine>, Error> {
        let members = survey.members(port);
        let replaceable = || members.iter().filter(|m| m.may_end());
        let runs_other = |m: &&Member, image: &String| m.instance.is_some_and(|i| i.image != *image);
        let called = |name: &String| {
            let is_it = |m: &&Member| {
                m.machine.instance.as_ref() == Some(name)
                    || m.lines.iter().flatten().any(|line| line.name == *name)
            };
            let cause = "is neither the name nor the id of a live instance of this cluster";
            replaceable()
                .find(is_it)
                .ok_or_else(|| Error::config(name, cause))
        };
        let meant: Vec<&Member> = match self {
            Whom::All => replaceable().collect(),
            Whom::NotImage(image) => replaceable().filter(|m| runs_other(m, image)).collect(),
            Whom::These(names) => names.iter().map(called).collect::<Result<_, _>>()?,
        };
        Ok(meant.into_iter().map(|m| m.machine.clone()).collect())
    }
}

/// The machine that was launched last, of those that serve, `old` aside.
pub fn newest(survey: &Survey, port: u16, old: &Machine) -> Option<Machine> {
    let members = survey.members(port);
    let serving = members
        .iter()
        .filter(|m| m.serves() && !is_machine(&m.machine, old));
    let launched = serving.filter_map(|m| Some((m.instance?.launched_at?, &m.machine)));
    let last = launched.max_by_key(|(at, _)| *at)?;
    Some(last.1.clone())
}
