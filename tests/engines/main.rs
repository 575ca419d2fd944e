//! Locks kept by etcd or PostgreSQL, on real servers on loopback.

#[path = "../common/mod.rs"]
mod common;
#[path = "../engine_common/mod.rs"]
mod engine_common;
#[path = "../common/tested.rs"]
mod tested;

#[cfg(all(feature = "etcd", feature = "postgres"))]
mod cluster;
#[cfg(feature = "etcd")]
mod engine_etcd_asked;
#[cfg(feature = "etcd")]
mod engine_etcd_cli;
#[cfg(feature = "etcd")]
mod engine_etcd_faults;
#[cfg(feature = "etcd")]
mod engine_etcd_keys;
#[cfg(feature = "etcd")]
mod engine_etcd_servers;
#[cfg(all(feature = "etcd", feature = "tls"))]
mod engine_etcd_tls;
#[cfg(feature = "etcd")]
mod engine_etcd_wrong;
#[cfg(feature = "etcd")]
mod engine_guard;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_guide;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_hosts;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_names;
#[cfg(feature = "postgres")]
mod engine_postgres;
#[cfg(feature = "postgres")]
mod engine_postgres_done;
#[cfg(feature = "postgres")]
mod engine_postgres_faults;
#[cfg(feature = "postgres")]
mod engine_postgres_others;
#[cfg(feature = "postgres")]
mod engine_postgres_poolers;
#[cfg(feature = "postgres")]
mod engine_postgres_secrets;
#[cfg(feature = "postgres")]
mod engine_postgres_settings;
#[cfg(feature = "postgres")]
mod engine_postgres_tls;
#[cfg(feature = "postgres")]
mod engine_postgres_tokens;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_soak;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_start;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod engine_top;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod island;
