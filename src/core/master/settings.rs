//! The `[scaling]` of this master's file, which all nodes go by: `SET`.

use super::{Master, Output};
use crate::core::protocol::FromMaster;

impl Master {
    /// The keys of `[scaling]` that this master's file sets, with their values.
    pub fn set(&mut self, pairs: Vec<(String, String)>) -> Vec<Output> {
        if self.settings == pairs {
            return Vec::new();
        }
        self.settings = pairs;
        let tell = |message| Output::Tell {
            except: None,
            message,
        };
        self.settings_told().map(tell).collect()
    }

    /// What a node hears of them, whole.
    pub(super) fn settings_told(&self) -> impl Iterator<Item = FromMaster> {
        let pairs = self.settings.iter().cloned().map(Some).chain([None]);
        pairs.map(FromMaster::Set)
    }
}
