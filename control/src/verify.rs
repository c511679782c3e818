//! Looks again after a deployment, and plans again: what is left to do is a difference. Stands alone because it
//! believes nothing of what was done.

use std::sync::Arc;

use sovereign_config::stack::model;

use crate::desired::Desired;
use crate::observe::observe;
use crate::plan::{Filter, Plan, plan};
use crate::ssh::Connect;

/// What differs on these hosts from what they should be.
pub async fn verify(
    desired: &Desired,
    filter: &Filter,
    hosts: &[model::Host],
    connect: Arc<dyn Connect>,
) -> Plan {
    plan(desired, &observe(hosts, connect).await, filter)
}
