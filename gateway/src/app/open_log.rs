//! Which log a configuration means, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use super::{BindError, random_bits};
use crate::clock::Clock;
use crate::config::{Config, LogStore, NatsAddress};
use crate::domain::Epoch;
use crate::log::nats::{Connection, ConnectionOptions, StreamSettings};
use crate::log::{DiskLog, DiskOptions, Log, MemoryLog, NatsLog, NatsOptions};

/// An open log.
pub(super) struct Opened {
    pub(super) log: Arc<dyn Log>,
    /// How to reach other gateways, if the log may be theirs, too.
    pub(super) shared: Option<Shared>,
}

/// What gateways with the same log have in common.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) stream: String,
}

impl Opened {
    /// A log that is this gateway's only.
    fn own(log: impl Log) -> Self {
        Self { log: Arc::new(log), shared: None }
    }
}

pub(super) async fn open_log(config: &Config, clock: &Clock) -> Result<Opened, BindError> {
    match &config.log.store {
        LogStore::Disk(directory) => {
            let mut options = DiskOptions::new(directory, Epoch::from_bits(random_bits()));
            options.reserve_bytes = config.log.disk_reserve.0;
            options.new_epoch = config.new_epoch;
            let clock = clock.clone();
            let opening = tokio::task::spawn_blocking(|| DiskLog::open(options, clock));
            Ok(Opened::own(opening.await.expect("opening a log does not panic")?))
        }
        LogStore::Nats(address) => {
            let options = connection_options(config, address);
            let opening = async {
                let connection = Connection::open(&options, clock.clone()).await?;
                let log =
                    NatsLog::open(connection.clone(), nats_options(config, address), clock.clone()).await?;
                Ok::<_, BindError>(Opened {
                    log: Arc::new(log),
                    shared: Some(Shared { connection, stream: address.stream.clone() }),
                })
            };
            // Large, and seldom needed.
            Box::pin(opening).await
        }
        LogStore::Memory => {
            // What is in memory is new at every start: so is its epoch.
            let epoch = Epoch::from_bits(random_bits());
            Ok(Opened::own(MemoryLog::new(epoch, clock.clone(), config.log.memory_max_bytes.0)))
        }
    }
}

fn connection_options(config: &Config, address: &NatsAddress) -> ConnectionOptions {
    let nats = &config.nats;
    ConnectionOptions {
        servers: address.servers.clone(),
        timeout: nats.connect_timeout,
        credentials_file: nats.credentials_file.clone(),
        user: nats.user.clone().zip(nats.password_file.clone()),
        token_file: nats.token_file.clone(),
        root_certificates_file: nats.root_certificates_file.clone(),
        client_certificate: nats.client_certificate_file.clone().zip(nats.client_key_file.clone()),
    }
}

fn nats_options(config: &Config, address: &NatsAddress) -> NatsOptions {
    let name = &address.stream;
    NatsOptions {
        stream: StreamSettings {
            name: name.clone(),
            replicas: config.nats.replicas as usize,
            max_age: config.stream_max_age(),
            least_age: config.nats.max_age.is_none().then(|| config.shortest_stream_age()),
            max_bytes: config.nats.max_bytes.0,
        },
        copy_directory: config
            .nats
            .copy_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("./data/nats").join(name)),
        timeout: config.nats.connect_timeout,
        new_epoch: config.new_epoch,
        random: random_bits,
    }
}
