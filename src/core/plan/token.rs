//! What makes a launch happen once: its ClientToken.

use sha2::{Digest, Sha256};

use crate::core::protocol::auth::hex;

/// 64 hex digits that follow from the cluster, its fleet (the ids that EC2 reports, sorted) and the
/// attempt (at a subnet, with a type) alone, and not from the number of machines: two nodes that see
/// the same fleet make the same. `round` counts the tokens before it that cannot be used.
pub fn client_token(
    cluster: &str,
    fleet: &[String],
    subnet: Option<&str>,
    instance_type: Option<&str>,
    round: u32,
) -> String {
    let text = format!(
        "autoscaler {cluster}\n{}\n{} {}\n{round}",
        fleet.join(" "),
        subnet.unwrap_or("-"),
        instance_type.unwrap_or("-")
    );
    hex(&Sha256::digest(text))
}
