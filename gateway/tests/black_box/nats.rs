//! Several gateways on one stream: real nats-servers, real gateways, each with its own copy.

mod copying;
mod nodes;
mod outages;
mod presence;
mod replicas;
mod sharing;
mod starting;
