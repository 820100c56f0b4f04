//! The end of a change: what the masters, the operator and the commands are told of it.

use std::time::Instant;

use super::repair::LOOK_AGAIN;
use super::{Action, Node, Phase, seconds};
use crate::core::lease::LAUNCHED;
use crate::error::Error;

impl Node {
    /// It came to a good end.
    pub(super) fn succeeded(&mut self, phase: Phase) {
        self.untidy = false;
        let text = match (self.did(), &self.need.why) {
            (did, why) if why.is_empty() => did,
            (did, why) if did.is_empty() => why.clone(),
            (did, why) => format!("{did}: {why}"),
        };
        self.masters.give_back(true, &text, &mut self.out);
        self.backoff.reset();
        self.begin_new_windows();
        self.phase = phase;
        self.end(Ok(()));
    }

    pub(super) fn failed(&mut self, error: Error, now: Instant) {
        self.untidy = false;
        let wait = self.backoff.failed();
        let next = format!("next try in {} s at the earliest", seconds(wait));
        if self.wanted.is_none() {
            self.say(format!("scaling failed, {next}"));
        }
        let text = match self.did().starts_with(LAUNCHED) {
            true => format!("{LAUNCHED}, but {error}"),
            false => error.to_string(),
        };
        let text = format!("{text}; {next}");
        self.masters.give_back(false, &text, &mut self.out);
        self.notify("failed", None, text);
        self.begin_new_windows();
        self.phase = Phase::Waiting {
            until: now + wait,
            firm: true,
        };
        if self.settings.ec2 {
            // It may have left something behind.
            self.repairs.look_at(now + LOOK_AGAIN);
        }
        self.end(Err(error));
    }

    /// What was done under this lease, for the text of `FINISH`.
    fn did(&mut self) -> String {
        match &mut self.phase {
            Phase::Working { did, .. } => std::mem::take(did),
            _ => String::new(),
        }
    }

    pub(super) fn end(&mut self, result: Result<(), Error>) {
        self.wanted = None;
        self.out.push(Action::End(result));
    }
}
